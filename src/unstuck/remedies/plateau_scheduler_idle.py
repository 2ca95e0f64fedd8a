"""A patience that would have fired in this very history; else a schedule that does not wait."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe

PLANNED = "Or plan the decay over the run (cosine or linear to zero): it needs no patience and cannot come too late."


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    if found.facts.get("cause") == "not applied":
        said = "Call the scheduler's step() with the validation loss after each evaluation, and log the learning rate."
        return (advice(said),)
    suggested, at = fact(found, "suggested_patience"), fact(found, "suggested_at")
    if not suggested or at is None:
        return (advice(PLANNED.removeprefix("Or ").capitalize()),)
    patience, name = round(suggested), key(case, "patience")
    reason = f"replayed over this run's validation it lowers the rate first at {found.facts.get('unit')} {at:,.0f}"
    lower = prescribe(case, {"patience": patience}, f"Lower {name} to {patience}.", "unsafe", reason)
    return lower, advice(PLANNED)
