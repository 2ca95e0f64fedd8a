"""Text logs whose line shapes are known: one regular expression over the file in pieces, one handler for each match.

A reader of such a format writes an expression of alternatives anchored at the line's beginning (`re.M`) and a function
that takes each match into a `Reading`. Lines that match nothing cost only the search.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unstuck.runs.literal import literal_value
from unstuck.runs.logfile import LogFile, number
from unstuck.runs.parts import Part
from unstuck.runs.run import Setting, Source

NUMBER = r"[-+]?(?:\d[\d,]*+\.?\d*+(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf|NaN|Inf)"
# Signs that the program failed; in any format.
FAILURE = (
    r"Traceback \(most recent|[\w.]*(?:Error|Exception): |CUDA out of memory|Killed|Segmentation fault|[Oo]ut of memory"
    r"|slurmstepd: error|KeyboardInterrupt"
)


@dataclass(slots=True)
class Reading:
    """The parts of a log while it is read, the last one open."""

    file: str
    parts: list[Part] = field(default_factory=lambda: [Part()])
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> Part:
        return self.parts[-1]

    def begin(self, line: int, *, resumed: bool = False) -> None:
        """Open a new part, unless nothing has been read yet; a header may say more than once that it begins."""
        if self.part.lines:
            self.parts.append(Part(line=line))
        self.part.resumed = self.part.resumed or resumed

    def row(self, line: int, values: Mapping[str, float | None]) -> None:
        """Append a row, its unknown values left out."""
        self.part.add(line, {key: value for key, value in values.items() if value is not None})

    def setting(self, key: str, value: Any, line: int, written_as: str | None = None) -> None:
        """A setting that the log printed, under a key that the configuration's tables know, as it was printed there."""
        if value is not None:
            self.part.raw[key] = Setting(value, written_as or key, Source(self.file, line))

    def event(self, line: int, text: str) -> None:
        self.part.events.append((line, text[:300], {}))


def read_lines(log: LogFile, lines: re.Pattern[str], take: Callable[[Reading, re.Match[str], int], None]) -> list[Part]:
    """The parts of a log: every match of `lines` is given to `take` with the line it begins on, counted from 1."""
    reading = Reading(log.name)
    for first, text in log.pieces():
        line, counted_to = first, 0
        for found in lines.finditer(text):
            line += text.count("\n", counted_to, found.start())
            counted_to = found.start()
            take(reading, found, line)
    return reading.parts


def value_of(written: str | None) -> float | None:
    """A printed number, with commas between thousands; None where there is none."""
    if written is None:
        return None
    value = number(written)
    return number(written.replace(",", "")) if value is None else value


def count_of(written: str | None) -> int | None:
    """A printed count, with commas between thousands; None where there is none, or one that no integer can be."""
    value = value_of(written)
    return int(value) if value is not None and math.isfinite(value) else None


def setting_of(written: str) -> Any:
    """A printed setting: a number, a Boolean, a list, else the text itself; None for more than a line of text."""
    written = written.strip().rstrip(",")
    try:
        return literal_value(written)
    except ValueError:
        return written.strip("'\"") if 0 < len(written) <= 120 else None


def counts(lines: re.Pattern[str], text: str) -> dict[str, int]:
    """How often each alternative of an expression matches, by its group name (`lastgroup`)."""
    found: dict[str, int] = {}
    for match in lines.finditer(text):
        name = match.lastgroup or ""
        found[name] = found.get(name, 0) + 1
    return found
