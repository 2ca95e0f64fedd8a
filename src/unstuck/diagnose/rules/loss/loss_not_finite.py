"""The loss is NaN or infinite.

Finds
A training, validation or objective value that is NaN or infinite; gives the first update and the share of the run
trained after it.

Why it matters
After a NaN reaches the weights nothing is learnt any more; every later update is wasted.

Evidence needed
Any loss series.

Not when
There is no loss at all. Validation alone that is not finite while training goes on says nothing of the weights, and
nothing of the run is lost. A loss that was never finite was so before any update: no learning rate has done it. Single
non-finite values that the run recovers from (float16 loss scaling skips such
updates) are a warning, not an error.

Remedy
Restart from the last finite checkpoint; look at the learning rate, the precision and the batch just before. Where there
never was a finite loss: at the weights, the data and the precision of one forward pass.

References
Micikevicius et al. 2018 (arXiv 1710.03740) on skipped updates in float16. PyTorch `torch.autograd.detect_anomaly`.
"""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

NAMES = ("train/loss", "train/objective", "val/loss")

EVALUATION = (
    "The weights are sound, or training would not be finite after it: look at the validation samples (targets that are "
    "not numbers, empty batches) and at how their loss is computed."
)

BEFORE = (
    "No update has been made when it is first seen, or none from finite weights: the starting weights, the data or the "
    "arithmetic of the forward pass are at fault, and no learning rate."
)


@rule(
    code="LO006",
    stages="LV",
    severity="error",
    explains=("loss-zero-by-filter", "undertrained", "best-checkpoint-passed", "loss-plateau"),
)
def check(case: Case) -> Outcome:
    present = [s for s in (case.run.get(name) for name in NAMES) if s is not None and len(s)]
    if not present:
        return CouldNotCheck(NAMES)
    evidence: list[Evidence] = []
    ends_finite = True
    for series in present:
        bad = ~np.isfinite(series.values)
        if not bad.any():
            continue
        index = int(np.argmax(bad))
        first, last = int(series.updates[index]), int(series.updates[-1])
        ends_finite &= not bad[-1]
        evidence.append(
            Evidence(
                series.name,
                (first, last),
                f"{int(bad.sum())} of {len(series)} values not finite, the first",
                float(series.values[index]),
                None,
                series.source(index),
            )
        )
    if not evidence:
        return Clear()
    evidence.sort(key=lambda e: e.updates[0])
    first, total = evidence[0].updates[0], max(1, case.run.updates)
    only_validation = _trains_on(case, {e.series for e in evidence}, first)
    wasted = 0.0 if ends_finite or only_validation else (total - first) / total
    never = not any(np.isfinite(series.values).any() for series in present)
    title = f"{evidence[0].series} is not finite from update {first} on; {wasted:.0%} of the run came after"
    if ends_finite:
        title = f"{evidence[0].series} was not finite at update {first}, and finite again later"
    elif only_validation:
        title = f"val/loss is not finite from update {first} on, and train/loss is finite to the end"
    elif never:
        title = f"No loss is ever finite: {evidence[0].series} is not at update {first}, where the record begins"
    return Found(
        title=title,
        evidence=tuple(evidence),
        confidence=0.9 if ends_finite else 0.99,
        severity="warning" if ends_finite else "error",
        detail=EVALUATION if only_validation else BEFORE if never else "",
        facts={
            "first_update": first,
            "wasted_share": wasted,
            "wasted_updates": 0 if not wasted else total - first,
            "recovered": ends_finite,
            "only_validation": only_validation,
            "never_finite": never,
            "applied_lr": None if case.lr is None else case.lr.at(first),
        },
    )


def _trains_on(case: Case, broken: set[str], first: int) -> bool:
    """Whether only validation is not finite, and training goes on after it: weights that are not numbers would show."""
    train = case.run.get("train/loss")
    return broken == {"val/loss"} and train is not None and len(train) > 0 and int(train.updates[-1]) > first
