"""The loss stays where an untrained or constant predictor would be.

Finds
Over most of a run long enough to have left it, the training loss stays within 3 % of ln V (every token equally
likely), or flat at the unigram entropy (token frequencies learnt, no context), or, for relative errors of fields, near
1 (predicting zero) or not below the error of giving the input back; of a classifier, at ln K (guessing among K
classes), its training loss or, while training samples are memorised, every validation loss from the first to the last;
or a loss that is the clipped logarithm of zero times the share of errors (outputs that are 0 or 1, whatever the
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
from unstuck.diagnose.guessing import (
    SAME_LEVEL,
    SAME_SHARE,
    classes_of,
    classes_that_fit,
    guesses,
    saturated_outputs,
)
from unstuck.diagnose.known_models import chance_of, frequencies_of, vocabulary_of
from unstuck.diagnose.lr_curve import flat_since_half
from unstuck.diagnose.reference_losses import fresh_vocabularies, most_of_frequencies
from unstuck.diagnose.relative_error import judge_fields
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import false_alarm_z
from unstuck.wording import plural

# A tenth of the way from ln V to the unigram entropy (0.7 ln V): not even the token frequencies are learnt.
SHARE_OF_CHANCE = 0.97
# Frequencies alone take about 100 updates at any sensible rate; twice that before anything is said.
MIN_UPDATES = 200
# "Stays": more than half of the run.
LONG_SHARE = 0.5
LEAST_POINTS = 5
LONGER = f"{MIN_UPDATES} updates of train/loss"
TWICE_AS_LONG = f"{2 * MIN_UPDATES} updates of train/loss"  # the second half of it as long as `MIN_UPDATES`
LEAST_EVALUATIONS = 5  # ours: as many as points of the training loss
# Fresh weights start at ln K or up to a quarter above: independent logits of standard deviation s add s^2 / 2 nats, and
# a head of default width has s below 1 (as initial-loss-implausible).
AROUND_CHANCE = 0.25
FEW_SAMPLES = 500  # assumption where no setting says it: small validation sets have some hundred samples
# Without a vocabulary the first value must be that of the start: as in initial-loss-implausible.
FIRST_UPDATES = 2
# Evaluations from the first fifth of the run to its end (8 at least: ours), of which the lowest median of three lies
# less than a fiftieth below the median of that fifth. In the development runs of the fault benchmark that stay above
# the level below, the least of 21 sound ones fell by 15 %, and the runs of permuted targets by 0.3 to 2 %.
LEAST_STANDING, EARLY, STANDS = 8, 0.2, 0.02
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
        return _at_chance_of_classes(case) or _without_vocabulary(case)
    last = int(loss.updates[-1])
    if case.least_updates(last) < MIN_UPDATES or len(loss) < LEAST_POINTS:
        return CouldNotCheck((LONGER,))
    end = float(np.median(loss.values[-max(3, len(loss) // 10) :]))
    entropy = case.setting("unigram_entropy") if case.is_token_loss or case.chance is None else None
    near = trend.values >= SHARE_OF_CHANCE * level
    # As in initial-loss-implausible: another unit, or a run that blew up.
    if end > 1.25 * max(level, float(facts.get("zero", 0.0))):
        return Clear("the loss is far above chance: not a model that predicts nothing")
    if not (near[-1] and _share(trend.updates, near) >= LONG_SHARE):
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
        facts={"chance": level, "level": end, "first_loss": float(loss.values[0]), "share": _share(trend.updates, near)}
        | facts,
    )


def _at_chance_of_classes(case: Case) -> Outcome | None:
    """Whether a classifier's cross-entropy stays at ln K; K as set, else where the accuracy is, or was, 1/K.

    None: no classifier, or nothing that says K.
    """
    loss, accuracy = case.loss, case.run.get("train/accuracy") or case.run.get("val/accuracy")
    if loss is None or loss.unit == "nats/token":
        return None
    end = float(np.median(loss.values[-3:]))
    right = float(np.median(accuracy.values[-3:])) if accuracy is not None and len(accuracy) >= 2 else None
    classes = classes_of(case)
    if case.least_updates(int(loss.updates[-1])) < MIN_UPDATES or len(loss) < LEAST_POINTS:
        return CouldNotCheck((LONGER,)) if classes is not None else None
    if classes is None:
        if accuracy is None or right is None:
            return None
        ends = ((end, right), (float(loss.values[0]), float(accuracy.values[0])))
        classes = next((k for level, share in ends if (k := classes_that_fit(level, share))), None)
        if classes is None:
            return Clear("loss and accuracy are not those of guessing")
    chance = float(np.log(classes))
    near = np.abs(loss.values / chance - 1) <= (SAME_LEVEL if right is None else 1 - SHARE_OF_CHANCE)
    if not near[-1] or _share(loss.updates, near) < LONG_SHARE:
        return _validation_at_chance(case, classes) or Clear("the loss has left that of guessing")
    first, last = int(loss.updates[int(np.argmax(near))]), int(loss.updates[-1])
    constant = right is None or guesses(right, classes)
    evidence = [
        Evidence("train/loss", (first, last), f"level at the end; ln {classes} is {chance:.4g}", end,
                 SHARE_OF_CHANCE * chance, loss.source(len(loss) - 1))
    ]  # fmt: skip
    if accuracy is not None and right is not None:
        evidence.append(Evidence(accuracy.name, (first, last), "accuracy at the end", right, 1 / classes,
                                 accuracy.source(len(accuracy) - 1)))  # fmt: skip
    told = "" if right is None else f" and accuracy {right:.3g}"
    return Found(
        title=f"Loss is {end:.4g} after {plural(last, case.step)}{told}: guessing among {classes} classes "
        f"gives {chance:.4g} (ln {classes}) and {1 / classes:.3g}",
        evidence=tuple(evidence),
        confidence=0.9 if constant else 0.75,
        severity="error" if constant else "warning",
        facts={"chance": chance, "level": end, "first_loss": float(loss.values[0]), "classes": classes,
               "share": _share(loss.updates, near)},
    )  # fmt: skip


def _validation_at_chance(case: Case, classes: int) -> Found | None:
    """Validation that is no better than guessing at any evaluation, while the training loss falls below it.

    What is learnt is the training samples by heart: their labels do not follow from their inputs. Overfitting is a rise
    after a fall; here nothing was ever gained.
    """
    val, loss, accuracy = case.val, case.loss, case.run.get("val/accuracy")
    if val is None or loss is None or len(val) < LEAST_EVALUATIONS:
        return None
    chance, lowest, last = float(np.log(classes)), float(val.values.min()), int(val.updates[-1])
    end = float(np.median(loss.values[-3:]))
    starts_there = abs(float(val.values[0]) / chance - 1) <= AROUND_CHANCE and 2 * int(val.updates[0]) <= last
    if not starts_there or lowest < SHARE_OF_CHANCE * chance or end > chance:
        return None
    evidence = [
        Evidence("val/loss", (int(val.updates[0]), last), f"lowest of {len(val)} evaluations; ln {classes} is "
                 f"{chance:.4g}", lowest, SHARE_OF_CHANCE * chance, val.source(int(np.argmin(val.values))))
    ]  # fmt: skip
    if accuracy is not None and len(accuracy):
        # the best of several evaluations of a predictor that guesses
        samples = case.setting("validation_samples") or FEW_SAMPLES
        spread = false_alarm_z(len(accuracy)) * float(np.sqrt((1 - 1 / classes) / classes / samples))
        best, limit = float(accuracy.values.max()), (1 + SAME_SHARE) / classes + spread
        if best > limit:
            return None  # too sure of itself, and right more often than guessing is
        evidence.append(Evidence("val/accuracy", (int(accuracy.updates[0]), int(accuracy.updates[-1])),
                                 f"highest; guessing gives {1 / classes:.3g}", best, limit,
                                 accuracy.source(int(np.argmax(accuracy.values)))))  # fmt: skip
    elif lowest < chance or float(val.values.max()) > (1 + AROUND_CHANCE) * chance:
        return None  # a loss above guessing may be that of a model that is too sure of itself: no accuracy tells
    return Found(
        title=f"Validation was never better than guessing among {classes} classes (lowest {lowest:.4g}, ln {classes} = "
        f"{chance:.4g}) while training fell to {end:.4g}: samples are memorised and nothing else is learnt",
        evidence=tuple(evidence),
        confidence=0.9 if len(evidence) > 1 else 0.8,
        detail="The labels do not follow from the inputs: look for labels and inputs that were reordered apart from "
        "each other, in training or in both splits.",
        facts={
            "memorised": True,
            "chance": chance,
            "level": lowest,
            "first_loss": float(loss.values[0]),
            "classes": classes,
            "share": 1.0,
        },
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


def _share(updates: np.ndarray, mask: np.ndarray) -> float:
    """Share of the updates that the points in `mask` cover."""
    if len(updates) < 2:
        return float(mask.mean())
    width = np.gradient(updates.astype(np.float64))
    return float(width[mask].sum() / width.sum())
