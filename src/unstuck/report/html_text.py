"""Values and sentences of a report as escaped HTML. Everything that comes from a log passes `esc`."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from unstuck.config import dialects
from unstuck.config.patch import Change
from unstuck.runs import Run, Source

HEADINGS = ("Finds", "Why it matters", "Evidence needed", "Not when", "Remedy", "References")
# Between the key and the value, as each dialect writes a setting; others like Python.
ASSIGNMENT = {"unstuck": ": ", "environment": "=", "huggingface": ": "}


def esc(value: object) -> str:
    """Text that is safe inside an element or a quoted attribute."""
    return html.escape(str(value), quote=True)


def number(value: Any) -> str:
    """A number as people write it: 5,000, 0.25, 3e-5, nan; anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "not set" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e7:
        return number(int(value))
    text = f"{value:.4g}"
    mantissa, e, exponent = text.partition("e")
    if e:
        return f"{mantissa}e{int(exponent)}"
    if 0 < abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return text


def setting(value: Any) -> str:
    """A setting's value in full precision, as it would be typed."""
    if value is None:
        return "null"
    if isinstance(value, float) and math.isfinite(value):
        text = f"{value:.10g}"
        mantissa, e, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}" if e else text
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {setting(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(setting(v) for v in value)
    return str(value)


def section_of(doc: str, heading: str) -> str:
    """The paragraph below a heading of a rule's documentation, on one line; empty where there is none."""
    lines: list[str] = []
    inside = False
    for line in doc.splitlines():
        stripped = line.strip().rstrip(":")
        if stripped in HEADINGS:
            inside = stripped == heading
        elif inside:
            lines.append(line.strip())
    return " ".join(line for line in lines if line)


def diff(changes: tuple[Change, ...] | list[Change], run: Run | None) -> str:
    """The changes as a diff in the words of the run's dialect."""
    rows = []
    dialect = "unstuck" if run is None else run.dialect
    between = ASSIGNMENT.get(dialect, " = ")
    for change in changes:
        shown = change if run is None else dialects.in_dialect(change, run)
        if change.old is not None:
            rows.append(f'<span class="del">- {esc(shown.key)}{between}{esc(setting(shown.old))}</span>')
        rows.append(f'<span class="add">+ {esc(shown.key)}{between}{esc(setting(shown.new))}</span>')
    return f'<pre class="diff">{"".join(rows)}</pre>' if rows else ""


def sure(confidence: float, record: str = "") -> str:
    """A confidence in words and as a share; `record`: what it was calibrated with, see `calibration.record_of`."""
    word = "nearly certain" if confidence >= 0.95 else "likely" if confidence >= 0.8 else "plausible"
    if not record:
        return f"{word}: {confidence:.0%} by the rule's own estimate, which has not been calibrated"
    return f"{word}: {confidence:.0%}; {record}"


def place(source: Source | None) -> str:
    """Where something was read: file name and line, the whole path on hovering."""
    if source is None:
        return ""
    short = Source(source.file.replace("\\", "/").rsplit("/", 1)[-1], source.line)
    return f'<code title="{esc(source)}">{esc(short)}</code>'
