"""A parameter group learns at a small fraction of the base learning rate.

Finds
One of several parameter groups trained by the same algorithm whose learning rate is a tenth of the others' or less,
in a run whose loss shows it: flat, near what token frequencies give, or with a group whose updates are tiny against
its weights, or whose learning rates of all updates add up to less than its weights measured at the start.

Why it matters
That part of the model barely moves and the rest learns around it. In incident I1 the memory group had a factor of 0.1
and its rate was the only one printed, so the whole run seemed 1,818 times too slow.

Evidence needed
Two or more `lr/<group>` series or the declared group factors, and `train/loss`; `update_ratio/<group>` settles it, and
for Adam and its kin in a run from scratch the sum of the group's rates does.

Not when
Layer-wise decay on purpose (three or more groups in a geometric ladder), a frozen group (exactly 0), Muon beside
AdamW (their scales differ by 10 to 50 by nature), embeddings, heads, biases or norms with a rate of their own, or a
pretrained body under a fresh head as far down as published. A declared factor is no excuse when the loss shows the
damage, but the finding is then a warning and, without the damage, a note: the owner chose it.

Remedy
Raise the factor of the group that holds the weights, step by step, up to 1.

References
Incident I1 (factors 0.1 / 0.5 / 1). Kingma, Ba, Adam, arXiv 1412.6980, section 2.1 (a step is about the rate). Howard,
Ruder, ULMFiT, arXiv 1801.06146 (discriminative rates: 2.6 per layer). Yang et al., arXiv 2203.03466 (which groups need
their own rate, and by how much). Published ratios between groups: docs/scales.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.learning_rates import ADAMS, lowest_ratio
from unstuck.diagnose.lr_curve import applied, flat_since_half, moments, near_frequencies
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.scales import optimizer_of
from unstuck.diagnose.unmoved import far_enough, initial_sd, sum_of_rates
from unstuck.runs import Series

LEAST_UPDATES = 100  # any run this short is only a test
STARVED = 0.15  # "a tenth" with what rounding of a printed 0.1 and unequal schedules add
# A group is starved below what is published for its kind, by this much: ratios are read from printed, rounded rates.
BELOW_PUBLISHED = 0.95
SEVERE = 0.02  # below it the group moves less in a whole run than the others in a fiftieth of it
# An update of about 1/1000 of the weights is healthy (Karpathy's rule of thumb, makemore part 4); a hundredth of it
# barely moves.
TINY_UPDATE_RATIO = 1e-5
SMALL_PARTS = re.compile(
    r"emb|wte|wpe|head|bias|norm|scalar|gain|unembed|lm_head|no_decay|nodecay|\bln|positional", re.I
)
HEADS = re.compile(r"head", re.I)  # nothing is published that trains a head so far above a body from scratch
# What people call a body that they did not train themselves, where they set its rate apart from a head's.
PRETRAINED_PARTS = re.compile(r"backbone|pre_?train|encoder|base_model|bert|resnet|\bvit\b", re.I)


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    rate: float
    algorithm: str
    share: float | None
    series: Series | None


@rule(code="LR006", stages="LCV", severity="warning", explains=("lr-too-low",))
def check(case: Case) -> Outcome:
    groups = [g for g in _groups(case) if g.rate > 0]
    if len(groups) < 2:
        return CouldNotCheck(("lr of two or more groups",))
    starved = _starved(case, groups)
    if starved is None:
        return Clear("no group is far below the others")
    group, ratio = starved
    evidence = _evidence(case, group, ratio)
    if case.loss is None and not evidence[1:]:
        return CouldNotCheck(("train/loss",))
    declared = group.name in (case.setting("group_lr_factors") or {})
    shown = len(evidence) > 1
    if not shown and not declared and SMALL_PARTS.search(group.name):
        return Clear(f"{group.name} has a lower rate of its own, and the loss shows no harm")
    severity: Severity = "warning" if shown else "note"
    if shown and ratio <= SEVERE and not declared:
        severity = "error"
    title = (
        f"Group {group.name} learns at {number(group.rate)}, {number(ratio)} of the other groups' rate"
        f"{', as declared' if declared else ''}{': ' + evidence[1].statistic if shown else ''}"
    )
    facts: dict[str, object] = {
        "group": group.name,
        "starved_factor": ratio,
        "factor": ratio,
        "declared": declared,
        "applied_lr": group.rate,
        "others_lr": group.rate / ratio,
    }
    return Found(title, tuple(evidence), 0.85 if shown else 0.5, severity, "", facts)


def _groups(case: Case) -> list[Group]:
    """Every group with its peak rate; from the log, and from the declared factors where the log has only one."""
    facts = case.run.raw_settings.get("groups")
    known = facts.value if facts is not None and isinstance(facts.value, dict) else {}
    # tables of embeddings hold most parameters and none of the computation: they are no measure of the other groups
    total = sum(
        float(g.get("parameters") or 0)
        for name, g in known.items()
        if isinstance(g, dict) and not SMALL_PARTS.search(str(name))
    )
    result = []
    for name, series in applied(case).items():
        entry = known.get(name) if isinstance(known.get(name), dict) else None
        algorithm = str((entry or {}).get("algorithm") or ("muon" if "muon" in name.lower() else ""))
        share = float(entry["parameters"]) / total if entry and entry.get("parameters") and total else None
        result.append(Group(name, float(series.values.max()), algorithm, share, series))
    factors = case.setting("group_lr_factors") or {}
    if len(result) < 2 and len(factors) >= 2:
        base = float(case.setting("learning_rate") or 1.0)
        result = [Group(str(n), base * float(f), "", None, None) for n, f in factors.items()]
    if len({g.algorithm for g in result}) > 1:
        # Muon and AdamW rates do not compare: compare the declared factors instead
        result = [
            Group(g.name, float(factors.get(g.name, 1.0)) * _reference(case), g.algorithm, g.share, g.series)
            for g in result
        ]
    return result


def _reference(case: Case) -> float:
    return float(case.setting("learning_rate") or 1.0)


def _starved(case: Case, groups: list[Group]) -> tuple[Group, float] | None:
    rates = np.array([g.rate for g in groups])
    if _is_ladder(rates):
        return None
    unsaid = case.start is None and any(PRETRAINED_PARTS.search(g.name) for g in groups)
    pretrained = unsaid or case.start in ("pretrained", "checkpoint")
    limit = BELOW_PUBLISHED * lowest_ratio("pretrained-body").ratio if pretrained else STARVED
    top = _usual_rate(case, groups)
    fastest = [g.name for g in groups if g.rate >= top]
    beside = all(map(SMALL_PARTS.search, fastest)) and not all(map(HEADS.search, fastest))
    if beside and not case.setting("group_lr_factors"):
        limit = min(limit, BELOW_PUBLISHED * lowest_ratio("beside-embeddings").ratio)
    low = [
        g
        for g in groups
        if g.rate <= limit * top * (1 + 1e-6) or (g.rate <= STARVED * top and _bound(case, g) is not None)
    ]
    if not low:
        return None
    # the group that holds the weights first, then the one that is furthest below
    group = min(low, key=lambda g: (bool(SMALL_PARTS.search(g.name)), -(g.share or 0.0), g.rate))
    if group.share is not None and group.share < 0.05:
        return None
    return group, group.rate / top


def _bound(case: Case, group: Group) -> tuple[float, float] | None:
    """(what its learning rates add up to, the size of its weights at the start) where the former is less; else None.

    Adam moves no weight much farther: such a group ends where it began.
    """
    started = initial_sd(case)
    if group.series is None or len(group.series) < 2 or started is None or SMALL_PARTS.search(group.name):
        return None
    if (group.algorithm or optimizer_of(case)) not in ADAMS or not far_enough(case, group.series):
        return None
    moved = sum_of_rates(group.series)
    return (moved, started) if int(group.series.updates[-1]) >= LEAST_UPDATES and moved < started else None


def _usual_rate(case: Case, groups: list[Group]) -> float:
    """What the others train at: the rate of the groups declared at factor 1, else the median (of two: the higher)."""
    factors = case.setting("group_lr_factors") or {}
    at_one = [g.rate for g in groups if float(factors.get(g.name, 0.0)) == 1.0]
    rates = sorted(at_one or (g.rate for g in groups))
    return rates[len(rates) // 2]


def _is_ladder(rates: np.ndarray) -> bool:
    """Layer-wise decay: three or more different rates with a nearly constant ratio of 0.3 to 1 between neighbours."""
    steps = np.unique(np.round(np.log(np.sort(rates)), 6))
    if len(steps) < 4:
        return False
    gaps = np.diff(steps)
    return bool(gaps.max() <= np.log(1 / 0.3) and gaps.max() - gaps.min() <= 0.1 * gaps.max())


def _evidence(case: Case, group: Group, ratio: float) -> list[Evidence]:
    """First the ratio; then what the loss or the updates show of it, if anything."""
    if group.series is not None:
        index = int(np.argmax(group.series.values))
        result = [moments(group.series, index, "rate of the group", group.rate / ratio)]
    else:
        setting = case.run.settings["group_lr_factors"]
        result = [
            Evidence("group_lr_factors", (0, case.run.updates), "factor of the group", ratio, STARVED, setting.source)
        ]
    updates = case.run.get(f"update_ratio/{group.name}")
    if updates is not None and len(updates.finite()):
        values = updates.finite()
        middle = float(np.median(values.values))
        if middle < TINY_UPDATE_RATIO:
            span = (int(values.updates[0]), int(values.updates[-1]))
            statistic = f"its updates are {middle:.2g} of its weights"
            result.append(Evidence(updates.name, span, statistic, middle, TINY_UPDATE_RATIO, values.source(0)))
            return result
    if (bound := _bound(case, group)) is not None and group.series is not None:
        moved, started = bound
        statistic = f"its rates add up to {moved:.2g}, so that its weights end where they began, {started:.2g} in size"
        span = (int(group.series.updates[0]), int(group.series.updates[-1]))
        return [*result, Evidence(group.series.name, span, statistic, moved, started, group.series.source(0))]
    if case.loss is None or case.loss_trend is None:
        return result
    span = (int(case.loss.updates[0]), int(case.loss.updates[-1]))
    level = float(case.loss_trend.values[-1])
    last = case.loss.source(len(case.loss) - 1)
    if near_frequencies(case, level):
        result.append(
            Evidence("train/loss", span, f"the loss of {level:.4g} is near what frequencies give", level, None, last)
        )
    elif (flat := flat_since_half(case)) is not None and flat[0]:
        statistic = f"the loss fell by {100 * max(flat[1], 0):.2g} % of its descent in the second half"
        result.append(Evidence("train/loss", span, statistic, flat[1], None, last))
    return result
