"""Clip above the norm that was typical before it grew; else lower the learning rate."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import STEP_LAW, fact, key, lower_rate, prescribe, two_digits

# Twice the typical norm leaves sound updates as they are and cuts what grows by orders of magnitude.
ABOVE_TYPICAL = 2.0
COMMON_CLIP = 1.0  # GPT-3 (arXiv 2005.14165), LLaMA (arXiv 2302.13971) and nanoGPT


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    typical, limit = fact(found, "typical_norm"), case.setting("clip_norm")
    wanted = two_digits(ABOVE_TYPICAL * typical) if typical else COMMON_CLIP
    answer: list[Remedy] = []
    if not limit or limit > 2 * wanted:
        reason = (
            f"twice the norm of {typical:.2g} that was typical before it grew"
            if typical
            else "1.0 is the common limit (arXiv 2005.14165, 2302.13971)"
        )
        name = key(case, "clip_norm")
        answer.append(prescribe(case, {"clip_norm": wanted}, f"Clip gradients at {wanted:g} ({name}).", "safe", reason))
    source = f"half a good rate costs 0.007 nats, a rate too high far more ({STEP_LAW})"
    answer.append(lower_rate(case, found, "", divisor=2.0, source=source))
    return tuple(answer)
