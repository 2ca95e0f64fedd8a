"""A diagnosis in the terminal: the verdict first, then each finding with its evidence, its reason and its cure."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rich.text import Text

from unstuck.diagnose.calibration import record_of
from unstuck.report import braille
from unstuck.wording import plural

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from unstuck.diagnose.engine import Diagnosis, Finding
    from unstuck.diagnose.rule import Evidence, Remedy
    from unstuck.runs import Run, Series

MAX_WIDTH = 110  # longer lines of prose are hard to read
PLOT_ROWS = 4
PLOT_COLUMNS = 60
MAX_REMEDIES = 2
MAX_EVIDENCE = 3
MAX_ALTERNATIVES = 2
FLAT_SHARE = 0.25  # a span below a quarter of the plot's height is one row of four: zoom in
STYLES = {"sick": "bold red", "healthy": "bold green", "undetermined": "bold yellow"}
SEVERITY_STYLES = {"error": "bold red", "warning": "bold yellow", "note": "dim"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# How a setting is written in each dialect: a line of YAML, an environment variable, an argument, an assignment.
ASSIGNMENTS = {"unstuck": "{key}: {value}", "environment": "{key}={value}", "huggingface": "{key}={value}"}


def print_diagnosis(diagnosis: Diagnosis, console: Console, config: Path | None = None) -> None:
    """Print one diagnosis, 80 to 110 columns wide, without colours where the console is no terminal.

    Args:
        config: the configuration that the user named; the command that makes the change needs it too.
    """
    width = min(console.width, MAX_WIDTH)
    for block in _blocks(diagnosis, width, config, plots=_shows_braille(console)):
        for line in block.lines(console, width):
            console.print(line, highlight=False, soft_wrap=True)


def _shows_braille(console: Console) -> bool:
    """Whether the stream can encode the plot; an encoding that nobody knows cannot."""
    try:
        "\u28ff".encode(getattr(console.file, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _blocks(diagnosis: Diagnosis, width: int, config: Path | None, *, plots: bool) -> Iterator[_Block]:
    run = diagnosis.run
    yield _Block(_verdict(diagnosis))
    yield _Block(_text(_about(run), "dim"))
    if diagnosis.outlook is not None:
        which = "validation" if run.get("val/loss") is not None else "training"
        yield _Block(_text(f"On this course the {which} loss comes to {diagnosis.outlook}.", "dim"))
    if diagnosis.reach:
        yield _Block(_text(f"{diagnosis.reach[0].upper()}{diagnosis.reach[1:]}."))
    shown: set[tuple[str, tuple[int, int]]] | None = set() if plots else None
    notes = [f for f in diagnosis.findings if f.severity == "note"]
    for finding in diagnosis.findings:
        if finding.severity != "note":
            yield _Block(Text(""))
            yield from _finding(finding, run, width, shown)
    serious = [f for f in diagnosis.findings if f.severity != "note"]
    changeable = next((f for f in serious if any(remedy.patch for remedy in f.remedies)), None)
    if changeable is not None and " (run " not in run.source:
        yield _Block(Text(""))
        rule = "" if changeable is serious[0] else f" --rule {changeable.rule.name}"  # by itself fix takes the first
        given = "" if config is None else f" --config {shlex.quote(str(config))}"
        command = _text(f"unstuck fix {shlex.quote(run.source)}{given}{rule}", "bold")
        yield _Block(_text("To make the change: ") + command, wraps=False)
    if notes:
        yield _Block(Text(""))
        yield _Block(_text("Notes", "bold"))
        for finding in notes:
            yield _Block(_text(f"- {finding.found.title} ({finding.rule.code} {finding.rule.name})"), 2, 2)
    if diagnosis.could_not_check:
        yield _Block(Text(""))
        yield from _could_not_check(diagnosis)
    if said := [note for note in run.notes if not note.startswith(("Read as", "Names were inferred"))]:
        yield _Block(Text(""))
        yield _Block(_text("How the log was read", "bold"))
        for note in said[:6]:
            yield _Block(_text(f"- {note}", "dim"), 2, 2)
        if len(said) > 6:
            yield _Block(_text(f"- and {len(said) - 6} more, see --json", "dim"), 2, 2)


def _verdict(diagnosis: Diagnosis) -> Text:
    verdict = diagnosis.verdict
    line = _text(verdict.upper(), STYLES[verdict])
    serious = [f for f in diagnosis.findings if f.severity != "note"]
    if verdict == "sick":
        line.append(_clean(f": {_stripped(serious[0].found.title)}."), "bold")
        others = len(serious) - 1
        following = sum(f.because_of is not None for f in serious)
        if others and others == following:
            line.append(f" {plural(others, 'more finding follows', 'more findings follow')} from it.")
        elif others:
            line.append(f" {plural(others, 'more finding')}.")
    elif verdict == "healthy":
        line.append(f": {plural(len(diagnosis.clear), 'rule')} looked and found nothing wrong.")
    else:
        line.append(
            f": too little to tell; only {len(diagnosis.clear)} of "
            f"{plural(len(diagnosis.clear) + len(diagnosis.could_not_check), 'rule')} had what they need."
        )
        if diagnosis.log_next:
            line.append(_clean(f" Log or give next: {'; '.join(diagnosis.log_next)}."))
    return line


def _about(run: Run) -> str:
    parts = [
        run.source,
        run.format,
        plural(run.updates, run.axis if run.axis in ("epoch", "row") else "update"),
    ]
    for name in ("train/loss", "val/loss"):
        series = run.get(name)
        if series is not None and len(series):
            parts.append(f"{name} {_number(float(series.values[0]))} -> {_number(float(series.values[-1]))}")
    return " | ".join(parts)


def _finding(
    finding: Finding, run: Run, width: int, shown: set[tuple[str, tuple[int, int]]] | None
) -> Iterator[_Block]:
    """One finding; `shown` are the plots that were drawn already, None where nothing can be drawn."""
    found = finding.found
    head = _text(f"{finding.rank}. ", "bold")
    head.append(_clean(_stripped(found.title) + "."), "bold")
    head.append(f"  {finding.severity} ", SEVERITY_STYLES[finding.severity])
    head.append(f"{finding.rule.code} {finding.rule.name}", "dim")
    yield _Block(head, 0, 3)
    if finding.because_of is not None:
        yield _Block(_text(f"follows from {finding.because_of}", "italic"), 3)
    plotted = next((e for e in found.evidence if _plottable(run, e)), None)
    if plotted is not None and shown is not None and (plotted.series, plotted.updates) not in shown:
        shown.add((plotted.series, plotted.updates))
        for line in _plot(run.series[plotted.series], plotted.updates, width):
            yield _Block(line, 3)
    for evidence in found.evidence[:MAX_EVIDENCE]:
        yield _labelled("evidence", _evidence(evidence))
    if found.detail:
        yield _labelled("detail", found.detail)
    if finding.because_of is None and (why := _why(finding.rule.doc)):
        yield _labelled("why", why)
    for other in finding.alternatives[:MAX_ALTERNATIVES]:
        yield _labelled("or", f"{other.what}. To tell: {other.tell}.")
    for remedy in finding.remedies[:MAX_REMEDIES]:
        yield from _remedy(remedy, run)
    if not finding.remedies and finding.because_of is None:
        yield _labelled("change", "no remedy is known for this finding yet.")
    measured = record_of(finding.rule.name) if finding.severity != "note" else ""
    yield _labelled("sure", f"{found.confidence:.0%} ({measured or 'an estimate'})")


def _evidence(evidence: Evidence) -> str:
    first, last = evidence.updates
    span = f"update {first:,}" if first == last else f"updates {first:,} to {last:,}"
    against = "" if evidence.threshold is None else f" (threshold {_number(evidence.threshold)})"
    place = "" if evidence.source is None else f" [{evidence.source}]"
    return f"{evidence.series}, {span}: {evidence.statistic} = {_number(evidence.value)}{against}{place}"


def _remedy(remedy: Remedy, run: Run) -> Iterator[_Block]:
    from unstuck.config.dialects import in_dialect

    yield _labelled("change", f"{_stripped(remedy.summary)}. ({remedy.safety})")
    for change in remedy.patch:
        theirs = in_dialect(change, run)
        pattern = ASSIGNMENTS.get(run.dialect, "{key} = {value}")
        if theirs.old is not None:
            yield _Block(
                _text("- " + pattern.format(key=theirs.key, value=_setting(theirs.old, run.dialect)), "red"), 12
            )
        yield _Block(_text("+ " + pattern.format(key=theirs.key, value=_setting(theirs.new, run.dialect)), "green"), 12)
    if remedy.reason:
        yield _Block(_text(remedy.reason), 12)
    if remedy.safety != "advice" or remedy.measured:
        effect = f"measured effect: {remedy.measured}" if remedy.measured else "its effect was never measured"
        yield _Block(_text(effect), 12)


def _could_not_check(diagnosis: Diagnosis) -> Iterator[_Block]:
    """What is missing, with the rules that each item would allow, most rules first."""
    by_missing: dict[str, list[str]] = {}
    for rule, missing in diagnosis.could_not_check.items():
        for item in missing:
            by_missing.setdefault(item, []).append(rule)
    order = sorted(by_missing, key=lambda item: (-len(by_missing[item]), item))
    count = len(diagnosis.could_not_check)
    yield _Block(_text(f"Not checked: {plural(count, 'rule')}. To check more, log or give", "bold"))
    for item in order[:5]:
        rules = by_missing[item]
        named = ", ".join(rules[:3]) + (f" and {len(rules) - 3} more" if len(rules) > 3 else "")
        yield _Block(_text(f"- {item}: {named}"), 2, 2)
    if len(order) > 5:
        yield _Block(_text(f"- and {len(order) - 5} more, see --json", "dim"), 2, 2)


def _why(doc: str) -> str:
    """The first sentence below the heading "Why it matters" of a rule's documentation."""
    found = re.search(r"^Why it matters\n(.+?)(?:\n\n|\Z)", doc, re.M | re.S)
    if found is None:
        return ""
    paragraph = " ".join(found[1].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph, maxsplit=1)[0]


def _plottable(run: Run, evidence: Evidence) -> bool:
    series = run.get(evidence.series)
    return series is not None and int(np.isfinite(series.values).sum()) >= 3


def _plot(series: Series, span: tuple[int, int], width: int) -> Iterator[Text]:
    """The series as a Braille plot, the span of the evidence in colour and marked below it."""
    columns = max(20, min(PLOT_COLUMNS, width - 18))
    x, y = series.updates.astype(np.float64), series.values.copy()
    good = np.isfinite(y)
    broken = ~good
    # Two decades and more: only a logarithmic axis shows both ends.
    logarithmic = bool((y[good] > 0).all() and y[good].max() > 100 * y[good].min())
    if logarithmic:
        y[good] = np.log10(y[good])
    inside = (series.updates >= span[0]) & (series.updates <= span[1])
    low, high = _axis(y[good], y[good & inside])
    y[good & ((y < low) | (y > high))] = np.nan
    lines = braille.plot(x, y, columns=columns, rows=PLOT_ROWS, low=low, high=high)
    place = braille.positions(x, columns)
    marked = place[inside]
    first, last = (int(marked.min()), int(marked.max())) if len(marked) else (0, columns - 1)
    labels = {0: high, PLOT_ROWS - 1: low}
    for row, line in enumerate(lines):
        label = _number(10 ** labels[row] if logarithmic else labels[row]) if row in labels else ""
        text = _text(f"{label:>9} |", "dim")
        text.append(line[:first], "cyan")
        text.append(line[first : last + 1], "bold red")
        text.append(line[last + 1 :], "cyan")
        yield text
    marks = list(" " * first + "-" * (last - first + 1) + " " * (columns - last - 1))
    for column in set(place[broken].tolist()):
        marks[column] = "x"
    caption = [series.name, f"updates {int(x[0]):,} to {int(x[-1]):,}", "log axis" if logarithmic else "",
               "x: not finite" if broken.any() else ""]  # fmt: skip
    yield _text(" " * 9 + " |", "dim").append("".join(marks), "red")
    yield _text(" " * 11 + ", ".join(part for part in caption if part), "dim")


def _axis(everything: npt.NDArray[np.float64], span: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Lowest and highest value shown: all of them, or the surroundings of a span that would look flat among them."""
    low, high = float(everything.min()), float(everything.max())
    if len(span) < 3:
        return low, high
    span_low, span_high = float(span.min()), float(span.max())
    height = span_high - span_low
    if 0 < height < FLAT_SHARE * (high - low):
        return max(low, span_low - height), min(high, span_high + height)
    return low, high


def _labelled(label: str, text: str) -> _Block:
    line = _text(f"{label:<9}", "dim")
    line.append(_clean(text))
    return _Block(line, 3, 9)


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return f"{value:,.0f}" if abs(value) >= 1e5 and value == int(value) and abs(value) < 1e12 else f"{value:.4g}"


def _setting(value: Any, dialect: str) -> str:
    if value is None:
        return "null" if dialect == "unstuck" else "None"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_setting(item, dialect) for item in value)
    return str(value)


def _stripped(sentence: str) -> str:
    return sentence.strip().rstrip(".")


def _clean(text: str) -> str:
    """Without control characters: a log's text must not move the cursor or change the terminal's title."""
    return _CONTROL.sub("?", text)


def _text(text: str, style: str = "") -> Text:
    return Text(_clean(text), style=style)


@dataclass(frozen=True, slots=True)
class _Block:
    """Text that wraps within the width, indented; the lines after the first may hang further in."""

    text: Text
    indent: int = 0
    hanging: int = 0
    wraps: bool = True  # False for a command to copy

    def lines(self, console: Console, width: int) -> Iterator[Text]:
        if not self.wraps:
            yield self.text
            return
        first_room = max(20, width - self.indent)
        first = next(iter(self.text.wrap(console, first_room)), Text(""))
        first.rstrip()
        yield Text(" " * self.indent) + first
        rest = self.text[len(first.plain) :]
        rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :] if rest.plain.strip() else Text("")
        if rest.plain:
            for line in rest.wrap(console, max(20, first_room - self.hanging)):
                line.rstrip()
                yield Text(" " * (self.indent + self.hanging)) + line
