"""A learning curve with its uncertainty: what the loss will be, given what it was and how the learning rate goes on.

The model, in logarithms, with S the updates so far weighted by the learning rate (as a share of its peak), x = ln S and
h the share itself:

    ln L = a - s [ g(x) + k (1 - h) g'(x_end) ] + drift(x) + wiggle(x) + noise

- g is a Box-Cox power: its decline per e-fold is 1 now and goes as S^-b from here on. b < 0: a curve that has yet to
  become steep; b = 0: a straight line in ln S; b > 0: a power law above a floor (Kaplan et al. 2020, arXiv 2001.08361);
  a head start w in S, with a large b, bends it towards an exponential. S in place of updates: Tissue et al.,
  arXiv 2408.11029; Luo et al., arXiv 2503.12811.
- k: what annealing the rate to 0 is worth, in e-folds of updates at the end. The loss above its annealed value is
  proportional to the rate (Luo et al.: their B does not change over a run). See ANNEALING.
- drift and wiggle say that no such law is exact: an integrated random walk (the slope changes as training goes on) and
  a correlated error of a fraction of an e-fold. Both are proportional to the slope s.

Nothing is a best fit: a, s, drift and wiggle have Gaussian priors and are integrated out exactly, the rest is a grid
whose cells are weighted by their likelihood. So one mixture of normal distributions holds the noise, its memory, the
doubt about the form of the curve, and the doubt about the schedule. `docs/projection.md` measures what it is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

import numpy as np

from unstuck.diagnose.rate_course import RateCourse, constant_course
from unstuck.diagnose.statistics import Floats, mad_sd, noise_sd, points_per_independent, residuals

# b: how fast the decline per e-fold falls with S. Published exponents of the loss above its floor: 0.05 (Kaplan et al.
# 2020) to 0.5 (Luo et al. 2025, README of MultiPowerLaw: 0.43 to 0.51); small models and regression: 1 and more. -0.5:
# what the first hundred updates of a language model look like; without it the intervals of 80 % hold 58 % of the ends
# from a tenth of a run (development groups), with it 81 %.
EXPONENTS = (-0.5, 0.0, 0.2, 0.5, 1.0, 2.0)
HEAD_STARTS = (0.0, 0.3)  # in units of S now: none, and enough to bend b = 2 to an exponential within an e-fold
# What annealing to 0 takes off ln L, k g'(x_end) s: 0.04 where an e-fold at the end gains 0.04, growing as the root of
# that gain. Measured against a constant rate that has done the same S, in development groups of docs/projection.md:
# 0.02 to 0.04 at gains of 0.03 to 0.06 (8 curves of 25 and 100M parameters, repository MultiPowerLaw), 0.02 to 0.15 at
# 0.09 to 0.17 (6 small GPTs and masked models), 0.23 and 0.38 at 0.45 and 0.65 (neural operators). ln of measured over
# this: mean -0.2, standard deviation 0.6; a grid of 2 either way.
ANNEALING, ANNEALING_SD = 0.04, 0.6
ANNEALINGS = tuple(math.exp(step * ANNEALING_SD) for step in (-2, -1, 0, 1, 2))
# Share of the slope by which the slope drifts over an e-fold, and by which the curve errs around its law. The seven
# constants of Luo et al. leave 0.002 of the loss, 0.03 of its slope of 0.06 (their README: RMSE 0.005 to 0.007).
DRIFTS = (0.1, 0.3)
WIGGLES = (0.03, 0.1, 0.3)
WIGGLE_LENGTH = 0.3  # e-folds; assumption: a wiggle is shorter than the law's own bends
LEVEL_SD = 1.0  # prior of a, ln L, around the last level: no constraint
SLOPE_SD = 0.5  # prior of s, relative loss per e-fold: exact tasks reach 1, language models have 0.03 to 0.3
FIRST = 0.1  # of the updates so far: what came before is another phase (warm-up, token frequencies)
BINS = 20  # over at most 2.3 e-folds: each is finer than a wiggle
LEAST_BINS = 6  # to see a slope, its change, and the noise around both
FEWEST_POINTS = 12  # twice that: bins of one point say nothing of their noise
NOISE_FLOOR = 1e-4  # relative: losses are printed with four digits
OUTLIER = 5.0  # standard deviations from the median of its bin: a spike, counted as 5
STEADY = 0.97  # ours: a course whose share never falls below it has no annealing in it
NEGLIGIBLE = 1e-4  # of the largest weight: cells below it, all together, move a 95 % interval by less than its digits

# A mixture's quantiles come from this many equally likely values of each normal part.
_MIDPOINTS = np.array([NormalDist().inv_cdf((i + 0.5) / 41) for i in range(41)])


@dataclass(frozen=True, slots=True)
class _Bins:
    """The curve in pieces of equal width in ln(update): mean x, h and ln L, variance of that mean; shape (n,)."""

    x: Floats
    share: Floats
    level: Floats
    variance: Floats


@dataclass(frozen=True, slots=True)
class _Cells:
    """The grid: b, w, annealing over its median, drift, wiggle, and the rate's course (an index); shape (c,)."""

    exponent: Floats
    head_start: Floats
    annealing: Floats
    drift: Floats
    wiggle: Floats
    course: Floats


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """A fitted curve; `fit_learning_curve` makes it.

    Attributes:
        last_update: the last update that was fitted.
        past: e-folds of updates between the first and the last point that were fitted.
        levels: shape (n,), the loss in pieces of equal width in ln(update), oldest first.
        slope: rough relative decline of the loss per e-fold of updates at the last one.
    """

    last_update: float
    past: float
    levels: Floats
    slope: float
    _bins: _Bins
    _courses: tuple[RateCourse, ...]
    _end: float  # the update that x_end belongs to
    _cells: _Cells
    _weight: Floats  # (c,)
    _whitening: Floats  # (c, n, n), inverse of the covariance's Cholesky factor
    _whitened: Floats  # (c, n), the levels after it

    def at(self, update: float) -> float:
        """The loss expected at an update (median), without the noise of a single point."""
        return float(self.quantiles(np.array([update]), (0.5,))[0, 0])

    def between(self, update: float, level: float = 0.95) -> tuple[float, float]:
        """The interval that holds the loss at an update with probability `level`, single points' noise aside."""
        low, high = self.quantiles(np.array([update]), (0.5 - level / 2, 0.5 + level / 2))[:, 0]
        return float(low), float(high)

    def quantiles(self, updates: Floats, probabilities: Sequence[float]) -> Floats:
        """Quantiles of the loss at each update; shape (len(probabilities), len(updates))."""
        mean, sd = self._predicted(updates)
        values = mean[:, :, None] + sd[:, :, None] * _MIDPOINTS
        weight = np.repeat(self._weight / len(_MIDPOINTS), len(_MIDPOINTS))
        out = np.empty((len(probabilities), len(updates)))
        for j in range(len(updates)):
            flat = values[:, j].ravel()
            order = np.argsort(flat)
            reached = np.cumsum(weight[order]) - 0.5 * weight[order]
            out[:, j] = np.interp(probabilities, reached, flat[order])
        return np.asarray(np.exp(out))

    def floor(self) -> float:
        """Where the law ends if the rate goes on as at the end of its course (median); 0.0: it has no end.

        Drift is left out: a random walk has no end.
        """
        cells, bins = self._cells, self._bins
        form = _form(
            cells, self.slope, bins.x[-1], bins.x[None], bins.share[None], _x_end(cells, self._courses, self._end)
        )
        weighed = np.einsum("cnm,cn->cm", self._whitening, self._whitened)
        level = bins.level[-1] + LEVEL_SD**2 * weighed.sum(axis=1)
        slope = SLOPE_SD**2 * (form * weighed).sum(axis=1)
        left = (1 + cells.head_start) / np.maximum(cells.exponent, 1e-9)
        order = np.argsort(level - slope * left)
        middle = order[int(np.searchsorted(np.cumsum(self._weight[order]), 0.5))]
        return 0.0 if cells.exponent[middle] <= 0 else math.exp(float(level[middle] - slope[middle] * left[middle]))

    def _predicted(self, updates: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of ln L in each cell, shape (c, len(updates))."""
        cells, bins, index = self._cells, self._bins, self._cells.course.astype(int)
        x = np.stack([np.log(course.worked(updates)) for course in self._courses])[index]
        share = np.stack([course.at(updates) for course in self._courses])[index]
        x_end = _x_end(cells, self._courses, self._end)
        past = _form(cells, self.slope, bins.x[-1], bins.x[None], bins.share[None], x_end)
        form = _form(cells, self.slope, bins.x[-1], x, share, x_end)
        cross, variance = _errors(cells, self.slope, bins.x, x)
        cross += LEVEL_SD**2 + SLOPE_SD**2 * past[:, :, None] * form[:, None, :]
        variance += LEVEL_SD**2 + (SLOPE_SD * form) ** 2
        explained = self._whitening @ cross
        mean = bins.level[-1] + np.einsum("cn,cnm->cm", self._whitened, explained)
        return mean, np.sqrt(np.maximum(variance - (explained**2).sum(axis=1), NOISE_FLOOR**2))


def fit_learning_curve(
    updates: Floats, losses: Floats, rates: RateCourse | None = None, end: float | None = None
) -> LearningCurve | None:
    """Fit the curve; None below `FEWEST_POINTS` usable points, or where a loss is not above 0.

    Args:
        updates: shape (n,), above 0, increasing.
        losses: shape (n,), finite.
        rates: the learning rate, past and planned; None where it is not known.
        end: the planned last update. Where the course is open it may or may not be annealed until then: both are in the
            mixture, half and half. None: the rate stays what it is.
    """
    rates = rates or constant_course()
    used = _usable(updates, losses, rates)
    if used is None:
        return None
    updates, losses = updates[used], losses[used]
    bins = _binned(updates, np.log(losses), rates)
    if len(bins.x) < LEAST_BINS:
        return None
    last = float(updates[-1])
    end = max(last, end or last)
    courses = _courses(rates, last, end)
    steady = bins.share.min() >= STEADY and all(course.at(np.array([end]))[0] >= STEADY for course in courses)
    grid = product(EXPONENTS, HEAD_STARTS, (1.0,) if steady else ANNEALINGS, DRIFTS, WIGGLES, range(len(courses)))
    table = np.array(list(grid)).T
    cells, slope = _Cells(*table), _rough_slope(bins)
    form = _form(cells, slope, bins.x[-1], bins.x[None], bins.share[None], _x_end(cells, courses, end))
    covariance, _ = _errors(cells, slope, bins.x, np.broadcast_to(bins.x, (table.shape[1], len(bins.x))))
    covariance += np.diag(bins.variance) + LEVEL_SD**2 + SLOPE_SD**2 * form[:, :, None] * form[:, None, :]
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    whitened = whitening @ (bins.level - bins.level[-1])
    log_weight = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1) - 0.5 * (whitened**2).sum(axis=1)
    log_weight -= 0.5 * (np.log(cells.annealing) / ANNEALING_SD) ** 2
    weight = np.exp(log_weight - log_weight.max())
    kept = weight > NEGLIGIBLE
    return LearningCurve(
        last_update=last,
        past=math.log(last / updates[0]),
        levels=np.exp(bins.level),
        slope=slope,
        _bins=bins,
        _courses=courses,
        _end=end,
        _cells=_Cells(*table[:, kept]),
        _weight=weight[kept] / weight[kept].sum(),
        _whitening=whitening[kept],
        _whitened=whitened[kept],
    )


def _courses(rates: RateCourse, last: float, end: float) -> tuple[RateCourse, ...]:
    """What the learning rate may do until the end: what is planned, or both going on and annealing."""
    if rates.known_to >= end:
        return (rates,)
    since = max(last, rates.known_to)
    return (rates.held(since),) if end <= since else (rates.held(since), rates.annealed(since, end))


def _usable(updates: Floats, losses: Floats, rates: RateCourse) -> np.ndarray[tuple[int], np.dtype[np.bool_]] | None:
    """The points since the warm-up, at least from `FIRST` of the updates on; None where they are too few."""
    if len(updates) < FEWEST_POINTS or not losses.min() > 0:
        return None
    used = updates >= max(FIRST * updates[-1], rates.peak_reached())
    return used if used.sum() >= FEWEST_POINTS and updates[used][0] < updates[-1] else None


def _binned(updates: Floats, values: Floats, rates: RateCourse) -> _Bins:
    late = residuals(values)[len(values) // 2 :]
    estimates = (mad_sd(late), noise_sd(values[len(values) // 2 :]), NOISE_FLOOR)
    noise = max(estimate for estimate in estimates if not math.isnan(estimate))
    memory = points_per_independent(late)
    edges = np.geomspace(updates[0], updates[-1], BINS + 1)[1:-1]
    rows = []
    for piece in np.split(np.arange(len(updates)), np.searchsorted(updates, edges)):
        if not len(piece):
            continue
        middle = np.median(values[piece])
        level = np.clip(values[piece], middle - OUTLIER * noise, middle + OUTLIER * noise).mean()
        x = np.log(rates.worked(updates[piece]).mean())
        rows.append((x, rates.at(updates[piece]).mean(), level, noise**2 * min(1.0, memory / len(piece))))
    return _Bins(*np.array(rows).T)


def _rough_slope(bins: _Bins) -> float:
    """Scale of drift and wiggle: the decline per e-fold over the last e-fold, or its error where that is larger."""
    late = bins.x >= bins.x[-1] - 1.0
    late[-LEAST_BINS:] = True
    x, y = bins.x[late] - bins.x[late].mean(), bins.level[late] - bins.level[late].mean()
    power = max(float(np.dot(x, x)), 1e-12)
    slope = float(np.dot(x, y)) / power
    rest = y - slope * x
    error = math.sqrt(float(np.dot(rest, rest)) / (len(x) - 2) / power)
    return max(math.hypot(slope, error), NOISE_FLOOR)


def _x_end(cells: _Cells, courses: tuple[RateCourse, ...], end: float) -> Floats:
    """x at the end of each cell's course, shape (c,)."""
    x = np.array([math.log(float(course.worked(np.array([end]))[0])) for course in courses])
    return np.asarray(x[cells.course.astype(int)])


def _form(cells: _Cells, slope: float, now: float, x: Floats, share: Floats, x_end: Floats) -> Floats:
    """What s is multiplied by, shape (c, m): 0 now at the peak rate; x and share of shape (c or 1, m)."""
    b, w = cells.exponent[:, None], cells.head_start[:, None]
    grown = np.log((np.exp(x - now) + w) / (1 + w))
    progress = (1 + w) * np.where(b == 0, grown, -np.expm1(-b * grown) / np.where(b == 0, 1.0, b))
    ahead = np.exp(x_end - now)[:, None]
    gain_at_end = ((ahead + w) / (1 + w)) ** (-b - 1) * ahead  # of an e-fold, in units of s
    annealing = cells.annealing[:, None] * np.sqrt(gain_at_end * ANNEALING / slope)
    return np.asarray(-(progress + (1 - share) * annealing))


def _errors(cells: _Cells, slope: float, past: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Drift and wiggle: covariance of the bins at `past` (n,) with x (c, m), shape (c, n, m); variance at x, (c, m)."""
    drift, wiggle = (cells.drift * slope) ** 2, (cells.wiggle * slope) ** 2
    here, there = (past - past[0])[:, None], np.maximum(x - past[0], 0.0)
    low, high = np.minimum(here, there[:, None]), np.maximum(here, there[:, None])
    walked = low**2 * (3 * high - low) / 6  # integrated Wiener process from the first bin on
    near = np.exp(-np.abs(here - there[:, None]) / WIGGLE_LENGTH)
    cross = drift[:, None, None] * walked + wiggle[:, None, None] * near
    return cross, drift[:, None] * there**3 / 3 + wiggle[:, None]
