"""What a run will come to: the loss at an update ahead, when a loss is reached, or why nobody can say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.expected_lr import Plan, plans
from unstuck.diagnose.learning_curve import FEWEST_POINTS, LearningCurve, fit_learning_curve
from unstuck.diagnose.lr_curve import fit_decay
from unstuck.diagnose.rate_course import RateCourse
from unstuck.diagnose.statistics import Floats, fall, false_alarm_z, rise_after_best
from unstuck.runs import Series

# Times the updates so far. Up to there the intervals hold what they promise; at twenty times those of 80 % hold half of
# the ends (docs/projection.md).
FARTHEST = 10.0
LEVEL = 0.8  # of the intervals that are printed: four of five ends lie inside
AGREES = 0.05  # a planned rate within this share of the logged one is the plan that is followed (digits, conventions)
COURSE_POINTS = 200  # of a planned course; 0.5 % of it between two
MOST_AHEAD = 1000.0  # times the updates so far: what would take longer is "not reached" (ours)
STEPS = 60  # grid points from now to there; 12 % between two, finer than any interval
DAY = 86_400.0
ENDED = 1.03  # ours: a run within 3 % of its plan has come to its end


@dataclass(frozen=True, slots=True)
class Projection:
    """The loss at an update ahead, without the noise of single points; `LEVEL` of the ends lie between low and high."""

    update: int
    loss: float
    low: float
    high: float

    def __str__(self) -> str:
        digits = _digits(self.high - self.low)
        low, high = f"{self.low:.{digits}f}", f"{self.high:.{digits}f}"
        return f"{self.loss:.{digits}f} at update {self.update:,} ({LEVEL:.0%} between {low} and {high})"


@dataclass(frozen=True, slots=True)
class Reach:
    """When a loss is reached, in updates from the start of the run.

    Attributes:
        target: the loss.
        update: where the expected curve gets there; None: it does not.
        earliest, latest: the same for the two ends of the `LEVEL` interval.
        limit: the last update that a projection can carry, `FARTHEST` times the last one made.
        floor: the level at which the curve is expected to end; 0.0 where it has no end.
    """

    target: float
    update: float | None
    earliest: float | None
    latest: float | None
    limit: float
    floor: float

    def said(self, seconds_per_update: float | None = None) -> str:
        """One clause that begins with "at this rate"; with times from now on where the speed is known."""

        def when(update: float) -> str:
            if seconds_per_update is None:
                return f"update {update:,.0f}"
            return rough_span((update - self.limit / FARTHEST) * seconds_per_update)

        named, at = f"at this rate {self.target:.4g}", "at" if seconds_per_update is None else "in"
        if self.update is None and self.floor > self.target:
            return f"{named} is not reached: the fitted floor of {self.floor:.4g} lies above it"
        if self.update is None:
            return f"{named} is not reached within {MOST_AHEAD:,.0f} times the updates so far"
        if self.update > self.limit:
            sure = self.earliest is None or self.earliest > self.limit
            return f"{named} is reached {at} {when(self.update)}, a guess so far ahead" + (
                f", and hardly before {when(self.limit)}" if sure else ""
            )
        ends = [when(update) if update is not None else "never" for update in (self.earliest, self.latest)]
        return f"{named} is reached {at} {when(self.update)} ({LEVEL:.0%} between {ends[0]} and {ends[1]})"


@dataclass(frozen=True, slots=True)
class NoProjection:
    """Why the data do not carry a projection, as half a sentence."""

    reason: str


def project(
    updates: Floats, losses: Floats, target: float, rates: RateCourse | None = None
) -> Projection | NoProjection:
    """The loss at update `target`.

    Args:
        updates: shape (n,), increasing.
        losses: shape (n,), one loss of the run (training or validation).
        target: an update ahead, at most `FARTHEST` times the last one.
        rates: the learning rate, past and planned; None: unknown, then the interval spans both that it is annealed
            until `target` and that it is not.
    """
    curve = curve_of(updates, losses, rates, target)
    if isinstance(curve, NoProjection):
        return curve
    if not curve.last_update <= target:
        return NoProjection(f"update {target:,.0f} is behind the last one")
    if target > FARTHEST * curve.last_update:
        return NoProjection(f"update {target:,.0f} is farther ahead than {FARTHEST:.0f} times the updates so far")
    low, middle, high = curve.quantiles(np.array([target]), (0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2))[:, 0]
    return Projection(round(target), float(middle), float(low), float(high))


def reach(updates: Floats, losses: Floats, target: float, rates: RateCourse | None = None) -> Reach | NoProjection:
    """When the loss comes down to `target`; the learning rate beyond what `rates` knows stays what it is."""
    curve = curve_of(updates, losses, rates, None)
    if isinstance(curve, NoProjection):
        return curve
    ahead = curve.last_update * np.geomspace(1.0, MOST_AHEAD, STEPS)
    low, middle, high = curve.quantiles(ahead, (0.5 - LEVEL / 2, 0.5, 0.5 + LEVEL / 2))
    first, update, last = (_first_below(ahead, levels, target) for levels in (low, middle, high))
    return Reach(target, update, first, last, FARTHEST * curve.last_update, curve.floor())


def curve_of(
    updates: Floats, losses: Floats, rates: RateCourse | None, end: float | None
) -> LearningCurve | NoProjection:
    """The fitted curve, where the data carry one."""
    started = updates >= 1
    updates, losses = updates[started], losses[started]
    if len(updates) < FEWEST_POINTS:
        return NoProjection(f"{len(updates)} points of the loss are too few for a curve ({FEWEST_POINTS} are needed)")
    if not np.isfinite(losses).all():
        return NoProjection("the loss is not finite everywhere")
    if not losses.min() > 0:
        return NoProjection("a loss at or below 0 has no rate of decline")
    peak = 0.0 if rates is None else rates.peak_reached()
    if peak > 0.7 * updates[-1]:  # less than a third of an e-fold at the peak is no curve (ln 0.7 = -0.36)
        return NoProjection(f"the learning rate has only just warmed up (update {peak:,.0f})")
    if rates is not None and rates.restarted(max(end or 0.0, float(updates[-1]))):
        return NoProjection("the learning rate goes up again, which no law of learning curves covers")
    curve = fit_learning_curve(updates, losses, rates, end)
    if curve is None:
        return NoProjection(f"fewer than {FEWEST_POINTS} points of the loss since the warm-up, or all of one update")
    levels = curve.levels
    rise = rise_after_best(levels)
    if rise is not None and rise.rise > 0 and rise.beyond_noise:
        return NoProjection("the loss has risen since its best: there is no falling curve to go on with")
    fell, error = fall(np.log(losses[updates >= updates[-1] * math.exp(-curve.past)]))
    if not fell > false_alarm_z(1) * error:
        return NoProjection("the loss does not fall beyond its noise")
    return curve


def rates_of(case: Case) -> RateCourse | None:
    """The learning rate as logged, then as configured or as its visible decay goes on; None where nothing is known."""
    group = "all" if case.lr is None else case.lr.name.removeprefix("lr/")
    plan = next(iter(plans(case, group)), None)
    logged = None if case.lr is None else case.lr.where(case.lr.updates >= 1)
    if logged is not None and len(logged) >= 3 and logged.values.max() > 0:
        return _logged(logged, plan)
    if plan is None:
        return None
    span = plan.horizon or plan.updates or float(max(1, case.run.updates))
    updates = np.linspace(1.0, span, COURSE_POINTS)
    planned = plan.expected(updates)
    return RateCourse(updates, planned / planned.max(), math.inf) if planned.max() > 0 else None


def _logged(lr: Series, plan: Plan | None) -> RateCourse:
    """The logged rate, gone on with: by the plan where it agrees, else by the decay that shows."""
    updates, peak, last = lr.updates.astype(np.float64), float(lr.values.max()), float(lr.updates[-1])
    updates, first = np.unique(updates, return_index=True)
    shares = lr.values[first] / peak
    if plan is not None and plan.horizon and plan.horizon > last:
        ahead = np.linspace(last, plan.horizon, COURSE_POINTS)
        planned = plan.expected(ahead)
        now = shares[-1] * peak
        if now > 0 and abs(planned[0] / now - 1) <= AGREES:
            ahead, shares_ahead = ahead[1:], planned[1:] / planned[0] * shares[-1]
            return RateCourse(np.concatenate([updates, ahead]), np.concatenate([shares, shares_ahead]), math.inf)
    decay = fit_decay(lr)
    if decay is not None and decay.horizon > last:
        progress = np.linspace(decay.progress, 1.0, COURSE_POINTS)[1:]
        ahead = last + (progress - decay.progress) / (1 - decay.progress) * (decay.horizon - last)
        falling = 0.5 * (1 + np.cos(np.pi * progress)) if decay.kind == "cosine" else 1 - progress
        shares_ahead = decay.floor + (1 - decay.floor) * falling
        return RateCourse(np.concatenate([updates, ahead]), np.concatenate([shares, shares_ahead]), math.inf)
    if plan is not None and plan.kind == "constant":
        return RateCourse(updates, shares, math.inf)
    return RateCourse(updates, shares, last)


def seconds_per_update(case: Case) -> float | None:
    """How long an update takes, from the later half of what was logged; None where nothing tells."""
    step, speed = case.run.get("time/step_ms"), case.run.get("throughput/tokens_per_second")
    if step is not None and len(step.finite()):
        return _late_median(step.finite()) / 1e3
    if speed is not None and len(speed.finite()) and case.tokens_per_update:
        rate = _late_median(speed.finite())
        return case.tokens_per_update / rate if rate > 0 else None
    return None


def _late_median(series: Series) -> float:
    return float(np.median(series.values[len(series) // 2 :]))


def outlook(case: Case) -> Projection | NoProjection:
    """What an unfinished run comes to at its planned end, from validation where that carries a curve, else training."""
    planned = case.planned_updates
    if planned is None:
        return NoProjection("the planned number of updates is not known")
    if planned <= ENDED * case.run.updates:
        return NoProjection("the run has reached its planned end")
    rates = rates_of(case)
    said: Projection | NoProjection = NoProjection("there is no loss")
    for series in (case.val, case.loss):
        if series is not None:
            said = project(series.updates.astype(np.float64), series.values, float(planned), rates)
            if isinstance(said, Projection):
                break
    return said


def when_reached(case: Case, target: float) -> Reach | NoProjection:
    """When the run comes down to `target` at the course it has, by validation where that carries a curve."""
    rates = rates_of(case)
    if rates is not None:
        rates = rates.held(float(case.run.updates))
    said: Reach | NoProjection = NoProjection("there is no loss")
    for series in (case.val, case.loss):
        if series is not None:
            said = reach(series.updates.astype(np.float64), series.values, target, rates)
            if isinstance(said, Reach):
                break
    return said


def passed_at(case: Case, target: float) -> int | None:
    """Where validation, or else the trend of training, first came down to `target`; None where it did not."""
    series = case.val if case.val is not None else case.loss_trend
    below = np.flatnonzero(series.values <= target) if series is not None else np.zeros(0, np.int64)
    return int(series.updates[below[0]]) if series is not None and len(below) else None


def rough_span(seconds: float) -> str:
    """A time to two digits, as rough as a projection is: 40 s, 3.5 min, 12 h, 60 days."""
    for unit, length, most in (("s", 1.0, 60.0), ("min", 60.0, 60.0), ("h", 3600.0, 48.0)):
        if seconds / length < most:
            return f"{seconds / length:.2g} {unit}"
    return f"{float(f'{seconds / DAY:.2g}'):,.15g} days"


def _digits(width: float) -> int:
    """Decimal places that show a tenth of an interval's width."""
    return int(np.clip(1 - math.floor(math.log10(width)), 0, 6)) if width > 0 else 4


def _first_below(updates: Floats, levels: Floats, target: float) -> float | None:
    """Where a falling curve crosses the target, between two grid points by the logarithm of both; None: nowhere."""
    below = np.flatnonzero(levels <= target)
    if not len(below):
        return None
    i = int(below[0])
    if i == 0:
        return float(updates[0])
    share = math.log(levels[i - 1] / target) / math.log(levels[i - 1] / levels[i])
    return float(updates[i - 1] * (updates[i] / updates[i - 1]) ** share)
