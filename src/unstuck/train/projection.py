"""A projection of the final loss from the curve so far, or none where the curve does not carry one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BINS = 16
# Below this the three constants of the power law go through almost anything.
LEAST_POINTS = 40
LEAST_BINS = 6
# Never more than so many times as far as was seen: at 1/8 of the way a power law may bend any way.
FARTHEST = 8.0
# Exponents of loss over steps; published fits lie between 0.05 and 1 (Kaplan et al., arXiv 2001.08361; Hoffmann et
# al., arXiv 2203.15556), small models at the start up to 2.
EXPONENTS = np.geomspace(0.1, 2.0, 16)


def project(losses: Sequence[float], planned_updates: int) -> float | None:
    """Loss expected at the last planned update (nats/token), from L(t) = a + b t^-c fitted to the curve so far.

    The curve is cut into bins of equal width in log(t), the first tenth left out; c comes from a grid, a and b from
    least squares. The decay of the learning rate that is still to come is not in the fit: with a WSD schedule the
    projection is a little too high until the decay begins.

    Args:
        losses: training loss of updates 1 ... n.
        planned_updates: where to project to.

    Returns:
        None when there is too little, when the loss is not falling, or when the law does not fit.
    """
    n = len(losses)
    if n < LEAST_POINTS or planned_updates <= n or planned_updates > FARTHEST * n:
        return None
    values = np.asarray(losses, dtype=np.float64)
    if not np.isfinite(values).all():
        return None
    start = max(4, n // 10)
    edges = np.unique(np.geomspace(start, n, BINS + 1).astype(int))
    if len(edges) <= LEAST_BINS:
        return None
    pairs = list(itertools.pairwise(edges))
    times = np.array([math.sqrt(a * b) for a, b in pairs])
    levels = np.array([values[a:b].mean() for a, b in pairs])
    weights = np.sqrt([b - a for a, b in pairs])  # a mean of m losses has 1/sqrt(m) of their noise
    best = min((_fit(times, levels, weights, c) for c in EXPONENTS), key=lambda fit: fit[0])
    error, a, b, c = best
    spread = float(((levels - np.average(levels, weights=weights**2)) ** 2 * weights**2).sum())
    if b <= 0 or error > 0.1 * spread:  # not falling, or the law leaves more than a tenth of the change unexplained
        return None
    return float(max(0.0, a + b * float(planned_updates) ** -c))


def _fit(
    times: npt.NDArray[np.float64], levels: npt.NDArray[np.float64], weights: npt.NDArray[np.float64], c: float
) -> tuple[float, float, float, float]:
    """Weighted least squares for a and b at a fixed exponent c: (squared error, a, b, c)."""
    design = np.stack([weights, weights * times**-c], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, weights * levels, rcond=None)
    residual = weights * levels - design @ np.array([a, b])
    return float(residual @ residual), float(a), float(b), float(c)
