"""nan that stands for "not measured" is no loss that was not finite."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from unstuck.diagnose.engine import diagnose
from unstuck.runs.readers import read_runs


def falling(row: int) -> float:
    return 2.3 * math.exp(-row / 20) + 0.3


def csv(path: Path, measured: list[bool], train: list[bool] | None = None) -> Path:
    rows = ["step,loss,val_loss"]
    for row, is_measured in enumerate(measured, start=1):
        loss = f"{falling(row):.4f}" if train is None or train[row - 1] else "nan"
        rows.append(f"{10 * row},{loss},{f'{falling(row) + 0.05:.4f}' if is_measured else 'nan'}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_an_evaluation_every_fifth_row_is_no_loss_that_was_not_finite(tmp_path: Path) -> None:
    (run,) = read_runs(csv(tmp_path / "log.csv", [row % 5 == 0 for row in range(1, 41)]))
    assert run.series["val/loss"].updates.tolist() == list(range(50, 401, 50))
    assert any("not measured" in note for note in run.notes)
    assert "loss-not-finite" not in [finding.rule.name for finding in diagnose(run).findings]


def test_rows_of_training_and_of_evaluation_below_one_another(tmp_path: Path) -> None:
    measured = [row % 5 == 0 for row in range(1, 41)]
    (run,) = read_runs(csv(tmp_path / "log.csv", measured, [not one for one in measured]))
    assert np.isfinite(run.series["train/loss"].values).all()
    assert len(run.series["train/loss"]) == 32


@pytest.mark.parametrize(
    "measured",
    [
        [row < 25 for row in range(1, 41)],  # from a point on there is no number any more
        [row not in (7, 19, 20, 33) for row in range(1, 41)],  # now and then there is none
    ],
)
def test_a_validation_loss_that_was_not_finite_stays_one(tmp_path: Path, measured: list[bool]) -> None:
    (run,) = read_runs(csv(tmp_path / "log.csv", measured))
    assert np.isnan(run.series["val/loss"].values).any()
    assert "loss-not-finite" in [finding.rule.name for finding in diagnose(run).findings]
