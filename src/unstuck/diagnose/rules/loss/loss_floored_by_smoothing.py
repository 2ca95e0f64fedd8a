"""Label smoothing is in the reported loss, so its floor is above the cross-entropy's.

Finds
Label smoothing is configured and the reported loss never goes below the floor that smoothing implies. Computes the
floor: -(1 - e + e/V) ln(1 - e + e/V) - (V - 1)(e/V) ln(e/V) for smoothing e over V classes.

Why it matters
A reported 3.9 with smoothing 0.1 at V = 50257 is 1.41 nats of smoothing and little else than a shifted scale: it reads
as a plateau, cannot be compared with other runs, and perplexity taken from it is wrong.

Evidence needed
The configuration (label_smoothing), the vocabulary or the number of classes, and a loss. Where the number is unknown,
the floor of two classes is the least that any has: a note.

Not when
The reported loss goes below that floor (so it is unsmoothed); unstuck's own runs, which report the unsmoothed loss.

Remedy
Report (and choose checkpoints by) the cross-entropy without smoothing; smooth the objective only.

References
Szegedy et al. 2016 (arXiv 1512.00567), section 7. FactLM, incident I0: 1.4075 nats at e 0.1, V 50257.
"""

from __future__ import annotations

import math

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

# From a quarter of the reported loss on, the floor changes what the curve seems to say.
MISLEADING_SHARE = 0.25


def smoothing_floor(smoothing: float, classes: int) -> float:
    """Entropy in nats of the smoothed target: what the loss of a perfect model reads.

    Args:
        smoothing: e in [0, 1); the target has 1 - e + e / V, every other class e / V (as in torch and transformers).
        classes: V.
    """
    if smoothing <= 0 or classes < 2:
        return 0.0
    rest = smoothing / classes
    right = 1 - smoothing + rest
    return -right * math.log(right) - (classes - 1) * rest * math.log(rest)


# The head of a fresh classifier starts at ln C within a few percent; 3 % separates C from C + 1 up to about 10 classes.
FRESH_SPREAD = 0.03


def _classes(case: Case) -> int | None:
    """Classes of a fresh classifier from its first loss, ln C; None where that is no whole number."""
    if case.loss is None or case.start in ("pretrained", "checkpoint"):
        return None
    first = float(case.loss.values[0])
    classes = round(math.exp(min(first, 12.0)))
    near = classes >= 2 and abs(first / math.log(classes) - 1) <= FRESH_SPREAD
    return classes if near else None


@rule(code="LO010", stages="CP", severity="warning", explains=("loss-plateau",))
def check(case: Case) -> Outcome:
    smoothing, vocabulary = case.setting("label_smoothing"), case.setting("vocabulary")
    if case.run.dialect == "unstuck":
        return Clear("unstuck reports the unsmoothed loss")
    if smoothing is None:
        return CouldNotCheck(("label_smoothing",))
    if not 0 < float(smoothing) < 1:
        return Clear("no label smoothing")
    reported = [s for s in (case.val, case.loss) if s is not None]
    if not reported:
        return CouldNotCheck(("train/loss or val/loss",))
    # a classifier of text has a vocabulary as well, which is not what its loss is over
    of_labels = case.setting("task") == "classification"
    known = case.classes or (_classes(case) if of_labels else vocabulary)
    floor = smoothing_floor(float(smoothing), int(known or 2))
    # training and validation may differ: some trainers smooth the training loss only
    smoothed = [s for s in reported if float(s.values.min()) >= floor > 0]
    if not smoothed:
        return Clear("the reported loss goes below the smoothed floor: it is not smoothed")
    series = smoothed[0]
    index = int(series.values.argmin())
    lowest = float(series.values[index])
    share = floor / lowest
    # solve the reported loss for the cross-entropy: (1 - e) ce + e (mean of -ln p) = reported, with mean -ln p about
    # that of the smoothed target, ln(V / e): a good model's excess is then about (reported - floor) / (1 - e)
    excess = (lowest - floor) / (1 - float(smoothing))
    at_least = "" if known else "at least "
    return Found(
        title=f"Label smoothing {smoothing:g} puts a floor of {at_least}{floor:.4f} nats under the reported loss "
        f"({lowest:.4g})",
        evidence=(
            Evidence(
                series.name,
                (int(series.updates[0]), int(series.updates[-1])),
                "lowest reported loss, against the floor",
                lowest,
                floor,
                series.source(index),
            ),
        ),
        confidence=0.9,
        severity="warning" if share >= MISLEADING_SHARE and known else "note",
        detail=f"The cross-entropy that belongs to {lowest:.4g} is near {excess:.3g} nats, if the model is calibrated."
        if known
        else "The number of classes is not in the record: with more of them the floor is higher.",
        facts={"floor": floor, "smoothing": float(smoothing), "lowest": lowest, "excess": excess, "share": share},
    )
