"""Training and validation text differ from the first evaluation on.

Finds
Validation lies above training from the first evaluations on, before the training text was seen twice, and the gap
stays: the splits are not alike. Where the model has to learn before they differ, the gap opens within the first epoch.

Why it matters
The validation loss then measures another distribution; its level and its gap to training say nothing of overfitting.

Evidence needed
Training loss and at least 5 evaluations; the tokens or samples of one epoch or the epoch, to rule out memorisation
(else only evaluations in the first 15 % of the run and gaps above 20 % count). With one row per epoch the first row
lies above the mean of the first two training losses, the most that a falling loss can be at the end of the epoch: a
note, unless it lies above the first of them. Where the first evaluation comes in the second epoch, or alone in the
first, no evaluation of the run is as low as training was at the end of the first one: a note as well.

Not when
The gap grows from near nothing after the first epoch (overfitting), or to less than 20 % within it; the first
evaluations come after the second epoch, or while the training loss has blown up; the gap is below 10 % of the loss
(averaging over an epoch and ordinary document differences give as much) or within three standard errors of so small a
validation set, or within the scatter of the evaluations around; training lies above validation (dropout, augmentation);
the gap closes again, which averaged weights, batch normalisation or the order of the data do (order-unshuffled).

Remedy
Split by document at random (and per source); a pretrained start evaluated before training shows the gap at once.

References
FactLM, incident I0: validation was the tail of the concatenated books, one source only. Quinonero-Candela et al.,
"Dataset shift in machine learning", 2009.
"""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.gap import Gap, gap_at_start
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

MEMORY = (
    "A model that remembers most of what it saw once (overfitting within two epochs) makes the same rows: evaluate "
    "within the first epoch, which tells."
)


@rule(code="GE003", stages="LP", severity="warning", explains=("validation-noisy",))
def check(case: Case) -> Outcome:
    val = case.val
    missing = tuple(name for name, series in (("val/loss", val), ("train/loss", case.loss)) if series is None)
    if val is None or case.loss is None:
        return CouldNotCheck(missing)
    if len(val) < 5:
        return CouldNotCheck(("at least 5 evaluations",))
    gap = gap_at_start(case)
    if gap is None:
        return CouldNotCheck(("2 evaluations within the first epoch (train_tokens and tokens per update, or epoch)",))
    if gap.early <= gap.threshold:
        return Clear("training and validation start together")
    if gap.grows:
        return Clear("the gap grows: memorisation, not different text")
    if gap.closes:
        return Clear("the gap closes: other text would stay as far away")
    first, last = int(val.updates[gap.first]), int(val.updates[-1])
    since = "within the first epoch" if gap.opened else "from the first evaluations on"
    return Found(
        title=f"Validation is {gap.early:.3g} above {gap.against} {since} ({case.step} {first})",
        evidence=(
            Evidence(
                "val/loss",
                (first, last),
                "gap to training within the first epoch" if gap.opened else "gap to training in the first evaluations",
                gap.early,
                gap.threshold,
                val.source(gap.first),
            ),
        ),
        confidence=0.75 if gap.sure else 0.5,
        severity=None if gap.sure else "note",
        detail=_order(gap) if gap.sure else MEMORY,
        facts={"gap": gap.early, "final_gap": gap.final},
    )


def _order(gap: Gap) -> str:
    """What a run that saw only part of its data cannot rule out."""
    if not gap.seen < 1:
        return ""
    return (
        f"Only {gap.seen:.0%} of the training data were read: where they come in the order of the file, it is this "
        "part that differs from the rest (order-unshuffled). Shuffle, and the gap goes."
    )
