"""The learning rate applied is not the one that the configuration implies.

Finds
A logged learning rate that no common counting convention gets from base LR, group factor, schedule, warm-up and
update, and the mistake that does give it, to its printed digits: a horizon counted in micro-batches, a schedule
stepped per micro-batch, per device, per epoch or never, a warm-up share cast to zero, batch scaling, another group's
factor.

Why it matters
The owner believes in one learning rate and trains with another. In incident I1 5e-5 was configured and 2.75e-08
printed; the document that was written about it raised factors and base and left the counting mistake in place.

Evidence needed
`lr/<group>` and, from the configuration, the base learning rate, the schedule and its length; accumulation, world
size, batch size and epochs widen the search.

Not when
The value differs by a step of counting (from 0 or 1, warm-up divided by w or w + 1, the next update's value logged
instead of this one's), by the rounding of a printed value, or by a floor's convention. Not when one group is as
configured and the others are a constant factor away: that is a group factor. What nothing explains is a note.

Remedy
Mend the count that is named, not the learning rate. Changing the base to compensate leaves a schedule that will
never anneal.

References
Incidents I1 (5e-5 x 0.1 x 468 / 84,992) and I3 (1e-4 x 24 x 3 x 3 / 256). Goyal et al., arXiv 1706.02677 (linear
scaling by batch / 256). transformers `optimization.py`, nanoGPT `train.py` (conventions).
"""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.expected_lr import DECAYING, KINDS
from unstuck.diagnose.lr_arithmetic import Explanation, envelope, most_telling
from unstuck.diagnose.lr_curve import GroupAnswer, answers, applied, moments
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Found, Outcome, rule
from unstuck.diagnose.scales import published_scale

# A mistake that moves the learning rate by less than this is not worth a finding: conventions of counting differ by
# one step in a warm-up of at least 20.
LEAST_EFFECT = 0.05
# Published scales are a factor of two or more wide (`scales.py`), so below it the mistake is a warning.
LARGE_EFFECT = 2.0
# Unexplained differences are told from a convention by this many points.
LEAST_POINTS = 5


@rule(
    code="LR003",
    stages="CV",
    severity="error",
    explains=(
        "lr-too-low",
        "lr-too-high",
        "warmup-too-long",
        "warmup-missing",
        "schedule-constant",
        "loss-at-chance",
        "loss-plateau",
        "undertrained",
    ),
)
def check(case: Case) -> Outcome:
    missing = _missing(case)
    if missing:
        return CouldNotCheck(missing)
    by_group = answers(case)
    if not by_group:
        return CouldNotCheck(("schedule",))
    wrong = {g: a for g, a in by_group.items() if not a.answer.correct and _effect(a) > 1 + LEAST_EFFECT}
    declared = set(case.setting("group_lr_factors") or {})
    if not wrong:
        return Clear("the learning rate is as configured at every logged update")
    if len(wrong) < len(by_group) and not wrong.keys() & declared:
        return Clear("a group is as configured; the others differ by a factor of their own")
    group, explanations = _common(wrong)
    if not explanations:
        return _never_advanced(wrong) or _unexplained(wrong)
    if any(e.faults == ("log/micro",) for e in explanations):
        return CouldNotCheck(("whether the log counts updates or micro-batches",))
    return _found(case, wrong[group], explanations)


def _missing(case: Case) -> tuple[str, ...]:
    if not applied(case):
        return ("lr",)
    if not (case.setting("learning_rate") or case.setting("muon_learning_rate")):
        return ("learning_rate",)
    kind = case.setting("schedule")
    if kind not in KINDS:
        return ("schedule",) if kind is None else (f"an expectation for the schedule {kind}",)
    if kind not in ("constant", "inverse_sqrt") and not (case.setting("horizon_updates") or case.setting("updates")):
        samples = case.setting("train_samples") or case.setting("train_tokens")
        if not (case.setting("epochs") and samples and case.setting("batch_size")):
            return ("updates",)
    return ()


def _expected(answer: GroupAnswer) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return answer.plan.expected(answer.series.updates.astype(np.float64))


def _effect(answer: GroupAnswer) -> float:
    """How far apart applied and expected LR are: the 90th percentile of their ratio, either way round, at least 1."""
    expected, values = _expected(answer), answer.series.values
    top = max(float(expected.max()), float(values.max()))
    small = 1e-3 * top  # near 0 a step of counting is a large ratio
    ratio = np.maximum(values, small) / np.maximum(expected, small)
    return float(np.percentile(np.maximum(ratio, 1 / ratio), 90))


def _common(wrong: dict[str, GroupAnswer]) -> tuple[str, list[Explanation]]:
    """The explanations that hold for every wrong group, as told for the group that says most about them."""
    shared: set[tuple[str, ...]] | None = None
    for answer in wrong.values():
        faults = {e.faults for e in answer.answer.explanations}
        shared = faults if shared is None else shared & faults
    largest = max(wrong, key=lambda g: (len(wrong[g].series), float(wrong[g].series.values.max())))
    return largest, [e for e in wrong[largest].answer.explanations if e.faults in (shared or set())]


def _found(case: Case, answer: GroupAnswer, explanations: list[Explanation]) -> Found:
    series, plan = answer.series, answer.plan
    expected = _expected(answer)
    worst = most_telling(expected, series.values)
    ratio = series.values[worst] / expected[worst] if expected[worst] > 0 else float("inf")
    best = explanations[0]
    update = int(series.updates[worst])
    told = (
        f"{series.name} is {number(series.values[worst])} at update {update:,}, configured is {number(expected[worst])}"
    )
    if len(explanations) == 1:
        title, detail, confidence = f"{told}: {best.sentence}", "", 0.97
    else:
        choices = "; or ".join(e.sentence for e in explanations[:3])
        title = f"{told}: {len(explanations)} counting mistakes explain it equally simply"
        detail, confidence = f"The evidence cannot separate: {choices}.", 0.8
    scale = published_scale(case)
    facts: dict[str, object] = {
        **best.facts,
        "faults": best.faults,
        "ratio": float(ratio),
        "expected_lr": float(expected[worst]),
        "applied_lr": float(series.values[worst]),
        "logged_group": answer.group,
        "arithmetic": best.sentence,
        "accumulation": plan.accumulation,
        "warmup_updates": plan.warmup,
        "warmup_share": plan.warmup_share,
        "published_lr": scale.typical if scale else None,
    }
    span = (int(series.updates[0]), int(series.updates[-1]))
    evidence = (
        moments(series, worst, "learning rate applied, against the one configured", float(expected[worst])),
        moments(
            series, len(series) - 1, f"learning rate at the end of updates {span[0]} to {span[1]}", float(expected[-1])
        ),
    )
    severity = None if max(ratio, 1 / ratio if ratio else float("inf")) >= LARGE_EFFECT else "warning"
    return Found(title, evidence, confidence, "warning" if severity else None, detail, facts)


def _never_advanced(wrong: dict[str, GroupAnswer]) -> Found | None:
    """The base rate stands still where the configured decay had to halve it by the end: `scheduler.step()` is missing.

    Early in a cosine the two differ by less than a convention does, so the share of points that differ says nothing.
    """
    for answer in wrong.values():
        series, plan, expected = answer.series, answer.plan, _expected(answer)
        values, base = series.values, plan.base * (1.0 if plan.factor is None else plan.factor)
        still = len(series) >= LEAST_POINTS and np.all(np.abs(values / base - 1) <= 1e-3)
        counts_updates = plan.trusted_updates or plan.accumulation == 1
        if plan.kind not in DECAYING or not still or not counts_updates or values[-1] < LARGE_EFFECT * expected[-1]:
            continue
        last, span = len(series) - 1, (int(series.updates[0]), int(series.updates[-1]))
        title = (
            f"{series.name} stays at {number(base)} to update {span[1]:,}, where the configured {plan.kind} schedule "
            f"gives {expected[-1]:.2g}: the schedule never advances"
        )
        facts: dict[str, object] = {
            "faults": ("step/never",),
            "ratio": float(values[-1] / expected[-1]) if expected[-1] > 0 else float("inf"),
            "expected_lr": float(expected[-1]),
            "applied_lr": float(values[-1]),
            "logged_group": answer.group,
        }
        evidence = (moments(series, last, "learning rate applied, against the one configured", float(expected[-1])),)
        return Found(title, evidence, 0.9, "warning", "Is scheduler.step() called after each update?", facts)
    return None


def _unexplained(wrong: dict[str, GroupAnswer]) -> Outcome:
    for answer in wrong.values():
        series = answer.series
        if len(series) < LEAST_POINTS:
            return Clear("too few points to tell a difference from a convention")
        low, high = envelope(answer.plan, series.updates.astype(np.float64))
        outside = (series.values < low * (1 - LEAST_EFFECT)) | (series.values > high * (1 + LEAST_EFFECT))
        if outside.mean() < 0.9:
            return Clear("within what the common conventions give")
    answer = max(wrong.values(), key=_effect)
    series, expected = answer.series, _expected(answer)
    worst = most_telling(expected, series.values)
    title = (
        f"{series.name} is {number(series.values[worst])} at update {int(series.updates[worst]):,} where the "
        f"configuration gives {number(expected[worst])}; no counting mistake that we know explains it"
    )
    ratio = float(series.values[worst] / expected[worst]) if expected[worst] > 0 else float("inf")
    facts: dict[str, object] = {"ratio": ratio, "expected_lr": float(expected[worst]), "logged_group": answer.group}
    evidence = (moments(series, worst, "learning rate applied, against the one configured", float(expected[worst])),)
    return Found(title, evidence, 0.5, "note", "", facts)
