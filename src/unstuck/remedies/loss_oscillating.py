"""Shuffle where the swings are an epoch's; else half the learning rate, one step at a time."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import STEP_LAW, advice, fact, lower_rate

SHUFFLE = "Shuffle the training data before each epoch (shuffle=True, or a buffer longer than a class or a shard)."


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    source = f"half a good rate costs 0.007 nats, a rate too high far more ({STEP_LAW})"
    lower = lower_rate(case, found, "", divisor=2.0, source=source)
    if fact(found, "epoch_updates") is not None:
        return advice(SHUFFLE), lower
    return lower, advice(SHUFFLE)
