"""The adapters hold far less than the data could ask of them.

Finds
LoRA whose trainable parameters can store less than a tenth of the description length of the training data (a note).
Whether a run tracks a higher rank at first and then breaks away shows only beside the run of higher rank.

Why it matters
Within its capacity LoRA learns as full fine-tuning does; beyond it the loss falls more slowly than a higher rank's,
from the update on at which the adapters are full.

Evidence needed
The rank, the trainable parameters (or width and number of layers), the tokens of the training data and the training
loss; a second run of higher rank for more than a note.

Not when
The parameters suffice for the whole data. Between that and a tenth of it nothing can be said from one run: text asks
for far less than its description length where the model only has to learn a style or a task.

Remedy
A higher rank, and adapters on all linear layers (the MLP's first), measured against this one.

References
Biderman et al. 2024, "LoRA Learns Less and Forgets Less" (arXiv 2405.09673). Schulman et al. 2025, "LoRA Without
Regret" (Thinking Machines Lab): capacity against the log-loss summed over the first epoch. Allen-Zhu, Li 2024 (arXiv
2404.05405): 2 bits of knowledge per parameter.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

BITS_PER_PARAMETER = 2.0  # arXiv 2404.05405: what a parameter holds after enough training; fewer after little
# "Far below": an order of magnitude. The description length bounds what exact memory of the data asks for, and what
# carries over to other text is less (LoRA Without Regret).
FAR_BELOW = 10.0
# Adapters on every linear layer of a block of width d: 4 attention matrices of 2 d inputs and outputs, 3 of a gated MLP
# of 8/3 d with 11 d in all: 19 d r parameters; more than any usual choice has.
PER_WIDTH_AND_RANK = 19
OTHER_RUN = "a run of higher rank on the same data"


@rule(code="LA002", stages="LC", severity="note")
def check(case: Case) -> Outcome:
    rank = case.setting("lora_rank")
    if not rank:
        return Clear("no adapters are configured") if case.run.settings else CouldNotCheck(("lora_rank",))
    parameters, told = _trainable(case, float(rank))
    tokens = _tokens(case)
    missing = [OTHER_RUN]
    if parameters is None:
        missing.append("trainable parameters")
    if tokens is None:
        missing.append("train_tokens")
    if case.loss is None:
        missing.append("train/loss")
    if parameters is None or tokens is None or case.loss is None:
        return CouldNotCheck(tuple(missing))
    loss = case.loss
    first_epoch = loss.values[: max(3, len(loss) // max(1, round(float(case.setting("epochs") or 1))))]
    asked = tokens * float(np.mean(first_epoch)) / math.log(2)
    held = BITS_PER_PARAMETER * parameters
    if held >= asked:
        return Clear("the adapters can hold all of the data")
    if held * FAR_BELOW > asked:
        return CouldNotCheck((OTHER_RUN,))
    last = int(loss.updates[-1])
    return Found(
        title=f"LoRA of rank {rank:g} trains {told} parameters, which hold about {_amount(held)}; the data have up to "
        f"{_amount(asked)}, {asked / held:,.0f} times as much",
        evidence=(
            Evidence("train/loss", (int(loss.updates[0]), last),
                     "description length of the data over what the adapters hold", asked / held, FAR_BELOW,
                     loss.source(0)),
        ),
        confidence=0.5,
        detail="An upper bound: a style or a task asks for far less than the whole text. A run of higher rank decides: "
        "where this one tracks it at first and then breaks away, the rank is too low.",
        facts={"rank": rank, "held_bits": held, "asked_bits": asked, "ratio": asked / held},
    )  # fmt: skip


def _trainable(case: Case, rank: float) -> tuple[float | None, str]:
    """The adapters' parameters, and how to say so: as stated, else the most that rank, width and depth give."""
    stated = case.run.settings.get("parameters")
    if stated is not None and "train" in stated.key.lower() and isinstance(stated.value, int | float):
        return float(stated.value), f"{stated.value:,.0f}"
    width, layers = case.setting("width"), case.setting("layers")
    if width and layers:
        most = PER_WIDTH_AND_RANK * float(width) * float(layers) * rank
        return most, f"{most:,.0f} at most"
    return None, ""


def _tokens(case: Case) -> float | None:
    """Tokens of one epoch, padding included where only samples and their length are known."""
    tokens, samples, context = (case.setting(name) for name in ("train_tokens", "train_samples", "context"))
    if tokens:
        return float(tokens)
    return float(samples) * float(context) if samples and context else None


def _amount(bits: float) -> str:
    for unit in ("bits", "kbit", "Mbit", "Gbit"):
        if bits < 1000 or unit == "Gbit":
            break
        bits /= 1000
    return f"{bits:.3g} {unit}"
