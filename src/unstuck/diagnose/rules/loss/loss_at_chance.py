"""The loss stays where an untrained or constant predictor would be.

Finds
Over most of a run long enough to have left it, the training loss stays within 3 % of ln V (every token equally
likely), or flat at the unigram entropy (token frequencies learnt, no context), or, for relative errors of fields, near
1 (predicting zero) or not below the error of giving the input back; of a classifier, at ln K with an accuracy of 1/K
(guessing among K classes). Where no vocabulary is known: a language model's loss that has hardly left its start and is
above what frequencies give in any tokenizer.

Why it matters
The model has learnt nothing that depends on its input. Either the updates are too small, or no information reaches
the output.

Evidence needed
200 updates of training loss; the vocabulary, the name of the model or tokenizer, or the entropy of the tokens, or else
a loss that the log gives per token; for a classifier its accuracy.

Not when
The run is too short to tell; the loss leaves ln V at the pace of its warm-up.

Remedy
Look for the cause first: a learning rate that never arrives, a group that is not trained, a graph that is cut, labels
that do not belong to the inputs.

References
CortexGPT, incident I1: 10.3742 to 10.2828 in 1,405 updates with V about 32,000 (ln V = 10.37). Token frequencies of
English give 6.5 to 7.9 nats in BPE of 32,000 to 200,000 ids, 0.6 to 0.7 ln V (measured, docs/scales.md): a healthy run
passes it within a few hundred updates (nanoGPT: 10.99 to 6.5 in 500).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.known_models import chance_of, frequencies_of, vocabulary_of
from unstuck.diagnose.lr_curve import flat_since_half
from unstuck.diagnose.reference_losses import fresh_vocabularies, most_of_frequencies
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

# A tenth of the way from ln V to the unigram entropy (0.7 ln V): not even the token frequencies are learnt.
SHARE_OF_CHANCE = 0.97
# Frequencies alone take about 100 updates at any sensible rate; twice that before anything is said.
MIN_UPDATES = 200
# "Stays": more than half of the run.
LONG_SHARE = 0.5
LEAST_POINTS = 5
LEAST_EPOCHS = 10  # ours: ten passes over any data are more than 200 updates' worth of looking
# A constant prediction over K equal classes has a loss of ln K and an accuracy of 1/K; classes of a data set differ in
# size by a tenth or two, which moves the accuracy (the largest class) and hardly the loss.
SAME_LEVEL, SAME_SHARE = 0.01, 0.2
MOST_LOG_CLASSES = 11.0  # ours: e^11 = 60,000 classes
# Without a vocabulary the first value must be that of the start: as in initial-loss-implausible.
FIRST_UPDATES = 2
# Of ln V: the highest level of frequencies measured is 0.71 (WordPiece of 16,384 on documentation and books).
FREQUENCIES_MOST = 0.71


@rule(code="LO001", stages="LCP", severity="error", explains=("loss-plateau", "undertrained", "validation-noisy"))
def check(case: Case) -> Outcome:
    trend, loss = case.loss_trend, case.loss
    if trend is None or loss is None:
        return CouldNotCheck(("train/loss",))
    level, name, facts = _chance(case)
    if level is None:
        return _at_chance_of_classes(case) or _without_vocabulary(case)
    last = int(loss.updates[-1])
    if last < MIN_UPDATES or len(loss) < 5:
        return CouldNotCheck((f"{MIN_UPDATES} updates of train/loss",))
    end = float(np.median(loss.values[-max(3, len(loss) // 10) :]))
    entropy = case.setting("unigram_entropy") if case.is_token_loss or case.chance is None else None
    near = trend.values >= SHARE_OF_CHANCE * level
    # As in initial-loss-implausible: another unit, or a run that blew up.
    if end > 1.25 * max(level, float(facts.get("zero", 0.0))):
        return Clear("the loss is far above chance: not a model that predicts nothing")
    if not (near[-1] and _share(trend.updates, near) >= LONG_SHARE):
        if entropy is None:
            return _at_frequencies(case, end)
        # at the unigram entropy: within 3 % of it, over the second half of the run
        half = trend.between(last // 2, last).values
        if last < 2 * MIN_UPDATES or not len(half) or not np.all(np.abs(half / entropy - 1) <= 1 - SHARE_OF_CHANCE):
            return Clear()
        level, name, near = float(entropy), "the unigram entropy", trend.updates >= last // 2
    first = int(trend.updates[int(np.argmax(near))])
    what = "step from input to target" if "zero" in facts else "context"
    return Found(
        title=f"Loss is {end:.4g} after {last} updates: {name} is {level:.4g}, nothing of the {what} is learnt",
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
    """Whether a classifier's cross-entropy stays at ln K while its accuracy is, or was, 1/K; None: no classifier."""
    loss, accuracy = case.loss, case.run.get("train/accuracy") or case.run.get("val/accuracy")
    if loss is None or accuracy is None or len(accuracy) < 2 or len(loss) < LEAST_POINTS or loss.unit == "nats/token":
        return None
    # a row of Keras' logger is an epoch, and its rows may be all that counts the updates
    if loss.updates[-1] < MIN_UPDATES and not (case.run.format.startswith("keras") and len(loss) >= LEAST_EPOCHS):
        return None
    end, right = float(np.median(loss.values[-3:])), float(np.median(accuracy.values[-3:]))
    ends = ((end, right), (float(loss.values[0]), float(accuracy.values[0])))
    classes = next((k for level, share in ends if (k := _classes(level, share))), None)
    if classes is None:
        return Clear("loss and accuracy are not those of guessing")
    chance = float(np.log(classes))
    near = np.abs(loss.values / chance - 1) <= 1 - SHARE_OF_CHANCE
    if not near[-1] or _share(loss.updates, near) < LONG_SHARE:
        return Clear("the loss has left that of guessing")
    first, last = int(loss.updates[int(np.argmax(near))]), int(loss.updates[-1])
    constant = _classes(chance, right) == classes
    return Found(
        title=f"Loss is {end:.4g} after {last} updates and accuracy {right:.3g}: guessing among {classes} classes "
        f"gives {chance:.4g} (ln {classes}) and {1 / classes:.3g}",
        evidence=(
            Evidence("train/loss", (first, last), f"level at the end; ln {classes} is {chance:.4g}", end,
                     SHARE_OF_CHANCE * chance, loss.source(len(loss) - 1)),
            Evidence(accuracy.name, (first, last), "accuracy at the end", right, 1 / classes,
                     accuracy.source(len(accuracy) - 1)),
        ),
        confidence=0.9 if constant else 0.75,
        severity="error" if constant else "warning",
        facts={"chance": chance, "level": end, "first_loss": float(loss.values[0]), "classes": classes,
               "share": _share(loss.updates, near)},
    )  # fmt: skip


def _classes(level: float, accuracy: float) -> int | None:
    """K where the loss is ln K to a hundredth and the accuracy 1/K to a fifth; None where no K fits both."""
    classes = round(float(np.exp(min(level, MOST_LOG_CLASSES)))) if level > 0 else 0
    fits = classes >= 2 and abs(level / np.log(classes) - 1) <= SAME_LEVEL and abs(accuracy * classes - 1) <= SAME_SHARE
    return classes if fits else None


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
    if last < MIN_UPDATES or len(loss) < 5 or not stays or lowest <= most_of_frequencies() or not fits:
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


def _at_frequencies(case: Case, end: float) -> Outcome:
    """A loss that is flat where token frequencies alone are in this tokenizer, on English text."""
    frequencies, loss = frequencies_of(case), case.loss
    chance = chance_of(case)
    if frequencies is None or loss is None or chance is None or int(loss.updates[-1]) < 2 * MIN_UPDATES:
        return Clear()
    flat = flat_since_half(case)
    # the texts measured are books, plays and documentation; text of the web has more words, up to FREQUENCIES_MOST
    low, high = SHARE_OF_CHANCE * frequencies.low, max(frequencies.high, FREQUENCIES_MOST * chance)
    if flat is None or not flat[0] or not low <= end <= high:
        return Clear()
    last = int(loss.updates[-1])
    return Found(
        title=f"Loss has stood at {end:.4g} since half of {last} updates, no better than token frequencies: "
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
