"""The rows of one template of a text log, compact, as a scan gathers them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from unstuck.runs.build import MAX_POINTS, SPARE
from unstuck.runs.run import Floats, Ints
from unstuck.runs.text_grammar import Template
from unstuck.runs.text_lines import decimals_of, value_of

SAMPLED = 64  # ours: numbers of a column looked at per slice of a log for how many decimals are printed
NO_NUMBER = -1.2345678901234567e300  # ours: stands for a row whose number is none until the row is left out


@dataclass(slots=True)
class Found:
    """The rows of one template.

    Attributes:
        wanted: the numbers that are kept, the columns of `values()`.
        examples: (line, text) of the first two rows.
        decimals: digits behind the point of each wanted number: most that were seen; None: printed with an exponent.
        count: rows seen; `stride`: every which one is kept.
    """

    template: Template
    wanted: list[int]
    examples: list[tuple[int, str]] = field(default_factory=list)
    decimals: list[int | None] = field(default_factory=list)
    count: int = 0
    stride: int = 1
    _rows: array[int] = field(default_factory=lambda: array("q"))
    _lines: array[int] = field(default_factory=lambda: array("q"))
    _values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, row: int, line: int, numbers: list[str]) -> None:
        """One row, taken apart."""
        self._rows.append(row)
        self._lines.append(line)
        chosen = [numbers[at] for at in self.wanted]
        self._values.extend(map(value_of, chosen))
        self.count += 1
        self._seen([(number,) for number in chosen])

    def add_many(self, rows: Ints, lines: Ints, columns: list[tuple[str, ...]]) -> None:
        """Many rows by column."""
        values = np.empty((len(rows), len(columns)))
        for at, column in enumerate(columns):
            if column[0] == column[-1] and column.count(column[0]) == len(column):
                values[:, at] = value_or(column[0], NO_NUMBER)  # a total, a learning rate that stays
                continue
            try:
                values[:, at] = list(map(float, column))
            except ValueError:
                values[:, at] = [value_or(number, NO_NUMBER) for number in column]
        if (wrong := (values == NO_NUMBER).any(axis=1)).any():
            rows, lines, values = rows[~wrong], lines[~wrong], values[~wrong]
        self.add_numbers(rows, lines, values)
        self._seen(columns)

    def add_numbers(self, rows: Ints, lines: Ints, values: Floats) -> None:
        """Many rows, their numbers read: shape (n, len(wanted))."""
        self._rows.frombytes(rows.astype(np.int64).tobytes())
        self._lines.frombytes(lines.astype(np.int64).tobytes())
        self._values.frombytes(values.tobytes())
        self.count += len(rows)
        if len(self._rows) > MAX_POINTS:
            self.thin()

    @property
    def size(self) -> int:
        """Numbers that are kept."""
        return len(self._values)

    def printed(self, decimals: Iterable[int | None]) -> None:
        """How many decimals rows print of each number."""
        for at, digits in enumerate(decimals):
            known = self.decimals[at]
            if known is not None:
                self.decimals[at] = None if digits is None else max(known, digits)

    def _seen(self, columns: list[tuple[str, ...]]) -> None:
        for at, column in enumerate(columns):
            for number in column[:: max(1, len(column) // SAMPLED)]:
                digits = decimals_of(number)
                known = self.decimals[at]
                if "n" not in number.lower() and known is not None:
                    self.decimals[at] = None if digits is None else max(known, digits)

    def thin(self) -> None:
        """Keep every other row, and those that are not finite."""
        rows, values = np.asarray(self._rows), self.values()
        keep = np.arange(len(rows)) % 2 == 0
        keep[np.flatnonzero(~np.isfinite(values).all(axis=1))[:SPARE]] = True
        lines = np.asarray(self._lines)[keep]
        self.stride *= 2
        self._rows, self._lines = array("q", rows[keep].tobytes()), array("q", lines.tobytes())
        self._values = array("d", np.ascontiguousarray(values[keep]).tobytes())

    def rows(self) -> Ints:
        """Place of each kept row among all rows of the log, int64, shape (n,)."""
        return np.array(self._rows, dtype=np.int64)

    def lines(self) -> Ints:
        return np.array(self._lines, dtype=np.int64)

    def values(self) -> Floats:
        """The wanted numbers, float64, shape (n, len(wanted))."""
        return np.array(self._values, dtype=np.float64).reshape(-1, len(self.wanted))

    def sort(self) -> None:
        """Bring the rows into the order of the log."""
        rows = self.rows()
        if np.all(rows[1:] >= rows[:-1]):
            return
        order = np.argsort(rows, kind="stable")
        lines, values = self.lines()[order], self.values()[order]
        self._rows, self._lines = array("q", rows[order].tobytes()), array("q", lines.tobytes())
        self._values = array("d", np.ascontiguousarray(values).tobytes())


def value_or(number: str, other: float) -> float:
    """The number, or another value where it is none."""
    try:
        return value_of(number)
    except ValueError:
        return other
