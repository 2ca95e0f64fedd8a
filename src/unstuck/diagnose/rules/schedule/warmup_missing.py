"""The learning rate is at its peak from the first update, and the early loss shows the damage.

Finds
A run that starts at its peak learning rate although a warm-up was configured (a share cast to an integer is 0), or
whose loss blows up in its first updates, or is thrown to the level of token frequencies and stays there, for want of
one. A language model of a published size and rate, from scratch with Adam, is told of its missing warm-up in a note.

Why it matters
Adam's second moment is an estimate from a handful of batches in its first updates, so their steps are the largest of
the run; a post-norm transformer never recovers from them. In incident I3 int(0.1) made the warm-up zero.

Evidence needed
`lr/<group>` from the first updates on and `train/loss`; or the configured warm-up against the first logged rate.

Not when
The log begins after the warm-up; the start is a resume; there is no warm-up by choice and the loss falls from the
first update on (SGD, Muon, small or pre-norm models).

Remedy
Warm up over 2 / (1 - beta2) updates, at most 10 % of the run.

References
Incident I3. Ma, Yarats, arXiv 1910.04209. Xiong et al., arXiv 2002.04745 (post-norm needs a warm-up, pre-norm not).
Liu et al., arXiv 1908.03265 (variance of the adaptive rate).
"""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.learning_rates import ADAMS
from unstuck.diagnose.lr_curve import applied, flat_since_half, near_frequencies, rise_from_noise, stood_since_start
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.rules.schedule.warmup_too_long import _needed
from unstuck.diagnose.scales import LANGUAGE, highest_scale, optimizer_of, phase_of
from unstuck.runs import Series

FROM_THE_START = 0.9  # of the peak, at the first logged update
FIRST_UPDATES = 10  # a first row later than this may hide a ramp
# A blow-up passes the start by a tenth of it and by what noise gives once in a thousand runs.
BLOW_UP = 0.1
EARLY = 0.1
# GPT-2 small and up (GPT-3, arXiv 2005.14165; Pythia, arXiv 2304.01373 from 70M; OPT, Llama, OLMo): all warm up, over
# 0.1 to 1 % of their updates, which is no whole update of a run shorter than this.
LEAST_SIZE, LEAST_LENGTH = 70e6, 1000
STUCK_OVER = 5.0  # times the published typical rate: one that a warm-up is known to make usable


@rule(code="SC002", stages="LC", severity="error", explains=("loss-spike", "gradient-exploding", "loss-at-chance"))
def check(case: Case) -> Outcome:
    lrs = applied(case)
    if not lrs or case.lr is None:
        return CouldNotCheck(("lr",))
    if case.run.axis == "epoch":
        return CouldNotCheck(("lr of the first updates: the log has a row for each epoch",))
    series = case.lr
    if any(case.run.events_of("resume")) and int(series.updates[0]) > FIRST_UPDATES:
        return Clear("the log begins at a resume")
    configured = _configured(case)
    if int(series.updates[0]) > max(FIRST_UPDATES, 0.25 * (configured or 0.0)):
        return CouldNotCheck((f"lr of the first {FIRST_UPDATES} updates",))
    peak = float(series.values.max())
    if float(series.values[0]) < FROM_THE_START * peak:
        return Clear("the learning rate starts below its peak")
    damage = _damage(case, peak)
    # a schedule that steps with every micro-batch was through its warm-up before the first row: not missing, too fast
    shortest = (configured or 0.0) / max(1.0, float(case.setting("accumulation") or 1.0))
    asked = shortest > 2 * max(1, int(series.updates[0]))
    if not asked and damage is None:
        if case.loss is None:
            return CouldNotCheck(("train/loss",))
        return _unusual(case, series, peak) or Clear("no warm-up, and the early loss shows no damage")
    said = f"although a warm-up of {configured:,.0f} updates was asked for" if asked else ""
    shown = damage.statistic if damage is not None else ""
    title = f"The learning rate is {number(float(series.values[0]))} from update {int(series.updates[0]):,} on"
    title += f" {said}" if said else ", without a warm-up"
    title += f": {shown}" if shown else ""
    length = float(case.setting("updates") or series.updates[-1])
    facts: dict[str, object] = {
        "warmup_expected": configured or 0.0,
        "warmup_updates": int(configured)
        if asked and configured
        else int(max(1, round(min(_needed(case), 0.1 * length)))),
        "warmup_share": case.setting("warmup_share"),
        "applied_lr": float(series.values[0]),
    }
    share = float(series.values[0]) / peak
    first = Evidence(series.name, (int(series.updates[0]),) * 2, "first rate over the peak", share,
                     FROM_THE_START, series.source(0))  # fmt: skip
    evidence = (first, damage) if damage is not None else (first,)
    severity: Severity = "error" if damage is not None else "warning"
    return Found(title, evidence, 0.93 if asked else 0.85, severity, "", facts)


def _unusual(case: Case, series: Series, peak: float) -> Found | None:
    """A language model of a published size, from scratch with Adam at a published rate: every such recipe warms up.

    The loss shows no damage of its own, so this is a hint: what it cost only a second run can tell.
    """
    size, length = case.setting("parameters") or 0.0, case.planned_updates or int(series.updates[-1])
    scale = highest_scale(case, group_algorithm=case.lr_algorithm)
    usual = size >= LEAST_SIZE and length >= LEAST_LENGTH and scale is not None and peak >= scale.low
    adam = (case.lr_algorithm or optimizer_of(case)) in ADAMS and case.setting("task") in (None, *LANGUAGE)
    if not (usual and adam and phase_of(case) == "fresh" and case.is_token_loss) or scale is None:
        return None
    warmup = int(max(1, round(min(_needed(case), 0.1 * length))))
    title = (
        f"The learning rate is {number(float(series.values[0]))} from update {int(series.updates[0]):,} on, without a "
        f"warm-up; the published recipes for {size / 1e6:,.0f}M parameters have one"
    )
    share = float(series.values[0]) / peak
    first = Evidence(series.name, (int(series.updates[0]),) * 2, "first rate over the peak", share,
                     FROM_THE_START, series.source(0))  # fmt: skip
    facts: dict[str, object] = {"warmup_expected": 0.0, "warmup_updates": warmup, "applied_lr": float(series.values[0])}
    detail = "The first updates did no lasting harm that the loss shows; a run with a warm-up would tell."
    return Found(title, (first,), 0.6, "note", detail, facts)


def _configured(case: Case) -> float | None:
    count, share = case.setting("warmup_updates"), case.setting("warmup_share")
    if count is not None:
        return float(count)
    horizon = case.setting("horizon_updates") or case.setting("updates")
    return float(share) * float(horizon) if share and horizon else None


def _damage(case: Case, peak: float) -> Evidence | None:
    """What the first updates did to the loss; None where they did nothing."""
    if case.loss is None or len(case.loss) < 12 or int(case.loss.updates[0]) > FIRST_UPDATES:
        return None
    values, updates = case.loss.values, case.loss.updates
    first, early = float(values[0]), max(4, int(np.ceil(EARLY * len(values))))
    limit = max(BLOW_UP * abs(first), rise_from_noise(values, early))
    top = 1 + int(np.argmax(values[1:early]))
    if float(values[top]) - first > limit:
        said = f"the loss goes from {first:.4g} to {float(values[top]):.4g} at update {int(updates[top]):,}"
        span = (int(updates[0]), int(updates[top]))
        return Evidence("train/loss", span, said, float(values[top]) - first, limit, case.loss.source(top))
    return _thrown(case, case.loss, peak)


def _thrown(case: Case, loss: Series, peak: float) -> Evidence | None:
    """A fall to the level of frequencies within the first tenth, and nothing after it, at a rate over the usual."""
    scale = highest_scale(case, group_algorithm=case.lr_algorithm)
    if scale is None or peak < STUCK_OVER * scale.typical:
        return None
    flat = flat_since_half(case, against=float(loss.values[0]))
    unknown_level = case.chance is None and case.start in (None, "fresh")
    stands = flat is not None and flat[0]
    if not (stood_since_start(case) if unknown_level else stands):
        return None
    level = float(np.median(loss.values[len(loss) // 2 :]))
    early = float(np.median(loss.values[: max(3, len(loss) // 10)]))
    if not (unknown_level or near_frequencies(case, level)) or early > level + 0.5 * (float(loss.values[0]) - level):
        return None
    span = (int(loss.updates[0]), int(loss.updates[-1]))
    said = f"the loss falls to {level:.4g} in its first updates, what frequencies give, and stays there"
    return Evidence("train/loss", span, said, level, None, loss.source(len(loss) - 1))
