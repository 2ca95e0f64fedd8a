"""A resumed run in several files is one run; two runs side by side stay two."""

from __future__ import annotations

import json
from pathlib import Path

from unstuck.runs.readers import read_runs


def _write(path: Path, first: int, last: int, lr: float = 1e-3, level: float = 3.0) -> None:
    rows = [{"step": s, "loss": level + 4 / (1 + s / 50), "lr": lr} for s in range(first, last + 1, 10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_resumed_run_in_two_files_is_joined_with_its_resume(tmp_path: Path) -> None:
    _write(tmp_path / "train_1.jsonl", 0, 500)
    _write(tmp_path / "train_2.jsonl", 410, 900, lr=2e-3)
    (run,) = read_runs(tmp_path)
    assert run.updates == 900
    loss = run.series["train/loss"]
    assert list(loss.updates) == list(range(0, 901, 10))
    assert [event.update for event in run.events_of("resume")] == [410]
    assert str(loss.source(40)) == "train_1.jsonl:41"
    assert str(loss.source(41)) == "train_2.jsonl:1"
    assert run.series["lr/all"].at(400) == 1e-3
    assert run.series["lr/all"].at(410) == 2e-3


def test_two_whole_runs_of_a_folder_stay_two(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", 0, 500)
    _write(tmp_path / "b.jsonl", 0, 900)
    assert [run.updates for run in read_runs(tmp_path)] == [500, 900]


def test_a_continuation_of_either_of_two_runs_is_not_joined(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", 0, 500)
    _write(tmp_path / "b.jsonl", 0, 500, lr=2e-3)
    _write(tmp_path / "c.jsonl", 510, 900)
    assert len(read_runs(tmp_path)) == 3
