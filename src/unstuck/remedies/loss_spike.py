"""Clip where nothing is clipped; a spike that recovered needs nothing else."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import STEP_LAW, advice, key, lower_rate, prescribe

COMMON_CLIP = 1.0  # GPT-3 (arXiv 2005.14165), LLaMA (arXiv 2302.13971) and nanoGPT


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    answer: list[Remedy] = []
    if "clip_norm" in case.run.settings and not case.setting("clip_norm"):
        summary = f"Clip gradients at {COMMON_CLIP:g} ({key(case, 'clip_norm')})."
        why = "one batch then moves the weights by a bounded amount; 1.0 is the common limit (arXiv 2005.14165)"
        answer.append(prescribe(case, {"clip_norm": COMMON_CLIP}, summary, "safe", why))
    if found.facts.get("recovered") is True:
        text = "Let it go on: the loss came back. If spikes return, skip the batches around them."
        answer.append(
            advice(text, "PaLM restarted 100 steps before a spike and skipped 200-500 batches (arXiv 2204.02311)")
        )
    else:
        source = f"half a good rate costs 0.007 nats, a rate too high far more ({STEP_LAW})"
        answer.append(lower_rate(case, found, "", divisor=2.0, source=source))
    return tuple(answer)
