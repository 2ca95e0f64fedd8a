"""The learning rate is well under the published scale and the loss falls as slowly as that makes it.

Finds
A loss that falls far more slowly than the task allows, without any instability, at a learning rate less than a third
of the lowest one published for this optimizer, model size and phase; or a language model that is no better than
frequencies, or a loss that falls in proportion to the learning rates of all its updates, where these add up to less
than the weights measured at the start. A warning where that loss only fell steeply by the rates added up, and a
typical weight (of SGD all of them, by the logged gradient norms) came no farther than it measured at the start: a note
at a rate that is less than five times below the usual one. Or a loss that does not fall at all at a learning rate
logged as 0 throughout.

Why it matters
The run is healthy to look at and buys nothing: the same compute at the published rate would be done with the part of
the curve that this run will never reach. Incident I2 lowered its rate four times in this direction.

Evidence needed
`train/loss` over at least 8 points, `lr/<group>` or the configured learning rate, the optimizer, and the phase (from
scratch, fine-tuning, LoRA): told by the settings, by a size that nobody publishes, or by a first loss near ln V (of
characters, above their entropy). The sum of the rates, of Adam and its kin, and a rate of 0 need no scale.

Not when
No published scale is known for the case; the loss falls although 0 is logged (a rate rounded in print); it has done
most of its fall early, as a sound run does; the validation loss of a fine-tune falls beyond its noise; the run still
is in a warm-up (warmup-too-long) or another finding explains the low value.

Remedy
Raise the peak to the published value for this optimizer and phase, or measure it in short paired runs
(`unstuck prove`).

References
Li et al., Step Law, arXiv 2503.04715. Hu et al., LoRA, arXiv 2106.09685. Kingma, Ba, Adam, arXiv 1412.6980 (section
2.1: how far a step goes). Goyal et al., arXiv 1706.02677 (SGD's rate goes with the batch). Incidents I0 and I2. The
scales and their sources: `unstuck.diagnose.scales`. How long it would take at this rate: `unstuck.diagnose.projection`.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose import few_points, statistics
from unstuck.diagnose.case import Case
from unstuck.diagnose.hardly_begun import STEP_RMS, only_begun, path_of_sgd
from unstuck.diagnose.learning_rates import ADAMS
from unstuck.diagnose.lr_curve import FREQUENCY_SHARE, HIDDEN, MANY, applied, near_frequencies, ramp
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.projection import Reach, rates_of, reach, seconds_per_update
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.scales import optimizer_of, phase_of
from unstuck.diagnose.statistics import Floats
from unstuck.diagnose.unmoved import (
    INITIAL_SD,
    begins_as,
    declared_factor,
    far_enough,
    initial_sd,
    scale_as_begun,
    sum_of_rates,
    unmoved,
)
from unstuck.runs import Series

# Published ranges are rules of thumb; a third below the lowest is outside what any of them has tried.
WELL_UNDER = 1 / 3
# A loss that falls in proportion to the accumulated learning rate has not met any curvature yet: the fall over the
# second half of the accumulated rate is at least half of that over the first (an exponential approach that has gone
# one time constant has 0.37 there, a power law less).
STRAIGHT = 0.5
HALF_OF_TYPICAL = 2.0  # ours: a factor of two is a step of a usual search, and no fault
SETTLED = math.exp(-1.5)  # the same of an exponential approach after three time constants: 95 % of its fall is made
FIVE = 5.0  # ours: as many times under the usual rate as lr-too-high wants a stuck run to be over it
LEAST_POINTS = 8  # the last two thirds are six: their noise about a line has 4 degrees of freedom
LEAST_UPDATES = 100  # any run this short is only a test
# SGD's rate goes with the batch (Goyal et al., arXiv 1706.02677): 0.1 for 128 (He et al., arXiv 1512.03385), and a
# tenth of that is the least that is published there (Krizhevsky et al. 2012: 0.01 for 128).
SGD_LOW, SGD_BATCH = 0.01, 128
STILL_ON = 0.5  # of the peak: a pace is told of a run whose rate is still on (ours)


@rule(code="LR002", stages="LC", severity="error", explains=("loss-at-chance", "loss-plateau", "undertrained"))
def check(case: Case) -> Outcome:
    lrs = applied(case)
    if not lrs and (zero := _zero(case)) is not None:
        return zero
    configured = float(case.setting("learning_rate") or 0.0)
    rated = bool(lrs) if case.lr is not None else configured > 0
    if case.loss is None or not rated:
        missing = (("train/loss", case.loss is not None), ("lr", rated))
        return CouldNotCheck(tuple(name for name, there in missing if not there))
    if len(case.loss) < LEAST_POINTS:
        return CouldNotCheck((f"{LEAST_POINTS} points of train/loss",))
    if case.least_updates(int(case.loss.updates[-1] - case.loss.updates[0])) < LEAST_UPDATES:
        return Clear("too short to be called slow")
    climb = None if case.lr is None else ramp(case.lr)
    if climb is not None and climb.open and configured:
        return Clear("the learning rate is still in its warm-up")
    outcome = _by_scale(case, case.loss, configured if case.lr is None else float(case.lr.values.max()))
    if isinstance(outcome, Found) or case.lr is None:
        return outcome
    return _still(case, case.loss, case.lr) or _crept(case, case.loss, case.lr) or outcome


def _by_scale(case: Case, loss: Series, peak: float) -> Outcome:
    """Far under what is published, and a loss that shows it. `peak`: as logged, or as configured where none is."""
    phase = begins_as(case)
    scale = scale_as_begun(case)
    if scale is None:
        return CouldNotCheck(("optimizer",) if optimizer_of(case) is None else ("a published scale for this case",))
    low = max(scale.low, _low_at_batch(case, phase))
    limit = low * WELL_UNDER
    if peak >= limit:
        return Clear(f"the peak of {number(peak)} is not under the published scale from {number(low)}")
    slow = _slowness(case, phase)
    if slow is None:
        return Clear("the loss falls as a sound run's does")
    span = (int(loss.updates[0]), int(loss.updates[-1]))
    statistic, value, threshold = slow
    told = {"fresh": "from scratch", "lora": "with LoRA"}.get(phase or "", "in fine-tuning")
    title = (
        f"The peak learning rate {number(peak)} is {scale.typical / peak:.3g} times below what is published for "
        f"{optimizer_of(case)} {told} ({number(low)} to {number(scale.high)}), and {statistic}"
    )
    evidence = (
        _peak(case, peak, limit),
        Evidence("train/loss", span, statistic, value, threshold, loss.source(len(loss) - 1)),
    )
    facts: dict[str, object] = {
        "applied_lr": peak,
        "published_lr": scale.typical,
        "published_low": low,
        "published_high": scale.high,
        "published_source": scale.source,
        "factor": scale.typical / peak,
        "phase": phase,
    }
    confidence = 0.93 if peak < limit / 3 else 0.8
    pace = _pace(case) if phase == "fresh" else None
    detail = f"Published: {scale.source}."
    if pace is not None:
        facts |= {"reached_loss": pace.target, "reached_update": pace.update}
        said = pace.said(seconds_per_update(case))
        detail += f" {said[0].upper()}{said[1:]}; token frequencies alone give as much."
    return Found(title, evidence, confidence, None, detail, facts)


def _low_at_batch(case: Case, phase: str | None) -> float:
    """The lowest rate of SGD with momentum that goes with the batch, from scratch; 0 where it cannot be told."""
    batch = case.sequences_per_update
    return SGD_LOW * batch / SGD_BATCH if batch and phase == "fresh" and optimizer_of(case) == "sgd" else 0.0


def _peak(case: Case, peak: float, limit: float) -> Evidence:
    """Where the log, or else the configuration, has the highest rate."""
    said = "peak learning rate, against a third of the lowest published"
    if case.lr is None:
        return Evidence(
            "learning_rate", (0, case.run.updates), said, peak, limit, case.run.settings["learning_rate"].source
        )
    top = int(np.argmax(case.lr.values))
    at = int(case.lr.updates[top])
    return Evidence(case.lr.name, (at, at), said, peak, limit, case.lr.source(top))


def _still(case: Case, loss: Series, lr: Series) -> Found | None:
    """A language model whose weights hardly left their start: the learning rates of all updates are too little."""
    found = unmoved(case)
    if found is None or _unstable(case):
        return None
    span = (int(loss.updates[0]), int(loss.updates[-1]))
    base = float(lr.values.max()) / declared_factor(case)
    top = int(np.argmax(lr.values))
    title = (
        f"At a peak learning rate of {number(base)} the learning rates of all {span[1]:,} updates add up to "
        f"{found.moved:.2g}: no weight can have moved farther, less than the {INITIAL_SD:g} that weights start with, "
        f"and the loss is still {found.level:.4g}, no better than frequencies give"
    )
    said = "sum of the learning rates, against the standard deviation of weights at the start"
    evidence = (
        Evidence(lr.name, span, said, found.moved, INITIAL_SD, lr.source(top)),
        Evidence("train/loss", span, "level at the end, against what frequencies give", found.level,
                 FREQUENCY_SHARE * found.chance, loss.source(len(loss) - 1)),
    )  # fmt: skip
    facts: dict[str, object] = {"applied_lr": base, "moved": found.moved, "phase": "fresh"}
    scale = found.scale
    if scale is not None and base < scale.typical:
        facts |= {"published_lr": scale.typical, "published_low": scale.low, "published_high": scale.high}
        facts["factor"] = scale.typical / base
    return Found(title, evidence, 0.88, None, "", facts)


def _crept(case: Case, loss: Series, lr: Series) -> Found | None:
    """Weights that hardly left their start, and a loss that still fell as the learning rates added up.

    Adam: at most as far as the rates add up to, and the loss falls in proportion to them; or a typical weight, whose
    steps are `STEP_RMS` of the rate, at half of the published rate or less, and the loss falls steeply. SGD: the norm
    of all weights, from the norms of the gradients.
    """
    started = initial_sd(case)
    if started is None or not far_enough(case, lr) or _unstable(case):
        return None
    span, base = (int(lr.updates[0]), int(lr.updates[-1])), float(lr.values.max()) / declared_factor(case)
    scale = scale_as_begun(case)
    times = 1.0 if scale is None else scale.typical / base
    algorithms = {case.algorithm_of(group) or optimizer_of(case) for group in case.run.learning_rates()}
    moved, straightness = sum_of_rates(lr) / declared_factor(case), _straightness(case)
    straight = straightness is not None and straightness >= STRAIGHT
    in_weights = "sum of the learning rates, against the standard deviation of weights at the start"
    said, limit = in_weights, started
    if algorithms <= ADAMS and moved < started and straight:
        how = f"the learning rates of all {span[1]:,} updates add up to {moved:.2g}: no weight can have moved farther, "
        how += f"less than the {started:.2g} that weights of this size start with"
    elif algorithms <= ADAMS and moved * STEP_RMS < started and times >= HALF_OF_TYPICAL:
        how = f"the learning rates of all {span[1]:,} updates add up to {moved:.2g}, of which Adam's steps are about a "
        how += f"third: hardly a weight can have moved by the {started:.2g} that weights of this size start with"
        straight, limit = False, started / STEP_RMS
    elif algorithms == {"sgd"} and (path := path_of_sgd(case)) is not None and path < 1:
        how = f"all {span[1]:,} steps added up are {path:.2g} of the norm that weights of this size start with"
        said = "learning rates times gradient norms, over the norm of the weights at the start"
        straight, moved, limit = False, path, 1.0
    else:
        return None
    going_on = straightness is not None and straightness >= SETTLED
    begun = only_begun(case, times) if going_on and not straight else None
    if straight and straightness is not None:
        shown = Evidence("train/loss", (int(loss.updates[0]), int(loss.updates[-1])),
                         "fall over the second half of the accumulated rate, over the first", straightness, STRAIGHT,
                         loss.source(len(loss) - 1))  # fmt: skip
    elif begun is not None:
        shown = Evidence(begun.series.name, (begun.decline.first, int(begun.series.updates[-1])),
                         "decline per e-fold of the accumulated rate, less two standard errors", begun.decline.low,
                         begun.threshold, begun.series.source(len(begun.series) - 1))  # fmt: skip
    else:
        return None
    title = f"At a peak learning rate of {number(base)} {how}, and the loss " + (
        "fell in proportion to them to the end" if straight else "still fell steeply as they added up"
    )
    evidence = (Evidence(lr.name, span, said, moved, limit, lr.source(int(np.argmax(lr.values)))), shown)
    facts: dict[str, object] = {"applied_lr": base, "moved": moved, "phase": "fresh"}
    if scale is not None and base < scale.typical:
        facts |= {"published_lr": scale.typical, "published_low": scale.low, "published_high": scale.high}
        facts["factor"] = times
    # far under the usual rate, or under any: else as many more updates may be what the run lacks
    sure = said != in_weights or times >= FIVE or (scale is not None and base < scale.low)
    severity: Severity | None = None if straight else "warning" if sure else "note"
    return Found(title, evidence, 0.8 if sure or straight else 0.6, severity, "", facts)


def _pace(case: Case) -> Reach | None:
    """When the run would come down to what token frequencies alone give; None where it has, or where nobody can say."""
    if case.loss is None or case.loss_trend is None:
        return None
    target = case.setting("unigram_entropy")
    if not target and case.is_token_loss and case.chance is not None:
        target = FREQUENCY_SHARE * case.chance
    rates, last = rates_of(case), float(case.loss.updates[-1])
    if not target or case.loss_trend.values[-1] <= target or rates is None or rates.at(np.array([last]))[0] < STILL_ON:
        return None
    found = reach(case.loss.updates.astype(np.float64), case.loss.values, float(target), rates.held(last))
    return found if isinstance(found, Reach) else None


def _zero(case: Case) -> Found | None:
    """Every logged learning rate is 0 and the loss has not fallen: nothing is trained. None where that is not so."""
    rates, loss = case.lr, case.loss
    if rates is None or loss is None or len(rates) < LEAST_POINTS or len(loss) < LEAST_POINTS or rates.values.any():
        return None
    span = (int(rates.updates[0]), int(rates.updates[-1]))
    fall, limit = _fall(loss.values)
    if case.least_updates(span[1] - span[0]) < LEAST_UPDATES or fall > limit:
        return None
    evidence = (
        Evidence(rates.name, span, "largest learning rate", 0.0, None, rates.source(0)),
        Evidence(
            "train/loss", span, "fall from the first rows to the last third", fall, limit, loss.source(len(loss) - 1)
        ),
    )
    title = f"The learning rate is 0 at each of {len(rates)} logged updates, and the loss has not fallen"
    return Found(title, evidence, 0.95, None, "", {"applied_lr": 0.0, "phase": phase_of(case)})


def _slowness(case: Case, phase: str | None) -> tuple[str, float, float] | None:
    """(what shows that the loss falls too slowly, its value, its threshold), None where it does not."""
    if case.loss is None or case.loss_trend is None:
        return None
    values, trend = case.loss.values, case.loss_trend.values
    fall, noise = _fall(values)
    if _unstable(case):
        return None
    if phase != "fresh" and _validation_improves(case):
        return None
    if fall <= noise and (len(values) >= MANY or noise < HIDDEN * abs(float(trend[-1]))):
        return "the loss has not fallen beyond its noise", fall, noise
    if phase == "fresh" and near_frequencies(case, float(trend[-1])):
        level = float(trend[-1])
        return f"the loss is still {level:.4g}, no better than frequencies give", level, level
    straightness = _straightness(case)
    if straightness is not None and straightness >= STRAIGHT:
        return "the loss still falls in proportion to the accumulated learning rate", straightness, STRAIGHT
    return None


def _fall(values: Floats) -> tuple[float, float]:
    """How far the loss fell over the run, and what noise reaches once in a thousand times.

    From the first to the last third; of few rows from the first, in which most of a sound run's fall lies, to the last
    third, with the noise about a line through the last two.
    """
    if len(values) >= MANY:
        fall, error = statistics.fall(values)
        return fall, statistics.false_alarm_z(1) * error
    third = max(2, len(values) // 3)
    end = values[-third:]
    error = few_points.error_about_line(values[third:]) * math.sqrt(1 + 1 / len(end))
    z = few_points.student_quantile(statistics.false_alarm_z(1), len(values) - third - 2)
    return float(values[0] - end.mean()), z * error


def _unstable(case: Case) -> bool:
    """The loss rose by more than its noise and a tenth: whatever ails it is another rule's."""
    if case.loss_trend is None:
        return False
    trend = case.loss_trend.values
    rose = float((trend - np.minimum.accumulate(trend)).max())
    noise = 0.0 if math.isnan(case.loss_noise) else case.loss_noise
    return rose > max(statistics.false_alarm_z(1) * noise, 0.1 * abs(float(trend[0])))


def _validation_improves(case: Case) -> bool:
    """Validation has fallen beyond its noise (a fine-tune that is getting somewhere)."""
    if case.val is None or len(case.val) < 2:
        return False
    values = case.val.values
    noise = case.val_noise
    gain = float(values[0] - values[1:].min())
    if np.isnan(noise):
        return len(values) >= 3 and bool(np.all(np.diff(values) < 0)) and gain > 0.01 * float(values[0])
    return gain > statistics.false_alarm_z(len(values)) * noise and gain > 0.01 * float(values[0])


def _straightness(case: Case) -> float | None:
    """Fall over the second half of the accumulated learning rate, over the fall in the first half.

    Of few rows the least ratio that their noise leaves possible.
    """
    if case.loss is None or case.loss_trend is None or case.lr is None:
        return None
    x = case.loss.updates.astype(np.float64)
    rate = np.interp(x, case.lr.updates.astype(np.float64), case.lr.values)
    done = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(x))])
    if done[-1] <= 0:
        return None
    start, middle, end = np.interp([0.05 * done[-1], 0.5 * done[-1], 0.95 * done[-1]], done, case.loss_trend.values)
    first, second = float(start - middle), float(middle - end)
    if len(x) < MANY:  # two values each, of noise about a parabola: a loss that falls in proportion hardly bends
        z = few_points.student_quantile(statistics.false_alarm_z(1), len(x) - 3)
        slack = z * math.sqrt(2) * few_points.error_about_line(case.loss.values, 2)
        first, second = first + slack, second - slack
    return second / first if first > 0 else None
