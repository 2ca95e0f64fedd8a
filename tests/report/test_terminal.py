"""The diagnosis in the terminal: what it prints where, and what it leaves out."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from unstuck.config.patch import Change
from unstuck.diagnose.engine import Diagnosis, Finding
from unstuck.diagnose.rule import Remedy
from unstuck.report.terminal import print_diagnosis
from unstuck.runs import Run


def printed(run: Run, *findings: Finding, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_diagnosis(Diagnosis(run, "sick", list(findings)), Console(file=stream, width=100))
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("encoding", "drawn"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_the_plot_is_left_out_where_it_cannot_be_encoded(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding], encoding: str, drawn: bool
):
    said = printed(make_run(), make_finding(), encoding=encoding)
    assert any("⠀" < character <= "⣿" for character in said) is drawn
    assert ("train/loss, updates 1 to 400" in said) is drawn
    assert "jump over its noise = 12" in said


def test_fix_is_offered_only_where_it_would_change_something(
    make_run: Callable[..., Run], make_finding: Callable[..., Finding]
):
    with_patch = (Remedy("Lower it", "safe", (Change("learning_rate", 1e-3, 1e-4),)),)
    run = make_run()
    assert "unstuck fix runs/one\n" in printed(run, make_finding(remedies=with_patch))
    advice = make_finding(remedies=(Remedy("Look at the data", "advice"),))
    assert "unstuck fix" not in printed(run, advice)
    assert "unstuck fix" not in printed(run, advice, make_finding("a-note", 2, remedies=with_patch, severity="note"))
    said = printed(run, advice, make_finding("lr-too-high", 2, remedies=with_patch))
    assert "unstuck fix runs/one --rule lr-too-high\n" in said
