"""Numbers and the words beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.train.conftest import TINY
from unstuck.cli.main import main
from unstuck.wording import plural


def test_one_is_singular_and_everything_else_plural() -> None:
    assert [plural(n, "update") for n in (0, 1, 2, 1_000_000)] == [
        "0 updates",
        "1 update",
        "2 updates",
        "1,000,000 updates",
    ]
    assert (plural(1, "core is", "cores are"), plural(2, "core is", "cores are")) == ("1 core is", "2 cores are")
    assert (plural(1.0, "epoch"), plural(1.5, "epoch")) == ("1 epoch", "1.5 epochs")


def test_a_run_of_one_update_is_told_of_in_the_singular(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("one text of few words. " * 300)
    (tmp_path / "tiny.yaml").write_text(TINY % {"text": text, "runs": tmp_path / "runs"})
    assert main(["train", str(tmp_path / "tiny.yaml"), "training.updates=1", "training.batch_size=1"]) == 0
    run = str(tmp_path / "runs" / "tiny")
    assert main(["train", "--resume", run]) == 2  # it has made all of its updates
    main(["diagnose", run])
    said = capsys.readouterr()
    assert "1 update in " in said.out
    assert not re.findall(r"(?<![\d.,/])1 (?:[a-z-]+s)\b", said.out + said.err)
