"""Whether a loss repeats itself: the same batches in the same order leave the same ups and downs in every epoch.

What is compared is the loss without its local median, so that a trend, a sawtooth of the epochs or a running mean,
all of them monotone over a few points, leave nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unstuck.diagnose import statistics
from unstuck.runs import Series

LOCAL = 5  # points of the local median: the fewest that take a slope away and keep a single jump
CAP = 4.0  # standard deviations at which one point stops counting more (Huber's idea, a wide cut)
FREE_CAP = 12.0  # wider where the repeat is searched: a change of class is a spike, and many rounds must share it
EDGE = 2  # logged points left out at either end of an epoch: first batches, last short batch, an evaluation's effects
LEAST_PAIRS = 30  # ours: a correlation of 0.6 over 30 pairs is 3.1 standard errors
LEAST_EPOCHS = 3
# Share of the jumps that the order explains: below it the noise of the batches matters more than their order.
LEAST_CORRELATION = 0.3
# Without a known epoch the lag is searched, so the repeat must be plain: most of the jumps, and at twice the lag too.
LEAST_FREE_CORRELATION = 0.5
LEAST_FREE_POINTS = 48
LEAST_FREE_ROUNDS = 6  # ours: fewer rounds of an unknown length are no pattern
MAX_LAGS = 50  # ours: lags that are looked at closely
MAX_POINTS = 200_000  # ours: points that the search looks at, a quarter of a second


@dataclass(frozen=True, slots=True)
class Repeat:
    """How alike the jumps at the same place of a period are.

    Attributes:
        period: updates.
        correlation: mean product of two points at the same place, over their variance; 0 for a shuffled order.
        z: the correlation in its standard errors.
        limit: z that chance passes once in a thousand runs.
        periods: how many periods the log covers.
    """

    period: int
    correlation: float
    z: float
    limit: float
    periods: float

    @property
    def repeats(self) -> bool:
        """Whether the pattern is there and is no small part of the noise."""
        return self.z > self.limit and self.correlation >= LEAST_CORRELATION


def at_period(series: Series, period: int, looks: int = 1) -> Repeat | None:
    """The repeat over a known period in updates; None where fewer than 30 pairs of points share a place in it."""
    if len(series) < LEAST_PAIRS or period < 2:
        return None
    spacing = float(np.median(np.diff(series.updates)))
    place = (series.updates - series.updates[0]) % period
    inner = (place >= EDGE * spacing) & (place < period - EDGE * spacing)
    span = float(series.updates[-1] - series.updates[0]) / period
    found = _folded(_jumps(series, CAP)[inner], place[inner])
    if span < LEAST_EPOCHS or found is None:
        return None
    return Repeat(period, found[0], found[1], statistics.false_alarm_z(looks), span)


def searched(series: Series) -> Repeat | None:
    """The shortest period at which an evenly logged loss repeats itself plainly; None where there is none.

    The correlation of the jumps with themselves, by lag (Wiener, Khinchin), from 4 points to a sixth of the log; a lag
    counts when the jumps repeat in most of all its rounds, not in a few of them.
    """
    n = len(series)
    steps = np.diff(series.updates)
    if not LEAST_FREE_POINTS <= n <= MAX_POINTS or not (steps == steps[0]).all() or steps[0] <= 0:
        return None
    values = _jumps(series, FREE_CAP)
    power = float(np.dot(values, values))
    if power <= 0:
        return None
    spectrum = np.fft.rfft(values, 2 * n)
    longest = n // LEAST_FREE_ROUNDS
    correlation = (
        np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[: longest + 1] / power * n / (n - np.arange(longest + 1))
    )
    limit = statistics.false_alarm_z(longest)
    plain = (correlation >= LEAST_FREE_CORRELATION) & (correlation * np.sqrt(n - np.arange(longest + 1)) > limit)
    for lag in np.flatnonzero(plain)[:MAX_LAGS]:
        found = _folded(values, np.arange(n) % lag) if lag >= 4 else None
        if found is not None and found[0] >= LEAST_FREE_CORRELATION and found[1] > limit:
            return Repeat(int(lag) * int(steps[0]), found[0], found[1], limit, n / float(lag))
    return None


def _jumps(series: Series, cap: float) -> statistics.Floats:
    """The series without its local median, in standard deviations, capped; shape (n,)."""
    rest = series.values - statistics.running_median(series.values, LOCAL)
    sd = statistics.mad_sd(rest) or float(np.std(rest))
    return np.clip(rest / sd, -cap, cap) if sd > 0 else np.zeros_like(rest)


def _folded(values: statistics.Floats, place: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    """Mean product of all pairs of values at the same place over their variance, and that in standard errors.

    For independent values the products of pairs are uncorrelated, so their mean has a variance of s^4 / pairs. None
    below 30 pairs.
    """
    if not len(values):
        return None
    _, group = np.unique(place, return_inverse=True)
    count = np.bincount(group)
    total, squares = np.bincount(group, values), np.bincount(group, values**2)
    pairs = float((count * (count - 1) / 2).sum())
    variance = float(np.mean(values**2))
    if pairs < LEAST_PAIRS or variance <= 0:
        return None
    correlation = float(((total**2 - squares) / 2).sum()) / pairs / variance
    return correlation, correlation * math.sqrt(pairs)
