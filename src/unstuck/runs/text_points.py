"""Which rows of the templates of a text log are points, and of which phase.

Of progress bars, running means and evaluations by batch only the states that say something new are kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from unstuck.runs.run import Floats, Ints
from unstuck.runs.text_groups import Group
from unstuck.runs.text_words import split_phase


def points_of(groups: list[Group], marks: list[tuple[int, str]]) -> list[Group]:
    """The groups cut by phase, each with the rows that are points.

    Args:
        marks: row and phase of the lines that only name a phase, in the order of the log.
    """
    resets = _rows_of([group for group in groups if {"epoch", "step"} & group.template.counts.keys()])
    groups = [part for group in groups for part in _by_phase(group, marks, resets)]
    measured = [group for group in groups if group.template.metrics]
    return [kept for group in groups if len((kept := _points(group, measured)).rows)]


def _rows_of(groups: list[Group]) -> Ints:
    """All rows of some groups, in order."""
    return np.sort(np.concatenate([group.rows for group in groups] or [np.empty(0, dtype=np.int64)]))


def _by_phase(group: Group, marks: list[tuple[int, str]], resets: Ints) -> list[Group]:
    """The group, cut by the phase that lines around it name (`Validation:`), or that the totals of its bars tell."""
    template = group.template
    if template.phase or not template.outcomes:
        return [group]
    if "step" in template.counts:
        return _by_totals(group) or [group]
    if all(split_phase(template.holes[at].key)[0] for at in template.outcomes):
        return [group]
    if "epoch" not in template.counts and marks and (parts := _cut(group, _phases_at(group.rows, marks, resets))):
        return parts
    return _by_totals(group) or [group]


def _phases_at(rows: Ints, marks: list[tuple[int, str]], resets: Ints) -> npt.NDArray[np.str_]:
    """The phase in force at each row: the last mark, unless a row with its own count came after it."""
    places = np.array([row for row, _ in marks])
    names = np.array(["", *(phase for _, phase in marks)])
    last = np.searchsorted(places, rows)
    phases = names[last]
    if len(resets):
        at = np.searchsorted(resets, rows)
        latest = np.where(at > 0, resets[np.maximum(at - 1, 0)], -1)
        marked = np.where(last > 0, places[np.maximum(last - 1, 0)], -1)
        phases = np.where(latest > marked, "", phases)
    return phases


def _cut(group: Group, phases: npt.NDArray[np.str_]) -> list[Group]:
    evaluated = np.isin(phases, ("val", "test"))
    if not evaluated.any():
        return []
    parts = [group.where(~evaluated)] if not evaluated.all() else []
    return parts + [
        replace(group.where(phases == name), phase=name) for name in ("val", "test") if (phases == name).any()
    ]


def _by_totals(group: Group) -> list[Group]:
    """A bar that runs to one total and then to another in turn: the second is the evaluation."""
    role = next((role for role in ("batch", "count", "step") if role in group.template.counts), None)
    totals = group.total(role) if role else None
    if role is None or totals is None or len(totals) < 4:
        return []
    order = list(dict.fromkeys(totals.tolist()))
    changes = int(np.count_nonzero(np.diff(totals)))
    if len(order) != 2 or changes < 3 or order[0] <= order[1]:  # training data is the larger part
        return []
    second = totals == order[1]
    holes = list(group.template.holes)
    holes[group.template.counts[role]] = replace(holes[group.template.counts[role]], role="batch")
    template = replace(group.template, holes=tuple(holes))  # what counts the evaluation is no step of training
    return [group.where(~second), replace(group.where(second), phase="val", template=template)]


def _points(group: Group, measured: list[Group]) -> Group:
    """The rows of a group that are points: of running means, repeated states and evaluations by batch only the last."""
    template = group.template
    role = next((role for role in ("batch", "count") if role in template.counts), None)
    if role is None:
        return group
    counted, totals = group.column(template.counts[role]), group.total(role)
    if template.is_running and totals is not None:
        full = counted == totals
        if not full.all():  # the last state of a bar is drawn twice
            full &= ~np.append(full[1:], False)
        return group.where(full)
    if group.is_evaluation and "step" not in template.counts:
        follows = np.append(counted[1:] <= counted[:-1], True)
        others = _rows_of([other for other in measured if other.template is not template])
        if len(others):  # another row between two batches ends the evaluation
            between = np.searchsorted(others, group.rows)
            follows |= np.append(between[1:] > between[:-1], True)
        if totals is not None or np.mean(follows) < 0.5:
            return group.where(follows)
    if template.is_bar:
        same = np.append(
            (counted[1:] == counted[:-1]) & np.all(_equal(group.values[1:], group.values[:-1]), axis=1), False
        )
        return group.where(~same)
    return group


def _equal(a: Floats, b: Floats) -> npt.NDArray[np.bool_]:
    equal: npt.NDArray[np.bool_] = (a == b) | (np.isnan(a) & np.isnan(b))
    return equal
