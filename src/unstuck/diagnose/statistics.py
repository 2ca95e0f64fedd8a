"""Pure functions on series: noise, trend, slope. Every threshold that a rule uses is a multiple of these.

All take float64 arrays of shape (n,) with finite values unless they say otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# A normal distribution's standard deviation in median absolute deviations: 1 / Phi^-1(3/4).
MAD_TO_SD = 1.4826


def mad_sd(values: Floats) -> float:
    """Robust standard deviation: 1.4826 x median absolute deviation from the median; nan when empty."""
    if not len(values):
        return float("nan")
    return float(MAD_TO_SD * np.median(np.abs(values - np.median(values))))


def noise_sd(values: Floats) -> float:
    """Standard deviation of the point-to-point noise of a trending series.

    From second differences, which a linear trend leaves unchanged: for white noise of variance s^2,
    x[i-1] - 2 x[i] + x[i+1] has variance 6 s^2 (Gasser, Sroka, Jennen-Steinmetz 1986). Robust through the MAD, so
    spikes do not count. nan below 5 points.
    """
    if len(values) < 5:
        return float("nan")
    second = np.diff(values, n=2)
    return float(MAD_TO_SD * np.median(np.abs(second)) / np.sqrt(6.0))


def running_median(values: Floats, window: int) -> Floats:
    """Centred running median of odd window, shrinking at the ends; shape (n,)."""
    n = len(values)
    half = max(0, window // 2)
    if half == 0 or n == 0:
        return values.copy()
    if n > 2 * half:
        inner = np.median(np.lib.stride_tricks.sliding_window_view(values, 2 * half + 1), axis=1)
    else:
        inner = np.empty(0)
    out = np.empty(n)
    for i in range(n):
        if half <= i < n - half:
            continue
        reach = min(i, n - 1 - i) if n > 2 * half else half
        out[i] = np.median(values[max(0, i - reach) : i + reach + 1])
    if len(inner):
        out[half : n - half] = inner
    return out


def trend(values: Floats, window: int | None = None) -> Floats:
    """A smooth level of the series: running median, then running mean of the same window; shape (n,).

    Args:
        window: points; default n / 20, between 5 and 101, odd.
    """
    n = len(values)
    if window is None:
        window = int(np.clip(n // 20, 5, 101)) | 1
    smooth = running_median(values, window)
    half = window // 2
    total = np.concatenate([[0.0], np.cumsum(smooth)])
    low = np.maximum(np.arange(n) - half, 0)
    high = np.minimum(np.arange(n) + half + 1, n)
    reach = np.minimum(np.arange(n) - low, high - 1 - np.arange(n))
    low, high = np.arange(n) - reach, np.arange(n) + reach + 1
    result: Floats = (total[high] - total[low]) / (high - low)
    return result


def slope(x: Floats, y: Floats) -> tuple[float, float]:
    """Least-squares slope of y over x and its standard error, both nan below 3 points.

    The standard error assumes independent residuals; inflate it for autocorrelated series with `effective_points`.
    """
    if len(x) < 3:
        return float("nan"), float("nan")
    xc = x - x.mean()
    spread = float(np.dot(xc, xc))
    if spread == 0.0:
        return float("nan"), float("nan")
    b = float(np.dot(xc, y) / spread)
    residual = y - y.mean() - b * xc
    return b, float(np.sqrt(np.dot(residual, residual) / max(1, len(x) - 2) / spread))


def theil_sen(x: Floats, y: Floats, max_points: int = 300) -> float:
    """Median of pairwise slopes (Theil 1950, Sen 1968), on at most `max_points` evenly taken points; nan below 2."""
    if len(x) < 2:
        return float("nan")
    if len(x) > max_points:
        take = np.linspace(0, len(x) - 1, max_points).astype(int)
        x, y = x[take], y[take]
    i, j = np.triu_indices(len(x), k=1)
    dx = x[j] - x[i]
    good = dx != 0
    return float(np.median((y[j] - y[i])[good] / dx[good])) if good.any() else float("nan")


def effective_points(values: Floats) -> float:
    """What n autocorrelated points are worth: n (1 - r) / (1 + r) independent ones, r the lag-1 correlation."""
    n = len(values)
    if n < 4:
        return float(n)
    centred = values - values.mean()
    power = float(np.dot(centred, centred))
    if power == 0.0:
        return float(n)
    r = float(np.clip(np.dot(centred[1:], centred[:-1]) / power, 0.0, 0.99))
    return n * (1 - r) / (1 + r)


def mean_and_error(values: Floats) -> tuple[float, float]:
    """Mean and its standard error with the autocorrelation taken into account; the error is nan below 2 points."""
    if len(values) < 2:
        return (float(values[0]) if len(values) else float("nan")), float("nan")
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(max(1.0, effective_points(values))))
