"""What projections are compared with: the last value, and the two plain fits that a learning curve is often given."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def last_value(updates: Floats, losses: Floats, target: float) -> float:
    """The mean of the last twentieth of the points: nothing more will be learnt."""
    return float(losses[-max(1, len(losses) // 20) :].mean())


def binned_power_law(updates: Floats, losses: Floats, target: float) -> float | None:
    """a + b t^-c, c from 0.1 to 2: least squares on 16 bins of equal width in ln t, the first tenth left out.

    None below 40 points, beyond eight times the updates, where it rises or leaves a tenth of the change unexplained.
    """
    if len(updates) < 40 or target > 8 * updates[-1]:
        return None
    first = max(4.0, updates[-1] / 10)
    edges = np.searchsorted(updates, np.geomspace(first, updates[-1], 17))
    pairs = [(a, b) for a, b in itertools.pairwise(np.unique(edges))]
    if len(pairs) <= 6:
        return None
    times = np.array([math.sqrt(updates[a] * updates[b - 1]) for a, b in pairs])
    levels = np.array([losses[a:b].mean() for a, b in pairs])
    weights = np.sqrt([b - a for a, b in pairs])
    best: tuple[float, float, float, float] | None = None
    for c in np.geomspace(0.1, 2.0, 16):
        design = np.stack([weights, weights * times**-c], axis=1)
        (a, b), *_ = np.linalg.lstsq(design, weights * levels, rcond=None)
        residual = weights * levels - design @ np.array([a, b])
        error = float(residual @ residual)
        if best is None or error < best[0]:
            best = error, float(a), float(b), float(c)
    assert best is not None
    error, a, b, c = best
    spread = float(((levels - np.average(levels, weights=weights**2)) ** 2 * weights**2).sum())
    return None if b <= 0 or error > 0.1 * spread else max(0.0, a + b * target**-c)


def plain_power_law(updates: Floats, losses: Floats, target: float) -> float | None:
    """E + A (u + u0)^-b by least squares on the points after the first tenth, anchored to the last value.

    b from a grid of 0.05 to 3, u0 of 0 to 0.3 of the span, E and A at least 0. None below 8 points.
    """
    end = last_value(updates, losses, target)
    skip = len(updates) // 10
    updates, losses = updates[skip:], losses[skip:]
    if len(updates) < 8:
        return None
    best: tuple[float, float, float, float, float] | None = None
    for share in (0.0, 0.02, 0.1, 0.3):
        offset = share * float(updates[-1] - updates[0])
        for b in np.geomspace(0.05, 3.0, 40):
            x = (updates + offset) ** -b
            xc = x - x.mean()
            power = float(xc @ xc)
            a = max(0.0, float(xc @ (losses - losses.mean())) / power) if power > 0 else 0.0
            floor = float(losses.mean() - a * x.mean())
            if floor < 0.0:
                floor, a = 0.0, max(0.0, float(x @ losses / (x @ x)))
            residual = losses - floor - a * x
            error = float(residual @ residual)
            if best is None or error < best[0]:
                best = error, floor, a, float(b), offset
    assert best is not None
    _, floor, a, b, offset = best
    return max(0.0, floor + a * (target + offset) ** -b + end - (floor + a * (updates[-1] + offset) ** -b))
