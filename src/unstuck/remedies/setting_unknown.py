"""Write the known key."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    key, known = found.facts.get("key"), found.facts.get("known")
    if not isinstance(key, str) or not isinstance(known, str):
        return (advice("Write the key as the program reads it, and let it refuse keys that it does not know."),)
    return (advice(f"Write {known} in place of {key}.", "a program that does not know a key runs with its default"),)
