"""The validation loss is lower than the text allows, and equal to training all the way.

Finds
A language model whose validation loss follows training down to a level that only memorisation or a view of the target
explains: far below the entropy of written language.

Why it matters
Validation text lies inside training, or the target is visible in the input. The curve then says nothing about the
model, and every choice made on it is worthless.

Evidence needed
Vocabulary, training and validation loss, a causal language model.

Not when
Validation stays behind training at a low training loss (ordinary memorisation, overfitting); templated or synthetic
text with a short answer (say so with `task`); only the training loss is low.

Remedy
Search validation windows in the training text; change a later token and see whether an earlier prediction moves.

References
Shannon 1951: printed English carries 0.6 to 1.3 bits per character. Hoffmann et al. 2022 (arXiv 2203.15556): what a
model of N parameters reaches. Morris et al. 2025 (arXiv 2505.24832): models
memorise about 3.6 bits per parameter.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

# Hoffmann et al. 2022: 1.69 + 406 / N^0.34 nats per token for N parameters and unlimited data, tokens of about 4.4
# characters: 0.55 bits per character for unlimited N, just below the 0.6 of Shannon 1951.
ENTROPY, COEFFICIENT, EXPONENT = 1.69, 406.0, 0.34
# Simple or templated text (children's stories, chat formats) compresses two to three times better than prose: only
# below 0.3 of what a model of this size can reach on prose is nothing natural left.
FAR_BELOW = 0.3
# Characters per token: 1 at 256 ids and below (bytes, characters), 4.4 at GPT-2's 50257 (English), about linear in ln V
# between (BPE merges of decreasing worth).
CHARACTERS_AT_GPT2 = 4.4
TOGETHER = 0.10  # validation within a tenth of training: memorised text leaves unseen text behind many times over
BITS_PER_PARAMETER = 3.6


@rule(
    code="LO009",
    stages="LCP",
    severity="error",
    explains=("undertrained",),
)
def check(case: Case) -> Outcome:
    if case.setting("task") in ("regression", "classification", "masked-lm"):
        return Clear("the bound is one of causal language models")
    loss, val, train = case.loss, case.val, case.train_at_evaluations
    missing = [n for n, s in (("train/loss", loss), ("val/loss", val), ("vocabulary", case.chance)) if s is None]
    if loss is None or val is None or train is None or case.chance is None:
        return CouldNotCheck(tuple(missing))
    if len(val) < 3:
        return CouldNotCheck(("at least 3 evaluations",))
    bound = expected_loss(int(case.setting("vocabulary") or 0), case.setting("parameters"))
    threshold = FAR_BELOW * bound
    low = float(np.median(val.values[-3:]))
    if low <= 0.0 and bool((loss.values[-3:] == 0.0).all()):
        return Clear("exact zeros are no level (see loss-zero-by-filter)")
    if low >= threshold:
        return Clear()
    late = val.values < 2 * threshold  # where the levels are already implausible or about to be
    gap = float(np.median(val.values[late] - train[late]))
    if gap > TOGETHER * max(low, float(np.median(train[late]))) + 3 * _noise(case):
        return Clear("validation stays behind training: ordinary memorisation")
    first = int(val.updates[int(np.argmax(val.values < threshold))])
    return Found(
        title=f"Validation loss {low:.3g} equals training, far below what prose allows ({bound:.3g})",
        evidence=(
            Evidence(
                "val/loss",
                (first, int(val.updates[-1])),
                "level at the end",
                low,
                threshold,
                val.source(len(val) - 1),
            ),
            Evidence("val/loss", (first, int(val.updates[-1])), "gap to training", gap, TOGETHER * low),
        ),
        confidence=0.85,
        severity="warning" if case.start in ("pretrained", "checkpoint") else "error",
        detail=_capacity(case, low, bound),
        facts={"level": low, "bound": bound, "gap": gap, "first_update": first},
    )


def expected_loss(vocabulary: int, parameters: float | None) -> float:
    """Nats per token that a model of this many parameters reaches on prose with unlimited data (None: any size)."""
    per_gpt2_token = ENTROPY + (COEFFICIENT / parameters**EXPONENT if parameters else 0.0)
    return per_gpt2_token * characters_per_token(vocabulary) / CHARACTERS_AT_GPT2


def characters_per_token(vocabulary: int) -> float:
    """Characters of English that one token of a vocabulary of this size stands for, about."""
    if vocabulary <= 256:
        return 1.0
    grown = math.log(vocabulary / 256) / math.log(50257 / 256)
    return 1.0 + (CHARACTERS_AT_GPT2 - 1.0) * grown


def _noise(case: Case) -> float:
    """Scatter of the difference between one evaluation and the training trend."""
    return 0.0 if math.isnan(case.val_noise) else case.val_noise


def _capacity(case: Case, low: float, bound: float) -> str:
    """Whether the parameters could hold the training text at all."""
    parameters, tokens = case.setting("parameters"), case.setting("train_tokens")
    if not parameters or not tokens:
        return "Either validation text lies inside training, or the target is visible in the input."
    held = BITS_PER_PARAMETER * parameters
    needed = tokens * (bound - low) / math.log(2)
    if needed > held:
        return (
            f"Memorising takes {needed:.2g} bits and {parameters} parameters hold about {held:.2g}: "
            "the target must be visible in the input."
        )
    return (
        f"{parameters} parameters can hold the {needed:.2g} bits: validation text inside training explains it as well."
    )
