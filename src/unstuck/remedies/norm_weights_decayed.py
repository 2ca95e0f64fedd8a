"""No weight decay for tensors below two dimensions."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    return (
        advice(
            "Put biases and norm gains (tensors below two dimensions) into a parameter group with weight_decay 0.",
            "as nanoGPT and the transformers Trainer do",
        ),
    )
