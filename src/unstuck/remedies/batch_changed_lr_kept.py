"""Let the learning rate follow the batch."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe, two_digits


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    asked, applied = fact(found, "asked_lr"), fact(found, "applied_lr")
    if not asked or asked <= 0 or not applied or applied <= 0:
        return (
            advice("Scale the learning rate by the root of the batch's ratio (Adam), or by the ratio itself (SGD)."),
        )
    bounded = two_digits(min(max(asked, applied / 10), applied * 10))  # a decade at a time
    summary = f"Set {key(case, 'learning_rate')} to {bounded:.2g}, or keep the old effective batch by accumulation."
    reason = "the root of the batch's ratio for Adam (arXiv 2205.10287), the ratio for SGD (arXiv 1706.02677)"
    return (prescribe(case, {"learning_rate": bounded}, summary, "unsafe", reason),)
