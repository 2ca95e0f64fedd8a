"""What keeps the gradient from shrinking is in the model, not in a setting; a dead network starts again."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import STEP_LAW, advice, fact, lower_rate

DIVISOR = 4.0  # eight times the optimum diverges (Step Law): a quarter lands near twice the optimum or below


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    if fact(found, "late_norm") is not None:
        source = f"8x the optimum diverges, so a quarter is at most about twice the optimum ({STEP_LAW})"
        again = "Start again from fresh weights: a dead network does not come back. Count the activations that are 0."
        return advice(again), lower_rate(case, found, " for it", divisor=DIVISOR, source=source)
    named = found.facts.get("groups")
    told = ", ".join(str(g) for g in named) if isinstance(named, tuple) else "the starved layers"
    said = (
        f"Give {told} a path for the gradient: residual connections, normalisation before each block, He or Glorot "
        "initialisation, no saturating activation in a chain; and check that no detach or no_grad cuts the graph."
    )
    return (advice(said, "Glorot, Bengio 2010; He et al. 2015 (arXiv 1502.01852)"),)
