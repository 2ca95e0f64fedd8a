"""Give the starved group the rate that the rest of the model trains at."""

from __future__ import annotations

from unstuck.config.dialects import in_dialect
from unstuck.config.patch import Change
from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact

REASON = (
    "1 is the rate that the rest of this model already stands; factors below it are for tensors that would be unstable "
    "at it (layer-wise decay in fine-tuning, arXiv 2003.10555, stays above 0.5 between neighbours)"
)


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    factors = case.setting("group_lr_factors")
    group = found.facts.get("group")
    starved = fact(found, "starved_factor")
    if not isinstance(group, str):
        return (advice("Give the starved group the learning rate of the others.", REASON),)
    ratio = f" ({starved:.3g} now)" if starved else ""
    if not isinstance(factors, dict) or group not in factors or factors[group] >= 1.0:
        return (advice(f"Raise the learning rate of group {group} to that of the others{ratio}.", REASON),)
    change = Change("group_lr_factors", dict(factors), {**factors, group: 1.0})
    theirs = in_dialect(change, case.run)
    summary = f"Set {theirs.key} from {factors[group]:g} to 1: group {group} learns at the base rate."
    return (Remedy(summary, "unsafe", (change,), REASON),)
