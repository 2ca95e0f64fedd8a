"""A small version of benchmarks/false_alarms.py: healthy runs of every shape raise no error and no warning."""

from __future__ import annotations

import pytest
from benchmarks.false_alarms import SHAPES, healthy_run

from unstuck.diagnose.engine import diagnose


@pytest.mark.parametrize("shape", SHAPES)
def test_healthy_runs_raise_no_error_and_no_warning(shape: str):
    alarms = [
        (seed, finding.rule.name, finding.found.title)
        for seed in range(1000, 1006)
        for finding in diagnose(healthy_run(shape, seed)).findings
        if finding.severity != "note"
    ]
    assert alarms == []


def test_a_healthy_run_is_the_same_every_time():
    first, second = (healthy_run("power law, cosine", 3) for _ in range(2))
    assert all((first.series[name].values == second.series[name].values).all() for name in first.series)
