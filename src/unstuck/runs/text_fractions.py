"""Steps for rows that print a fraction of an epoch or no count at all: from the settings, the bar, or the summary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unstuck.runs.run import Floats, Ints
from unstuck.runs.text_counts import Planned, TextAxis, in_order, is_fraction, last_at, own
from unstuck.runs.text_grammar import COUNTS
from unstuck.runs.text_groups import Group


def fractions(axis: TextAxis, groups: Sequence[Group], bars: Sequence[Group], logging_steps: float | None,
               finished: tuple[float, float] | None) -> bool:  # fmt: skip
    """Turn fractions of epochs into steps, by the logging interval, by the bar or by the steps of the whole run; False
    where none is known."""
    if not is_fraction(axis):
        return False
    training = [group for group in groups if group.template.outcomes and _trains(group)]
    rows, epochs = in_order(training, [own(group, "epoch") for group in training])
    gap = _usual_gap(epochs)
    if gap and logging_steps and logging_steps >= 1:
        axis.updates = [np.round(own(group, "epoch") / gap * logging_steps) for group in groups]
        axis.notes.append(f"Steps were counted from the epochs and logging_steps = {logging_steps:g}.")
    elif (bar := _main_bar(bars)) is not None and len(rows):
        drawn = np.append(bar[1], np.nan)[np.searchsorted(bar[0], rows, side="right")]
        good = np.isfinite(drawn) & (epochs > 0)
        per_epoch = float(np.median(drawn[good] / epochs[good])) if good.any() else 1.0
        axis.updates = [_bar_steps(bar, group.rows, own(group, "epoch"), per_epoch) for group in groups]
        axis.planned.setdefault("updates", bar[2])
        axis.notes.append("Steps were read from the progress bar between the rows.")
    elif finished is not None and gap:
        steps_of_all, end = finished
        interval = max(1, round(gap / end * steps_of_all))
        axis.updates = [np.round(own(group, "epoch") / gap * interval) for group in groups]
        axis.notes.append(f"Steps were counted from the epochs and the {steps_of_all:g} steps of the whole run.")
    else:
        return False
    axis.kind, axis.name = "update", ""
    return True


def _usual_gap(epochs: Floats) -> float | None:
    """The epochs between two logged rows, as exact as they are printed: over all rows that follow each other so."""
    gaps = np.diff(epochs)
    if not (gaps > 0).any():
        return None
    usual = float(np.median(gaps[gaps > 0]))
    regular = gaps[1:] if len(gaps) > 2 else gaps  # a row at step 1 may come first
    if np.all(np.abs(regular - usual) <= 0.5 * usual):
        return float(np.mean(regular))
    span = float(epochs[-1] - epochs[0])
    return span / max(1, round(span / usual)) if span > 0 else usual


def _trains(group: Group) -> bool:
    return not group.is_evaluation and not any(
        group.template.holes[at].phase in ("val", "test") or group.template.holes[at].key.startswith(("eval", "val"))
        for at in group.template.outcomes
    )


def _main_bar(bars: Sequence[Group]) -> tuple[Ints, Floats, Planned] | None:
    """The states of the longest bar: rows, counts and total."""
    best: tuple[float, int, Ints, Floats, int] | None = None
    for bar in bars:
        role = next((role for role in COUNTS if role != "epoch" and role in bar.template.counts), None)
        totals = bar.total(role) if role else None
        if role is None or totals is None or not len(totals):
            continue
        for total in np.unique(totals[np.isfinite(totals)])[-3:]:
            mask = totals == total
            counts = bar.column(bar.template.counts[role])[mask]
            if np.all(np.diff(counts) >= 0) and (best is None or total > best[0]):
                best = (float(total), len(counts), bar.rows[mask], counts, int(bar.lines[mask][0]))
    return None if best is None else (best[2], best[3], Planned(best[0], best[4]))


def _bar_steps(bar: tuple[Ints, Floats, Planned], rows: Ints, epochs: Floats, per_epoch: float) -> Floats:
    """The count of the bar at each row: of the state before it or behind it, whichever suits its epoch; nan without.

    tqdm clears its bar, writes the row and draws the bar anew, so that the state behind is exact; where the two streams
    of output were joined late, it is the one before.
    """
    places, counts, _ = bar
    at = np.searchsorted(places, rows, side="right")
    before, behind = np.append(np.nan, counts)[at], np.append(counts, np.nan)[at]
    expected = epochs * per_epoch
    with np.errstate(invalid="ignore"):
        nearer = np.isnan(before) | (np.abs(behind - expected) < np.abs(before - expected))
    return np.where(nearer, behind, before)


def by_bar(axis: TextAxis, groups: Sequence[Group], bars: Sequence[Group]) -> None:
    """Rows without any count between the states of a bar take its count."""
    bar = _main_bar(bars)
    if bar is None:
        return
    places, counts, total = bar
    steps = [last_at(places, counts, group.rows) for group in groups]
    if len(np.unique(np.concatenate([s[np.isfinite(s)] for s in steps] or [np.empty(0)]))) >= 2:
        axis.kind, axis.updates = "update", steps
        axis.planned["updates"] = total
        axis.notes.append("The rows have no step; it was read from the progress bar before them.")
