"""A loss that falls smoothly and never comes near guessing: a sum over samples or tokens, not a mean.

A mean over tokens or classes begins at guessing. What blew up is as high, but rises to where it is.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.loss_ratios import at_evaluations as ratios_at_evaluations
from unstuck.diagnose.loss_ratios import level_of_chance, most_of_guessing
from unstuck.diagnose.rule import Evidence, Found
from unstuck.diagnose.statistics import noise_sd

# Noise of batches and the training loss's lag behind an evaluation: 10 % (nanoGPT's validation, whose text is another
# part of the book, lies 5 % from its training loss).
CONSTANT = 0.10
# From here on a ratio needs no constancy: a training loss five times validation's at every evaluation, the first
# included, is no gap (mixup and label smoothing leave 2 to 3 at the end of ImageNet recipes, 1 at the start).
FAR = 5.0
LEAST_ROWS = 8  # ours: below it neither a fall nor its noise can be told without validation
LEAST_PAIRED = 4  # ours: rows of training beside as many evaluations
# A sum over the tokens or samples of a batch scatters as their mean does, and by the number of tokens in it: 8 % with
# 150 masked ones (Poisson). What blew up jumps by more (assumption).
NOISE_OF_SUMS = 0.2
BATCHES_ALIKE = 0.3  # the last batch of an evaluation is smaller than the others, by half of one in two on average
SUMMED = (
    "Where this loss is the one that is differentiated, its gradients (and their norms) are as many times "
    "too large: AdamW's step does not change, a clip limit and SGD's step do."
)


def far_above_chance(case: Case) -> Found | None:
    """A loss that falls smoothly and never comes near what a model that knows nothing has: a sum."""
    loss, trend, chance = case.loss, case.loss_trend, level_of_chance(case) or most_of_guessing(case)
    if loss is None or trend is None or chance is None or len(loss) < LEAST_PAIRED:
        return None
    if len(loss) < LEAST_ROWS and not _validation_as_far(case, FAR * chance[0]):
        return None
    lowest, first, third = float(trend.values.min()), float(trend.values[0]), len(loss) // 3
    middle = float(np.median(loss.values[len(loss) // 2 :]))
    falls = float(np.median(loss.values[-third:])) < float(np.median(loss.values[:third]))
    noise = case.loss_noise if math.isfinite(case.loss_noise) else noise_sd(loss.values)
    top = (1 + CONSTANT) * float(loss.values[:third].max())
    smooth = noise <= NOISE_OF_SUMS * middle and float(loss.values.max()) <= top
    # of few tokens a sum scatters more: then validation is as far
    smooth = smooth or _validation_as_far(case, FAR * chance[0])
    blew_up = float(loss.values.max()) > 2 * float(loss.values[0])  # a sum begins at its highest
    if lowest < FAR * chance[0] or not falls or not smooth or blew_up:
        return None
    last = len(loss) - 1
    evidence = [
        Evidence("train/loss", (int(loss.updates[0]), int(loss.updates[-1])), f"lowest level over {chance[1]}",
                 lowest / chance[0], FAR, loss.source(last))
    ]  # fmt: skip
    told, batch, theirs = "", case.setting("batch_size"), case.setting("evaluation_batch_size")
    at = ratios_at_evaluations(case)
    if batch and theirs and batch != theirs and len(at.values):
        ratio = float(np.median(1 / at.values))
        if abs(math.log(ratio * batch / theirs)) <= math.log1p(BATCHES_ALIKE):
            told = f", and validation is {ratio:.2g} x as high with batches of {theirs} beside {batch}"
            evidence.append(Evidence("val/loss", evidence[0].updates, "validation over training loss, against "
                                     f"batches of {theirs} and {batch}", ratio, theirs / batch))  # fmt: skip
    return Found(
        title=f"Training loss falls from {first:.4g} to {lowest:.4g}, {first / chance[0]:.3g} to "
        f"{lowest / chance[0]:.3g} x {chance[1]} = {chance[0]:.4g}{told}: a sum, not a mean",
        evidence=tuple(evidence),
        confidence=0.9 if told else 0.8,
        detail=SUMMED,
        facts={"factor": first / chance[0], "factor_name": None, "series": "train/loss"},
    )


def _validation_as_far(case: Case, level: float) -> bool:
    """Whether each evaluation lies above `level` as well, and the last below the first."""
    val = case.val
    if val is None or len(val) < LEAST_PAIRED:
        return False
    return bool(val.values.min() >= level and val.values[-1] < val.values[0])
