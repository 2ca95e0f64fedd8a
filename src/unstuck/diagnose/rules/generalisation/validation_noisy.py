"""Validation moves less than its own noise, so decisions taken on it are noise.

Finds
Over the second half of the run the level of the validation loss moved less than the uncertainty of a single
evaluation (its scatter, or the standard error that its tokens or samples give), although that is large enough to hide
a real difference.

Why it matters
Early stopping, best checkpoint and reduce-on-plateau then pick evaluations by luck.

Evidence needed
At least 10 evaluations.

Not when
The scatter is below 1 % of the loss (another seed moves it as much); the level moves by more than the scatter.

Remedy
Evaluate more tokens, always the same ones; compare means of several evaluations.

References
Standard error of a mean: sd / sqrt(n). Madaan et al. 2024 (arXiv 2406.10229), noise in evaluation benchmarks.
"""

from __future__ import annotations

import math

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import fall, noise_sd, validation_standard_error

# Second differences of 5 points give the noise within a factor of 2; 10 evaluations leave 5 in the second half.
MIN_EVALUATIONS = 10
# 1 % of the loss: what another seed moves a small model by (see overfitting.MATERIAL_SHARE); less hides nothing.
MATERIAL_SHARE = 0.01


# Assumption: mean losses of documents differ by a tenth of the loss (their spread in web text is that or more).
SAMPLE_SPREAD = 0.1


@rule(code="GE002", stages="LC", severity="note")
def check(case: Case) -> Outcome:
    val = case.val
    if val is None:
        return CouldNotCheck(("val/loss",))
    if len(val) < MIN_EVALUATIONS:
        return CouldNotCheck((f"at least {MIN_EVALUATIONS} evaluations",))
    half = val.values[len(val) // 2 :]
    tokens, samples = case.setting("validation_tokens"), case.setting("validation_samples")
    if samples and not tokens and case.setting("context"):
        tokens = samples * case.setting("context")
    level = abs(float(half.mean()))
    expected = math.nan
    if tokens and case.is_token_loss:
        expected = validation_standard_error(level, tokens)
    elif samples:
        expected = SAMPLE_SPREAD * level / math.sqrt(samples)
    scatter = noise_sd(half)
    noise = max(scatter, 0.0 if math.isnan(expected) else expected)
    if noise < MATERIAL_SHARE * level:
        return Clear("evaluations are known to better than 1 %")
    moved, _ = fall(half)
    if math.isnan(moved):
        moved = float(half[0] - half[-1])
    if abs(moved) >= noise:
        return Clear("validation moves by more than its scatter")
    detail = f"Point to point they scatter by {scatter:.3g}."
    if not math.isnan(expected):
        size = f"{tokens} tokens" if tokens and case.is_token_loss else f"{samples} samples"
        detail += f" {size} per evaluation give a standard error of about {expected:.3g}, on the same text or on other."
    decides = case.setting("patience") is not None or case.setting("schedule") == "plateau"
    first, last = int(val.updates[len(val) // 2]), int(val.updates[-1])
    # evaluations needed so that the mean of k shows the movement at 2 standard errors: k = (2 noise / moved)^2
    needed = math.ceil(min(1e6, 2 * noise / abs(moved)) ** 2) if moved else 0
    return Found(
        title=f"Evaluations are uncertain by {noise:.3g} but moved only {abs(moved):.3g} over the second half",
        evidence=(
            Evidence("val/loss", (first, last), "movement of the level", abs(moved), noise, val.source(len(val) - 1)),
        ),
        confidence=0.8,
        severity="warning" if decides else "note",
        detail=detail,
        facts={"noise": noise, "moved": moved, "factor_more_tokens": needed},
    )
