"""About ten times the rate, towards the published one."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe, scaled_rates

MOST = 10.0  # LoRA Without Regret: the factor between the two; no more than that in one step


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    published, applied = fact(found, "published_lr"), fact(found, "applied_lr")
    name = key(case, "learning_rate")
    if not published or not applied or published <= applied:
        return (advice(f"Measure ten times the {name} in short paired runs."),)
    factor = min(published / applied, MOST)
    base = case.setting("learning_rate") or applied
    changes = scaled_rates(case, factor) if case.setting("learning_rate") else {"learning_rate": base * factor}
    reason = f"LoRA's best rate is about ten times full fine-tuning's; {published:.2g} is published for this width"
    return (prescribe(case, changes, f"Raise {name} from {base:.3g} to {base * factor:.2g}.", "unsafe", reason),)
