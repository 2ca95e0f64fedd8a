"""As many loader processes as hide the wait; else data that are ready before the run."""

from __future__ import annotations

import math

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe

MOST = 16  # ours: above it the cores of a usual host per device are used up
PREPARE = "Prepare the data once (tokenise, pack, decode, memory-map), and prefetch into pinned memory."


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    workers, share = case.setting("data_workers"), fact(found, "share")
    if not isinstance(workers, int) or not share or share >= 1 or found.facts.get("bursts"):
        return (advice(PREPARE),)
    # One batch takes `busy` steps' worth of a process: the wait itself where the training process loads, all of the
    # workers' time where they cannot keep up. Hidden behind the compute, it needs that many processes.
    busy = share if workers == 0 else float(workers)
    wanted = min(MOST, max(workers + 1, math.ceil(busy / (1 - share))))
    if wanted <= workers:
        return (advice(PREPARE),)
    name = key(case, "data_workers")
    reason = (
        f"{share:.0%} of a step is waiting, so {wanted} processes load a batch in the time that is left for computing"
    )
    more = prescribe(case, {"data_workers": wanted}, f"Raise {name} from {workers} to {wanted}.", "unsafe", reason)
    return more, advice(PREPARE)
