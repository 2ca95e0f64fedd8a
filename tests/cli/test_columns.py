"""`unstuck diagnose --columns`: what the user says about a log's columns, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unstuck.cli.main import main


def odd(path: Path) -> Path:
    path.write_text("".join(f"{k} {3 - k / 50:.4f} {2 - k / 90:.4f}\n" for k in range(100)), encoding="utf-8")
    return path


def test_columns_without_names_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(odd(tmp_path / "a.log"))]) == 2
    assert "--columns" in capsys.readouterr().err
    main(["diagnose", str(tmp_path / "a.log"), "--columns", "1=step,2=train/loss,3=val/loss", "--json"])
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["updates"] == 99
    assert {series["name"] for series in run["series"]} == {"train/loss", "val/loss"}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("loss=val/los", "the nearest names are val/loss"),
        ("loss", "write KEY=NAME"),
        ("9=train/loss", "no column col9; the nearest are"),
    ],
)
def test_a_mistake_is_one_sentence(
    said: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", str(odd(tmp_path / "a.log")), "--columns", said]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().split("\n")) == 1
