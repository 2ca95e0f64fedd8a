"""Look at inputs and labels first: no learning rate teaches a model that cannot see what it is to predict."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    if found.facts.get("memorised"):  # one batch can be learnt by heart with any labels
        what = "Print 20 training inputs beside their labels, and look for where one is reordered without the other."
        return (advice(what),)
    return (
        advice(
            "Train on one batch of 8 samples until its loss is near 0; if that fails, the loss does not depend on the "
            "input: check labels, masks and that gradients reach the first layer.",
            "a sound model overfits one batch in a few hundred updates whatever the schedule "
            "(Karpathy, A Recipe for Training Neural Networks)",
        ),
    )
