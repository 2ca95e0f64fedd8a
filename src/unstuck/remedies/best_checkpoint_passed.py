"""Use the best checkpoint, and stop there next time."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact
from unstuck.remedies.overfitting import stop_at


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    best = fact(found, "best_update")
    use = f"Use the checkpoint of update {best:,.0f}." if best else "Use the checkpoint with the best validation loss."
    return (stop_at(case, found), advice(use, "keep the best checkpoint besides the last"))
