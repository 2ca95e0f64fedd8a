"""One change at a time, or a measurement."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    return (
        advice(
            "Change one of them at a time, or measure each alone: unstuck prove RECIPE --change key=value.",
            "the effect of changes made together belongs to none of them",
        ),
    )
