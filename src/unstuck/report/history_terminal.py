"""The history of several runs in the terminal: what changed at each step, what happened, what that shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from unstuck.diagnose.changes import told
from unstuck.diagnose.history import short_names
from unstuck.report.terminal import MAX_WIDTH, SEVERITY_STYLES
from unstuck.report.terminal import _clean as clean
from unstuck.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

    from unstuck.diagnose.history import History, Step

MAX_STEPS = 20  # ours: a screen; the document has all of them
MAX_REMARKS = 6


def print_history(history: History, console: Console) -> None:
    """Print the history below the diagnoses, 80 to 110 columns wide."""
    width = min(console.width, MAX_WIDTH)
    for line, indent in _lines(history):
        for place, part in enumerate(line.wrap(console, max(20, width - indent - 3))):
            part.rstrip()
            console.print(Text(" " * (indent + (3 if place else 0))) + part, highlight=False, soft_wrap=True)


def _lines(history: History) -> Iterator[tuple[Text, int]]:
    """Lines of text, each with its indent."""
    yield Text(f"History of {plural(len(history.runs), 'run')}, {history.order}", "bold"), 0
    for found in history.findings:
        line = Text(clean(found.title) + ".", "bold" if found.severity != "note" else "")
        line.append(f"  {found.severity} ", SEVERITY_STYLES[found.severity])
        line.append(f"{found.rule}, {found.confidence:.0%}", "dim")
        yield line, 1
        if found.detail:
            yield Text(clean(found.detail)), 4
    names = short_names(history.runs)
    if history.steps:
        yield Text("Steps", "bold"), 1
    for step in history.steps[:MAX_STEPS]:
        yield from _step(step, names)
    if len(history.steps) > MAX_STEPS:
        yield Text(f"and {len(history.steps) - MAX_STEPS} more, see --json", "dim"), 2
    for remark in history.remarks[:MAX_REMARKS]:
        yield Text(f"- {clean(remark)}"), 1
    if len(history.remarks) > MAX_REMARKS:
        yield Text(f"- and {len(history.remarks) - MAX_REMARKS} more, see --json", "dim"), 1


def _step(step: Step, names: list[str]) -> Iterator[tuple[Text, int]]:
    line = Text(f"{clean(names[step.old])} -> {clean(names[step.new])}: ")
    if step.changes is None:
        line.append("what changed is not known")
    elif not step.levers:
        line.append("nothing that matters changed")
    else:
        line.append(clean(told([change for changes in step.levers.values() for change in changes])))
    yield line, 2
    outcome = step.outcome
    if outcome is None:
        yield Text(f"not compared: {clean(step.why_unknown)}", "dim"), 5
        return
    style = {"worse": "red", "better": "green"}.get(outcome.verdict, "dim")
    line = Text(f"{outcome.series} {outcome.old:.4g} -> {outcome.new:.4g} at update {outcome.update:,}: ")
    line.append(outcome.verdict, style)
    yield line.append(f" (noise up to {outcome.limit:.2g})", "dim"), 5
