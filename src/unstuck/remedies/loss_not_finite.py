"""Leave float16, clip where nothing is clipped, then lower the learning rate."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import STEP_LAW, advice, fact, key, lower_rate, prescribe

COMMON_CLIP = 1.0  # GPT-3 (arXiv 2005.14165), LLaMA (arXiv 2302.13971) and nanoGPT
DIVISOR = 4.0  # as for a loss that diverged


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    if found.facts.get("only_validation"):
        return (advice("Look at the validation samples and at how their loss is computed: the weights are sound."),)
    answer: list[Remedy] = []
    if case.setting("precision") == "float16":
        why = "float16 ends at 65,504; bfloat16 has float32's range and needs no loss scaling (arXiv 1905.12322)"
        answer.append(advice("Train in bfloat16, or float32 where the device has no bfloat16.", why))
    if found.facts.get("never_finite"):
        look = "Run one batch forward in float32 before any update, and look for the first value that is not finite:"
        return (*answer, advice(f"{look} in the loaded weights, the inputs and targets, then layer by layer."))
    if "clip_norm" in case.run.settings and not case.setting("clip_norm"):
        summary = f"Clip gradients at {COMMON_CLIP:g} ({key(case, 'clip_norm')})."
        why = "1.0 is the common limit (arXiv 2005.14165, 2302.13971)"
        answer.append(prescribe(case, {"clip_norm": COMMON_CLIP}, summary, "safe", why))
    source = f"8x the optimum diverges, so a quarter is at most about twice the optimum ({STEP_LAW})"
    answer.append(lower_rate(case, found, "", divisor=DIVISOR, source=source))
    first = fact(found, "first_update")
    at = f" before update {first:,.0f}" if first else ""
    answer.append(advice(f"Start again from a checkpoint{at}, and stop a run whose loss is not finite."))
    return tuple(answer)
