"""The validation loss is lower than the text allows, and equal to training all the way.

Finds
A language model whose validation loss follows training down to a level that only memorisation or a view of the target
explains: far below the entropy of written language. Within the first pass over the data a gap to training does not
matter: nothing was seen twice.

Why it matters
Validation text lies inside training, or the target is visible in the input. The curve then says nothing about the
model, and every choice made on it is worthless.

Evidence needed
Training and validation loss of a causal language model (a note where nothing says that it is one); the vocabulary, or
of a fresh model the tokenizer's name (else the bound is that of bytes, the lowest).

Not when
Validation stays behind training at a low training loss (ordinary memorisation, overfitting); templated or synthetic
text with a short answer (a task named in words of its own); only the training loss is low; fewer ids than letters.

Remedy
Search validation windows in the training text; change a later token and see whether an earlier prediction moves.

References
Shannon 1951: printed English carries 0.6 to 1.3 bits per character. Hoffmann et al. 2022 (arXiv 2203.15556): what a
model of N parameters reaches. The lowest published on text: 0.66 bits per byte (docs/scales.md). Morris et al. 2025
(arXiv 2505.24832): models memorise about 3.6 bits per parameter.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.config.values import TASKS
from unstuck.diagnose.case import Case
from unstuck.diagnose.known_models import start_of, vocabulary_of
from unstuck.diagnose.reference_losses import lowest_loss
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule

# Simple or templated text (children's stories, chat formats) compresses two to three times better than prose: only
# below 0.3 of what a model of this size can reach on prose (`lowest_loss`: 0.55 bits per byte of unlimited size, below
# the lowest published, 0.66) is nothing natural left.
FAR_BELOW = 0.3
TOGETHER = 0.10  # validation within a tenth of training: memorised text leaves unseen text behind many times over
BITS_PER_PARAMETER = 3.6
FEWEST_SYMBOLS = 27  # the letters and a blank, Shannon's alphabet: with fewer ids it is no prose
FIRST_PASS = (
    "Less than one pass over the training data: nothing was seen twice, so nothing can be known by heart, and the "
    "target must be visible in the input."
)
BYTES = 256
# Evaluations below the bound and above zero that a loss passed on its way to what a few decimals print as zero (ours);
# a dead run goes from a plausible level to exactly zero at once.
LEAST_ABOVE = 3


@rule(
    code="LO009",
    stages="LCP",
    severity="error",
    explains=("undertrained",),
)
def check(case: Case) -> Outcome:
    language = _is_language_model(case)
    if language is False:
        return Clear("the bound is one of causal language models of prose")
    loss, val, train = case.loss, case.val, case.train_at_evaluations
    vocabulary = vocabulary_of(case)
    if vocabulary is not None and vocabulary.says and case.start != "fresh":
        # a model known by name only may be tuned to short answers, or to another loss than the tokens'
        vocabulary = None
    size = None if vocabulary is None else vocabulary.size
    if size is None and case.setting("task") == "causal-lm" and start_of(case) in (None, "fresh"):
        size = BYTES  # no token carries less than a byte: the lowest bound that any vocabulary has
    if size is not None and size < FEWEST_SYMBOLS:
        return Clear("too few ids for written language")
    missing = [n for n, s in (("train/loss", loss), ("val/loss", val), ("vocabulary", size)) if s is None]
    if loss is None or val is None or train is None or size is None:
        return CouldNotCheck(tuple(missing))
    if len(val) < 3:
        return CouldNotCheck(("at least 3 evaluations",))
    bound = lowest_loss(size, case.setting("parameters"))
    threshold = FAR_BELOW * bound
    low = float(np.median(val.values[-3:]))
    if low <= 0.0 and bool((loss.values[-3:] == 0.0).all()):
        above_zero = val.values[val.values > 0]
        if len(above_zero) < LEAST_ABOVE or not np.all(above_zero[-LEAST_ABOVE:] < threshold):
            return Clear("exact zeros are no level (see loss-zero-by-filter)")
        low = float(np.median(above_zero[-LEAST_ABOVE:]))
    if low >= threshold:
        return Clear()
    late = val.values < 2 * threshold  # where the levels are already implausible or about to be
    gap = float(np.median(val.values[late] - train[late]))
    apart = gap > TOGETHER * max(low, float(np.median(train[late]))) + 3 * _noise(case)
    unseen = start_of(case) in (None, "fresh") and _is_first_pass(case)
    if apart and not unseen:
        return Clear("validation stays behind training: ordinary memorisation")
    first = int(val.updates[int(np.argmax(val.values < threshold))])
    sure = vocabulary or case.start
    equals = "belongs to text seen for the first time" if apart else "equals training"
    return Found(
        title=f"Validation loss {low:.3g} {equals}, far below what prose allows ({bound:.3g})",
        evidence=(
            Evidence(
                "val/loss",
                (first, int(val.updates[-1])),
                "level at the end",
                low,
                threshold,
                val.source(len(val) - 1),
            ),
            Evidence(
                "val/loss", (first, int(val.updates[-1])), "gap to training", gap, None if apart else TOGETHER * low
            ),
        ),
        confidence=0.85 if sure is not None else 0.7,
        severity=_severity(case, bool(language), sure is not None),
        detail=FIRST_PASS if unseen else _capacity(case, low, bound),
        facts={"level": low, "bound": bound, "gap": gap, "first_update": first},
    )


def _is_language_model(case: Case) -> bool | None:
    """Whether the task is to predict text; None where nothing says so.

    A task in words of its own is another: sums, dates or moves of a game can be foretold.
    """
    task = case.run.settings.get("task")
    if task is None or (task.key.endswith("model.type") and task.value not in TASKS):
        return None
    return task.value == "causal-lm" or "language" in str(task.value)


def _severity(case: Case, language: bool, sure: bool) -> Severity:
    """A vocabulary alone does not say that it is prose: then the level is noted."""
    if not language:
        return "note"
    return "warning" if case.start in ("pretrained", "checkpoint") or not sure else "error"


def _is_first_pass(case: Case) -> bool:
    """Whether no training sample was used twice; False where the settings and the log do not tell."""
    epoch = case.run.get("epoch")
    if epoch is not None and len(epoch) > 1 and case.run.axis == "update":
        first, last = float(epoch.values[0]), float(epoch.values[-1])
        if first == last:  # the number of the epoch, which never went on
            return first in (0.0, 1.0)
        return last <= 1.0
    samples, at_once = case.setting("train_samples"), case.sequences_per_update
    return bool(samples and at_once and case.run.updates * at_once <= samples)


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
