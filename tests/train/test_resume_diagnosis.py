"""A run that was interrupted and went on is as healthy as one that was not."""

from __future__ import annotations

from pathlib import Path

import pytest

from unstuck.config.recipe import load_recipe
from unstuck.diagnose.engine import diagnose
from unstuck.runs.readers import read_runs
from unstuck.train.run import train

SMALL = [
    "data.max_characters=60000", "data.context=32", "model.layers=1", "model.heads=2", "model.width=32",
    "training.batch_size=8", "training.updates=60", "training.threads=1", "evaluation.every_updates=10",
    "evaluation.max_tokens=2000", "checkpoint.every_updates=20", "schedule.kind=constant",
]  # fmt: skip
ABOUT_THE_RATE = {"lr-stale-after-resume", "lr-jumps-on-resume", "lr-not-as-configured"}


@pytest.mark.parametrize("asked", [[], ["optimizer.learning_rate=0.004"], ["optimizer.muon_learning_rate=0.008"]])
def test_a_resume_that_did_what_was_asked_is_not_called_stale(tmp_path: Path, asked: list[str]):
    first = load_recipe("gpt-char", [*SMALL, f"runs_folder={tmp_path}"])
    seen: list[int] = []

    def stop(row):
        seen.append(1)
        return "user" if row.get("update") == 25 else None

    folder = train(first, stop_when=stop, report=False).folder
    train(load_recipe(folder, asked), resume=folder, report=False)
    found = {f.rule.name for f in diagnose(read_runs(folder)[0]).findings}
    assert not found & ABOUT_THE_RATE
