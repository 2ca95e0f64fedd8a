"""A higher rank, as far as one step goes, to be measured against this one."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe

STEP = 4  # ours: the ranks that papers compare lie factors of 4 apart (8, 32, 128 or 16, 64, 256)
MOST = 256  # arXiv 2405.09673 and LoRA Without Regret: rank 256 is as good as full fine-tuning on their data
EVERYWHERE = "Put adapters on all linear layers, the MLP's first (attention alone holds less at equal parameters)."


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    rank, ratio = fact(found, "rank"), fact(found, "ratio")
    if not rank or not ratio or rank >= MOST:
        return (advice(EVERYWHERE),)
    wanted = int(min(MOST, STEP * rank))
    name = key(case, "lora_rank")
    reason = (
        f"{ratio:,.0f} times as much data as the adapters hold; one step of {STEP} at a time, compared with this run"
    )
    summary = f"Try {name} {wanted} instead of {rank:g}, with the scale alpha / rank kept, and compare the losses."
    return prescribe(case, {"lora_rank": wanted}, summary, "unsafe", reason), advice(EVERYWHERE)
