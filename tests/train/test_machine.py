"""What a run takes of the machine, and the reason that it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.conftest import Make, rows
from unstuck.config.schema import TrainingConfig
from unstuck.train.machine import choose, usable_cores
from unstuck.train.run import train


@pytest.mark.parametrize(
    ("written", "threads"),
    [("3", 3), (" 3 ", 3), ("3,2", 3), ("", None), ("0", None), ("-1", None), ("many", None), ("²", None)],
)
def test_omp_num_threads_counts_where_it_is_a_number(
    written: str, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", written)
    found = choose(TrainingConfig())
    assert found.threads == (threads or usable_cores())
    assert found.reasons["threads"].startswith("every core" if threads is None else "OMP_NUM_THREADS")
    assert choose(TrainingConfig(threads=2)).threads == 2


def test_a_run_says_whose_threads_it_takes_and_keeps_them_on_a_resume(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    asked = ("training.threads=null", "training.updates=2")
    folder = train(tiny(*asked), folder=tmp_path / "run", report=False).folder
    start = rows(folder, "start")[0]
    assert (start["derived"]["threads"], start["reasons"]["threads"]) == (1, "OMP_NUM_THREADS")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    train(tiny(*asked, "training.updates=3"), resume=folder, report=False)
    resumed = rows(folder, "resume")[0]
    assert resumed["derived"]["threads"] == 1
    assert resumed["reasons"]["threads"].endswith("bit for bit; OMP_NUM_THREADS is 2")
