"""Raise the limit to the norm that 95 % of the updates stay below."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe, two_digits

MOST = 10.0  # one decade at a time, the steps of a plain SGD grow with it; but to the common limit in any case
COMMON_CLIP = 1.0  # GPT-3 (arXiv 2005.14165), LLaMA (arXiv 2302.13971) and nanoGPT
MEDIAN_TO_HIGH = 2.0  # norms spread about a factor of two around their median where the 95th percentile is not given


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    limit, typical = case.setting("clip_norm"), fact(found, "typical_norm")
    high = fact(found, "high_norm") or (MEDIAN_TO_HIGH * typical if typical else None)
    name = key(case, "clip_norm")
    if not limit or not high or high <= limit:
        return (
            advice(f"Raise {name} to the norm that 95 % of the updates stay below, and log the norm before clipping."),
        )
    most = max(MOST * limit, COMMON_CLIP)
    wanted = two_digits(min(high, most))
    bounded = f" (to {most:g} at most)" if high > most else ""
    reason = f"95 % of the updates have a norm below {high:.2g}{bounded}; clipping is for the rare ones"
    summary = f"Raise {name} from {limit:g} to {wanted:g}."
    return (prescribe(case, {"clip_norm": wanted}, summary, "unsafe", reason),)
