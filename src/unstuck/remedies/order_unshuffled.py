"""Shuffle the training data anew in every epoch."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    key = found.facts.get("key")
    how = f"set {key} to true" if isinstance(key, str) and "shuffle" in key else "DataLoader(..., shuffle=True)"
    reason = "neighbours in a file are alike, and a fixed order gives batches that pull one way and then back"
    return (advice(f"Shuffle the training data anew in every epoch, with a seed ({how}).", reason),)
