"""Five real projects, each with a guide that blamed the learning rate, from what was printed at the time.

The incidents' sources are not in the repository: the logs below are made to print what theirs printed, from the facts
that were recomputed of them (2.7532e-08 = 5e-6 x 468 / 84,992 and so on); noise is drawn by a seed. What is asserted is
the cause, its arithmetic and its rank.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LOGS = Path(__file__).resolve().parents[3] / "shared" / "logs" / "gpt2-qa"
DOUBLY_SHIFTED = ("03", "05", "06", "08", "09", "13", "16", "17", "25")  # those that begin at update 0

Finding = dict[str, Any]


def diagnosed(*paths: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "unstuck.cli.main", "diagnose", "--json", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ}, timeout=120)
    assert done.returncode == 1, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def findings(path: Path) -> dict[str, Finding]:
    (run,) = diagnosed(path)["runs"]
    return {finding["rule"]: finding for finding in run["findings"]}


def everything(finding: Finding) -> str:
    return json.dumps(finding)


def test_factlm_the_floor_of_label_smoothing(tmp_path: Path) -> None:
    """I0: smoothing 0.1 over 50,257 tokens: the loss cannot fall below 1.4075 nats, and reads as a plateau."""
    log = tmp_path / "train.log"
    epochs = np.arange(30)
    train, val = 4.6 + 4.7 * 0.83**epochs, 4.75 + 4.4 * 0.83**epochs
    log.write_text(
        "label_smoothing: 0.1\nvocab_size: 50257\nlearning_rate: 1.5e-4\nbatch_size: 32\n"
        + "".join(
            f"Epoch {e + 1}/30 | train_loss {train[e]:.4f} | val_loss {val[e]:.4f} | lr 1.5e-04\n" for e in epochs
        ),
        encoding="utf-8",
    )
    found = findings(log)
    assert next(iter(found)) == "loss-floored-by-smoothing"
    assert "1.4075" in found["loss-floored-by-smoothing"]["title"]


def test_cortexgpt_a_horizon_in_micro_batches(tmp_path: Path) -> None:
    """I1: after 1,405 iterations the printed rate is 2.75e-08: of one group, 0.55 % through 84,992 of warm-up."""
    noise = np.random.default_rng(1).normal(0, 0.005, 1406)
    rows = (
        f"Epoch 1/20 | iter {i}/42496 | loss {10.3742 - 0.0914 * i / 1405 + noise[i]:.4f} | "
        f"lr {5e-6 * (i // 3) / 84_992:.4e}\n"
        for i in range(5, 1406, 5)
    )
    log = tmp_path / "train.log"
    log.write_text(
        "Namespace(lr=5e-05, batch_size=6, block_size=256, epochs=20, warmup_ratio=0.1, gradient_accumulation_steps=3, "
        "vocab_size=32000, lr_scheduler='cosine', memory_lr_factor=0.1, neuroscience_lr_factor=0.5, "
        "core_lr_factor=1.0)\nModel parameters: 63,012,864\n" + "".join(rows),
        encoding="utf-8",
    )
    assert "lr 2.7532e-08" in log.read_text().splitlines()[-1]
    found = findings(log)
    assert next(iter(found)) in ("schedule-wrong-horizon", "lr-not-as-configured")
    cause = everything(next(iter(found.values())))
    assert "5e-5 x 0.1" in cause
    assert "84,992" in cause
    assert "only group memory is logged" in cause
    assert "loss-at-chance" in found
    assert "10.37" in found["loss-at-chance"]["title"]  # ln 32,000
    # the log without its first line: what is left is that nothing was learnt
    bare = tmp_path / "bare.log"
    bare.write_text("vocab_size: 32000\n" + "".join(log.read_text().splitlines(keepends=True)[2:]), encoding="utf-8")
    assert next(iter(findings(bare))) in ("loss-at-chance", "lr-too-low")


def test_navier_stokes_a_sum_an_idle_scheduler_and_a_norm_before_clipping(tmp_path: Path) -> None:
    """I2: the guide lowers the rate, raises the clip and shortens the patience after these six epochs."""
    settings = "batch_size: 8, optimizer: AdamW, loss: relative L2, shuffle: False"
    plateau = "scheduler: ReduceLROnPlateau(patience=5, factor=0.5), grad_clip: 2.0"
    validation = (0.8294, 0.5869, 0.6093, 0.6127, 0.6011, 0.5884)
    epochs = tmp_path / "run_4.log"
    epochs.write_text(
        f"lr: 2e-5, {settings}, {plateau}\n"
        + "".join(
            f"Epoch {e + 1}/100: train_loss={train:.4f} val_loss={loss:.4f} grad_norm={18.4 + 0.4 * e:.2f} "
            "lr=2.00e-05\n"
            for e, (train, loss) in enumerate(zip((7.9, 6.7, 5.9, 5.4, 5.1, 4.9), validation, strict=True))
        ),
        encoding="utf-8",
    )
    found = findings(epochs)
    assert "the sum over batch_size = 8" in found["loss-not-per-token"]["title"]
    assert "norms before clipping" in found["gradient-norm-preclip"]["title"]
    assert "the earliest is epoch 8" in found["plateau-scheduler-idle"]["title"]  # counted from 1; epoch 7 from 0
    assert "predicting zero gives 1" in found["loss-at-chance"]["title"]
    assert "shuffle is False" in found["order-unshuffled"]["title"]
    assert not {"lr-too-high", "gradient-exploding", "clip-never-active"} & found.keys()

    paths = []
    for place, (rate, level) in enumerate(((3e-4, 0.42), (1e-4, 0.47), (5e-5, 0.52), (2e-5, 0.587), (1e-5, 0.889))):
        path = tmp_path / "history" / f"run_{place}.log"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"lr: {rate:g}, {settings}, grad_clip: 2.0\n"
            + "".join(f"Epoch {e}/10: val_loss={level + 0.3 * 0.4**e:.4f} lr={rate:.2e}\n" for e in range(1, 11)),
            encoding="utf-8",
        )
        paths.append(path)
    told = diagnosed(*paths)["history"]["findings"]
    assert any(one["rule"] == "lr-too-low" and "lowered four times" in one["title"] for one in told), told


def test_ltg_bert_three_devices_in_the_learning_rate(tmp_path: Path) -> None:
    """I3: 8.44e-05 = 1e-4 x 24 x 3 x 3 / 256 says that an update has 216 samples and not 72; int(0.1) is no warm-up."""
    noise = np.random.default_rng(3).normal(0, 0.02, 1501)
    horizon = 31_250 * 3  # counted in micro-batches
    rate = [1e-4 * 24 * 3 * 3 / 256 * (1 + math.cos(math.pi * i / 3 / horizon)) / 2 for i in range(1501)]
    (tmp_path / "config.json").write_text(
        json.dumps({
            "learning_rate": 1e-4, "batch_size": 24, "gradient_accumulation_steps": 3, "warmup_steps": 0.1,
            "scheduler": "cosine", "vocab_size": 16384, "max_steps": 31250, "effective_batch_size": 72,
        }),
        encoding="utf-8",
    )  # fmt: skip
    log = tmp_path / "train.log"
    log.write_text(
        "".join(
            f"step {i} loss {3.75 - 0.1 * i / 1500 + noise[i]:.4f} lr {rate[i]:.4e} grad_norm {1.2 + noise[i]:.3f}\n"
            for i in range(0, 1501, 10)
        ),
        encoding="utf-8",
    )
    found = findings(log)
    assert next(iter(found)) in ("lr-not-as-configured", "setting-truncated", "schedule-wrong-horizon")
    together = everything(next(iter(found.values())))
    assert "24 x 3 x 3 / 256" in together
    assert "3 devices" in together
    assert "3,125" in found["setting-truncated"]["title"]  # what a tenth of the updates would be
    assert "93,750" in everything(found["schedule-wrong-horizon"])
    assert "216" in everything(found["arithmetic-contradiction"])
    assert "72" in everything(found["arithmetic-contradiction"])


def test_gpt2_labels_shifted_twice(tmp_path: Path) -> None:
    """I4: the first line says it: a pretrained GPT-2 begins at 9.2 to 9.6 nats, and knows 3.6."""
    log = tmp_path / "output.txt"
    rows = "".join(
        f"step {step}: train loss {loss:.4f}, val loss {loss + 0.05:.4f}\n"
        for step, loss in zip(range(0, 2501, 500), (9.42, 7.31, 6.93, 6.67, 6.58, 6.52), strict=True)
    )
    log.write_text(
        "🤖 Using GPT-2 model: gpt2\n🔧 Using LoRA for efficient fine-tuning\n   LoRA rank: 16, alpha: 32.0\n"
        "📥 Loading gpt2 from HuggingFace...\n   Total parameters: 127,615,504\n"
        "Vocabulary size: 50,257 tokens\nlearning_rate: 2e-5\n" + rows,
        encoding="utf-8",
    )
    found = findings(log)
    assert next(iter(found)) in ("initial-loss-implausible", "labels-misaligned")
    assert "shifted" in everything(next(iter(found.values())))


@pytest.mark.skipif(not LOGS.exists(), reason="the real logs are not beside the project (../shared/logs)")
def test_the_real_logs_with_labels_shifted_twice() -> None:
    runs = diagnosed(*(LOGS / f"gpt2qa_{number}.txt" for number in DOUBLY_SHIFTED))["runs"]
    assert len(runs) == len(DOUBLY_SHIFTED)
    assert {run["findings"][0]["rule"] for run in runs} == {"initial-loss-implausible"}
