"""Let the schedule span the updates that the run has."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, known, planned_updates, prescribe

REASON = "the schedule is to end when the run ends; time is counted in optimizer updates"


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    planned = planned_updates(case, found)
    accumulation = case.setting("accumulation") or 1
    applied = fact(found, "horizon_applied")
    if planned is None:
        return (advice("Set the schedule's length to the number of optimizer updates of the run.", REASON),)
    configured = case.setting("horizon_updates")
    if known(case, "horizon_updates") and configured and round(configured) != planned:
        said = f"{key(case, 'horizon_updates')} from {configured:,.0f} to {planned:,}"
        summary = f"Set {said}: the schedule then spans the run."
        return (prescribe(case, {"horizon_updates": planned}, summary, "safe", REASON),)
    spans = f", not {applied:,.0f}" if applied else ""
    steps = " (micro-batches / accumulation)" if accumulation > 1 else ""
    return (
        advice(
            f"Build the schedule over {planned:,} optimizer updates{steps}{spans}, and advance it once per update.",
            REASON,
        ),
    )
