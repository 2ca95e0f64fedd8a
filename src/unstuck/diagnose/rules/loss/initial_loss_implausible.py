"""The first loss contradicts how the run started.

Finds
A pretrained model that starts near or above the unigram entropy, or far above its own known validation loss; a fresh
model whose first loss is far off ln V, with the integer that would explain it (accumulation, batch, devices).

Why it matters
The first line of a log is the cheapest test there is: the loss before any update depends on the model, the data and
the labels alone. GPT-2 that starts at 9.5 nats instead of 3.6 is given the wrong labels, whatever the learning rate.

Evidence needed
A loss within the first 2 updates, the vocabulary or the start's known loss, and whether the start is fresh.

Not when
A fresh model starts 5 to 20 % above ln V: post-norm blocks and wide head initialisations do that. Regression and
classification have no ln V.

Remedy
Test it on one batch: compare the loss of the logits with the targets shifted by 0, 1 and 2. The smallest must be
the one trained on.

References
Karpathy, "A recipe for training neural networks", 2019 (verify loss at init). GPT-2 QA, incident I4: 9.2-9.6 nats;
labels were shifted by the data and again by the model. nanoGPT: fresh GPT-2 starts at 10.99 for ln V = 10.82.
"""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.runs import Series

FIRST_UPDATES = 2  # after two updates of any sensible size the loss is still that of the start
FIRST_UPDATES_PRETRAINED = 20  # training lowers the loss, so a pretrained start that reads high after a few was higher
# Unigram entropy of English in GPT-2's BPE: about 7.6 nats = 0.7 ln V. A pretrained model above it knows nothing of
# the text it is asked about.
PRETRAINED_SHARE = 0.75
# 5-20 % above ln V is an initialisation, 25 % is not: with independent logits of standard deviation s the loss is
# ln V + s^2 / 2, so 1.25 ln V at V = 50257 means s = 2.3, where 0.02 x sqrt(width) gives 0.6 at width 1024.
FRESH_HIGH = 1.25
# Below ln V there is no initialisation at all: any confident guess of random weights raises the loss.
FRESH_LOW = 0.9
SAME = 0.05  # an integer factor explains the value when it leaves less than 5 %, the spread of initialisations


@rule(
    code="LO002",
    stages="LCP",
    severity="error",
    explains=("loss-plateau", "overfitting", "loss-at-chance", "undertrained", "loss-implausibly-low", "lr-too-low"),
)
def check(case: Case) -> Outcome:
    if case.setting("task") in ("regression", "classification"):
        return Clear("the task has no ln V")
    first = _first(case)
    known = case.setting("start_loss")
    missing = [] if first is not None else ["a loss at the start"]
    if case.chance is None and known is None:
        missing.append("vocabulary")
    if missing or first is None:
        return CouldNotCheck(tuple(missing))
    series, value = first, float(first.values[0])
    pretrained = case.start in ("pretrained", "checkpoint")
    if pretrained and int(series.updates[0]) <= FIRST_UPDATES_PRETRAINED:
        return _pretrained(case, series, value, known)
    if case.chance is None:
        return CouldNotCheck(("vocabulary",))
    if int(series.updates[0]) > FIRST_UPDATES:
        return CouldNotCheck((f"a loss within the first {FIRST_UPDATES} updates",))
    ratio = value / case.chance
    if FRESH_LOW <= ratio <= FRESH_HIGH:
        return Clear("the first loss is near ln V")
    factor = _factor(case, ratio)
    if ratio < FRESH_LOW and case.start != "fresh" and factor is None:
        return CouldNotCheck(("start (fresh or pretrained)",))
    cause = "the head is initialised too wide" if ratio > FRESH_HIGH else "targets leak, or the model is not fresh"
    if factor is not None:
        name, count = factor
        cause = f"the value is {'a sum over' if ratio > 1 else 'divided by'} {name} = {count}"
    return Found(
        title=f"First loss {value:.4g} is {ratio:.3g} x ln V = {case.chance:.4g}: likely {cause}",
        evidence=(_evidence(series, value, (FRESH_HIGH if ratio > 1 else FRESH_LOW) * case.chance),),
        confidence=0.9 if factor is not None else 0.7,
        severity="warning",
        detail="A fresh model gives every token about the same probability, so its first loss is ln V.",
        facts={"first_loss": value, "expected": case.chance, "ratio": ratio, "cause": cause}
        | ({"factor": factor[1], "factor_name": factor[0]} if factor else {}),
    )


def _first(case: Case) -> Series | None:
    """The earliest of the first training and first validation loss (training first on a tie)."""
    candidates = [s for s in (case.loss, case.val) if s is not None and len(s)]
    return min(candidates, key=lambda s: int(s.updates[0])) if candidates else None


def _pretrained(case: Case, series: Series, value: float, known: float | None) -> Outcome:
    chance = case.chance
    if known is not None:
        # halfway from the known loss to ln V; without ln V, twice the known loss. A base that is too sure of itself may
        # be known to start above ln V on text of another kind.
        threshold = max((known + chance) / 2, (1 + SAME) * known) if chance is not None else 2 * known
    else:
        if chance is None:
            return CouldNotCheck(("vocabulary",))
        threshold = PRETRAINED_SHARE * chance
    if value <= threshold:
        return Clear("a pretrained start below chance")
    against = f"its known {known:.3g}" if known is not None else f"ln V = {chance:.4g}"
    return Found(
        title=f"A pretrained model starts at {value:.4g} nats (against {against}): likely labels shifted twice",
        evidence=(_evidence(series, value, threshold),),
        confidence=0.9,
        detail="Labels shifted twice: the data shifts the labels by one and the model shifts them again, so token "
        "t + 2 is learnt. The test: on one batch compare the cross-entropy of the logits with the labels moved by 0, "
        "1 and 2; the shift trained on must have the lowest. Other causes: another tokenizer than the model's, or "
        "weights that were not loaded.",
        facts={"first_loss": value, "expected": known, "chance": chance, "cause": "labels shifted twice"},
    )


def _factor(case: Case, ratio: float) -> tuple[str, int] | None:
    """The setting whose integer value explains the ratio to ln V (summed or divided), None if none does."""
    for name in ("accumulation", "batch_size", "context", "world_size"):
        count = case.setting(name)
        if isinstance(count, int) and count >= 2 and abs((ratio / count if ratio > 1 else ratio * count) - 1) <= SAME:
            return name, count
    return None


def _evidence(series: Series, value: float, threshold: float) -> Evidence:
    update = int(series.updates[0])
    return Evidence(series.name, (update, update), "first loss", value, threshold, series.source(0))
