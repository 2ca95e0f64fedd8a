"""A classifier that stays where guessing among its classes is: its training loss, or validation while it memorises."""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.guessing import SAME_LEVEL, SAME_SHARE, classes_that_fit, guesses
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome
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
LEAST_EVALUATIONS = 5  # ours: as many as points of the training loss
# Fresh weights start at ln K or up to a quarter above: independent logits of standard deviation s add s^2 / 2 nats, and
# a head of default width has s below 1 (as initial-loss-implausible).
AROUND_CHANCE = 0.25
FEW_SAMPLES = 500  # assumption where no setting says it: small validation sets have some hundred samples
# Evaluations from the first fifth of the run to its end (8 at least: ours), of which the lowest median of three lies
# less than a fiftieth below the median of that fifth. In the development runs of the fault benchmark that stay above
# the level of frequencies, the least of 21 sound ones fell by 15 %, and the runs of permuted targets by 0.3 to 2 %.
LEAST_STANDING, EARLY, STANDS = 8, 0.2, 0.02
# Of ln K: class sizes by Zipf's law have an entropy of 0.90 ln K for 4 classes to 0.80 ln K for 100.
SIZES_OF_CLASSES = 0.8
# From a fifth of a run to its end are 2.3 doublings; half of the 5 % that a sound run gains by each (loss-plateau).
HARDLY_LEARNT = 0.025 * float(np.log2(1 / EARLY))


def at_chance_of_classes(case: Case) -> Outcome | None:
    """Whether a classifier's cross-entropy stays at ln K; K as set, else where the accuracy is, or was, 1/K.

    None: no classifier, or nothing that says K.
    """
    loss, accuracy = case.loss, case.run.get("train/accuracy") or case.run.get("val/accuracy")
    if loss is None or loss.unit == "nats/token":
        return None
    end = float(np.median(loss.values[-3:]))
    right = float(np.median(accuracy.values[-3:])) if accuracy is not None and len(accuracy) >= 2 else None
    classes = case.classes
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
    if not near[-1] or share_of(loss.updates, near) < LONG_SHARE:
        found = _validation_at_chance(case, classes) or _near_sizes_of_classes(case, classes)
        return found or Clear("the loss has left that of guessing")
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
               "share": share_of(loss.updates, near)},
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


def _near_sizes_of_classes(case: Case, classes: int) -> Found | None:
    """Both losses near what the sizes of the classes give, and hardly lower at the end than a fifth of the way in.

    A note: classes that are hard to tell apart leave a loss there as well.
    """
    val, trend = case.val, case.loss_trend
    if val is None or trend is None or len(val) < LEAST_STANDING or classes <= 2 or case.setting("label_smoothing"):
        return None
    if case.start in ("pretrained", "checkpoint"):
        return None
    chance, last = float(np.log(classes)), int(val.updates[-1])
    early = (val.updates > 0) & (val.updates <= EARLY * case.run.updates)
    low = min(float(val.values.min()), float(trend.values.min()))
    if not early.any() or not SIZES_OF_CLASSES * chance <= low <= chance or float(val.values.max()) > 1.25 * chance:
        return None
    start = float(np.median(val.values[early]))
    fell = start - float(np.median(np.lib.stride_tricks.sliding_window_view(val.values, 3), axis=1).min())
    if fell > HARDLY_LEARNT * start:
        return None
    return Found(
        title=f"Validation came from {start:.4g} to {start - fell:.4g} between {case.step} "
        f"{int(val.updates[early][-1])} and {last}: guessing among {classes} classes gives {chance:.4g}, and their "
        "sizes alone somewhat less",
        evidence=(
            Evidence("val/loss", (int(val.updates[0]), last), "fall from the first fifth of the run to its lowest",
                     fell, HARDLY_LEARNT * start, val.source(len(val) - 1)),
        ),
        confidence=0.5,
        severity="note",
        facts={"chance": chance, "level": start - fell, "first_loss": float(val.values[0]), "classes": classes,
               "share": 1.0},
    )  # fmt: skip


def share_of(updates: np.ndarray, mask: np.ndarray) -> float:
    """Share of the updates that the points in `mask` cover."""
    if len(updates) < 2:
        return float(mask.mean())
    width = np.gradient(updates.astype(np.float64))
    return float(width[mask].sum() / width.sum())
