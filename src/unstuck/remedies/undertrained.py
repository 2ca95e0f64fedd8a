"""Train longer, at most twice as long at a time."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, known, prescribe

MOST = 2.0  # a projection is worth little beyond the length that it was fitted on


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    more = fact(found, "more_updates")
    planned = case.setting("updates") or case.run.updates
    if not more or not planned:
        return (advice("Train longer: the loss was still falling steeply."),)
    target = round(min(planned + more, MOST * planned))
    counted = "epochs" if case.run.axis == "epoch" else "updates"
    changes = {counted: target}
    horizon = case.setting("horizon_updates")
    if horizon and known(case, "horizon_updates") and round(horizon) == round(planned):
        changes["horizon_updates"] = target
    projected = fact(found, "projected_loss")
    to = f", where the curve projects a loss of {projected:.3g}" if projected is not None else ""
    fell = f"the loss still fell when the run ended{to}" if case.loss is not None else "so few updates move no weights"
    reason = f"{fell}; at most twice as long at a time"
    return (prescribe(case, changes, f"Train for {target:,} {counted} instead of {planned:,.0f}.", "safe", reason),)
