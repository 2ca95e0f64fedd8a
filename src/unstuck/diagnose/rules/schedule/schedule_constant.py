"""The learning rate never decays in a long run whose loss has flattened.

Finds
A learning rate within 5 % of its peak to the end of a long run whose loss has been flat since half of it: within its
noise, or falling by less than a tenth of what the doubling of updates before gave. Where few rows or much noise leave
that open, a note: neither loss shows a fall in the second half. A note as well where a model from scratch reached its
planned end and its loss fell so slowly that a decay would have brought more than twice as many updates.

Why it matters
At a constant rate the weights wander about the minimum at a distance that the rate sets; lowering it is the cheapest
improvement there is. MiniCPM's loss drops as much in the last tenth, with decay, as in a long stretch before.

Evidence needed
`lr/<group>` (or a configured constant schedule) and 8 points of `train/loss`; 40 for a warning.

Not when
The loss still improves; the run is a fine-tune (a constant rate is common there: a note); a WSD run in its stable
phase; a plateau scheduler that may still fire; the flat loss is overfitting or a learning rate that is too low.

Remedy
Decay the rate: cosine or linear to a tenth or to zero over the planned updates, or a WSD decay over the last 10-50 %.

References
Hu et al., MiniCPM, arXiv 2404.06395. Hägele et al., arXiv 2405.18392 (constant with cool-down). Defazio et al.,
arXiv 2310.07831 (linear decay).
"""

from __future__ import annotations

import numpy as np

from unstuck.diagnose import few_points, statistics
from unstuck.diagnose.case import Case
from unstuck.diagnose.learning_curve import ANNEALING
from unstuck.diagnose.lr_curve import applied, flat_since_half, near_frequencies
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.rules.learning_rate.lr_too_low import WELL_UNDER
from unstuck.diagnose.scales import published_scale
from unstuck.diagnose.slopes import Decline, decline_at_end, gain_ahead
from unstuck.runs import Series

NEVER = 0.95  # of the peak, at the end
FEWEST = 8  # a line through the second half then leaves 2 degrees of freedom
LEAST_POINTS = 40  # two halves of 20: enough for a fall between thirds of the second
BARELY = 0.05  # of the descent: training may creep on (it memorises) while validation stands
LEAST_UPDATES = 200  # ours: two halves of the hundred below which a run is a test
# Annealing takes sqrt(ANNEALING x g) of the loss where it falls by a share g per e-fold (`learning_curve`), twice as
# many updates gain_ahead(2) x g: below this g the former is more.
DOUBLING = ANNEALING / gain_ahead(2.0) ** 2
WINDOWS = (1 / 2, 2 / 3)  # of the updates; the rate is the same in all of them
REACHED = 0.9  # as in undertrained
LIKELY = 1.645  # standard errors: one chance in twenty that the loss fell by more; enough for a note


@rule(code="SC003", stages="LC", severity="warning", explains=("loss-plateau", "validation-noisy"))
def check(case: Case) -> Outcome:
    kind = case.setting("schedule")
    if kind in ("plateau", "wsd"):
        return Clear(f"a {kind} schedule decays later")
    lrs = applied(case)
    rate = _constant_rate(case)
    if rate is None:
        if not lrs and kind != "constant":
            return CouldNotCheck(("lr",))
        return Clear("the learning rate decays")
    if case.loss is None or len(case.loss) < FEWEST:
        return CouldNotCheck((f"{FEWEST} points of train/loss",))
    span = (int(case.loss.updates[0]), int(case.loss.updates[-1]))
    if case.least_updates(span[1]) < LEAST_UPDATES:
        return Clear("a run this short is a test")
    flat = flat_since_half(case) if len(case.loss) >= LEAST_POINTS else None
    likely = flat is not None and _likely_flat(case)
    open_ = False
    if flat is None or not (flat[0] or likely or (_validation_flat(case) and flat[1] < BARELY)):
        share = _fall_not_shown(case)
        if share is None:
            return _outdone(case, rate) or Clear("the loss still falls")
        flat, open_ = (False, share), True
    if (other := _lacks_more(case, rate)) is not None:
        return other
    if _validation_moves(case):
        return Clear("the validation loss still moves")
    language = case.setting("task") in ("causal-lm", "masked-lm", "seq2seq") or case.is_token_loss
    sure = not open_ and (flat[0] or not likely)
    severity: Severity = "warning" if language and case.start in (None, "fresh") and sure else "note"
    fell = f"fell by only {100 * flat[1]:.2g} % of its descent" if flat[1] > 0 else "did not fall"
    title = (
        f"The learning rate is {number(rate)} from start to end of {span[1]:,} updates, and the loss {fell} in the "
        f"second half{', which its noise hides' if open_ else ''}"
    )
    half = (span[0] + span[1]) // 2
    evidence = (
        Evidence("train/loss", (half, span[1]), "fall in the second half, share of the descent", flat[1], None,
                 case.loss.source(len(case.loss) - 1)),
    )  # fmt: skip
    facts: dict[str, object] = {
        "applied_lr": rate,
        "flat_since": half,
        "horizon_expected": case.setting("updates") or span[1],
    }
    return Found(title, evidence, 0.8 if sure else 0.5 if open_ else 0.6, severity, "", facts)


def _lacks_more(case: Case, rate: float) -> Clear | None:
    """What a decay would not mend."""
    scale = published_scale(case, group_algorithm=case.lr_algorithm)
    if scale is not None and rate < scale.low * WELL_UNDER:
        return Clear("the rate is too low rather than constant")
    if case.loss_trend is not None and near_frequencies(case, float(case.loss_trend.values[-1])):
        return Clear("the loss has not left what frequencies give: a decay is not what it lacks")
    return None


def _outdone(case: Case, rate: float) -> Found | None:
    """A run that reached its end while its loss still fell, but so slowly that a decay would have brought more.

    A note: what annealing is worth is known to a factor of two.
    """
    planned, rise = case.planned_updates, case.val_rise
    if case.start in ("pretrained", "checkpoint") or not planned or case.run.updates < REACHED * planned:
        return None
    if _lacks_more(case, rate) is not None or (rise is not None and rise.rise > 0 and rise.beyond_noise):
        return None
    seen: list[tuple[float, float, Decline, Series]] = []
    for series in (case.val, case.loss):
        if series is None:
            continue
        series = series.where(series.updates >= 1)
        for share in WINDOWS:
            found = decline_at_end(series.updates.astype(np.float64), series.values, (share,))
            level = abs(float(np.median(series.values[-max(1, len(series) // 10) :])))
            if found is not None and level > 0:
                seen.append(((found.high - found.value) / level, level, found, series))
    if not seen or any(found.low > DOUBLING * level for _, level, found, _ in seen):
        return None
    _, level, decline, series = min(seen, key=lambda one: one[0])
    if not decline.value < DOUBLING * level:
        return None
    last = int(case.run.updates)
    return Found(
        title=f"The learning rate is {number(rate)} from start to end of {last:,} updates, at which the loss fell by "
        f"{max(decline.value, 0.0):.2g} per e-fold: twice as many would bring less than a decay",
        evidence=(
            Evidence(series.name, (decline.first, last), "decline per e-fold of updates at the end", decline.value,
                     DOUBLING * level, series.source(len(series) - 1)),
        ),
        confidence=0.5,
        severity="note",
        facts={"applied_lr": rate, "flat_since": decline.first, "horizon_expected": planned},
    )  # fmt: skip


def _likely_flat(case: Case) -> bool:
    """No fall shows in the second half, and one of `BARELY` of the descent would, but for one chance in twenty."""
    if case.loss is None:
        return False
    fall, error = statistics.fall(case.loss.values[len(case.loss) // 2 :])
    return bool(fall < statistics.false_alarm_z(1) * error and fall + LIKELY * error < BARELY * case.descent)


def _fall_not_shown(case: Case) -> float | None:
    """The fall in the second half as a share of the descent, where neither loss shows one; None where one does.

    Each loss by the line through its second half, at one chance in twenty that so much is noise; the share from the
    loss whose line is known better.
    """
    if case.loss is None or not case.descent > 0:
        return None
    known: list[tuple[float, float]] = []
    for series in (case.loss, case.val):
        if series is None:
            continue
        half = series.between((int(case.loss.updates[0]) + int(case.loss.updates[-1])) // 2, case.run.updates).values
        fall, error = few_points.fall_of_line(half)
        if np.isnan(fall):
            continue
        if fall > few_points.student_quantile(LIKELY, len(half) - 2) * error:
            return None
        known.append((error, fall / case.descent))
    if not known:
        return None
    share = min(known)[1]
    return share if share < 2 * BARELY else None  # what is open must not look like a fall either


def _constant_rate(case: Case) -> float | None:
    """The peak, when the logged rate never left it after the warm-up; the configured one without a log."""
    series = case.lr
    if series is not None and len(series) >= 3:
        peak = float(series.values.max())
        start = int(np.argmax(series.values >= NEVER * peak))
        return peak if bool(np.all(series.values[start:] >= NEVER * peak)) and start < 0.5 * len(series) else None
    if case.setting("schedule") == "constant" and case.setting("learning_rate"):
        return float(str(case.setting("learning_rate")))
    return None


def _validation_moves(case: Case) -> bool:
    """Validation still falls, or rises (overfitting is another finding), beyond its noise since half of the run."""
    if case.val is None or len(case.val) < 8:
        return False
    values = case.val.values[len(case.val) // 2 :]
    z = statistics.false_alarm_z(1)
    if len(values) < 9:
        change = float(np.mean(values[-2:]) - np.mean(values[:2]))
        return bool(abs(change) > z * max(case.val_noise, 1e-9))
    fall, error = statistics.fall(values)
    return bool(abs(fall) > z * error)


def _validation_flat(case: Case) -> bool:
    """Enough evaluations in the second half to say that validation does not move."""
    return case.val is not None and len(case.val) >= 18 and not _validation_moves(case)
