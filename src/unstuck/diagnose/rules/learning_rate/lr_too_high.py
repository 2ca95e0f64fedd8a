"""The loss rises, blows up or stays stuck because of the step size.

Finds
One of three: the loss climbs while the learning rate climbs or stands at its peak and comes down when it falls; the
loss blows up above its start within the first tenth of the run and crawls back; or the learning rate is far over the
published scale and the loss is stuck where frequencies alone would be, or flat, or falls only as the rate does.

Why it matters
A run can survive a learning rate that is too high and end far above what it could reach, and the damage of the first
updates is often permanent.

Evidence needed
`train/loss` over at least 12 points and `lr/<group>` (or a configured learning rate); the optimizer for a published
scale. 5 rows do where the rate is three times the highest published one and nothing was learnt, 8 where three rows lie
far above the first (or, at such a rate, stand still), 3 where the loss doubles from row to row until it is not finite.

Not when
Losses are not finite because of fp16 overflow (gradient norms infinite at a loss that was falling), a spike recovers
within a few points, warm restarts raise both on purpose, a resume changed data or stage there, or the loss is merely
noisy; the loss ends at exactly 0. At frequencies at a rate that some recipe has it is a note, and so is a rate ten
times the highest published one at which the loss still falls.

Remedy
Lower the peak to the published value, by a factor of 3 at a time where none is known; keep or add a warm-up.

References
Wortsman et al., arXiv 2309.14322 (instability against learning rate in small transformers). Cohen et al., Edge of
Stability, arXiv 2103.00065. Gilmer et al., arXiv 2110.04369. Scales: `unstuck.diagnose.scales`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unstuck.diagnose import statistics
from unstuck.diagnose.case import Case
from unstuck.diagnose.lr_curve import (
    LEAST_ROWS,
    MANY,
    flat_since_half,
    near_frequencies,
    rise_from_noise,
    stood_since_start,
    validation_stands,
)
from unstuck.diagnose.lr_few_rows import (
    AT_PEAK,
    BLOW_UP,
    EARLY,
    FAR_OVER,
    ORDER,
    Sign,
    by_epochs,
    humped,
    ran_away,
    rates_of,
    towers,
)
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.scales import Scale, highest_scale, phase_of
from unstuck.diagnose.unmoved import begins_as, declared_factor, scale_as_begun
from unstuck.runs import Series

Floats = npt.NDArray[np.float64]

LEAST_FEW = 5  # ours: a first row, a last three, and one between
LEAST_TREND = 12  # ours: two windows of the trend and their noise
STUCK_OVER = 5.0  # times the typical value, where the loss also is stuck at frequencies
BEYOND = ORDER  # ours: times the highest published; a parametrisation of its own may scale rates, so it is only noted
SECONDED = 0.5  # ours: of the limit, about two standard errors, where validation rises by the whole of it
BETWEEN_ROWS = 1.1  # the peak may lie between two rows: a line over 300 updates falls by 3 % within 10 (ours)
HALF_LEARNT = 0.5  # ours: of the first row; a run that came farther did not fail for its step size
LEAST_LEFT = 0.1  # ours: of the first row; a run that has learned nine tenths did not fail for its step size


@rule(
    code="LR001",
    stages="LCV",
    severity="error",
    explains=(
        "loss-diverged",
        "loss-oscillating",
        "loss-spike",
        "gradient-exploding",
        "gradient-vanishing",
        "loss-not-finite",
        "loss-plateau",
        "loss-at-chance",
        "clip-saturated",
        "warmup-missing",
        "undertrained",
        "best-checkpoint-passed",
    ),
)
def check(case: Case) -> Outcome:
    lr = case.lr
    configured = case.setting("learning_rate")
    if case.loss is None or (lr is None and not configured):
        return CouldNotCheck(tuple(n for n, v in (("train/loss", case.loss), ("lr", lr)) if v is None))
    peak = float(lr.values.max()) if lr is not None else float(str(configured))
    if isinstance(configured, int | float) and peak < configured <= BETWEEN_ROWS * peak:
        peak = float(configured)
    scale = highest_scale(case, group_algorithm=case.lr_algorithm)
    if phase_of(case) == "fine-tuning" and begins_as(case) == "fresh":
        scale = scale_as_begun(case)
    if _fp16_overflow(case):
        return Clear("half precision overflowed: the step size is not the cause")
    if not float(np.median(case.loss.values[-max(3, len(case.loss) // 10) :])):
        return Clear("the loss ends at exactly 0, where no step size brings it")
    # Published scales are base rates. Tables of embeddings take a factor on top (modded-nanogpt: 0.3).
    base = peak / max(1.0, declared_factor(case))
    sign = _sign(case, case.loss, scale, base)
    if sign is None and len(case.loss) < LEAST_TREND:
        return CouldNotCheck((f"{LEAST_TREND} points of train/loss",))
    if sign is None:
        return Clear("the loss does not show a step size that is too large")
    over = ""
    if scale is not None and base > scale.high:
        over = f", {base / scale.typical:.3g} times the published {number(scale.typical)}"
    facts: dict[str, object] = {"applied_lr": peak, "configured_lr": configured}
    if scale is not None and base > 0:
        facts |= {"published_lr": scale.typical, "published_high": scale.high, "published_source": scale.source}
        facts["factor"] = scale.typical / base
    title = f"At a peak learning rate of {number(peak)}{over} {sign.says}"
    detail = f"Published: {scale.source}." if scale is not None else ""
    severity = sign.severity
    if case.sequences_per_update == 1 and not over and severity == "error":
        severity = "warning"  # a batch of one bears less than any other: which of the two to change is open
        detail = f"The batch is one sample: a larger one may bear this rate. {detail}".strip()
    return Found(title, (sign.evidence,), sign.confidence, severity, detail, facts)


def _sign(case: Case, loss: Series, scale: Scale | None, peak: float) -> Sign | None:
    """The first pattern that the number of points lets be told, the plainest first."""
    n = len(loss)
    found = ran_away(case)
    if n >= MANY:
        found = found or _blow_up(case, scale, peak)
    elif n >= LEAST_FEW:
        found = found or towers(loss, scale, peak) or by_epochs(case, loss, scale, peak)
    if LEAST_ROWS <= n < MANY:
        found = found or humped(case, loss)
    if n >= LEAST_TREND:
        found = found or _follows(case) or _diverged_at_peak(case, scale, peak) or _late(case, scale, peak)
    return found or (_stuck(case, scale, peak) if n >= LEAST_FEW else None)


def _fp16_overflow(case: Case) -> bool:
    """Half precision with infinite gradient norms while the loss was not rising: a matter of loss scale."""
    norms = case.run.get("grad_norm/preclip")
    if case.setting("precision") != "float16" or norms is None:
        return False
    return bool((~np.isfinite(norms.values)).any())


def _blow_up(case: Case, scale: Scale | None, peak: float) -> Sign | None:
    """Above the start within the first tenth of the run, and long in coming back."""
    if case.loss is None or case.loss.updates[0] > 20:
        return None
    values, updates = case.loss.values, case.loss.updates
    first = float(values[0])
    early = max(4, int(np.ceil(EARLY * len(values))))
    noise = rise_from_noise(values, early)
    limit = first + max(BLOW_UP * abs(first), noise)
    above = np.flatnonzero(values[1:early] > limit) + 1
    if not len(above):
        return None
    top = int(1 + np.argmax(values[1:early]))
    # long in coming back: either three points in a row above the start, or a level afterwards that stays flat
    back = next((i for i in range(top, len(values) - 2) if np.median(values[i : i + 3]) <= first), None)
    lasting = back is None or back - int(above[0]) >= 3
    over = scale is not None and peak > scale.high
    towering = float(values[top]) > 2 * first + noise
    if not (lasting or over or towering):
        return None
    if not over and not towering and back is not None and float(values[-3:].mean()) < 0.9 * first:
        return None  # a bump in the warm-up from which the run went on to learn
    index = top
    says = f"the loss goes from {first:.4g} at the start to {float(values[top]):.4g} at update {int(updates[top]):,}"
    span = (int(updates[0]), int(updates[top]))
    evidence = Evidence("train/loss", span, "rise above the start", float(values[top]) - first, limit - first,
                        case.loss.source(index))  # fmt: skip
    return Sign(says, evidence, 0.95 if over else 0.85, "error" if over or towering else "warning")


def _late(case: Case, scale: Scale | None, peak: float) -> Sign | None:
    """Far over the published scale, and a loss that fell more as the rate came down than by all that was done before.

    The work of the rate is its sum. A sound run falls most in the first half of it, and more slowly ever after.
    """
    rates = rates_of(case)
    if case.loss is None or case.loss_trend is None or rates is None or scale is None or peak < FAR_OVER * scale.high:
        return None
    x, trend = case.loss.updates.astype(np.float64), case.loss_trend.values
    done = np.concatenate([[0.0], np.cumsum(0.5 * (rates[1:] + rates[:-1]) * np.diff(x))])
    if not done[-1] > 0 or float(rates[-1]) > AT_PEAK * float(rates.max()):
        return None
    start, middle = np.interp([EARLY * done[-1], 0.5 * done[-1]], done, trend)
    first, second = float(start - middle), float(middle - trend[-1])
    limit = max(first, 0.0) + max(_least_rise(case, len(trend)), BLOW_UP * abs(float(trend[-1])))
    if second <= limit:
        return None
    at = int(np.interp(0.5 * done[-1], done, x))
    says = (
        f"the loss is {middle:.4g} at update {at:,}, when half of the work of the rate was done, and comes down to "
        f"{float(trend[-1]):.4g} only as the rate does"
    )
    evidence = Evidence("train/loss", (at, int(x[-1])), "fall over the second half of the accumulated rate", second,
                        limit, case.loss.source(len(x) - 1))  # fmt: skip
    return Sign(says, evidence, 0.8, "error")


def _follows(case: Case) -> Sign | None:
    """A rise while the rate climbs or is at its peak, undone when the rate falls."""
    rates = rates_of(case)
    if case.loss is None or case.loss_trend is None or rates is None or case.setting("schedule") == "restarts":
        return None
    trend, updates = case.loss_trend.values, case.loss.updates
    peak = float(rates.max())
    if peak <= 0 or float(rates.min()) > AT_PEAK * peak:
        return None
    high = np.flatnonzero(rates >= AT_PEAK * peak)
    first, last = int(high[0]), int(high[-1])
    if last >= len(trend) - 4 or last - first < 5:
        return None
    lowest = np.minimum.accumulate(trend[: last + 1])
    lowest[first + (last - first) // 2 :] = lowest[first + (last - first) // 2]  # it begins in the first half of it
    top = int(np.argmax(trend[: last + 1] - lowest))
    low = int(np.argmin(trend[: min(top, first + (last - first) // 2) + 1]))
    rise = float(trend[top] - trend[low])
    learnt = max(0.0, float(case.loss.values[0]) - float(trend[low]))
    limit = max(_least_rise(case, len(trend)), BLOW_UP * max(abs(float(trend[low])), learnt))
    seconded = rise <= limit and _validation_rises(case, int(updates[low]), int(updates[last]))
    if seconded:
        limit *= SECONDED
    came_down = float(trend[-1]) <= float(trend[low]) + 0.5 * rise
    # a plateau of high loss, not one spike: at least a tenth of the points at high rate lie above the half-way level
    lasting = np.mean(trend[low : last + 1] > trend[low] + 0.5 * rise) >= 0.1
    if rise <= limit or not came_down or not lasting or top - low < 3:
        return None
    says = (
        f"the loss rises from {float(trend[low]):.4g} to {float(trend[top]):.4g} between updates "
        f"{int(updates[low]):,} and {int(updates[top]):,}, {'validation with it, ' if seconded else ''}and comes down "
        "only when the learning rate does"
    )
    evidence = Evidence("train/loss", (int(updates[low]), int(updates[top])), "rise with the rate", rise, limit,
                        case.loss.source(top))  # fmt: skip
    return Sign(says, evidence, 0.75 if seconded else 0.9, "warning" if seconded else "error")


def _validation_rises(case: Case, low: int, high: int) -> bool:
    """Whether validation rises between two updates as far as a training loss that blows up does."""
    val = None if case.val is None else case.val.between(low, high)
    if val is None or len(val) < 2:
        return False
    lowest = np.minimum.accumulate(val.values)
    rise = float((val.values - lowest).max())
    return rise > BLOW_UP * abs(float(lowest[-1])) and rise > statistics.false_alarm_z(len(val)) * case.val_noise


def _z(points: int) -> float:
    """Standard deviations that the noise of so many points hardly passes; of few the second half does not know its."""
    z = statistics.false_alarm_z(points)
    return z if points >= MANY else statistics.student_z(z, points // 2)


def _least_rise(case: Case, points: int) -> float:
    """What noise lifts the trend by, once in a thousand runs."""
    return _z(points) * (case.loss_noise if case.loss_noise > 0 else 0.0)


def _diverged_at_peak(case: Case, scale: Scale | None, peak: float) -> Sign | None:
    """The loss leaves its best level for good while the rate still climbs or stands at its highest."""
    rates = rates_of(case)
    if case.loss is None or case.loss_trend is None:
        return None
    values, trend, updates = case.loss.values, case.loss_trend.values, case.loss.updates
    best = int(np.argmin(trend))
    if len(trend) - best < 4:
        return None
    z = _z(len(trend))
    noise = case.loss_noise if case.loss_noise > 0 else 0.0
    noise = min(noise, statistics.noise_sd(values[: best + 1]) if best >= 5 else noise)
    descent = max(float(values[0]) - float(trend[best]), 0.0)
    gap = float(np.median(values[-max(3, (len(values) - best) // 2) :])) - float(trend[best])
    limit = max(z * noise, 0.5 * descent, BLOW_UP * abs(float(trend[best])))
    if gap <= limit:
        return None
    over = scale is not None and peak > scale.high
    climbing = (
        rates is not None
        and float(rates[best]) >= 0.9 * float(rates[: best + 1].max())
        and (float(rates[best:].max()) > 1.05 * float(rates[best]) or float(rates[0]) < 0.5 * peak)
    )
    if not (over or climbing):
        return None
    says = (
        f"the loss leaves its best level of {float(trend[best]):.4g} at update {int(updates[best]):,} for good"
        f"{', while the learning rate still climbs' if climbing and not over else ''}"
    )
    evidence = Evidence("train/loss", (int(updates[best]), int(updates[-1])), "rise above the best level", gap, limit,
                        case.loss.source(best))  # fmt: skip
    return Sign(says, evidence, 0.88 if over else 0.75, "error")


def _stuck(case: Case, scale: Scale | None, peak: float) -> Sign | None:
    """Far over the published scale, and nothing learned beyond frequencies or nothing since half the run.

    Targets that do not belong to their inputs leave a loss at frequencies as well: at a rate that some recipe has it is
    a note.
    """
    if case.loss is None or case.loss_trend is None or scale is None or peak < STUCK_OVER * scale.typical:
        return None
    far = peak >= FAR_OVER * scale.high
    level = float(case.loss_trend.values[-1])
    span = (int(case.loss.updates[0]), int(case.loss.updates[-1]))
    source = case.loss.source(len(case.loss) - 1)
    at_end = Evidence("train/loss", span, "level at the end", level, None, source)
    stuck = flat_since_half(case, against=level)
    if near_frequencies(case, level) and ((stuck is not None and stuck[0]) or validation_stands(case)):
        says = f"the loss stands at {level:.4g}, no better than frequencies give"
        return Sign(says, at_end, 0.88 if far else 0.5, "error" if far else "note")
    if case.chance is None and case.start in (None, "fresh") and stood_since_start(case):
        says = f"the loss fell to {level:.4g} in the first tenth of the run and has stood there since"
        return Sign(says, at_end, 0.8 if far else 0.5, "error" if far else "note")
    over = case.start in (None, "fresh") and peak > scale.high and level >= HALF_LEARNT * float(case.loss.values[0])
    if over and not case.is_token_loss and stood_since_start(case, any_task=True):
        says = f"the loss fell to {level:.4g} in the first tenth of the run and has stood there since"
        return Sign(says, at_end, 0.8 if far else 0.5, "error" if far else "note")
    if not far:
        return None
    n = len(case.loss)
    # of few rows those just past the half: a trend over five of them lies above a curve that bends
    few = case.loss.values[n // 2 : n // 2 + 3]
    middle = float(case.loss_trend.values[n // 2]) if n >= MANY else float(np.median(few))
    if near_frequencies(case, middle):
        says = f"the loss is {middle:.4g} after half of the run, no better than frequencies give"
        half = (span[0], (span[0] + span[1]) // 2)
        return Sign(
            says, Evidence("train/loss", half, "level after half of the run", middle, None, source), 0.85, "error"
        )
    if level < LEAST_LEFT * float(case.loss.values[0]):
        return None
    flat = flat_since_half(case)
    if flat is not None and flat[0]:
        says = f"the loss has stood at {level:.4g} since half of the run"
        return Sign(says, Evidence("train/loss", span, "fall in the second half", flat[1], None, source), 0.85, "error")
    if case.val is not None and validation_stands(case):
        stands = float(np.median(case.val.values[len(case.val) // 3 :]))
        says = f"the validation loss has stood at {stands:.4g} since the first third of the run"
        reach = (int(case.val.updates[len(case.val) // 3]), int(case.val.updates[-1]))
        evidence = Evidence("val/loss", reach, "level", stands, None, case.val.source(len(case.val) - 1))
        return Sign(says, evidence, 0.8, "error")
    if peak >= BEYOND * scale.high:
        said = f"the run is beyond every recipe: the highest published is {number(scale.high)}"
        return Sign(said, Evidence("lr", span, "peak learning rate", peak, BEYOND * scale.high, source), 0.6, "note")
    return None
