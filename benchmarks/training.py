"""Training speed and tokens to a loss, against the same model in nanoGPT's form and in the transformers Trainer.

    python benchmarks/training.py --data ../shared/data/text/tinyshakespeare.txt [--quick]

Everything runs in processes of its own, in turn, on an otherwise idle machine; rows are medians over the rounds. Writes
docs/benchmarks.md. About 10 minutes on 2 cores; --quick: 3 minutes, one round and one seed (numbers are printed only).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TARGET = (
    1.898  # nanoGPT's setting after 2,000 updates, shared/PERFORMANCE.md; the peer's own loss is measured beside it
)
PEER_UPDATES, TOKENS_PER_UPDATE = 2000, 768
SAME_MODEL = (
    "data.validation_split=tail", "model.architecture=gpt2", "model.tied_head=true", "optimizer.kind=adamw",
    "optimizer.learning_rate=1e-3", "optimizer.beta1=0.9", "optimizer.beta2=0.99", "optimizer.weight_decay=0.1",
    "optimizer.groups=[]", "schedule.kind=cosine", "schedule.floor=0.1", "schedule.warmup_share=null",
    "schedule.warmup_updates=100", "schedule.horizon_updates=2000", "training.batch_size=12",
    "evaluation.every_updates=100000", "evaluation.max_tokens=1024",
)  # fmt: skip


def run(*command: str) -> tuple[dict[str, Any], float]:
    """The JSON that the command's last line holds, if it does, and its wall time from start to finish."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    return (json.loads(last) if last.startswith("{") else {}), seconds


def write_tokens(text_file: Path, folder: Path) -> tuple[Path, Path]:
    """nanoGPT's character tokens and 90/10 split, as two .npy files."""
    text = text_file.read_text(encoding="utf-8")
    index = {character: i for i, character in enumerate(sorted(set(text)))}
    tokens = np.array([index[character] for character in text], dtype=np.uint16)
    cut = int(len(tokens) * 0.9)
    np.save(folder / "train.npy", tokens[:cut])
    np.save(folder / "validation.npy", tokens[cut:])
    return folder / "train.npy", folder / "validation.npy"


def speed(text_file: Path, train_file: Path, folder: Path, rounds: int, updates: int) -> dict[str, Any]:
    """Tokens per second of each trainer, in turn, `rounds` times."""
    found: dict[str, list[dict[str, float]]] = {}
    ours = ("-m", "benchmarks.peers.unstuck_loop")
    source = f"data.source={text_file}"
    for number in range(rounds):
        length = (f"training.updates={updates}", source)
        commands = {
            "nanoGPT's form": ("-m", "benchmarks.peers.nanogpt_form", str(train_file), "--updates", str(updates)),
            "transformers Trainer": ("-m", "benchmarks.peers.transformers_trainer", str(train_file), "--updates",
                                     str(updates)),
            "unstuck train, float32": (*ours, str(folder / f"a{number}"), "gpt-char", *SAME_MODEL, *length,
                                       "training.precision=float32"),
            "unstuck train, precision auto": (*ours, str(folder / f"b{number}"), "gpt-char", *SAME_MODEL, *length),
            "unstuck train gpt-char (modern, Muon)": (*ours, str(folder / f"c{number}"), "gpt-char",
                                                      "data.validation_split=tail", *length),
        }  # fmt: skip
        for name, command in commands.items():
            found.setdefault(name, []).append(run(*command)[0])
            print(f"{name}: {found[name][-1]}", flush=True)
    return {name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


def whole_loss(run_folder: Path) -> float:
    """Mean loss of a run's last weights over the whole validation split, in float32."""
    import torch

    from unstuck.evaluate.loss import Validation
    from unstuck.train.load import load_checkpoint
    from unstuck.train.tasks import token_data

    loaded = load_checkpoint(run_folder, "last")
    rows = token_data(loaded.config).validation_rows()
    return Validation(rows, device=torch.device("cpu")).measure(loaded.model).loss


def to_the_loss(text_file: Path, tokens: tuple[Path, Path], folder: Path, seeds: int) -> dict[str, Any]:
    """The peer's 2,000 updates and our recipe, each cold from process start to finish, in turn, one per seed."""
    peer, ours = [], []
    for seed in range(1, seeds + 1):
        place = folder / f"seed{seed}"
        command = (
            "-m", "unstuck.cli.main", "train", "gpt-char", f"data.source={text_file}", "data.validation_split=tail",
            f"seed={seed}", f"runs_folder={place}",
        )  # fmt: skip
        _, seconds = run(*command)
        summary_file = next(place.glob("*/summary.json"))
        summary = json.loads(summary_file.read_text(encoding="utf-8"))
        ours.append(
            {"seed": seed, "seconds": seconds, "tokens": summary["tokens"], "loss": whole_loss(summary_file.parent)}
        )
        print(f"unstuck train gpt-char: {ours[-1]}", flush=True)
        result, _ = run("-m", "benchmarks.peers.nanogpt_form", *map(str, tokens), "--updates", str(PEER_UPDATES),
                        "--seed", str(seed), "--started", str(time.time()))  # fmt: skip
        peer.append({"seed": seed, "seconds": result["seconds"], "loss": result["val_loss"]})
        print(f"nanoGPT's form: {peer[-1]}", flush=True)
    return {"peer": peer, "ours": ours}


def table(measured: dict[str, Any], loss: dict[str, Any], command: str) -> str:
    """docs/benchmarks.md."""
    base = measured["nanoGPT's form"]["tokens_per_second"]
    other = measured["transformers Trainer"]["tokens_per_second"]
    lines = [
        "# Benchmarks: training",
        "",
        f"Made by `{command}` on {time.strftime('%Y-%m-%d')}: {cpu()}, {len(os.sched_getaffinity(0))} cores, Python "
        f"{platform.python_version()}, torch {version('torch')}, transformers {version('transformers')}.",
        "",
        "## Speed: GPT-2, 4 layers, 4 heads, width 128, window 64, batch 12, AdamW",
        "",
        "| trainer | tokens/s | against nanoGPT's form | against transformers | clipping | outside forward, backward, "
        "clipping, optimizer |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in measured.items():
        rate, share = row["tokens_per_second"], row.get("outside_share")
        outside = " | " if share is None else f"{row['clipping_share']:.1%} | {share:.1%}"
        lines.append(f"| {name} | {rate:,.0f} | {rate / base:.2f}x | {rate / other:.2f}x | {outside} |")
    peer_seconds = statistics.median(row["seconds"] for row in loss["peer"])
    lines += [
        "",
        f"## Tokens and time to the loss of nanoGPT's setting after {PEER_UPDATES:,} updates",
        "",
        f"Loss: mean over the whole validation split, in nats. The published value is {TARGET}; time is wall time from "
        "the start of the process to its end, cold, with all evaluations, checkpoints and the report.",
        "",
        "| run | seed | tokens | loss | seconds | fewer tokens | faster |",
        "|---|---|---|---|---|---|---|",
    ]
    tokens = PEER_UPDATES * TOKENS_PER_UPDATE
    for row in loss["peer"]:
        lines.append(
            f"| nanoGPT's form | {row['seed']} | {tokens:,} | {row['loss']:.3f} | {row['seconds']:.1f} | 1.0x | 1.0x |"
        )
    for row in loss["ours"]:
        gain = f"{tokens / row['tokens']:.1f}x | {peer_seconds / row['seconds']:.1f}x"
        lines.append(
            f"| `unstuck train gpt-char` | {row['seed']} | {row['tokens']:,} | {row['loss']:.3f} "
            f"| {row['seconds']:.1f} | {gain} |"
        )
    reached = sum(row["loss"] <= TARGET for row in loss["ours"])
    lines += ["", f"{reached} of {len(loss['ours'])} seeds reach {TARGET}.", ""]
    return "\n".join(lines)


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="tinyshakespeare.txt")
    parser.add_argument("--quick", action="store_true", help="one round, one seed, nothing written")
    asked = parser.parse_args()
    if not asked.data.is_file():
        sys.exit(f"{asked.data} does not exist; give the path of tinyshakespeare.txt.")
    text_file = asked.data.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokens = write_tokens(text_file, folder)
        measured = speed(text_file, tokens[0], folder, rounds=1 if asked.quick else 3, updates=150)
        loss = to_the_loss(text_file, tokens, folder, seeds=1 if asked.quick else 3)
    command = f"python benchmarks/training.py --data {asked.data}"
    text = table(measured, loss, command)
    print(text)
    if not asked.quick:
        (ROOT / "docs" / "benchmarks.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
