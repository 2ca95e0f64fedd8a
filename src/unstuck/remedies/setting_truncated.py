"""Write the value in the unit that its key counts in."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, counted_warmup, fact, key, prescribe


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    told = found.facts.get("key")
    named = told if isinstance(told, str) else "the setting"
    floor, peak = fact(found, "min_learning_rate"), case.setting("learning_rate")
    if floor and isinstance(peak, int | float) and 0 < floor < peak and "min_learning_rate" in case.run.settings:
        name = key(case, "min_learning_rate")
        reason = "the share of the peak that was written, as the absolute rate that the key takes"
        return (prescribe(case, {"min_learning_rate": floor}, f"Set {name} to {floor:.3g}.", "safe", reason),)
    if fact(found, "warmup_share") and (counted := counted_warmup(case)) is not None:
        return (counted,)
    return (advice(f"Give {named} in the unit that it counts in: updates for a count, 0 to 1 for a share."),)
