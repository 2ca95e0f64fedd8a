"""Pure functions on series: noise, trend, level. Every threshold that a rule uses is a multiple of these.

All take float64 arrays of shape (n,) with finite values unless they say otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# A normal distribution's standard deviation in median absolute deviations: 1 / Phi^-1(3/4).
MAD_TO_SD = 1.4826
MAD_EFFICIENCY = 0.37  # of its variance at the normal (Rousseeuw, Croux 1993)
FEWEST_AROUND = 12  # points whose scatter is the noise of a start: 10 second differences, known to a quarter


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


def noise_at_start(values: Floats, early: int) -> float:
    """Noise of one point where the first `early` values are highest; 0.0 where it cannot be known.

    Errors that fall to a hundredth scatter less and less, so the noise of the second half says too little of the first
    points. It is what the points around the top scatter, but no more than the second half's relative noise gives: a
    blow-up is in the former, not in the latter.
    """
    half = values[len(values) // 2 :]
    later = float(np.nan_to_num(noise_sd(half)))
    around = values[: max(FEWEST_AROUND, 2 * int(1 + np.argmax(values[1:early])))]
    level = abs(float(np.median(half)))
    relative = later / level * abs(float(np.median(around))) if level > 0 else 0.0
    return max(later, min(float(np.nan_to_num(noise_sd(around))), relative))


FINE = 101  # points; the widest window of `trend`, which is taken at every place


def running_median(values: Floats, window: int) -> Floats:
    """Centred running median of odd window, shrinking at the ends; shape (n,).

    Beyond `FINE` points of window it is taken at every (window / FINE)th place and drawn straight in between, which
    moves a window by less than a hundredth of itself.
    """
    n = len(values)
    half = max(0, window // 2)
    if half == 0 or n == 0:
        return values.copy()
    stride = max(1, (2 * half + 1) // FINE)
    places = np.unique(np.append(np.arange(0, n, stride), n - 1))
    reach = np.minimum(places, n - 1 - places) if n > 2 * half else np.full(len(places), half)
    whole = (reach >= half) & (places >= half) & (places < n - half)
    at = np.empty(len(places))
    if whole.any():
        at[whole] = np.median(
            np.lib.stride_tricks.sliding_window_view(values, 2 * half + 1)[places[whole] - half], axis=1
        )
    for i in np.flatnonzero(~whole):
        place, width = int(places[i]), int(min(reach[i], half))
        at[i] = np.median(values[max(0, place - width) : place + width + 1])
    return at if stride == 1 else np.interp(np.arange(n), places, at)


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


def false_alarm_z(looks: float, alpha: float = 1e-3) -> float:
    """Standard deviations that the largest of `looks` normal values passes with probability `alpha` (Bonferroni).

    alpha 1e-3: one false alarm in a thousand healthy runs for each rule that uses it.
    """
    return -NormalDist().inv_cdf(alpha / max(1.0, looks))


def student_z(z: float, points: float) -> float:
    """What a normal quantile becomes when the standard deviation comes from the MAD of `points` values.

    The MAD is worth 0.37 of the points (its efficiency at the normal). Quantile of Student's t by the expansion of
    Cornish and Fisher to second order (Abramowitz, Stegun 26.7.5).
    """
    dof = max(2.0, MAD_EFFICIENCY * points)
    return z + (z**3 + z) / (4 * dof) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * dof * dof)


def lag1(values: Floats) -> float:
    """Correlation of each value with the next; 0 below 3 points or where nothing varies."""
    if len(values) < 3:
        return 0.0
    centred = values - values.mean()
    power = float(np.dot(centred, centred))
    return float(np.dot(centred[1:], centred[:-1]) / power) if power > 0 else 0.0


def residuals(values: Floats, window: int | None = None) -> Floats:
    """What remains of the series above its `trend`; shape (n,)."""
    return values - trend(values, window)


def level(values: Floats) -> tuple[float, float]:
    """Level of a stretch (its mean) and standard error, from noise about a straight line through it.

    The line keeps a slow trend from counting as noise; autocorrelation of the residuals inflates the error by the root
    of `points_per_independent`. The error is nan below 3 points.
    """
    n = len(values)
    if n < 3:
        return (float(values.mean()) if n else math.nan), math.nan
    x = np.arange(n) - (n - 1) / 2
    residual = values - values.mean() - x * float(np.dot(x, values) / np.dot(x, x))
    sd = float(np.sqrt(np.dot(residual, residual) / max(1, n - 2)))
    return float(values.mean()), sd * math.sqrt(points_per_independent(residual) / n)


def points_per_independent(residual: Floats) -> float:
    """How many points of an autocorrelated series are worth one independent point, at least 1.

    The larger of two estimates: (1 + r) / (1 - r) from the lag-1 correlation (Bartlett 1946), right for noise that
    forgets exponentially, and 1 + 2 times the sum of the correlations up to the first pair of lags that is not positive
    (Geyer 1992, initial positive sequence). A slow wander below louder point-to-point noise has a small lag-1
    correlation and a long memory: there the first alone gives a standard error four times too small. Residuals about a
    line show a correlation that is too small by (2 + 4 r) / n (Marriott, Pope 1954: (1 + 4 r) / n about a mean; one
    more for the slope), which is put back; but any stretch is worth three points at least, or a curve that is no line
    would be taken for memory.
    """
    n, power = len(residual), float(np.dot(residual, residual))
    r = lag1(residual)
    r = min(0.95, max(0.0, (n * r + 2) / (n - 4) if n >= 8 else r))
    if power <= 0 or not math.isfinite(power):
        return 1.0
    spectrum = np.fft.rfft(residual, 2 * n)  # padded: the correlations do not wrap around
    correlations = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[: max(1, n // 3)] / power
    pairs = correlations[1 : 1 + 2 * ((len(correlations) - 1) // 2)].reshape(-1, 2).sum(axis=1)
    positive = pairs[: int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(pairs)]
    return max(1.0, min(n / 3, max((1 + r) / (1 - r), 1 + 2 * float(positive.sum()))))


def fall(values: Floats) -> tuple[float, float]:
    """How far the level fell from the first to the last third of the stretch, and the standard error of that.

    Positive: the values went down. Both nan below 9 points.
    """
    third = len(values) // 3
    if third < 3:
        return math.nan, math.nan
    first, first_error = level(values[:third])
    last, last_error = level(values[-third:])
    return first - last, math.hypot(first_error, last_error)


# The MAD of 15 points is right within a quarter (1.17 / sqrt(15) = 0.3): below that all points are better.
NOISE_POINTS = 15
# k points come in rising order by chance once in k!: 1 / 5040 and 1 / 120.
CLIMB, CLIMB_SHORT = 7, 5


@dataclass(frozen=True, slots=True)
class Rise:
    """How far a series lies above its lowest level at the end.

    Attributes:
        best: index of the lowest value.
        best_level: median of the lowest value and its neighbours, which the luck of the lowest point does not bias.
        end_level: mean of the later half of the points after the best.
        rise: end_level - best_level.
        error: standard error of the rise, nan where the series is too short to know its noise.
        threshold: rise beyond which noise is no explanation (`false_alarm_z` of the points x error); inf if unknown.
        steady: whether the points at the end, the best included, each lie above the one before: `CLIMB` of them, or
            `CLIMB_SHORT` where the noise is in doubt.
    """

    best: int
    best_level: float
    end_level: float
    rise: float
    error: float
    threshold: float
    steady: bool

    @property
    def said(self) -> str:
        """What `rise` is, in words."""
        return "mean of the later half after the best, above the level around the best"

    @property
    def beyond_noise(self) -> bool:
        """Whether noise hardly explains the rise: with less than one chance in a thousand, by its height or its order.

        Of series too short to know their noise (below `NOISE_POINTS`) the order alone decides: one chance in 120.
        """
        return self.rise > self.threshold or (self.rise > 0 and self.steady)


def rise_after_best(values: Floats, point_error: float = 0.0) -> Rise | None:
    """Compare the level at the end with the lowest before it; None below 3 points or when the last is the best.

    Two kinds of noise count. Independent noise of each point: standard deviation from second differences; below 5
    points `point_error`, the standard error of one evaluation, where it is given. A wandering level: its variance
    grows with the points between, at the rate of the long-run variance of the increments, var (1 + 2 r1), which is 0
    for independent noise and the full variance for a random walk (Newey, West 1987, one lag). A smooth rise is no
    wandering, so a quadratic in time is taken out of the increments first: without it a rise that slows down has
    increments that correlate perfectly, and counted as its own noise (validation 4.00 to 8.36 passed as healthy).
    """
    n = len(values)
    if n < 3:
        return None
    best = int(np.argmin(values))
    after = values[best + 1 :]
    if not len(after):
        return None
    best_level = float(np.median(values[max(0, best - 1) : best + 2]))
    m = max(1, len(after) // 2)
    end_level = float(after[-m:].mean())
    around = values[best:] if n - best >= NOISE_POINTS else values
    noise = noise_sd(around)
    if math.isnan(noise) and point_error > 0:
        noise = point_error
    error = math.nan
    if not math.isnan(noise):
        wander = _wander(np.diff(values[best:])) * len(after) if len(after) >= 8 else 0.0
        error = math.hypot(noise * math.sqrt(1 / m + 1 / min(3, n)), math.sqrt(wander))
    monotone = 1
    while monotone < n - best and values[n - monotone] > values[n - monotone - 1]:
        monotone += 1
    threshold = math.inf if math.isnan(error) else student_z(false_alarm_z(n), len(around)) * error
    steady = monotone >= (CLIMB if n >= NOISE_POINTS else CLIMB_SHORT)
    return Rise(best, best_level, end_level, end_level - best_level, error, threshold, steady)


def _wander(increments: Floats) -> float:
    """Long-run variance per step of at least 8 increments about a quadratic trend (3 degrees of freedom)."""
    n = len(increments)
    time = np.linspace(-1.0, 1.0, n)
    rest = increments - np.polynomial.polynomial.polyval(time, np.polynomial.polynomial.polyfit(time, increments, 2))
    return float(np.dot(rest, rest) / (n - 3)) * max(0.0, 1 + 2 * lag1(rest))


@dataclass(frozen=True, slots=True)
class Spike:
    """A sudden rise: index of its first point, of its peak, and of the first point back at the old level (None: never).

    `before` is the level it left, `height` the peak above it, `noise` the standard deviation about the level.
    """

    start: int
    peak: int
    back: int | None
    before: float
    height: float
    noise: float


MOST_EXPONENT = 700.0  # of a double: e^709 is its largest


def skewed(z: float, residual: Floats) -> float:
    """What a normal quantile becomes where the noise is skewed upwards, as losses of small batches are.

    As for a shifted log-normal, whose shape c is told by its 10, 50 and 90 % points (a spike moves none of them):
    (q90 - q50) / (q50 - q10) = exp(1.28 c), and its z-th standard deviation lies at (exp(c z) - 1) / c. The
    standard error for normal noise is taken off first: 2.1 / sqrt(n) of 1.28 c, simulated. Skew downwards changes
    nothing.
    """
    low, middle, high = np.quantile(residual, (0.1, 0.5, 0.9)) if len(residual) else (0.0, 0.0, 0.0)
    if not low < middle < high:
        return z
    shape = (math.log((high - middle) / (middle - low)) - 2.1 / math.sqrt(len(residual))) / 1.2816
    if shape * z > MOST_EXPONENT:
        return math.inf
    return z if shape <= 0 else math.expm1(shape * z) / shape


def spikes(values: Floats) -> list[Spike]:
    """Sudden jumps above the level of the points just before, beyond noise and beyond the series' own tails.

    A jump counts from the higher of two levels, the medians of the last 5 and of the last n/20 (5 to 51) points, so a
    falling trend or a slow bump is none. It must pass `false_alarm_z` of all points in noise, with the noise of the
    neighbourhood and `skewed` as it is, and twice the deepest point *below* the trend, which says how heavy the tails
    are and which spikes leave alone (of runs whose tails have index 4, one in 17 passes all the same).
    """
    n = len(values)
    window = int(np.clip(n // 20, 5, 51))
    if n < 3 * window:
        return []
    residual = residuals(values, max(window, 11) | 1)  # 11: a spike of up to 5 points is no majority
    sd = max(mad_sd(residual), noise_sd(values))
    settled = residual[n // 10 :]
    tail = float(-np.minimum(settled, 0.0).min()) if len(settled) else 0.0
    # the level is a median of 5 points: its own error, sd x sqrt(pi / 10), widens the difference by 1.15
    z = skewed(false_alarm_z(n) * math.sqrt(1 + math.pi / 10), settled)
    before = np.maximum(trailing_median(values, 5), trailing_median(values, window))
    # the noise of the neighbourhood, renewed every `window` points
    starts = np.arange(window, n, window)
    near = np.array([noise_sd(values[max(0, i - 4 * window) : i]) for i in starts])
    noise = np.maximum(sd, np.nan_to_num(np.repeat(near, window)[: n - window], nan=0.0))
    noise = np.concatenate([np.full(window, sd), noise])
    ahead = np.concatenate([np.median(np.lib.stride_tricks.sliding_window_view(values, 3), axis=1), values[-2:]])
    found: list[Spike] = []
    free = window
    for i in np.flatnonzero((values - before > np.maximum(z * noise, 2 * tail)) & (noise > 0)):
        if i < free:
            continue
        returned = np.flatnonzero(ahead[i + 1 :] <= before[i] + 2 * noise[i])
        back = int(i + 1 + returned[0]) if len(returned) else None
        free = n if back is None else back + 1
        peak = int(i + np.argmax(values[i : n if back is None else back]))
        found.append(Spike(int(i), peak, back, float(before[i]), float(values[peak] - before[i]), float(noise[i])))
    return found


def trailing_median(values: Floats, window: int) -> Floats:
    """Median of the `window` points before each point (not including it); inf for the first `window`; shape (n,)."""
    out = np.full(len(values), np.inf)
    if len(values) > window:
        out[window:] = np.median(np.lib.stride_tricks.sliding_window_view(values[:-1], window), axis=1)
    return out


def memory_of_differences(values: Floats) -> tuple[float, float]:
    """Lag-1 correlation r of the noise, and the root of its long-run variance per point, for noise of the form AR(1).

    From the variances of differences over one and two points, 2 s^2 (1 - r) and 2 s^2 (1 - r^2): their ratio less 1 is
    r (Hall, Van Keilegom 2003). Jumps make few differences large, and those are left out, so unlike the correlation of
    the values this sees no memory in them. (0.0, 0.0) below 5 points or where more than half of the values repeat.
    """
    if len(values) < 5:
        return 0.0, 0.0
    variances = []
    for lag in (1, 2):
        steps = np.abs(values[lag:] - values[:-lag])
        near = steps[steps <= 3 * MAD_TO_SD * np.median(steps)]
        variances.append(float(np.mean(near**2)) / 0.973)  # of a normal cut at 3 standard deviations
    one, two = variances
    if one == 0.0:
        return 0.0, 0.0
    r = min(0.9, max(0.0, two / one - 1))
    return r, math.sqrt(one * (1 + r) / 2) / (1 - r)


def change_points(values: Floats, least: int = 5, alpha: float = 1e-3) -> list[int]:
    """Indices at which the level jumps: binary segmentation on means.

    A cut is kept when the CUSUM statistic passes `false_alarm_z` of all possible cuts (two-sided, so looks x 2) times
    the long-run noise from `memory_of_differences`. Every segment keeps `least` points. A slope is no jump but is cut
    all the same: a trend has to be taken out before.
    """
    _, noise = memory_of_differences(values)
    if noise == 0.0:
        noise = float(np.std(np.diff(values))) / math.sqrt(2) if len(values) > 1 else 0.0
    if noise == 0.0:
        return []
    limit = false_alarm_z(2 * len(values), alpha) * noise
    cuts: list[int] = []

    def split(low: int, high: int) -> None:
        part = values[low:high]
        n = len(part)
        if n < 2 * least:
            return
        left = np.arange(1, n)
        total = np.cumsum(part)[:-1]
        gap = np.abs(total / left - (part.sum() - total) / (n - left)) * np.sqrt(left * (n - left) / n)
        inner = gap[least - 1 : n - least]
        if not len(inner) or inner.max() <= limit:
            return
        cut = low + least + int(np.argmax(inner))
        cuts.append(cut)
        split(low, cut)
        split(cut, high)

    split(0, len(values))
    return sorted(cuts)


def validation_standard_error(loss: float, tokens: float) -> float:
    """Standard error in nats/token of a loss averaged over `tokens` tokens.

    The loss of one token under a language model is close to exponentially distributed, whose standard deviation is
    its mean (assumption; text repeats itself, so the true error is rather larger).
    """
    return loss / math.sqrt(tokens) if tokens > 0 else math.nan
