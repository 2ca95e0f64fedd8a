"""A table of delimited text: its header and its rows, and what kind of table it is.

A training curve has one row for each step or epoch. A table of finished runs (a sweep, a list of results) has one row
for each run: it is no curve and is refused by name. Several curves may stand side by side (one column each) or below
one another (a column names the run).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt

from unstuck.runs import names
from unstuck.runs.logfile import LogFile, number

DELIMITERS = (",", "\t", ";")
MAX_COLUMNS = 2000  # ours: more names than this is a matrix, not a log
ROWS_AT_ONCE = 20_000  # ours: rows turned into numbers together, bounds the memory
SAMPLE = 200  # rows that the kind of a table is told from
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d?[:/.]\d\d[:/.]\d\d")
# A column of this name tells whose row it is, where several runs stand below one another.
RUN_NAMES = frozenset(
    ("run", "run_id", "run_name", "run_index", "seed", "trial", "trial_id", "experiment", "exp", "exp_name", "fold")
)


@dataclass(slots=True)
class Table:
    """The header of a delimited file and its first rows.

    Attributes:
        names: of the columns, without surrounding blanks.
        delimiter: the character between them.
        header_line: line of the header, 0 where there is none.
        sample: the first rows, as text, each with as many cells as it has.
    """

    names: list[str]
    delimiter: str
    header_line: int
    sample: list[list[str]] = field(default_factory=list)

    def numeric(self, place: int) -> bool:
        """Whether a column holds numbers (or blanks) in the sample, and at least one number."""
        cells = [row[place].strip() for row in self.sample if place < len(row)]
        cells = [cell for cell in cells if cell]
        return bool(cells) and all(number(cell) is not None for cell in cells)

    def labels(self, place: int) -> list[str]:
        """The distinct texts of a column that are neither numbers nor dates."""
        cells = {row[place].strip() for row in self.sample if place < len(row)}
        return sorted(cell for cell in cells if cell and number(cell) is None and not _DATE.search(cell))

    def ragged(self) -> tuple[int, int] | None:
        """Line and number of cells of the first row that has more cells than the header has names."""
        for place, row in enumerate(self.sample, start=1):
            if len(row) > len(self.names) and any(cell.strip() for cell in row[len(self.names) :]):
                return self.header_line + place, len(row)
        return None


def table_of(head: str) -> Table | None:
    """The table that a text begins with; None where it is none."""
    lines = head.split("\n")
    if len(lines) > 1:
        lines.pop()  # the last line of the head may be cut
    at = next((k for k, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), None)
    if at is None:
        return None
    for delimiter in sorted(DELIMITERS, key=lambda d: -lines[at].count(d)):
        rows = list(islice(_parsed(iter(lines[at:]), delimiter), SAMPLE + 1))
        if not rows or not 2 <= len(rows[0]) <= MAX_COLUMNS:
            continue
        body = [row for row in rows[1:] if any(cell.strip() for cell in row)]
        alike = sum(len(row) >= len(rows[0]) - 1 for row in body)
        if body and alike < 0.9 * len(body):
            continue
        header = [cell.strip() for cell in rows[0]]
        if all(number(cell) is not None for cell in header):
            return Table([f"col{k}" for k in range(1, len(header) + 1)], delimiter, at, [rows[0], *body])
        named = sum(bool(re.search(r"[A-Za-z]", cell)) and len(cell) <= 120 for cell in header)
        if named >= 0.8 * len(header) and not (body and not _numbers(body)):
            return Table(header, delimiter, at + 1, body)
    return None


def _numbers(rows: list[list[str]]) -> bool:
    cells = [cell.strip() for row in rows for cell in row if cell.strip()]
    return sum(number(cell) is not None for cell in cells) >= 0.3 * len(cells)


def _parsed(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    except csv.Error:  # a cell beyond csv's own limit of 128 KiB, or a NUL
        return


def blocks(log: LogFile, table: Table) -> Iterator[tuple[npt.NDArray[np.int64], list[list[str]]]]:
    """The rows of the file in blocks: (line of each row, columns of cells as text, short rows filled with blanks).

    Rows that repeat the header (a program that was started again) come as a row of their own names.
    """
    lines = log.lines()
    for _ in range(table.header_line):
        next(lines, None)
    reader = csv.reader(lines, delimiter=table.delimiter, skipinitialspace=True)
    width = len(table.names)
    numbers: list[int] = []
    rows: list[list[str]] = []
    while True:
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error:
            continue
        if not row:
            continue
        numbers.append(table.header_line + reader.line_num)
        rows.append(row if len(row) == width else (row + [""] * width)[:width])
        if len(rows) >= ROWS_AT_ONCE:
            yield np.array(numbers, dtype=np.int64), [list(column) for column in zip(*rows, strict=True)]
            numbers, rows = [], []
    if rows:
        yield np.array(numbers, dtype=np.int64), [list(column) for column in zip(*rows, strict=True)]


def floats_of(cells: list[str]) -> npt.NDArray[np.float64]:
    """Cells as numbers, shape (n,); a blank or a text is nan, and so is "nan" (`blank_of` tells them apart)."""
    try:
        return np.array([cell or "nan" for cell in cells], dtype=np.float64)
    except (ValueError, OverflowError):
        values = {cell: _float(cell) for cell in set(cells)}
        return np.array([values[cell] for cell in cells], dtype=np.float64)


def _float(cell: str) -> float:
    value = number(cell.strip())
    return float("nan") if value is None else value


def blank_of(cells: list[str], values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which cells hold no number at all, shape (n,): blanks and texts, not a written nan."""
    blank = np.zeros(len(cells), dtype=bool)
    places = np.flatnonzero(np.isnan(values))
    found = [cells[place] for place in places.tolist()]
    texts = {cell for cell in set(found) if number(cell.strip()) is None}
    blank[places] = [cell in texts for cell in found]
    return blank


def side_by_side(header: list[str]) -> dict[str, dict[str, str]]:
    """Runs that stand side by side: name of the run -> column -> key; empty where the table is of one run.

    `learning_rate_0.1, learning_rate_0.01` (a stem and a number) and the export of W&B's plots (`run - train/loss`,
    with `__MIN` and `__MAX` beside it).
    """
    axes = {*names.STEP_NAMES, *names.MICRO_STEP_NAMES, *names.EPOCH_NAMES}
    columns = [name for name in header if name and names.normalise(name) not in axes]
    exported = [name for name in columns if " - " in name]
    if len(exported) == len(columns) and exported:
        runs: dict[str, dict[str, str]] = {}
        for name in exported:
            run, _, key = name.rpartition(" - ")
            if not key.endswith(("__MIN", "__MAX")) and key != "_step":
                runs.setdefault(run, {})[name] = key
        return runs if len(runs) > 1 or not header or header[0].lower() == "step" else {}
    numbered = {name: m for name in columns if (m := re.fullmatch(r"(.*?[A-Za-z])[ _=:-]*([\d.]+(?:e-?\d+)?)", name))}
    stems = {m[1] for m in numbered.values()}
    values = {m[2] for m in numbered.values()}
    # `feature1, feature2, ...` are no runs: the stem must be a setting, or a loss of a setting
    if len(numbered) == len(columns) >= 2 and len(stems) == 1 and len(values) == len(columns):
        stem = names.normalise(next(iter(stems)))
        if re.search(r"(?:^|_)(?:lr|learning_rate|seed|bs|batch_size|wd|weight_decay|rank|dropout|warmup)$", stem):
            return {name: {name: "loss"} for name in columns}
    return {}
