"""Slopes that a few wild points hardly move, with errors that know of the noise's memory. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.few_points import student_quantile
from unstuck.diagnose.statistics import NOISE_POINTS, Floats, mad_sd, points_per_independent, student_z

HUBER = 1.345  # standard deviations: 95 % of the efficiency of least squares at the normal (Huber 1964)
HUBER_STEPS = 20  # of reweighting at most: each shrinks the distance to the solution to a few per cent
SETTLED = 1e-6  # ours: of the scale; a step that moves no point by more ends the reweighting
LEAST_POINTS = 5  # of a slope: three degrees of freedom are left to its error
# The largest exponent published of the loss above its floor (Luo et al. 2025, MultiPowerLaw: 0.43 to 0.51; Kaplan et
# al. 2020: 0.05 to 0.1): what a curve gains ahead is not overstated.
EXPONENT = 0.5


def robust_slope(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope of y over x and its standard error, hardly moved by a few wild points; both nan below 5 points.

    Huber's M-estimate by reweighted least squares with the MAD as scale; asymptotic error (Huber 1973), inflated by the
    root of `points_per_independent` of the residuals in the order of the points.
    """
    n = len(x)
    if n < 5 or x.min() == x.max():
        return math.nan, math.nan
    weight, slope, rest = np.ones(n), 0.0, y
    for _ in range(HUBER_STEPS):
        before = slope
        xc = x - np.average(x, weights=weight)
        slope = float((weight * xc) @ y / ((weight * xc) @ xc))
        rest = y - slope * x
        rest = rest - np.average(rest, weights=weight)
        scale = max(mad_sd(rest), 1e-12 * float(np.abs(y).max()))
        if scale == 0.0:
            return slope, 0.0
        weight = np.minimum(1.0, HUBER * scale / np.maximum(np.abs(rest), 1e-300))
        if abs(slope - before) * float(np.ptp(x)) <= SETTLED * scale:
            break
    held = np.clip(rest, -HUBER * scale, HUBER * scale)
    inside = max(1 / n, float((np.abs(rest) <= HUBER * scale).mean()))
    xc = x - x.mean()
    variance = float(held @ held) / (n - 2) / inside**2 / float(xc @ xc)
    return slope, math.sqrt(variance * points_per_independent(held - held.mean()))


def least_squares_slope(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope of y over x and its standard error by ordinary least squares; both nan below 3 points."""
    n = len(x)
    if n < 3 or x.min() == x.max():
        return math.nan, math.nan
    xc = x - x.mean()
    power = float(xc @ xc)
    slope = float(xc @ y) / power
    rest = y - y.mean() - slope * xc
    return slope, math.sqrt(float(rest @ rest) / (n - 2) / power)


@dataclass(frozen=True, slots=True)
class Decline:
    """How fast a loss falls where its record ends, in its unit per e-fold of updates.

    Attributes:
        value: -dL / d ln(u) at the last update.
        low, high: two standard errors either way.
        first: the first update of the window that it was measured on.
    """

    value: float
    low: float
    high: float
    first: int


def decline_at_end(updates: Floats, losses: Floats, shares: Sequence[float] = (1 / 3,)) -> Decline | None:
    """The decline at the last update, from the first of the last `shares` of the updates that holds 5 points.

    The slope over a window is that of its middle. At its end a power law, L = E + A u^-b, is flatter by
    (middle / last)^b: taken off with b = `EXPONENT`. None where no window holds 5 points.
    """
    for share in shares:
        late = updates >= updates[-1:] * (1 - share) - 0.5  # updates are whole: half of one is rounding
        if (count := int(late.sum())) >= LEAST_POINTS:
            break
    else:
        return None
    x = np.log(np.maximum(updates[late], 1.0))
    robust = count >= NOISE_POINTS
    slope, error = (robust_slope if robust else least_squares_slope)(x, losses[late])
    if math.isnan(slope):
        return None
    flatter = math.exp(EXPONENT * float(x.mean() - x[-1]))
    # the scale of a robust slope is a MAD's; the other's is the mean square about the line
    z = student_z(2.0, count) if robust else student_quantile(2.0, count - 2)
    value, error = -slope * flatter, z * error * flatter
    return Decline(value, value - error, value + error, int(updates[late][0]))


def gain_ahead(times: float) -> float:
    """What going on to `times` the updates brings, in e-folds of the decline now: a power law of `EXPONENT`."""
    return -math.expm1(-EXPONENT * math.log(times)) / EXPONENT
