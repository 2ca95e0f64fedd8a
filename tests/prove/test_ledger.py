"""The ledger: many writers, torn lines, and its table."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from unstuck import ledger
from unstuck.cli.main import main
from unstuck.errors import UserError


def write_many(folder: Path, name: str) -> None:
    for number in range(50):
        ledger.append(folder, "run", run=name, updates=number, stopped_by="updates", note="x" * 2000)


def test_processes_that_write_at_once_lose_no_entry(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, f"run-{i}")) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    book = ledger.read(tmp_path)
    assert book.unreadable == 0
    assert sorted((e["run"], e["updates"]) for e in book.entries) == [
        (f"run-{i}", n) for i in range(3) for n in range(50)
    ]


def test_a_line_torn_by_a_kill_does_not_spoil_the_next_entry(tmp_path: Path):
    ledger.append(tmp_path, "run", run="a", updates=1, stopped_by="updates")
    with open(tmp_path / ledger.FILE, "a", encoding="utf-8") as file:
        file.write('{"kind": "run", "ru')
    ledger.append(tmp_path, "run", run="b", updates=2, stopped_by="updates")
    book = ledger.read(tmp_path)
    assert [entry["run"] for entry in book.entries] == ["a", "b"]
    assert book.unreadable == 1


def test_the_table_shows_the_change_and_its_measured_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    difference = {"mean": -0.081, "low": -0.093, "high": -0.069, "level": 0.95, "unit": "nats/token"}
    changes = [{"key": "learning_rate", "old": 1e-4, "new": 3e-4}]
    ledger.append(tmp_path, "verdict", run="gpt-char", verdict="better", difference=difference, changes=changes)
    assert main(["ledger", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "better" in shown
    assert "-0.0810" in shown
    assert main(["ledger", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["changes"] == changes


def test_numbers_that_json_cannot_hold_survive_as_strings(tmp_path: Path):
    ledger.append(tmp_path, "run", run="a", updates=1, stopped_by="updates", val_loss=float("nan"))
    assert ledger.read(tmp_path).entries[0]["val_loss"] == "nan"


def test_a_missing_ledger_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError):
        ledger.read(tmp_path)
    assert main(["ledger", str(tmp_path)]) == 2
    assert "unstuck prove" in capsys.readouterr().err
