"""The batch is so small that gradient noise, not the data, decides where the weights go.

Finds
A fresh run with a batch far below the critical batch size, whose loss has made no progress beyond noise over its
second half although it is far from a floor, and whose scatter from point to point exceeds all progress of that half
many times.

Why it matters
At a batch far below the noise scale each update is mostly noise; with a learning rate made for larger batches the
loss stalls at a level set by the noise.

Evidence needed
Batch size and context (tokens per update), 60 points of the training loss, a vocabulary.

Not when
A small batch whose loss still falls: noisy but sound (a small batch is sample-efficient at a fitting learning rate). A
pretrained start, whose flat curve is ordinary. With an annealed learning rate, whose end is flat anyway, or
too few points to say more than that no progress shows, it is a note.

Remedy
Accumulate more micro-batches per update, or lower the learning rate in proportion to the root of the batch.

References
McCandlish et al. 2018 (arXiv 1812.06162), noise scale. Kaplan et al. 2020 (arXiv 2001.08361), equation 1.4: critical
batch 2e8 / L^(1/0.21) tokens, L in nats per token of GPT-2's vocabulary.
"""

from __future__ import annotations

import math

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import fall, noise_sd

MIN_POINTS = 60  # 30 in the second half, 10 in each of its outer thirds
FAR_BELOW = 0.01  # a hundredth of the critical batch: 99 % of an update's squared length is noise (McCandlish eq. 2.9)
# Kaplan's law is for tokens of GPT-2's vocabulary; another one's nats are scaled by the two vocabularies' ln V: an
# assumption. Measured at 1.6-2.0 nats a character: 1,900-8,400 tokens (benchmarks/noise_scale.py, docs/LOG.md). There
# the law says 8M to 23M unscaled and 0.1M to 0.4M scaled, so it still calls a batch of characters small too readily.
KAPLAN_VOCABULARY = 50_257
SCATTER_OVER_PROGRESS = 5.0  # scatter of one logged loss against the progress of half a run
FLOOR_SHARE = 0.35  # of ln V: half of the unigram entropy; a loss below it has learnt context


@rule(code="GR005", stages="LV", severity="warning", explains=("loss-plateau", "validation-noisy"))
def check(case: Case) -> Outcome:
    loss, tokens = case.loss, case.tokens_per_update
    missing = tuple(
        name
        for name, value in (("train/loss", loss), ("batch_size and context", tokens), ("vocabulary", case.chance))
        if value is None
    )
    if loss is None or tokens is None or case.chance is None:
        return CouldNotCheck(missing)
    if len(loss) < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of train/loss",))
    half = loss.values[len(loss) // 2 :]
    level = float(half.mean())
    scaled = level * math.log(KAPLAN_VOCABULARY) / case.chance
    critical = math.exp(min(700.0, math.log(2e8) - math.log(scaled) / 0.21)) if level > 0 else math.inf
    if tokens >= FAR_BELOW * critical:
        return Clear("the batch is within a hundredth of the critical batch")
    if case.start in ("pretrained", "checkpoint") or not case.is_token_loss:
        return Clear("not a fresh language model")
    fell, error = fall(half)
    scatter = noise_sd(half)
    if fell > 2 * error or level < FLOOR_SHARE * case.chance:
        return Clear("the loss still falls, or is near its floor")
    # progress not shown at 2 standard errors, and even the most that the data allow is small against the scatter
    stalled = not case.annealed and scatter >= SCATTER_OVER_PROGRESS * max(abs(fell), error)
    first, last = int(loss.updates[len(loss) // 2]), int(loss.updates[-1])
    return Found(
        title=f"{tokens:.0f} tokens per update against a critical batch of {critical:.2g}: scatter {scatter:.2g}, "
        f"progress {max(0.0, fell):.2g} over half of the run",
        evidence=(
            Evidence("train/loss", (first, last), "fall over the second half", fell, 2 * error, loss.source(-1)),
            Evidence("train/loss", (first, last), "scatter of one point", scatter, SCATTER_OVER_PROGRESS * abs(fell)),
        ),
        confidence=0.6,
        severity="warning" if stalled else "note",
        detail="The scatter of the loss stands in for the gradient noise, which a log alone does not show.",
        facts={"tokens_per_update": tokens, "critical_tokens": critical, "scatter": scatter, "progress": fell},
    )
