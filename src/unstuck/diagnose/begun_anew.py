"""Where a learning rate that had begun to fall rises again: a schedule begun anew without a word in the log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.expected_lr import KINDS
from unstuck.diagnose.statistics import Floats
from unstuck.runs import Series

# Schedules that never rise after their warm-up, in canonical names.
FALLING = (KINDS - {"restarts"}) | {"plateau"}
# A quarter above the lowest, as for a resume that the log does tell of, and no print in two digits that goes back.
LEAST_RISE = 1.25
LEAST_SHARE = 0.1  # ours: of the peak; below it a rise is the end's rounding
# A cosine that ends as planned ends flat; one that is cut where a quarter of its largest slope is left has gone 0.92 of
# its way (sin(0.92 pi) = 0.25).
STILL_FALLING = 0.25
SAME = 0.02  # ours: of the peak; two digits are printed to within 5 % of a value, half of that on average
TRIED = 50  # updates between two logged points that are tried as the one where it began anew
LEAST_AFTER = 5  # logged points after the step that must retrace those from the start


@dataclass(frozen=True, slots=True)
class Anew:
    """A rise after the peak.

    Attributes:
        low: index of the lowest value before it.
        jump: index of the point after the largest single step up.
        top: index of the highest value after it.
        retraced: whether what follows repeats the course from the start of the log.
    """

    low: int
    jump: int
    top: int
    retraced: bool


def begun_anew(series: Series) -> Anew | None:
    """The largest rise of a learning rate after its first peak; None where it only falls."""
    values = series.values
    peak = float(values.max())
    start = int(np.argmax(values >= 0.99 * peak))
    lowest = np.minimum.accumulate(values[start:])
    rises = values[start:] - lowest
    top = start + int(np.argmax(rises))
    floor = float(lowest[top - start])
    if values[top] < LEAST_RISE * floor or values[top] - floor < LEAST_SHARE * peak:
        return None
    low = top - int(np.argmin(values[start : top + 1][::-1]))
    jump = low + 1 + int(np.argmax(np.diff(values[low : top + 1])))
    return Anew(low, jump, top, _retraced(series, jump))


def mirrored(series: Series, low: int) -> bool:
    """Whether a rate goes back up from its lowest point the way it came down: a cosine that runs on past its end.

    False where that looks like a plan: a first climb that takes half as long as the fall (a triangle), several rises.
    """
    values, updates = series.values, series.updates.astype(np.float64)
    peak = float(values.max())
    top = int(np.argmax(values >= 0.99 * peak))
    after = slice(low + 1, low + 1 + int(np.argmin(np.append(np.diff(values[low:]) > 0, False))))  # as long as it rises
    climbs = np.diff(np.concatenate([[0], np.diff(values[top:]) > 0]).astype(int)) == 1
    if climbs.sum() != 1 or updates[top] - updates[0] > 0.5 * (updates[low] - updates[top]):
        return False
    if low - top < LEAST_AFTER or float(values[after].max(initial=0.0)) - float(values[low]) < LEAST_SHARE * peak:
        return False
    between = float(np.median(np.diff(updates)))
    for centre in np.linspace(updates[low] - between, updates[low] + between, TRIED + 1):  # the end lies between rows
        at = 2 * centre - updates[after]
        known = (at >= updates[top]) & (at <= updates[low])
        back = np.interp(at[known], updates[top : low + 1], values[top : low + 1])
        if known.sum() >= LEAST_AFTER and np.abs(back - values[after][known]).max() <= SAME * peak:
            return True
    return False


def _retraced(series: Series, jump: int) -> bool:
    """Whether the values from `jump` on repeat those from the start, and the fall before it was not at its end."""
    values, updates = series.values, series.updates.astype(np.float64)
    before, after = values[:jump], values[jump:]
    peak = float(values.max())
    if len(after) < LEAST_AFTER or float(after.max() - after.min()) < LEAST_SHARE * peak:
        return False
    slopes = np.abs(np.diff(before) / np.diff(updates[:jump]))
    falling = np.diff(before) < 0
    if falling.sum() < LEAST_AFTER or float(slopes[-1]) < STILL_FALLING * float(slopes[falling].max()):
        return False
    begins = np.linspace(updates[jump - 1], updates[jump] - 1, TRIED + 1)
    return any(_repeats(updates[:jump], before, updates[jump:] - begin, after, peak) for begin in begins)


def _repeats(x: Floats, y: Floats, at: Floats, values: Floats, peak: float) -> bool:
    """Whether `values` at the updates `at` since a new start lie on the course (x, y), where both are known."""
    known = (at >= x[0]) & (at <= x[-1])
    if known.sum() < LEAST_AFTER:
        return False
    return bool(np.abs(np.interp(at[known], x, y) - values[known]).max() <= SAME * peak)
