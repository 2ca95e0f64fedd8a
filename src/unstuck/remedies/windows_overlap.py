"""Windows that do not overlap, and a plan in honest epochs."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    context, factor = fact(found, "context"), fact(found, "factor")
    to = f" ({context:g})" if context else ""
    times = f"{factor:.3g} times fewer" if factor and factor > 1 else "fewer"
    return (
        advice(
            f"Set the stride between training windows to the window{to}; an epoch then has {times} updates, so plan "
            "length, warm-up and horizon anew.",
            "each token is then seen once in an epoch",
        ),
    )
