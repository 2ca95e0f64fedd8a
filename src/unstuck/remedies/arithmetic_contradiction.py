"""Correct the number that the program does not use."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    key, stated, implied = found.facts.get("key"), fact(found, "stated"), fact(found, "implied")
    if not isinstance(key, str) or stated is None or implied is None:
        return (advice("Find out which of the numbers the program uses, and correct the other one."),)
    return (
        advice(
            f"Find out whether {key} {stated:,g} or the {implied:,g} that the other settings give is what the program "
            "uses, and correct the other one.",
            "schedule, warm-up and every comparison are planned with it",
        ),
    )
