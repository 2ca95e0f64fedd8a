"""Sustained swings beyond noise without progress.

Finds
Over the last three quarters of the run the training loss makes no progress, and goes up and down in a way that
independent noise of its batches does not: it repeats itself with a fixed period, or its smoothed level swings at least
three times each way by a fifth of the loss.

Why it matters
The updates undo each other. Either the step is too large for the curvature, or the data come in an order that teaches
one thing at a time.

Evidence needed
At least 60 points of the training loss.

Not when
The swings are what the noise of single batches gives (no point says anything of the next); the level falls more than
the swings are wide, or the loss leaves it for good; the log is a running average, whose noise wanders by itself; the
learning rate swings as planned (cyclical rates, warm restarts).

Remedy
Shuffle the data where the period is an epoch or the classes come in turn; else lower the learning rate.

References
Bengio 2012 (arXiv 1206.5533), section 3.1.1: a loss that goes up and down asks for a lower rate. Loshchilov, Hutter
2017 (arXiv 1608.03983), planned restarts. Leahy et al. 1983 (ApJ 266:160), epoch folding. Yule 1927, disturbed
periods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.statistics import (
    Floats,
    fall,
    false_alarm_z,
    lag1,
    noise_sd,
    running_median,
)

MIN_POINTS = 60  # three quarters of them hold three periods of 15 points
# "Swings" of the level, as a share of it. The 5th to 95th percentile of independent noise spans 3.3 standard
# deviations, and batches of a few thousand tokens scatter by 2-3 %: a fifth is twice what they give.
MATERIAL = 0.2
MOST = 1000  # ours: bounded work; periods are looked for in so many of the last points and in so many means of all
SUSTAINED = 6  # turns: three up and three down
EACH_SIDE = 1 / 6  # of the points of a third, where swings around a level leave half: a third of that (assumption)
LONGEST = 3  # periods: two repetitions of a first one
# How near 1 + r1 the ratio (1 - r2) / (1 - r1) of an average's correlations lies: correlations near 1 are known to a
# few per cent from a hundred points (Bartlett), their distances from 1 to a quarter.
AVERAGE = 0.25
NEARLY = 0.9  # of the strongest repetition: the second and third are weaker only by chance
SAME_PERIOD = 0.05  # a period is known to about half a point of twenty


@dataclass(frozen=True, slots=True)
class Swings:
    """What swings: `period` in points (None: no fixed one), `share` of the level, `strength` against `threshold`."""

    period: int | None
    share: float
    strength: float
    threshold: float
    turns: int


@rule(code="LO008", stages="LV", severity="warning", explains=("loss-plateau",))
def check(case: Case) -> Outcome:
    loss = case.loss
    if loss is None:
        return CouldNotCheck(("train/loss",))
    if len(loss) < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of train/loss",))
    window = loss.where(np.arange(len(loss)) >= len(loss) // 4)
    values, level = window.values, float(np.median(window.values))
    spread = float(np.subtract(*np.quantile(values, [0.95, 0.05])))
    if level <= 0 or spread <= 0:
        return Clear("the loss has no level that swings could be a share of")
    if _planned(case):
        return Clear("the learning rate goes up and down as well")
    fell, error = fall(values)
    if fell > max(2 * error, spread / 2):
        return Clear("the level falls by more than it swings")
    if not _returns(values, level):
        return Clear("the loss leaves its level instead of swinging around it")
    size = -(-len(values) // MOST)
    blocks = values[len(values) % size :].reshape(-1, size).mean(axis=1)
    swings = _periodic(values[-MOST:], spread / level)
    if swings is None and size > 1 and (slow := _periodic(blocks, spread / level)) is not None and slow.period:
        swings = replace(slow, period=slow.period * size)
    if swings is None and not _is_average(values):
        swings = _wandering(blocks, noise_sd(values) / math.sqrt(size), level)
    if swings is None:
        return Clear("the noise of single batches explains the scatter")
    first, last = int(window.updates[0]), int(window.updates[-1])
    per_point = (last - first) / max(1, len(window) - 1)
    period = None if swings.period is None else swings.period * per_point
    epoch = _updates_per_epoch(case)
    in_step = period is not None and epoch is not None and _multiple(period, epoch)
    severity: Severity = "warning" if swings.share >= MATERIAL else "note"
    how = f"every {period:,.0f} updates" if period is not None else f"{swings.turns} times"
    facts: dict[str, object] = {"level": level, "swing_share": swings.share, "turns": swings.turns, "fell": fell}
    if period is not None:
        facts["period_updates"] = period
    if in_step:
        facts["epoch_updates"] = epoch
    return Found(
        title=f"Loss swings by {swings.share:.0%} around {level:.4g} {how} from update {first:,} on, without progress"
        + (": the period is an epoch" if in_step else ""),
        evidence=(
            Evidence("train/loss", (first, last),
                     "standard deviations by which phases of the period differ" if period is not None
                     else "turns of the smoothed level",
                     swings.strength, swings.threshold, window.source(len(window) - 1)),
            Evidence("train/loss", (first, last), "fall over the same updates", fell, max(2 * error, spread / 2)),
        ),
        confidence=0.85 if period is not None else 0.65,
        severity=severity,
        detail="Training batches come back in the same order each epoch (order-unshuffled)."
        if in_step
        else "Compare the period, or the length of a swing, with the size of a class, a shard or an epoch: data in "
        "blocks of different kinds (order-unshuffled) swing like a learning rate that is too high.",
        facts=facts,
    )  # fmt: skip


def _returns(values: Floats, level: float) -> bool:
    """Whether the first and the last third both lie on either side of the level; a run that blows up does not."""
    third = len(values) // 3
    sides = [float(np.mean(part < level)) for part in (values[:third], values[-third:])]
    return all(EACH_SIDE <= side <= 1 - EACH_SIDE for side in sides)


def _planned(case: Case) -> bool:
    """The learning rate itself rises again at least twice, or the schedule is one of restarts."""
    if case.setting("schedule") == "restarts":
        return True
    if case.lr is None or len(case.lr) < 3:
        return False
    return _turns(case.lr.values, 0.25 * float(case.lr.values.max())) >= 3  # down, up, down: beyond warm-up and decay


def _periodic(values: Floats, share: float) -> Swings | None:
    """A period at which the ranks of the values repeat themselves beyond what noise gives by chance.

    The memory of one point is taken out first, so that noise that forgets exponentially is independent; then the
    ranks are folded at the period, and the variance between phases is compared with that inside them (Leahy et al.
    1983), as a normal quantile (Wilson, Hilferty 1931).
    """
    n = len(values)
    rest = values - running_median(values, n // LONGEST)  # over the longest period that is looked for
    ranks = np.argsort(np.argsort(rest)).astype(np.float64)  # a few outbreaks must not hide the pattern
    ranks -= ranks.mean()
    period = _repeats(_correlations(ranks))
    if period is None:
        return None
    fresh = ranks[1:] - max(0.0, lag1(ranks)) * ranks[:-1]
    fresh -= fresh.mean()
    phase = np.arange(len(fresh)) % period
    between = float((np.bincount(phase, fresh) ** 2 / np.bincount(phase)).sum())
    inside = float(np.dot(fresh, fresh)) - between
    if inside <= 0:
        return Swings(period, share, math.inf, 0.0, 2 * n // period)
    low, high = 2 / (9 * (period - 1)), 2 / (9 * (len(fresh) - period))
    root = (between / (period - 1) / (inside / (len(fresh) - period))) ** (1 / 3)
    strength = ((1 - high) * root - (1 - low)) / math.sqrt(low + high * root * root)
    limit = false_alarm_z(n / LONGEST)
    return Swings(period, share, strength, limit, 2 * n // period) if strength > limit else None


def _correlations(series: Floats) -> Floats:
    """Autocorrelation at lags 0 to n - 1, sums over the pairs there are divided by n; zeros where nothing varies."""
    n = len(series)
    spectrum = np.fft.rfft(series, 2 * n)  # padded: the correlations do not wrap around
    sums: Floats = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:n]
    return sums / sums[0] if sums[0] > 0 else np.zeros(n)


def _repeats(correlations: Floats) -> int | None:
    """The lag at which a series is like itself again, after it was unlike itself, and at twice the lag once more."""
    n = len(correlations)
    crossed = np.flatnonzero(correlations[: n // LONGEST] <= 0)
    if not len(crossed):
        return None
    first = int(crossed[0]) + 1
    after = correlations[first : n // LONGEST + 1]
    high = after >= NEARLY * after.max()
    start = int(np.argmax(high))  # a period, not a multiple of it that is as good
    stop = start + (int(np.argmin(high[start:])) or len(high) - start)
    lag = first + start + int(np.argmax(after[start:stop]))
    reach = max(1, round(SAME_PERIOD * lag))
    again = float(correlations[2 * lag - reach : 2 * lag + reach + 1].max())
    return lag if again * n / (n - 2 * lag) >= float(correlations[lag]) / 2 > 0 else None


def _wandering(blocks: Floats, noise: float, level: float) -> Swings | None:
    """Turns of the level, smoothed over any window that leaves enough of it, by a fifth of it and beyond the noise.

    Args:
        blocks: the loss, or means of equal stretches of it.
        noise: what independent noise of each batch leaves in one of them, as a standard deviation.
        level: the loss around which it swings.
    """
    n = len(blocks)
    window = 5
    while window <= n // (2 * SUSTAINED):
        smooth = running_median(blocks, window)
        # the median of w points: 1.25 sd / sqrt(w); a turn is a difference of two of n / w levels
        chance = false_alarm_z(n / window) * math.sqrt(2) * 1.25 * noise / math.sqrt(window)
        turns = _turns(smooth, max(MATERIAL * level, chance))
        if turns >= SUSTAINED:
            share = float(np.subtract(*np.quantile(smooth, [0.95, 0.05]))) / level
            return Swings(None, share, float(turns), float(SUSTAINED), turns)
        window = 2 * window - 1
    return None


def _is_average(values: Floats) -> bool:
    """Whether the correlations are those of a running average: (1 - r2) / (1 - r1) is 1 + r1.

    So it is for an exponential average, r2 = r1^2, nearly so for one over a window, r2 = 2 r1 - 1, and for independent
    noise. A slow swing below independent noise gives a ratio near 1, a smooth one a ratio near 4.
    """
    n = len(values)
    centred = values - values.mean()
    power = float(np.dot(centred, centred))
    if power <= 0 or n < 4:
        return False
    r1, r2 = (float(np.dot(centred[k:], centred[:-k]) / power) for k in (1, 2))
    if r1 <= 0 or r1 >= 1:
        return False
    return abs((1 - r2) / (1 - r1) / (1 + r1) - 1) <= AVERAGE


def _turns(values: Floats, threshold: float) -> int:
    """How often the values turn round after having gone at least `threshold` one way."""
    turns, direction = 0, 0
    low = high = float(values[0])
    for value in values.tolist():
        if direction >= 0:
            high = max(high, value)
            if high - value >= threshold:
                turns, direction, low = turns + direction, -1, value
                continue
        if direction <= 0:
            low = min(low, value)
            if value - low >= threshold:
                turns, direction, high = turns - direction, 1, value
    return turns


def _updates_per_epoch(case: Case) -> float | None:
    """From the logged epoch, else from samples and batch; None where neither is known."""
    epoch = case.run.get("epoch")
    if epoch is not None and len(epoch.finite()) >= 2:
        counted = epoch.finite()
        seen = float(counted.values[-1] - counted.values[0])
        updates = int(counted.updates[-1]) - int(counted.updates[0])
        return updates / seen if seen > 0 and updates > seen else None
    samples, batch = case.setting("train_samples"), case.setting("batch_size")
    if not samples or not batch:
        return None
    return float(samples / (batch * (case.setting("accumulation") or 1) * (case.setting("world_size") or 1)))


def _multiple(period: float, epoch: float) -> bool:
    """The period is an epoch, or two or three of them."""
    ratio = period / epoch
    return round(ratio) in (1, 2, 3) and abs(ratio / round(ratio) - 1) <= SAME_PERIOD
