"""A stretch of rows by columns, as a reader fills it and `unstuck.runs.table` takes it: compact and bounded."""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unstuck.runs import names
from unstuck.runs.build import MAX_POINTS, MAX_SERIES, SPARE
from unstuck.runs.run import Floats, Ints, Setting

RESUMED = re.compile(r"\bresum(?:e|ed|ing)\b", re.I)


@dataclass(slots=True)
class Column:
    """One key of a stretch of rows: which rows have it, and its values; of a giant log every `stride`-th row."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    stride: int = 1

    def add(self, row: int, value: float) -> None:
        if self.stride > 1 and row % self.stride and (math.isfinite(value) or len(self.rows) > MAX_POINTS - SPARE):
            return
        self.rows.append(row)
        self.values.append(value)
        if len(self.rows) > MAX_POINTS:
            self._thin()

    def extend(self, rows: Ints, values: Floats) -> None:
        """Append points given as columns of shape (n,)."""
        if self.stride > 1:
            keep = (rows % self.stride == 0) | ~np.isfinite(values)
            rows, values = rows[keep], values[keep]
        self.rows.frombytes(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
        self.values.frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())
        while len(self.rows) > MAX_POINTS:
            self._thin()

    def _thin(self) -> None:
        """Keep the rows that the doubled stride divides, and non-finite values up to a thousand."""
        rows, values = np.asarray(self.rows), np.asarray(self.values)
        self.stride *= 2
        keep = rows % self.stride == 0
        keep[np.flatnonzero(~np.isfinite(values))[:SPARE]] = True
        self.rows, self.values = int_array(rows[keep]), array("d", values[keep].tobytes())


@dataclass(slots=True)
class Part:
    """A stretch of rows between two starts of the program, by columns.

    Attributes:
        lines: the line of each row, 0 where the format has none.
        columns: by key as logged.
        raw: settings that this stretch printed, untranslated.
        events: (line, text, values of a summary) in the order of the log.
        line: where the stretch begins.
        resumed: the log itself says that this stretch resumes a run.
    """

    lines: array[int] = field(default_factory=lambda: array("q"))
    columns: dict[str, Column] = field(default_factory=dict)
    raw: dict[str, Setting] = field(default_factory=dict)
    events: list[tuple[int, str, dict[str, float]]] = field(default_factory=list)
    line: int = 1
    resumed: bool = False

    def add(self, line: int, values: Mapping[str, float]) -> None:
        """Append one row."""
        row = len(self.lines)
        self.lines.append(line)
        for key, value in values.items():
            column = self.columns.get(key)
            if column is None:
                if len(self.columns) >= MAX_SERIES:
                    continue
                column = self.columns[key] = Column()
            column.add(row, value)

    def add_rows(self, lines: Ints, columns: Mapping[str, tuple[Ints, Floats]]) -> None:
        """Append many rows: their lines, shape (n,), and by key the indices of the rows that have it and its values."""
        first = len(self.lines)
        self.lines.frombytes(np.ascontiguousarray(lines, dtype=np.int64).tobytes())
        for key, (rows, values) in columns.items():
            if key in self.columns or len(self.columns) < MAX_SERIES:
                self.columns.setdefault(key, Column()).extend(rows + first, values)

    def steps(self, said: Mapping[str, str]) -> list[float]:
        """First, and last, finite value of the part's own x-axis; empty without one. `said`: `Beside.columns`."""
        key = next((key for key in names.x_axis(self.counts(), said, self.still()) if key is not None), None)
        values = np.asarray(self.columns[key].values) if key is not None else np.empty(0)
        values = values[np.isfinite(values)]
        return [float(values[0]), float(values[-1])] if len(values) else []

    def counts(self) -> dict[str, int]:
        """How many values each key has."""
        return {key: len(column.values) for key, column in self.columns.items()}

    def still(self) -> tuple[str, ...]:
        """The keys of several values that are all the same."""
        return tuple(key for key, column in self.columns.items() if is_still(column))

    def resumes(self) -> tuple[int, str] | None:
        """Line and text of the message that says the run was resumed."""
        told = next(((line, text) for line, text, _ in self.events if RESUMED.search(text)), None)
        return told or ((self.line, "the log goes on with a new header") if self.resumed else None)

    def between(self, first: int, last: int) -> Part:
        """The rows first to last - 1 as a part of their own."""
        lines = np.asarray(self.lines)[first:last]
        piece = Part(int_array(lines), raw=self.raw if first == 0 else {}, line=int(lines[0]) if len(lines) else 1)
        piece.resumed = self.resumed and first == 0
        begin = bisect_left(self.events, lines[0] if first else 0, key=_line_of)
        if last >= len(self.lines):
            end = len(self.events)
        else:  # rows of a progress bar share a line; what happened there belongs to one piece only
            end = bisect_left(self.events, min(int(lines[-1]) + 1, self.lines[last]), key=_line_of)
        piece.events = self.events[begin:end]
        for key, column in self.columns.items():
            rows = np.asarray(column.rows)
            begin, end = np.searchsorted(rows, (first, last)).tolist()
            if begin < end:
                piece.columns[key] = Column(int_array(rows[begin:end] - first), column.values[begin:end])
        return piece


def is_still(column: Column) -> bool:
    """Whether a column has several values, all the same."""
    values = column.values
    return len(values) > 1 and values[0] == values[-1] and values.count(values[0]) == len(values)


def _line_of(event: tuple[int, str, dict[str, float]]) -> int:
    return event[0]


def int_array(values: npt.NDArray[np.int64]) -> array[int]:
    """The same integers, shape (n,), as an array that can be appended to."""
    return array("q", values.astype(np.int64).tobytes())
