"""What toolkits of TensorFlow and JAX call their series, and a `batch` that goes on as the step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstuck.runs import Run, names
from unstuck.runs.readers import read_runs
from unstuck.runs.text_settings import pairs_of

STEPS = range(10, 410, 10)


def run_of(folder: Path, rows: list[dict[str, Any]]) -> Run:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (run,) = read_runs(path)
    return run


def test_the_loss_of_opennmt_tfs_metrics_is_validations(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for step in STEPS:
        rows.append({"step": step, "loss": 3 - step / 400, "optim/learning_rate": 1e-3, "gradients/global_norm": 0.5})
        if step % 100 == 0:
            rows.append({"step": step, "metrics/loss": 3.1 - step / 400, "metrics/perplexity": 9.0})
    run = run_of(tmp_path, rows)
    assert len(run.series["val/loss"]) == 4
    assert len(run.series["train/loss"]) == 40
    assert {"lr/all", "grad_norm/preclip"} <= run.series.keys()


def test_metrics_loss_beside_each_row_or_a_validation_loss_is_none() -> None:
    assert "val/loss" not in {n.canonical for n in names.assign({"loss": 40, "metrics/loss": 40}).values()}
    given = names.assign({"loss": 40, "val_loss": 4, "metrics/loss": 4})
    assert given["val_loss"].canonical == "val/loss"
    assert "metrics/loss" not in given


def test_of_two_norms_of_maxtext_the_raw_one_is_before_clipping() -> None:
    given = names.assign(dict.fromkeys(("learning/loss", "learning/grad_norm", "learning/raw_grad_norm"), 9))
    assert given["learning/raw_grad_norm"].canonical == "grad_norm/preclip"
    assert "learning/grad_norm" not in given
    assert given["learning/loss"].canonical == "train/loss"


@pytest.mark.parametrize("first", [0, 1])
def test_a_batch_that_goes_on_over_the_epochs_is_the_step(first: int, tmp_path: Path) -> None:
    rows = [{"epoch": first + (b - 1) // 25, "batch": b, "train_loss": 3 - b / 400} for b in range(5, 405, 5)]
    run = run_of(tmp_path, rows)
    assert run.axis == "update"
    assert np.array_equal(run.series["train/loss"].updates, np.arange(5, 405, 5))


def test_a_batch_that_never_changes_is_a_size(tmp_path: Path) -> None:
    run = run_of(tmp_path, [{"epoch": e, "batch": 32, "train_loss": 3 - e / 40} for e in range(1, 31)])
    assert run.axis == "epoch"
    assert run.updates == 30


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("INFO:tensorflow: - vocabulary size: 107", ("vocabulary size", 107)),
        ("INFO:root:learning_rate = 0.001", ("learning_rate", 0.001)),
        ("INFO:tensorflow:Number of model parameters: 99851", ("Number of model parameters", 99851)),
        ("I0811 21:53:44.943716 138304841739136 train.py:133] grad_accum: 4", ("grad_accum", 4)),
    ],
)
def test_settings_behind_pythons_and_abseils_prefixes(line: str, pair: tuple[str, Any]) -> None:
    """logging.basicConfig's default format, and absl's."""
    assert pair in pairs_of(line)


def test_the_time_of_a_step_of_tensorflows_object_detection(tmp_path: Path) -> None:
    """Lines of tensorflow/models' model_lib_v2.py (armaanpriyadarshan/Training-a-Custom-... issue 6)."""
    log = tmp_path / "train.log"
    log.write_text("".join(
        f"I0912 11:40:27.956218 139735407601536 model_lib_v2.py:652] Step {step} per-step time 0.813s "
        f"loss={1.4 - step / 9000:.3f}\n" for step in range(100, 3100, 100)
    ))  # fmt: skip
    (run,) = read_runs(log)
    assert run.updates == 3000
    assert np.allclose(run.series["time/step_ms"].values, 813.0)
