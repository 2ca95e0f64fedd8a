"""Mend what the first loss contradicts: labels, weights that were not loaded, or the loss's unit."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    cause = found.facts.get("cause")
    named = f" ({cause})" if isinstance(cause, str) and cause else ""
    if case.setting("start") in ("pretrained", "checkpoint") or "shift" in str(cause):
        text = (
            f"Check the labels{named}: if the model shifts them itself (transformers does), pass labels = inputs. "
            "Then check that the weights were really loaded."
        )
        why = "a pretrained model starts near its published loss, not near ln V (incident I4: 9.2-9.6 instead of 3.6)"
    else:
        text = f"Check the loss's reduction{named}: mean over target tokens, divided by the accumulation once."
        why = "a fresh model starts at ln V, whatever its size"
    return (advice(text, why),)
