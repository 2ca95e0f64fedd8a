"""Divide once, by what was summed over."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key

BY_SETTING = {
    "accumulation": "Divide each micro-batch's loss by {key} before backward, and log the sum of the divided losses.",
    "batch_size": "Take the mean over the samples (reduction='mean', or divide by {key}) before backward.",
    "context": "Take the mean over the target tokens (divide by their number, {key} at most) before backward.",
    "world_size": "Average the logged loss over the devices (all-reduce with the mean, or divide by {key}).",
    "batches per epoch": "Divide the sum over an epoch's batches by their number before it is logged.",
}
ALREADY = "Divide by {key} once: the loss, or the gradients, or the logged value is divided a second time."


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    factor, named = fact(found, "factor"), found.facts.get("factor_name")
    names = str(named).split(" x ") if named else []
    if not names:
        said = "Find what the loss is summed over (micro-batches, samples, tokens, devices) and divide by it."
        return (advice(said),)
    if factor is not None and factor < 1:
        return (advice(ALREADY.format(key=" x ".join(key(case, name) for name in names))),)
    return tuple(advice(BY_SETTING[name].format(key=key(case, name))) for name in names if name in BY_SETTING)
