"""Half the batch and twice the accumulation: the same global batch in half of the memory for activations."""

from __future__ import annotations

from typing import Any

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, key, prescribe

SAVE = (
    "Save memory without the batch: activation checkpointing, a shorter context, bfloat16, or fewer trainable "
    "parameters (LoRA)."
)
GROWS = "Look for memory that grows: log loss.item() instead of the tensor, and keep no predictions on the device."


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    batch, accumulation = case.setting("batch_size"), case.setting("accumulation") or 1
    evaluation = case.setting("evaluation_batch_size")
    answer: list[Remedy] = []
    if found.facts.get("cause") == "evaluation":
        if evaluation and batch and evaluation > batch:
            said = f"Lower {key(case, 'evaluation_batch_size')} from {evaluation} to {batch}, which training fits in."
            change: dict[str, Any] = {"evaluation_batch_size": batch}
            return (prescribe(case, change, said, "safe", "a smaller evaluation batch changes no result"),)
        return (advice("Evaluate with a smaller batch, and move what is collected to the CPU after each batch."),)
    if found.facts.get("cause") == "later":
        answer.append(advice(GROWS))
    if isinstance(batch, int) and isinstance(accumulation, int) and batch > 1:
        half = next(size for size in range(batch // 2, 0, -1) if batch % size == 0)
        times = batch // half
        names = f"{key(case, 'batch_size')} from {batch} to {half} and {key(case, 'accumulation')}"
        said = f"Change {names} from {accumulation} to {accumulation * times}: the global batch stays the same."
        changes = {"batch_size": half, "accumulation": accumulation * times}
        reason = f"activations grow with the batch; {half} x {accumulation * times} = {batch} x {accumulation} samples"
        answer.insert(0, prescribe(case, changes, said, "safe", reason))
    return (*answer, advice(SAVE))
