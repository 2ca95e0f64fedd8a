"""The loss stays where an untrained or constant predictor would be.

Finds
Over most of a run long enough to have left it, the training loss stays within 3 % of ln V (every token equally
likely), or flat at the unigram entropy (token frequencies learnt, no context), or, for relative errors of fields, near
1 (predicting zero) or not below the error of giving the input back; of a classifier, at ln K (guessing among K
classes), its training loss or, while training samples are memorised, every validation loss from the first to the last;
or (a note) both losses near ln K and hardly lower at the end than a fifth of the way in; or
a loss that is the clipped logarithm of zero times the share of errors (outputs that are 0 or 1, whatever the
input). Where no vocabulary is known: a language model's loss that has hardly left its start and is
above what frequencies give in any tokenizer.

Why it matters
The model has learnt nothing that depends on its input. Either the updates are too small, or no information reaches
the output.

Evidence needed
200 updates of training loss; the vocabulary, the name of the model or tokenizer, or the entropy of the tokens, or else
a loss that the log gives per token; for a classifier its accuracy or the number of classes.

Not when
The run is too short to tell; the loss leaves ln V at the pace of its warm-up; validation rises after a fall
(overfitting), or its loss is above guessing while its accuracy is better (too sure of itself).

Remedy
Look for the cause first: a learning rate that never arrives, a group that is not trained, a graph that is cut, labels
that do not belong to the inputs.

References
CortexGPT, incident I1: 10.3742 to 10.2828 in 1,405 updates with V about 32,000 (ln V = 10.37). Token frequencies of
English give 6.5 to 7.9 nats in BPE of 32,000 to 200,000 ids, 0.6 to 0.7 ln V (measured, docs/scales.md): a healthy run
passes it within a few hundred updates (nanoGPT: 10.99 to 6.5 in 500). Zhang et al. 2017 (arXiv 1611.03530): networks
memorise random labels, and validation stays at chance. Keras `backend.epsilon()` 1e-7: 16.118 nats an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.classes_at_chance import (
    EARLY,
    LEAST_POINTS,
    LEAST_STANDING,
    LONG_SHARE,
    LONGER,
    MIN_UPDATES,
    SHARE_OF_CHANCE,
    STANDS,
    at_chance_of_classes,
    share_of,
)
from unstuck.diagnose.guessing import saturated_outputs
from unstuck.diagnose.known_models import chance_of, frequencies_of, vocabulary_of
from unstuck.diagnose.lr_curve import flat_since_half
from unstuck.diagnose.reference_losses import fresh_vocabularies, most_of_frequencies
from unstuck.diagnose.relative_error import judge_fields
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.wording import plural

TWICE_AS_LONG = f"{2 * MIN_UPDATES} updates of train/loss"  # the second half of it as long as `MIN_UPDATES`
# Without a vocabulary the first value must be that of the start: as in initial-loss-implausible.
FIRST_UPDATES = 2
STOOD_BEFORE = 2 * STANDS  # of the first evaluation: a loss that came down farther was learning, and has stopped
# Of ln V: frequencies alone give 0.75 to 0.80 of characters (65 ids) and 0.6 to 0.71 of BPE (docs/scales.md).
LEAST_OF_FREQUENCIES = 0.6
# Of ln V: the highest level of frequencies measured is 0.71 (WordPiece of 16,384 on documentation and books).
FREQUENCIES_MOST = 0.71


@rule(
    code="LO001",
    stages="LCP",
    severity="error",
    explains=("loss-plateau", "undertrained", "validation-noisy", "overfitting", "best-checkpoint-passed"),
)
def check(case: Case) -> Outcome:
    if (outcome := _at_saturation(case) or judge_fields(case)) is not None:
        return outcome
    trend, loss = case.loss_trend, case.loss
    if trend is None or loss is None:
        return CouldNotCheck(("train/loss",))
    level, name, facts = _chance(case)
    if level is None:
        return at_chance_of_classes(case) or _without_vocabulary(case)
    last = int(loss.updates[-1])
    if case.least_updates(last) < MIN_UPDATES or len(loss) < LEAST_POINTS:
        return CouldNotCheck((LONGER,))
    end = float(np.median(loss.values[-max(3, len(loss) // 10) :]))
    entropy = case.setting("unigram_entropy") if case.is_token_loss or case.chance is None else None
    near = trend.values >= SHARE_OF_CHANCE * level
    # As in initial-loss-implausible: another unit, or a run that blew up.
    if end > 1.25 * max(level, float(facts.get("zero", 0.0))):
        return Clear("the loss is far above chance: not a model that predicts nothing")
    if not (near[-1] and share_of(trend.updates, near) >= LONG_SHARE):
        if entropy is None:
            at = _at_frequencies(case, end)
            return at if isinstance(at, Found) else _validation_never_left(case) or at
        # at the unigram entropy: within 3 % of it, over the second half of the run
        half = trend.between(last // 2, last).values
        if not len(half) or not np.all(np.abs(half / entropy - 1) <= 1 - SHARE_OF_CHANCE):
            return Clear()
        if case.least_updates(last) < 2 * MIN_UPDATES:
            return CouldNotCheck((TWICE_AS_LONG,))
        level, name, near = float(entropy), "the unigram entropy", trend.updates >= last // 2
    first = int(trend.updates[int(np.argmax(near))])
    what = "step from input to target" if "zero" in facts else "context"
    return Found(
        title=f"Loss is {end:.4g} after {plural(last, case.step)}: {name} is {level:.4g}, "
        f"nothing of the {what} is learnt",
        evidence=(
            Evidence(
                "train/loss",
                (first, last),
                f"level at the end; {name} is {level:.4g}",
                end,
                SHARE_OF_CHANCE * level,
                loss.source(len(loss) - 1),
            ),
        ),
        confidence=0.95 if name.startswith("ln V") else 0.85,
        facts={
            "chance": level,
            "level": end,
            "first_loss": float(loss.values[0]),
            "share": share_of(trend.updates, near),
        }
        | facts,
    )


def _at_saturation(case: Case) -> Found | None:
    """Every output is 0 or 1 to the last bit, so that each error costs what the logarithm of zero is clipped to."""
    found = saturated_outputs(case)
    if found is None:
        return None
    loss, accuracy, last = found.loss, found.accuracy, len(found.loss) - 1
    span = (int(loss.updates[0]), int(loss.updates[-1]))
    end, right = float(loss.values[-1]), float(accuracy.values[-1])
    return Found(
        title=f"{loss.name} {end:.5g} is {found.each:.4g} x the share of errors {1 - right:.3g}: every output is 0 or "
        "1 to the last bit, whatever the input, and has no gradient",
        evidence=(
            Evidence(loss.name, span, f"loss over share of errors; a clipped logarithm of zero is {found.each:.4g}",
                     end / (1 - right), found.each, loss.source(last)),
            Evidence(accuracy.name, span, "accuracy at the end", right, None, accuracy.source(last)),
        ),
        confidence=0.9,
        detail="A last layer that fits the loss (softmax for several classes), inputs of unit scale and a smaller "
        "first step keep it from there.",
        facts={"chance": found.each, "level": end, "first_loss": float(loss.values[0]), "share": 1.0},
    )  # fmt: skip


def _without_vocabulary(case: Case) -> Outcome:
    """A loss per token that has hardly left its start, above what frequencies give in any tokenizer measured."""
    trend, loss = case.loss_trend, case.loss
    missing = CouldNotCheck(("vocabulary or unigram_entropy",))
    if trend is None or loss is None or loss.unit != "nats/token" or int(loss.updates[0]) > FIRST_UPDATES:
        return missing
    last, first, end = int(loss.updates[-1]), float(loss.values[0]), float(np.median(loss.values[-3:]))
    lowest = float(trend.values.min())
    fits = fresh_vocabularies(first)
    stays = lowest >= SHARE_OF_CHANCE * first and 1.25 * first >= end
    if last < MIN_UPDATES or len(loss) < LEAST_POINTS or not stays or lowest <= most_of_frequencies() or not fits:
        return missing
    sizes = " or ".join(f"{size:,}" for size in fits)
    return Found(
        title=f"Loss is {end:.4g} after {last} updates and was {first:.4g} at the start, which fits an untrained model "
        f"of {sizes} ids: nothing is learnt",
        evidence=(
            Evidence(
                "train/loss",
                (int(loss.updates[0]), last),
                "lowest level; token frequencies give less in any tokenizer",
                lowest,
                most_of_frequencies(),
                loss.source(len(loss) - 1),
            ),
        ),
        confidence=0.8,
        facts={"chance": first, "level": end, "first_loss": first, "share": 1.0},
    )


def _validation_never_left(case: Case) -> Found | None:
    """Validation that stays from its first evaluation, early in the run, to its last near what frequencies give.

    Whatever the tokenizer: what uses the context falls by many times `STANDS` after the first tenth of a run.
    """
    val, chance, trend = case.val, case.chance, case.loss_trend
    if val is None or chance is None or trend is None or case.start in ("pretrained", "checkpoint"):
        return None
    if len(val) < LEAST_STANDING or float(trend.values.min()) < LEAST_OF_FREQUENCIES * chance:
        return None  # what training learns beyond frequencies and validation does not is memorised
    first, last = float(val.values[0]), int(val.updates[-1])
    early = (val.updates > 0) & (val.updates <= EARLY * case.run.updates)
    level = float(np.median(val.values))
    if not early.any() or first - float(val.values.min()) > STOOD_BEFORE * first:
        return None
    start = float(np.median(val.values[early]))
    lowest = float(np.median(np.lib.stride_tricks.sliding_window_view(val.values, 3), axis=1).min())
    if start - lowest > STANDS * start or not LEAST_OF_FREQUENCIES * chance <= level <= chance:
        return None
    return Found(
        title=f"Validation has stood at {level:.4g} since {case.step} {int(val.updates[0])} of {last}, near what token "
        "frequencies give: nothing of the context is learnt",
        evidence=(
            Evidence("val/loss", (int(val.updates[0]), last), "fall from the first fifth of the run to its lowest",
                     start - lowest, STANDS * start, val.source(len(val) - 1)),
        ),
        confidence=0.75,
        severity="warning",
        facts={"chance": chance, "level": level, "first_loss": first, "share": 1.0},
    )  # fmt: skip


def _at_frequencies(case: Case, end: float) -> Outcome:
    """A loss that is flat where token frequencies alone are in this tokenizer, on English text."""
    frequencies, loss, chance, flat = frequencies_of(case), case.loss, chance_of(case), flat_since_half(case)
    if loss is None or chance is None or flat is None or not flat[0]:
        return Clear()
    # the texts measured are books, plays and documentation; text of the web has more words, up to FREQUENCIES_MOST
    low = LEAST_OF_FREQUENCIES * chance if frequencies is None else SHARE_OF_CHANCE * frequencies.low
    high = max(0.0 if frequencies is None else frequencies.high, FREQUENCIES_MOST * chance)
    if not low <= end <= high:
        return Clear()
    if frequencies is None:
        return CouldNotCheck(("tokenizer or unigram_entropy",))
    if case.least_updates(int(loss.updates[-1])) < 2 * MIN_UPDATES:
        return CouldNotCheck((TWICE_AS_LONG,))
    last = int(loss.updates[-1])
    return Found(
        title=f"Loss has stood at {end:.4g} since half of {plural(last, case.step)}, no better than token frequencies: "
        "nothing of the context is learnt",
        evidence=(
            Evidence(
                "train/loss",
                (last // 2, last),
                f"level at the end; frequencies alone give {frequencies.says}",
                end,
                high,
                loss.source(len(loss) - 1),
            ),
        ),
        confidence=0.75,
        severity="warning",
        facts={"chance": frequencies.high, "level": end, "first_loss": float(loss.values[0]), "share": 0.5},
    )


def _chance(case: Case) -> tuple[float | None, str, dict[str, Any]]:
    """The level of a predictor that knows nothing, its name, and facts about it."""
    if case.is_token_loss:
        return case.chance, "ln V", {"vocabulary": case.setting("vocabulary")}
    vocabulary = vocabulary_of(case)
    if (
        vocabulary is not None
        and vocabulary.says
        and case.setting("task") in (None, "causal-lm", "masked-lm", "seq2seq")
    ):
        return chance_of(case), f"ln V ({vocabulary.says})", {"vocabulary": vocabulary.size}
    entropy = case.setting("unigram_entropy")
    if entropy and case.chance is None:
        return float(entropy), "the unigram entropy", {}
    loss = case.loss
    if loss is not None and loss.unit is not None and "relative" in loss.unit:
        repeated = case.setting("baseline_loss")  # of giving the input back, where the log has it
        if isinstance(repeated, int | float) and 0 < repeated < 1:
            return float(repeated), "the error of giving the input back", {"zero": 1.0}
        return 1.0, "the error of predicting nothing", {"zero": 1.0}
    return None, "", {}
