"""What the counts of a text log say, row by row: the parts of which its x-axis is made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from unstuck.runs.run import Floats, Ints
from unstuck.runs.text_groups import Group, key_of
from unstuck.runs.text_words import split_phase


@dataclass(slots=True)
class Planned:
    """A total that the log prints, and the line of it."""

    value: float
    line: int


@dataclass(slots=True)
class TextAxis:
    """The x-axis of a text log.

    Attributes:
        kind: `update`, `micro-batch`, `epoch` or `row`.
        name: the count that it was read from, as logged; empty where it was put together.
        updates: for each group, float64, shape (points,); nan where a row takes the last one before it.
        epochs: the same for the epoch, counted from 1.
        planned: setting -> total: `updates`, `epochs`, `steps_per_epoch`.
        notes: what was concluded, for the user.
        batches: of an epoch, printed or by the counts, where the count begins again with each epoch.
    """

    kind: str
    name: str = ""
    updates: list[Floats] = field(default_factory=list)
    epochs: list[Floats] = field(default_factory=list)
    planned: dict[str, Planned] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    batches: float | None = None


def nothing(group: Group) -> Floats:
    """No value for any point of a group."""
    return np.full(len(group.rows), np.nan)


def own(group: Group, role: str) -> Floats:
    """The values of a count, nan where the group has none."""
    at = group.template.counts.get(role)
    return nothing(group) if at is None else group.column(at)


def evaluates(group: Group) -> bool:
    """Whether a row tells of an evaluation: by its phase, or since each outcome in it is one of validation or test."""
    phases = {split_phase(key_of(group, at))[0] for at in group.template.outcomes}
    return group.is_evaluation or bool(phases and phases <= {"val", "test"})


def in_order(groups: Sequence[Group], columns: Sequence[Floats]) -> tuple[Ints, Floats]:
    """The rows and values of all groups that have one, in the order of the log."""
    rows = np.concatenate([group.rows for group in groups] or [np.empty(0, dtype=np.int64)])
    values = np.concatenate([*columns, np.empty(0)])
    known = np.isfinite(values)
    rows, values = rows[known], values[known]
    order = np.argsort(rows, kind="stable")
    return rows[order], values[order]


def last_at(rows: Ints, values: Floats, at: Ints) -> Floats:
    """The last value at or before each row, nan before the first."""
    places = np.searchsorted(rows, at, side="right")
    return np.append(np.nan, values)[places]


def loose_rows(groups: Sequence[Group]) -> tuple[int, int] | None:
    """The first and last row of an outcome without a count; None without one."""
    loose = [
        other.rows
        for other in groups
        if other.template.outcomes and not {"epoch", "step", "micro_step"} & other.template.counts.keys()
    ]
    return (min(int(r[0]) for r in loose), max(int(r[-1]) for r in loose)) if loose else None


def filled(rows: Ints, values: Floats, group: Group, loose: tuple[int, int] | None) -> Floats:
    """The value in force at each row of a group: the last one, or the next where the log prints it behind its rows.

    Args:
        rows, values: of the count, in the order of the log.
        loose: see `loose_rows`.
    """
    if {"step", "epoch"} & group.template.counts.keys() or loose is None or not len(rows):
        return last_at(rows, values, group.rows)
    if {"batch", "count"} & group.template.counts.keys() and group.template.metrics and group.rows[0] < rows[0]:
        behind = np.searchsorted(rows, group.rows, side="left")  # the epoch is told at its end
        return np.append(values, values[-1] + 1)[behind]
    if loose[0] < rows[0] and loose[1] < rows[-1]:
        return np.append(values, np.nan)[np.searchsorted(rows, group.rows, side="left")]
    return last_at(rows, values, group.rows)


def plan(axis: TextAxis, name: str, groups: Sequence[Group], role: str) -> float | None:
    """The total that is printed most often behind a count; it becomes a setting unless the count goes beyond it.

    A count that begins at 0 and ends at its total (`Epoch 0/24`) is of one more.
    """
    reached = [column[np.isfinite(column)] for column in (own(group, role) for group in groups)]
    counted = np.concatenate([*reached, np.empty(0)])
    seen: Counter[float] = Counter()
    lines: dict[float, int] = {}
    for group in groups:
        totals = group.total(role)
        if totals is None:
            continue
        different, first, times = np.unique(totals, return_index=True, return_counts=True)
        for total, place, count in zip(different.tolist(), first.tolist(), times.tolist(), strict=True):
            seen[total] += count
            lines.setdefault(total, int(group.lines[place]))
    if not seen:
        return None
    total = max(seen, key=lambda value: (seen[value], value))
    if not (math.isfinite(total) and total >= 1) or (len(counted) and counted.max() > total):
        return None
    if name == "epochs" and len(counted) and counted.min() == 0 and counted.max() == total:
        axis.planned[name] = Planned(total + 1, lines[total])
        return total + 1
    axis.planned[name] = Planned(total, lines[total])
    return total


def is_fraction(axis: TextAxis) -> bool:
    """Whether the log prints fractions of epochs."""
    return any(np.any(epochs[np.isfinite(epochs)] % 1 != 0) for epochs in axis.epochs)
