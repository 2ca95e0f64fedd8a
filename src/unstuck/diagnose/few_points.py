"""Statistics for logs of few rows: Student's quantiles, a line through a short stretch, and the order of its points."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from unstuck.diagnose.statistics import NOISE_POINTS, Floats, Rise, false_alarm_z

BY_CHANCE = 1e-3  # as `false_alarm_z`: one false alarm in a thousand healthy runs


@lru_cache(4096)
def student_quantile(z: float, dof: int) -> float:
    """The quantile of Student's t whose tail is that of the normal quantile z, to a thousandth.

    The tail of t for whole degrees of freedom is a finite sum (Abramowitz, Stegun 26.7.3 and 26.7.4); bisected.

    Args:
        z: at least 0.
        dof: degrees of freedom, at least 1.
    """
    tail = NormalDist().cdf(-z)
    low, high = 0.0, 1.0
    while _student_tail(high, dof) > tail:
        high *= 2.0
    while high - low > 1e-3 * high:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _student_tail(middle, dof) > tail else (low, middle)
    return high


def _student_tail(t: float, dof: int) -> float:
    angle = math.atan(t / math.sqrt(dof))
    cosine = math.cos(angle)
    if dof % 2:
        term, total = cosine, cosine if dof > 1 else 0.0
        for k in range(3, dof - 1, 2):
            term *= cosine**2 * (k - 1) / k
            total += term
        return 0.5 - (angle + math.sin(angle) * total) / math.pi
    term, total = 1.0, 1.0
    for k in range(2, dof - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    return 0.5 - 0.5 * math.sin(angle) * total


def fall_of_line(values: Floats) -> tuple[float, float]:
    """How far the straight line through a stretch falls from its first to its last point, and the standard error.

    Least squares, n - 2 degrees of freedom: for stretches too short for `statistics.fall`. The noise counts as
    independent, and a curve about the line as noise. Both nan below 4 points.
    """
    n = len(values)
    if n < 4:
        return math.nan, math.nan
    x = np.arange(n) - (n - 1) / 2
    power = float(np.dot(x, x))
    fall = -float(np.dot(x, values)) / power * (n - 1)
    return fall, error_about_line(values) / math.sqrt(power) * (n - 1)


def fall_along_line(values: Floats) -> tuple[float, float]:
    """As `fall_of_line`, with what noise alone reaches once in a thousand times."""
    fall, error = fall_of_line(values)
    return fall, student_quantile(false_alarm_z(1), len(values) - 2) * error if len(values) >= 4 else math.nan


def error_about_line(values: Floats, degree: int = 1) -> float:
    """Standard deviation about the line or parabola of least squares; nan where no degree of freedom is left."""
    n = len(values)
    if n < degree + 2:
        return math.nan
    x = np.linspace(-1.0, 1.0, n)
    residual = values - np.polynomial.polynomial.polyval(x, np.polynomial.polynomial.polyfit(x, values, degree))
    return math.sqrt(float(np.dot(residual, residual)) / (n - 1 - degree))


def chance_of_order(values: Floats) -> float:
    """How often values in any order rise as steadily as these: the one-sided p value of Kendall's test for a trend.

    Exact at any noise as long as its points are exchangeable (Mann 1945, Kendall 1948): of all orders of n values, how
    many have at most as many pairs that fall (those of inversions, by their generating function). Ties count half.
    Meant for few points: the work grows with n^3. 1.0 below 2 points.
    """
    n = len(values)
    if n < 2:
        return 1.0
    later = np.sign(values[None, :] - values[:, None])[np.triu_indices(n, 1)]
    falls = math.ceil(float((later < 0).sum()) + float((later == 0).sum()) / 2)
    orders = np.ones(1)
    for k in range(2, n + 1):
        orders = np.convolve(orders, np.full(k, 1 / k))
    return float(orders[: falls + 1].sum())


def in_rising_order(values: Floats, rise: Rise) -> bool:
    """Whether the few values after the lowest come in an order that noise hardly gives, and wandering neither.

    A rise that levels off bends, and its bend counts as noise in `Rise.error`, which few points know badly besides. Its
    order needs no noise: Kendall's test, with the lowest point left out, for it was chosen. A level that wanders makes
    such orders as well, so the rise must also pass its error at one chance in a thousand.
    """
    after = values[rise.best + 1 :]
    if not len(after) <= NOISE_POINTS or not rise.rise > false_alarm_z(1) * rise.error:
        return False
    return chance_of_order(after) <= BY_CHANCE
