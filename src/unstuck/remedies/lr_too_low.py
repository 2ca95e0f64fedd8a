"""Raise the learning rate towards the published scale, at most tenfold at a time."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe, scaled_rates

# Above eight times the optimum training diverges (Step Law): one decade at a time, measured, is the bound.
MOST = 10.0


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    published = fact(found, "published_lr")
    base = case.setting("learning_rate") or fact(found, "applied_lr")
    name = key(case, "learning_rate")
    if not published or not base or published <= base:
        return (advice(f"Measure a higher {name} in short paired runs: unstuck prove RECIPE --change {name}=..."),)
    factor = min(published / base, MOST)
    bounded = f", {MOST:g}x at a time" if published / base > MOST else ""
    reason = f"the published scale for this optimizer and size is {published:.2g}{bounded}"
    changes = scaled_rates(case, factor) if case.setting("learning_rate") else {"learning_rate": base * factor}
    summary = f"Raise {name} from {base:.3g} to {base * factor:.2g}."
    return (prescribe(case, changes, summary, "unsafe", reason),)
