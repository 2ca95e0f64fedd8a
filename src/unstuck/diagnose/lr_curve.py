"""What a logged learning-rate series shows by itself: its ramp, the horizon it is heading for, its jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from unstuck.diagnose import few_points, statistics
from unstuck.diagnose.case import Case
from unstuck.diagnose.expected_lr import Plan, plans, printed_tolerance
from unstuck.diagnose.lr_arithmetic import Answer, explain, is_as_configured
from unstuck.diagnose.rule import Evidence
from unstuck.runs import Series

Floats = npt.NDArray[np.float64]

# Decay progress that must be visible before a horizon is fitted: below it the curve is straight within its digits.
LEAST_PROGRESS = 0.05
# Largest residual of a fitted progress (0 to 1): one per cent of the horizon.
FIT_RESIDUAL = 0.01


def applied(case: Case) -> dict[str, Series]:
    """The logged learning rates by group, finite points only, groups that stay at 0 (frozen) left out."""
    found = {g: s.finite() for g, s in case.run.learning_rates().items()}
    return {g: s for g, s in found.items() if len(s) and s.values.max() > 0}


def moments(series: Series, index: int, statistic: str, threshold: float | None = None) -> Evidence:
    """Evidence for one point of a series."""
    update = int(series.updates[index])
    return Evidence(
        series.name, (update, update), statistic, float(series.values[index]), threshold, series.source(index)
    )


@dataclass(frozen=True, slots=True)
class Ramp:
    """The warm-up as logged: `end` is the first update at (nearly) the peak; `open` says the series still rises."""

    end: int
    peak: float
    open: bool


def ramp(series: Series) -> Ramp | None:
    """The rise from the series' start to its first maximum; None where it does not start below the peak.

    Open: the largest value is the last one and the rise to it is steady, so the peak has not been reached.
    """
    values = series.values
    if len(values) < 3:
        return None
    peak = float(values.max())
    top = int(np.argmax(values >= peak * (1 - 1e-3)))
    if top == 0 or values[0] > 0.9 * peak:
        return None
    rising = bool(np.all(np.diff(values[: top + 1]) >= -1e-3 * peak))
    if not rising:
        return None
    still = top == len(values) - 1
    return Ramp(int(series.updates[top]), peak, still)


@dataclass(frozen=True, slots=True)
class Decay:
    """A decay fitted to the log: `horizon` is the update at which it ends, `progress` how far it has come (0 to 1)."""

    kind: str
    horizon: float
    progress: float
    floor: float


def fit_decay(series: Series, floors: tuple[float, ...] = (0.0,)) -> Decay | None:
    """Where a linear or cosine decay ends, read from its logged part alone.

    Progress p is recovered from each value and must be a straight line in updates; the horizon is where it reaches 1.
    None where no decay is visible yet, or none of the shapes fits within `FIT_RESIDUAL`.

    Args:
        series: a learning rate, finite.
        floors: ends of the schedule as shares of the peak that are tried.
    """
    values, updates = series.values, series.updates.astype(np.float64)
    peak = float(values.max())
    if peak <= 0:
        return None
    top = len(values) - 1 - int(np.argmax(values[::-1] >= peak * (1 - 1e-9)))
    best: tuple[float, Decay] | None = None
    for floor in floors:
        y = (values[top:] / peak - floor) / (1 - floor)
        inside = (y > 1e-3) & (y < 1 - 1e-3)
        if inside.sum() < 5:
            continue
        first_out = int(np.argmin(y > 1e-3)) if (y <= 1e-3).any() else len(y)
        inside[first_out:] = False
        if inside.sum() < 5:
            continue
        x = updates[top:][inside]
        for kind, progress in (
            ("linear", 1 - y[inside]),
            ("cosine", np.arccos(np.clip(2 * y[inside] - 1, -1, 1)) / np.pi),
        ):
            if progress.max() < LEAST_PROGRESS or progress.max() - progress.min() < LEAST_PROGRESS / 2:
                continue
            if x[0] == x[-1]:
                continue
            rate, start = np.polyfit(x, progress, 1)
            residual = float(np.abs(start + rate * x - progress).max())
            if rate <= 0 or residual > FIT_RESIDUAL:
                continue
            decay = Decay(kind, float((1 - start) / rate), float(progress.max()), floor)
            if best is None or residual < best[0]:
                best = residual, decay
    return best[1] if best else None


@dataclass(frozen=True, slots=True)
class Tail:
    """The stretch at the end of a series where a decayed schedule stays at its lowest value."""

    first_update: int
    share: float
    level: float


def dead_tail(series: Series) -> Tail | None:
    """The final stretch at the lowest value after a decay; `share` of the updates logged, `level` over the peak."""
    values, updates = series.values, series.updates
    if len(values) < 5:
        return None
    peak, last = float(values.max()), float(values[-1])
    if last > 0.5 * peak or last > values.min() * (1 + 1e-6) + 1e-4 * peak:
        return None
    same = np.abs(values - last) <= max(1e-3 * last, 1e-4 * peak)
    start = len(values) - int(np.argmin(same[::-1])) if not same.all() else 0
    if start == 0 or len(values) - start < 3:
        return None
    span = float(updates[-1] - updates[0])
    if span <= 0:
        return None
    return Tail(int(updates[start]), float(updates[-1] - updates[start]) / span, last / peak)


# A schedule is at its end below this share of its peak: every published floor is at or below it (nanoGPT and GPT-3:
# 10 %), and a rise counts from twice that.
END_LEVEL = 0.1
RISE_LEVEL = 0.2


@dataclass(frozen=True, slots=True)
class Comeback:
    """A learning rate that rises after its end.

    Attributes:
        low_update: update of the lowest value.
        index: index of the highest value after it.
        share: that value over the peak before.
        smooth: no single step makes most of the rise (a schedule run past its end); False: a jump (a restart).
        jump_index: index of the point after the largest step.
        times: number of such rises.
    """

    low_update: int
    index: int
    share: float
    smooth: bool
    jump_index: int
    times: int


def comeback(series: Series) -> Comeback | None:
    """The first rise of a learning rate from its end (`END_LEVEL`) to `RISE_LEVEL` of its peak; None: there is none."""
    values, peak_so_far = series.values, np.maximum.accumulate(series.values)
    n = len(values)
    first: Comeback | None = None
    times = 0
    i = int(np.argmax(values >= 0.5 * values.max()))  # after the warm-up
    while i < n:
        if values[i] > END_LEVEL * peak_so_far[i] or peak_so_far[i] <= 0:
            i += 1
            continue
        up = next((j for j in range(i, n) if values[j] >= RISE_LEVEL * peak_so_far[i]), None)
        if up is None:
            break
        times += 1
        low = i + int(np.argmin(values[i:up]))
        after = next((j for j in range(up, n) if values[j] <= END_LEVEL * peak_so_far[i]), n)
        top = up + int(np.argmax(values[up:after]))
        steps = np.diff(values[low : top + 1])
        biggest = int(np.argmax(steps))
        if first is None:
            # four logged points or more on the way up, none of which makes half of it
            smooth = top - low >= 4 and float(steps[biggest]) < 0.5 * float(values[top] - values[low])
            share = float(values[top] / peak_so_far[i])
            first = Comeback(int(series.updates[low]), top, share, smooth, low + 1 + biggest, 1)
        i = after
    return None if first is None else replace(first, times=times)


@dataclass(frozen=True, slots=True)
class GroupAnswer:
    """The arithmetic for one logged group."""

    group: str
    series: Series
    plan: Plan
    answer: Answer


_ANSWERS: WeakKeyDictionary[Case, dict[str, GroupAnswer]] = WeakKeyDictionary()


def answers(case: Case) -> dict[str, GroupAnswer]:
    """The learning-rate arithmetic of every logged group that has a plan; worked out once for each case.

    Of two plans (AdamW's and Muon's base LR) the one that fits wins, then the one with the cheaper explanation.
    """
    if case in _ANSWERS:
        return _ANSWERS[case]
    found: dict[str, GroupAnswer] = {}
    for group, series in applied(case).items():
        tolerance = printed_tolerance(series.values)
        current = series.updates > _configured_since(case)
        if current.any():
            series, tolerance = series.where(current), tolerance[current]
        updates, values = series.updates.astype(np.float64), series.values
        candidates = plans(case, group)
        tried: list[GroupAnswer] = []
        for plan in candidates:
            if is_as_configured(plan, updates, values, tolerance):
                tried = [GroupAnswer(group, series, plan, Answer(True))]
                break
        else:
            tried = [GroupAnswer(group, series, p, explain(p, updates, values, tolerance)) for p in candidates]
            if not any(one.answer.explanations for one in tried):
                # a warm-up that never happened is warmup-missing's to tell; the rest may be explained without it
                lost = [_without_lost_warmup(plan, series) for plan in candidates]
                tried += [GroupAnswer(group, series, p, explain(p, updates, values, tolerance)) for p in lost if p]
        if tried:
            found[group] = min(tried, key=_simplicity)
    _ANSWERS[case] = found
    return found


def _without_lost_warmup(plan: Plan, series: Series) -> Plan | None:
    """The plan without its warm-up, where the log begins within it and is at its peak from the first row on."""
    begins = int(series.updates[0]) < 0.25 * plan.warmup
    at_peak = len(series) >= 3 and float(series.values[0]) >= 0.9 * float(series.values.max())
    return replace(plan, warmup_updates=0.0, warmup_share=None) if begins and at_peak else None


def _configured_since(case: Case) -> int:
    """The update of the last resume that changed settings: the configuration speaks of what came after it."""
    changed = [e.update for e in case.run.events_of("resume") if e.update is not None and e.data.get("changed")]
    return max(changed, default=-1)


def _simplicity(answer: GroupAnswer) -> tuple[bool, float]:
    costs = [e.cost for e in answer.answer.explanations]
    return not answer.answer.correct, min(costs, default=99.0)


# A power law of exponent a falls over each doubling of the updates by 2^-a of what the doubling before it gave: 0.97
# for the smallest exponent of Kaplan et al. (arXiv 2001.08361: 0.05), 0.5 for a = 1. A tenth of it is no power law.
FLATTER = 0.1
# To call a loss flat, what noise could hide must be small: at most this share of the whole descent.
HIDDEN = 0.05


# Points from which the thirds of a half are levels of four points each, with errors of their own; a line needs fewer.
MANY = 24
# Points of which the last two thirds are six: a line through them has 4 degrees of freedom, where noise reaches 7.2
# standard errors once in a thousand times; of fewer it reaches 10 and more, and hides everything.
LEAST_ROWS = 8
LEAST_ON_LINE = 6


def flat_since_half(case: Case, against: float | None = None) -> tuple[bool, float] | None:
    """Whether the training loss is flat over the second half of the run, and its fall there as a share of the descent.

    Flat: the fall is within its error (one chance in a thousand) where that error is small, or less than a tenth of
    what the doubling of updates before it gave. Below `MANY` points by a line through the last two thirds of them, with
    the error that so few allow. None below `LEAST_ROWS`.

    Args:
        case: the run.
        against: what the error must be small against, instead of the descent: a run that is stuck has hardly any.
    """
    if case.loss is None or case.loss_trend is None or len(case.loss) < LEAST_ROWS:
        return None
    values, trend = case.loss.values, case.loss_trend.values
    n = len(values)
    descent = case.descent
    if not descent > 0:
        return None
    hidden = HIDDEN * (descent if against is None else against)
    if n < MANY:
        fall, slack = few_points.fall_along_line(values[n // 3 :])
        return bool(fall <= slack < hidden), float(fall / descent)
    fall, error = statistics.fall(values[n // 2 :])
    if np.isnan(fall):
        return None
    slack = statistics.false_alarm_z(1) * error
    quarter, half, end = (float(trend[min(n - 1, k)]) for k in (n // 4, n // 2, n - 1))
    flatter = half - end < FLATTER * (quarter - half) and slack < hidden and fall - slack < hidden
    within = fall < slack < hidden
    return bool(flatter or within), float(fall / descent)


def validation_stands(case: Case) -> bool:
    """Whether the validation loss has stood still over the last two thirds of the run, within a twentieth of its level.

    It is measured on the same samples each time, so that it shows what the noise of training batches hides. False
    below `LEAST_ON_LINE` evaluations there.
    """
    if case.val is None:
        return False
    values = case.val.values[case.val.updates >= case.run.updates / 3]
    if len(values) < LEAST_ON_LINE:
        return False
    fall, slack = few_points.fall_along_line(values)
    return bool(abs(fall) <= slack <= HIDDEN * abs(float(np.median(values))))


def stood_since_start(case: Case, any_task: bool = False) -> bool:
    """A language model whose loss fell in the first tenth of the run only, and has stood within its noise since.

    Sound language models keep falling (power laws, arXiv 2001.08361), so this needs no ln V. What the same of another
    task says the caller must know.
    """
    few = case.loss is None or len(case.loss) < LEAST_ROWS
    language = case.setting("task") in ("causal-lm", "masked-lm", "seq2seq")
    if few or case.loss is None or not (language or any_task):
        return False
    values = case.loss.values
    if len(values) < MANY:
        fall, slack = few_points.fall_along_line(values[1:])
    else:
        fall, error = statistics.fall(values[len(values) // 10 :])
        slack = statistics.false_alarm_z(1) * error
    level = float(np.median(values[len(values) // 2 :]))
    # frequencies alone give 20 to 30 % below ln V, see FREQUENCY_SHARE: a smaller first fall is something else
    return bool(fall < slack < HIDDEN * level and level < 0.85 * float(values[0]))


# What letter or token frequencies alone give, as a share of ln V: 3.31 / ln 65 = 0.79 for tinyshakespeare characters,
# 7.6 / ln 50257 = 0.70 for GPT-2 tokens of English. Above 0.65 a language model has learned little but frequencies.
FREQUENCY_SHARE = 0.65
GUESSING_SHARE = 0.97  # of ln K, as loss-at-chance


def near_frequencies(case: Case, level: float) -> bool | None:
    """Whether a loss is where frequencies of tokens or guessing among classes would be (or worse); None: unknown."""
    entropy = case.setting("unigram_entropy")
    if entropy:
        return level >= 0.95 * float(entropy)
    if case.is_token_loss and case.chance is not None:
        return level >= FREQUENCY_SHARE * case.chance
    if case.classes is not None and level >= GUESSING_SHARE * math.log(case.classes):
        return True  # below it the sizes of the classes would have to be known
    return None


def rise_from_noise(values: Floats, early: int) -> float:
    """How far noise alone lifts one of the first `early` points above the very first, once in a thousand runs.

    Both points scatter, so the difference has twice the variance of one; the first may be a lucky one. The noise comes
    from few points (`student_z`), is skewed upwards in losses of small batches (`skewed`), and has a memory in smoothed
    logs: neighbours differ by less than points further apart, so scatter about a broad level counts where it is larger.
    """
    half = values[len(values) // 2 :]
    apart = statistics.residuals(half, max(5, len(half) // 4) | 1)  # ours: four levels in the half
    near = statistics.noise_sd(half)
    memory = max(1.0, statistics.mad_sd(apart) / near) if near > 0 else 1.0
    z = math.sqrt(2) * statistics.student_z(statistics.false_alarm_z(early), len(half))
    return memory * statistics.skewed(z, apart) * statistics.noise_at_start(values, early)
