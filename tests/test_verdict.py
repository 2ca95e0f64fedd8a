"""The verdict over all rules: healthy is earned, not the absence of anything to look at."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unstuck.diagnose.engine import diagnose
from unstuck.runs.readers import read_runs


def rows(path, count: int, noise: float = 0.02):
    rng = np.random.default_rng(1)
    lines = []
    for step in range(1, count + 1):
        loss = 2.0 + 2.2 * (1 + step / 20) ** -0.7 + rng.normal(0, noise)
        lines.append(json.dumps({"step": step, "loss": loss, "lr": 1e-3}))
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("count", [2, 5])
def test_two_updates_are_undetermined_not_healthy(tmp_path, count):
    assert diagnose(read_runs(rows(tmp_path / "m.jsonl", count))[0]).verdict == "undetermined"


def test_a_run_that_learns_is_healthy(tmp_path):
    assert diagnose(read_runs(rows(tmp_path / "m.jsonl", 600))[0]).verdict == "healthy"
