"""Training and validation text differ from the first evaluation on.

Finds
Validation lies above training from the first evaluations on, before the training text was seen twice, and the gap
stays: the splits are not alike.

Why it matters
The validation loss then measures another distribution; its level and its gap to training say nothing of overfitting.

Evidence needed
Training loss and at least 5 evaluations; the tokens of one epoch or the epoch, to rule out memorisation (else
only evaluations in the first 15 % of the run and gaps above 20 % count).

Not when
The gap grows from near nothing (overfitting); the first evaluations come after the first epoch; the gap is below
10 % of the loss (dropout, averaging over an epoch and ordinary document differences give as much).

Remedy
Split by document at random (and per source); a pretrained start evaluated before training shows the gap at once.

References
FactLM, incident I0: validation was the tail of the concatenated books, one source only. Quinonero-Candela et al.,
"Dataset shift in machine learning", 2009.
"""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import false_alarm_z

# 10 %: nanoGPT's shakespeare_char, whose validation is the tail of one book, is 5 % apart after one epoch.
MATERIAL_SHARE = 0.10
FIRST_PART = 0.15  # of the run: memorisation that early has a long run of overfitting behind it
# A gap that is there from the start keeps its size; memorisation at least doubles it.
KEEPS = 0.5


@rule(code="GE003", stages="LP", severity="warning")
def check(case: Case) -> Outcome:
    val, train = case.val, case.train_at_evaluations
    missing = tuple(name for name, series in (("val/loss", val), ("train/loss", case.loss)) if series is None)
    if val is None or train is None or case.loss is None:
        return CouldNotCheck(missing)
    if len(val) < 5:
        return CouldNotCheck(("at least 5 evaluations",))
    last_first_epoch = _end_of_first_epoch(case)
    share = MATERIAL_SHARE
    if last_first_epoch is None:
        # unknown when text comes back: only the very first evaluations count, and the gap must be twice as large
        last_first_epoch, share = FIRST_PART * float(case.run.updates), 2 * MATERIAL_SHARE
    # an untrained model has no gap whatever the splits: only evaluations after the training log began count
    seen = (val.updates >= max(1, int(case.loss.updates[0]))) & (val.updates <= last_first_epoch)
    if seen.sum() < 2:
        return CouldNotCheck(("2 evaluations within the first epoch (train_tokens and tokens per update, or epoch)",))
    gap = val.values - train
    early = float(np.median(gap[seen][:3]))
    final = float(np.median(gap[-3:]))
    scatter = case.val_noise if case.val_noise == case.val_noise else 0.0
    loss_noise = case.loss_noise if case.loss_noise == case.loss_noise else 0.0
    threshold = max(
        share * float(np.median(val.values[seen][:3])),
        # median of 3: its error is 1.25 sd / sqrt(3)
        false_alarm_z(1) * 1.25 / 3**0.5 * float(np.hypot(scatter, loss_noise)),
    )
    if early <= threshold:
        return Clear("training and validation start together")
    if early < KEEPS * final:
        return Clear("the gap grows: memorisation, not different text")
    first, last = int(val.updates[seen][0]), int(val.updates[-1])
    return Found(
        title=f"Validation is {early:.3g} above training from the first evaluations on (update {first})",
        evidence=(
            Evidence(
                "val/loss",
                (first, last),
                "gap to training in the first evaluations",
                early,
                threshold,
                val.source(int(np.argmax(seen))),
            ),
        ),
        confidence=0.75,
        facts={"gap": early, "final_gap": final},
    )


def _end_of_first_epoch(case: Case) -> float | None:
    """The update at which the training text has been seen once; None if unknown."""
    epoch = case.run.get("epoch")
    if epoch is not None and len(epoch):
        inside = epoch.finite().values < 1.0
        if inside.any():
            return float(epoch.finite().updates[inside][-1])
        return 0.0
    train_tokens, epochs = case.setting("train_tokens"), case.setting("epochs")
    if train_tokens and case.tokens_per_update:
        return float(train_tokens) / case.tokens_per_update
    if epochs and case.planned_updates:
        return case.planned_updates / float(epochs)
    return None
