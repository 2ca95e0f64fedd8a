"""What every reader needs to turn logged rows into a `Run`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unstuck.config.dialects import canonical_settings, guess_dialect
from unstuck.runs.logfile import number
from unstuck.runs.run import Floats, Ints, Run, Series, Setting, Source, series_from_columns


class Match(NamedTuple):
    """How sure a reader is that a file is in its format, 0 to 1, and why, in a few words."""

    confidence: float
    reason: str


# ours: points kept of one series, so that a log of 2 GB (some 20 million lines) is read in a few hundred MB.
MAX_POINTS = 1 << 20
MAX_RUNS = 1000  # ours: each takes a millisecond to read; a file of more is no log of training but rows in no order
# ours: W&B advises fewer than 100,000 metrics a project; a norm and a mean for each of 1,000 tensors are 2,000
MAX_SERIES = 5000
SPARE = 1000  # of these, non-finite points that are kept whatever the stride
NO_MATCH = Match(0.0, "nothing of this format in it")


def too_many_runs(file: str) -> str:
    """What a note says of a file that holds more runs than are read."""
    return f"{file} holds more than {MAX_RUNS:,} runs; those after the first {MAX_RUNS:,} were left out."


@dataclass(slots=True)
class Column:
    """The points of one series in the order of the log, compact; of a giant log every `stride`-th."""

    updates: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))
    lines: array[int] = field(default_factory=lambda: array("q"))
    stride: int = 1
    seen: int = 0

    def add(self, update: int, value: float, line: int) -> None:
        self.seen += 1
        if (
            self.stride > 1
            and self.seen % self.stride
            and (value - value == 0.0 or len(self.lines) > MAX_POINTS - SPARE)
        ):
            return  # left out, unless it is not finite
        self.updates.append(update)
        self.values.append(value)
        self.lines.append(line)
        if len(self.lines) > MAX_POINTS:
            self.halve()

    def halve(self) -> None:
        """Keep every second point, and non-finite values up to a thousand."""
        self.stride *= 2
        mask = np.arange(len(self.lines)) % 2 == 0
        mask[np.flatnonzero(~np.isfinite(np.asarray(self.values)))[:SPARE]] = True
        self.keep(mask)

    def keep(self, mask: npt.NDArray[np.bool_]) -> None:
        self.updates = array("q", np.asarray(self.updates)[mask].tobytes())
        self.values = array("d", np.asarray(self.values)[mask].tobytes())
        self.lines = array("q", np.asarray(self.lines)[mask].tobytes())


@dataclass(slots=True)
class Points:
    """Points by series name while a log is read, in the order of the log."""

    file: str
    by_name: dict[str, Column] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(len(column.updates) for column in self.by_name.values())

    def add(self, name: str, update: int, value: float, line: int) -> None:
        column = self.by_name.get(name)
        if column is None:
            column = self.by_name[name] = Column()
        column.add(update, value, line)

    def add_many(self, name: str, updates: Ints, values: Floats, lines: Ints) -> None:
        """Append points given as columns of shape (n,)."""
        column = self.by_name.setdefault(name, Column())
        if column.stride > 1:
            keep = ((column.seen + 1 + np.arange(len(lines))) % column.stride == 0) | ~np.isfinite(values)
            updates, values, lines = updates[keep], values[keep], lines[keep]
        column.updates.frombytes(updates.astype(np.int64).tobytes())
        column.values.frombytes(values.astype(np.float64).tobytes())
        column.lines.frombytes(lines.astype(np.int64).tobytes())
        column.seen += len(lines)
        while len(column.lines) > MAX_POINTS:
            column.halve()

    def extend(self, other: Points) -> None:
        """Append the points of a later part of the log."""
        for name, theirs in other.by_name.items():
            mine = self.by_name.setdefault(name, Column())
            mine.updates.extend(theirs.updates)
            mine.values.extend(theirs.values)
            mine.lines.extend(theirs.lines)

    def drop_after(self, update: int) -> int:
        """Forget what came after `update`, because the run went back to it; returns how many points that were."""
        dropped = 0
        for column in self.by_name.values():
            kept = np.asarray(column.updates) <= update
            dropped += int((~kept).sum())
            if not kept.all():
                column.keep(kept)
        return dropped

    def series(
        self, units: Mapping[str, str | None] | None = None, logged_as: Mapping[str, str] | None = None
    ) -> dict[str, Series]:
        """The series by name; later points at an update replace earlier ones beyond it."""
        units, logged_as = units or {}, logged_as or {}
        return {
            name: series_from_columns(
                name,
                np.array(column.updates, dtype=np.int64),
                np.array(column.values, dtype=np.float64),
                np.array(column.lines, dtype=np.int64),
                self.file,
                unit=units.get(name),
                logged_as=logged_as.get(name),
            )
            for name, column in self.by_name.items()
            if len(column.updates)
        }


def add_raw(
    raw: dict[str, Setting], values: Mapping[str, Any], source: Source, prefix: str = "", depth: int = 0
) -> None:
    """Flatten a configuration object found in a log into dotted raw settings; deeper than 6 levels is left out."""
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < 6:
            add_raw(raw, value, source, f"{dotted}.", depth + 1)
        else:
            raw[dotted] = Setting(value, dotted, source)


def changed_settings(old: Mapping[str, Setting], new: Mapping[str, Setting]) -> dict[str, list[Any]]:
    """Settings that differ between two headers of one log, or a configuration and a header: key -> [old, new].

    A setting that the two call by other names (`max_lr`, `lr_max`) is compared too, under the new name.
    """
    pairs = {key: [old[key].value, new[key].value] for key in new if key in old}
    before, after = (canonical_settings(raw, guess_dialect(raw)) for raw in (old, new))
    for name in before.keys() & after.keys():
        was, now = before[name], after[name]
        if was.key in old.keys() - new.keys() and now.key in new.keys() - old.keys():
            pairs[now.key] = [was.value, now.value]
    return {key: [a, b] for key, (a, b) in pairs.items() if a != b and (number(a) is None or number(a) != number(b))}


def sampled_lines(updates: Iterable[int]) -> int | None:
    """The usual distance between two logged updates; None below two points."""
    gaps = np.diff(np.fromiter(updates, dtype=np.int64))
    gaps = gaps[gaps > 0]
    return int(np.median(gaps)) if len(gaps) else None


def add_inferred(run: Run, name: str, value: Any, key: str, source: Source) -> None:
    """Add a setting that the log itself shows, unless a configuration has said it already."""
    if value is not None and name not in run.settings:
        run.settings[name] = Setting(value, key, source)
