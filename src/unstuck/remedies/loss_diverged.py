"""Go back to before it left, with a lower learning rate."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import STEP_LAW, advice, fact, lower_rate

DIVISOR = 4.0  # eight times the optimum diverges (Step Law): a quarter lands near twice the optimum or below


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    source = f"8x the optimum diverges, so a quarter is at most about twice the optimum ({STEP_LAW})"
    answer = [lower_rate(case, found, "", divisor=DIVISOR, source=source)]
    best = fact(found, "best_update")
    if best:
        answer.append(advice(f"Start again from the checkpoint of update {best:,.0f} or before; what follows is lost."))
    return tuple(answer)
