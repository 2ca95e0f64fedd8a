"""Fit L(u) = E + A (u + u0)^-b to a learning curve and say what more updates would give, with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.statistics import Floats, lag1

# Exponents seen for language models: 0.05 (Kaplan et al. 2020, steps 0.76 of small models) to 1 and beyond for tasks
# that are learned exactly; the grid is wider than both.
EXPONENTS = np.geomspace(0.05, 3.0, 40)
OFFSETS = (0.0, 0.02, 0.1, 0.3)  # u0 as a share of the fitted span: warm-up delays the power law


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """A fitted curve and all curves that fit almost as well.

    Attributes:
        floor, amplitude, exponent, offset: E, A, b, u0 of the best fit.
        sd: standard deviation of the residuals of the best fit.
        plausible: (floor, amplitude, exponent, offset) of every fit within the 95 % likelihood region.
    """

    floor: float
    amplitude: float
    exponent: float
    offset: float
    sd: float
    plausible: tuple[tuple[float, float, float, float], ...]

    def at(self, update: float) -> float:
        """The curve's loss at an update."""
        return self.floor + self.amplitude * float((update + self.offset) ** -self.exponent)

    def between(self, update: float) -> tuple[float, float]:
        """Lowest and highest loss at an update over all plausible curves."""
        levels = [e + a * (update + o) ** -b for e, a, b, o in self.plausible]
        return min(levels), max(levels)


def fit_learning_curve(updates: Floats, losses: Floats, max_points: int = 400) -> LearningCurve | None:
    """Least squares over a grid of exponents and offsets, E >= 0 and A >= 0 in closed form; None where nothing fits.

    Args:
        updates: shape (n,), above 0, increasing.
        losses: shape (n,). At least 8 points are needed; many are averaged into `max_points` bins.
    """
    if len(updates) < 8:
        return None
    if len(updates) > max_points:
        parts = np.array_split(np.arange(len(updates)), max_points)
        updates = np.array([updates[p].mean() for p in parts])
        losses = np.array([losses[p].mean() for p in parts])
    fits: list[tuple[float, float, float, float, float]] = []
    for share in OFFSETS:
        offset = share * float(updates[-1] - updates[0])
        for b in EXPONENTS:
            x = (updates + offset) ** -b
            xc, yc = x - x.mean(), losses - losses.mean()
            power = float(np.dot(xc, xc))
            if power == 0.0:
                continue
            a = max(0.0, float(np.dot(xc, yc) / power))
            floor = float(losses.mean() - a * x.mean())
            if floor < 0.0:  # through E = 0 instead
                floor, a = 0.0, max(0.0, float(np.dot(x, losses) / np.dot(x, x)))
            residual = losses - floor - a * x
            fits.append((float(np.dot(residual, residual)), floor, a, float(b), offset))
    if not fits:
        return None
    rss, floor, a, b, offset = min(fits)
    n = len(updates)
    if a == 0.0 or n <= 4:
        return None
    best = floor + a * (updates + offset) ** -b
    r = min(0.9, max(0.0, lag1(losses - best)))
    worth = max(5.0, n * (1 - r) / (1 + r))
    # likelihood ratio: chi-squared with 4 parameters, 95 %: 9.49
    limit = max(rss * (1 + 9.49 / worth), 1e-300)
    plausible = tuple((e, amp, ex, off) for s, e, amp, ex, off in fits if s <= limit)
    return LearningCurve(floor, a, b, offset, math.sqrt(rss / (n - 4)), plausible)


def decline_per_e_fold(updates: Floats, losses: Floats, share: float = 1 / 3) -> tuple[float, float]:
    """-dL / d ln(u) over the last `share` of the updates, and its standard error; nan below 5 points there."""
    late = updates >= updates[-1] * (1 - share) if len(updates) else np.zeros(0, dtype=bool)
    x, y = np.log(np.maximum(updates[late], 1.0)), losses[late]
    if len(x) < 5:
        return math.nan, math.nan
    xc = x - x.mean()
    power = float(np.dot(xc, xc))
    if power == 0.0:
        return math.nan, math.nan
    b = float(np.dot(xc, y) / power)
    residual = y - y.mean() - b * xc
    r = min(0.95, max(0.0, lag1(residual)))
    error = math.sqrt(float(np.dot(residual, residual)) / (len(x) - 2) / power * (1 + r) / (1 - r))
    return -b, error
