"""Validation moves less than its own noise, so decisions taken on it are noise.

Finds
Over the second half of the run the level of the validation loss moved less than its evaluations scatter from one to the
next. Or: so few tokens or samples are evaluated that the level itself is known to no better than 5 %.

Why it matters
Early stopping, best checkpoint and reduce-on-plateau then pick evaluations by luck; a level that is not known says
nothing of a gap to training or of other text.

Evidence needed
At least 10 evaluations; for the second finding one, and its tokens or samples.

Not when
The scatter is below 1 % of the loss (another seed moves it as much); the level moves by more than the scatter; the
scatter is far above what so many samples leave: then it is the model that moves. What a fixed set of samples leaves of
error is common to all evaluations of a run: it makes no evaluation better than another.

Remedy
Evaluate more tokens, always the same ones; compare means of several evaluations.

References
Standard error of a mean: sd / sqrt(n). Madaan et al. 2024 (arXiv 2406.10229), noise in evaluation benchmarks.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.gap import SAMPLE_SPREAD, sampling_error
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.statistics import Floats, false_alarm_z, noise_sd

# Second differences of 5 points give the noise within a factor of 2; 10 evaluations leave 5 in the second half.
MIN_EVALUATIONS = 10
# 1 % of the loss: what another seed moves a small model by (see overfitting.MATERIAL_SHARE); less hides nothing.
MATERIAL_SHARE = 0.01
# 5 standard deviations of that: a level known no better tells neither a gap nor an improvement worth having.
UNKNOWN_SHARE = 0.05


@rule(code="GE002", stages="LC", severity="warning")
def check(case: Case) -> Outcome:
    val = case.val
    if val is None:
        return CouldNotCheck(("val/loss",))
    if len(val) < MIN_EVALUATIONS:
        last = abs(float(val.values[-1]))
        expected, size = sampling_error(case, last)
        if expected >= UNKNOWN_SHARE * last > 0:
            return _few(case, last, expected, size)
        return CouldNotCheck((f"at least {MIN_EVALUATIONS} evaluations",))
    half = val.values[len(val) // 2 :]
    level = abs(float(half.mean()))
    expected, size = sampling_error(case, level)
    scatter, moved = noise_sd(half), _moved(half)
    if scatter < MATERIAL_SHARE * level or moved >= scatter:
        if expected >= UNKNOWN_SHARE * level > 0:
            return _few(case, level, expected, size)
        if scatter < MATERIAL_SHARE * level:
            return Clear("evaluations scatter by less than 1 %")
        return Clear("validation moves by more than its scatter")
    if scatter > false_alarm_z(1) * most_error(case, level):
        if expected >= UNKNOWN_SHARE * level:
            return _few(case, level, expected, size)
        return Clear(f"{size} are known better than that: it is the model that moves, not the sample")
    detail = f"Point to point they scatter by {scatter:.3g}."
    if expected:
        detail += f" {size} per evaluation give a standard error of about {expected:.3g}, on the same text or on other."
    first, last = int(val.updates[len(val) // 2]), int(val.updates[-1])
    # evaluations needed so that the mean of k shows the movement at 2 standard errors: k = (2 noise / moved)^2
    needed = math.ceil(min(1e6, 2 * scatter / moved) ** 2) if moved else 0
    by_sample = 0 < scatter <= false_alarm_z(1) * expected  # else it may as well be the weights that move
    both = min(scatter, expected) >= UNKNOWN_SHARE * level  # the cause as well as its effect
    by_luck = by_sample and _decides(case) and moved <= scatter / 2  # nearer to it, part of what it decides is right
    severity: Severity = "warning" if both or by_luck else "note"
    return Found(
        title=f"Evaluations scatter by {scatter:.3g} but moved only {moved:.3g} over the second half",
        evidence=(Evidence("val/loss", (first, last), "movement of the level", moved, scatter, val.source(-1)),),
        confidence=0.8 if by_sample else 0.5,
        severity=severity,
        detail=detail,
        facts={"noise": scatter, "moved": moved, "factor_more_tokens": needed},
    )


def most_error(case: Case, level: float) -> float:
    """The largest standard error that the samples of an evaluation leave; inf where their number is unknown.

    Of tokens: those of a text have its mean in common. Else: the squares of normal errors spread by root 2 of their
    mean, cross-entropies of classes by about the mean.
    """
    tokens, samples, context = (case.setting(name) for name in ("validation_tokens", "validation_samples", "context"))
    if case.is_token_loss:
        tokens = tokens or (samples and context and samples * context)
        return level * math.sqrt((1 + SAMPLE_SPREAD**2 * context) / tokens) if tokens and context else math.inf
    return level * math.sqrt(2 / samples) if samples else math.inf


def _moved(half: Floats) -> float:
    """How far the least-squares line through the evaluations goes, which a single one at the end hardly bends."""
    x = np.arange(len(half)) - (len(half) - 1) / 2
    return abs(float(np.dot(x, half) / np.dot(x, x))) * (len(half) - 1)


def _decides(case: Case) -> bool:
    """Whether a scheduler reads the evaluations; our own configuration has a patience with every schedule."""
    patience = case.setting("patience") is not None and case.run.format != "unstuck-run"
    return patience or case.setting("schedule") == "plateau"


def _few(case: Case, level: float, expected: float, size: str) -> Found:
    """Too few samples for the level, however smooth the curve: the error is the same in each evaluation."""
    val = case.val
    assert val is not None
    span = (int(val.updates[0]), int(val.updates[-1]))
    return Found(
        title=f"One evaluation has {size}: its level of {level:.3g} is known to about {expected:.2g}",
        evidence=(
            Evidence("val/loss", span, "standard error of the level", expected, UNKNOWN_SHARE * level, val.source(-1)),
        ),
        confidence=0.7,
        severity="note",
        detail="Evaluations of the same samples can be compared with each other all the same.",
        facts={
            "noise": expected,
            "moved": 0.0,
            "factor_more_tokens": math.ceil((expected / MATERIAL_SHARE / level) ** 2),
        },
    )
