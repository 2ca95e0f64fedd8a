"""Slopes that a few wild points hardly move, with errors that know of the noise's memory. Pure functions."""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.statistics import Floats, mad_sd, points_per_independent

HUBER = 1.345  # standard deviations: 95 % of the efficiency of least squares at the normal (Huber 1964)
HUBER_STEPS = 20  # of reweighting: each shrinks the distance to the solution to a few per cent


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
        xc = x - np.average(x, weights=weight)
        slope = float((weight * xc) @ y / ((weight * xc) @ xc))
        rest = y - slope * x
        rest = rest - np.average(rest, weights=weight)
        scale = max(mad_sd(rest), 1e-12 * float(np.abs(y).max()))
        if scale == 0.0:
            return slope, 0.0
        weight = np.minimum(1.0, HUBER * scale / np.maximum(np.abs(rest), 1e-300))
    held = np.clip(rest, -HUBER * scale, HUBER * scale)
    inside = max(1 / n, float((np.abs(rest) <= HUBER * scale).mean()))
    xc = x - x.mean()
    variance = float(held @ held) / (n - 2) / inside**2 / float(xc @ xc)
    return slope, math.sqrt(variance * points_per_independent(held - held.mean()))


def decline_per_e_fold(updates: Floats, losses: Floats, share: float = 1 / 3) -> tuple[float, float]:
    """-dL / d ln(u) over the last `share` of the updates, and its standard error; nan below 5 points there."""
    late = updates >= updates[-1] * (1 - share) if len(updates) else np.zeros(0, dtype=bool)
    slope, error = robust_slope(np.log(np.maximum(updates[late], 1.0)), losses[late])
    return -slope, error
