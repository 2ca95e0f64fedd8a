"""A learning rate of full fine-tuning is used for LoRA.

Finds
Adapters trained at a peak below every published LoRA rate and nearer to what full fine-tuning of that width uses, while
the loss shows that it learns slowly. Without that sign in the loss: a note.

Why it matters
LoRA's best rate is about ten times full fine-tuning's, nearly independent of the rank, so the run does a tenth of its
work per update. The curve looks sound, only slow, and is easily taken for the limit of LoRA itself.

Evidence needed
The rank of the adapters and the applied (or configured) peak; at least 24 points of the training loss for more than a
note; the width, where known, for the rate to expect.

Not when
The peak lies in the published range of LoRA (from 1e-4 up); the loss falls as a sound run's does (a note at most); the
run trains on preferences (DPO and its like), whose rates are far lower.

Remedy
About ten times the rate: 5e-4, more for models narrower than 2,000, less for wider ones.

References
Schulman et al. 2025, "LoRA Without Regret" (Thinking Machines Lab): best rate 5e-5 x 10 x (2000 / width)^P with P
0.0775 (Qwen) to 0.781 (Llama). Biderman et al. 2024 (arXiv 2405.09673), figure 8. Hu et al. 2021 (arXiv 2106.09685),
table 11.
"""

from __future__ import annotations

import math

from unstuck.diagnose.case import Case
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.rules.learning_rate.lr_too_low import (
    LEAST_POINTS,
    LEAST_UPDATES,
    STRAIGHT,
    _straightness,
    _validation_improves,
)
from unstuck.diagnose.scales import LORA, optimizer_of, phase_of
from unstuck.diagnose.statistics import false_alarm_z

FULL = 5e-5  # LoRA Without Regret: base rate of full fine-tuning at width 2000
TIMES = 10.0  # the same: LoRA's best rate over full fine-tuning's, fitted over 14 models of Llama and Qwen
REFERENCE_WIDTH = 2000.0
POWERS = (0.0775, 0.781)  # Qwen and Llama; for another family the one that asks for less is taken
ADAMS = ("adam", "adamw")  # what the law was fitted with; others have scales of their own


@rule(code="LA003", stages="LC", severity="warning", explains=("lr-too-low", "undertrained", "loss-plateau"))
def check(case: Case) -> Outcome:
    if not case.setting("lora_rank"):
        return Clear("no adapters are configured") if case.run.settings else CouldNotCheck(("lora_rank",))
    if phase_of(case) == "preference":
        return Clear("preference training has rates of its own, far below")
    if optimizer_of(case) not in (None, *ADAMS):
        return CouldNotCheck(("a published LoRA rate for this optimizer",))
    configured = case.setting("learning_rate")
    peak = float(case.lr.values.max()) if case.lr is not None else configured
    if not isinstance(peak, int | float) or not peak > 0:
        return CouldNotCheck(("lr",))
    expected = _expected(case.setting("width"))
    # nearer (as a factor) to the full rate than to LoRA's, and below the lowest that is published for LoRA
    limit = min(expected / math.sqrt(TIMES), LORA.low)
    if peak >= limit:
        return Clear(f"the peak of {number(peak)} is in LoRA's range")
    slow = _slow(case)
    where = case.lr.name if case.lr is not None else "learning_rate"
    span = (0, case.run.updates)
    evidence = [
        Evidence(where, span, "peak learning rate", peak, limit, None if case.lr is None else case.lr.source(0))
    ]
    if slow is not None and case.loss is not None:
        said, value, threshold = slow
        evidence.append(Evidence("train/loss", span, said, value, threshold, case.loss.source(len(case.loss) - 1)))
    return Found(
        title=f"LoRA at a peak of {number(peak)}, a rate of full fine-tuning: about {number(expected)} is usual for it"
        + (f", and {slow[0]}" if slow is not None else ""),
        evidence=tuple(evidence),
        confidence=0.85 if slow is not None else 0.5,
        severity="warning" if slow is not None else "note",
        detail="" if slow is not None else "The loss does not show it: this is a hint, not a fault.",
        facts={"applied_lr": peak, "published_lr": expected, "published_low": LORA.low, "factor": expected / peak},
    )


def _slow(case: Case) -> tuple[str, float, float] | None:
    """(what shows that it learns slowly, its value, its threshold); None where nothing does."""
    loss = case.loss
    if loss is None or len(loss) < LEAST_POINTS or int(loss.updates[-1]) - int(loss.updates[0]) < LEAST_UPDATES:
        return None
    if _validation_improves(case):
        return None
    limit = false_alarm_z(len(loss)) * case.loss_noise
    if case.descent <= limit:
        return "the loss has not fallen beyond its noise", case.descent, limit
    straightness = _straightness(case)
    if straightness is not None and straightness >= STRAIGHT:
        return "the loss still falls in proportion to the accumulated learning rate", straightness, STRAIGHT
    return None


def _expected(width: object) -> float:
    """The published best rate, the lower of the two laws; at the reference width where the model's is not known."""
    ratio = REFERENCE_WIDTH / float(width) if isinstance(width, int | float) and width > 0 else 1.0
    return float(FULL * TIMES * min(ratio**power for power in POWERS))
