"""What a classifier that knows nothing shows: the loss of guessing among K classes, and outputs that are 0 or 1.

Guessing among K equal classes costs ln K and is right 1 time in K. An output that is saturated costs the same for every
wrong sample: what its program lets the logarithm of zero be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.class_count import MOST_LOG_CLASSES
from unstuck.diagnose.statistics import Floats
from unstuck.runs import Series

# A constant prediction over K equal classes has a loss of ln K and an accuracy of 1/K; classes of a data set differ in
# size by a tenth or two, which moves the accuracy (the largest class) and hardly the loss.
SAME_LEVEL, SAME_SHARE = 0.01, 0.2

# Nats for each wrong sample of an output that is 0 or 1 to the last bit. Keras clips probabilities to 1e-7 from 0 and 1
# (backend.epsilon()), and its binary cross-entropy adds 1e-7 again within the logarithm; of 1 - 1e-7 float32 keeps
# 1 - 2^-23. torch.nn.BCELoss bounds the logarithm at -100.
EPSILON, LAST_BIT = 1e-7, 2.0**-23
SATURATED = (-math.log(EPSILON), -math.log(LAST_BIT), -math.log(2 * EPSILON), -math.log(LAST_BIT + EPSILON), 100.0)
# Loss and accuracy are printed with 4 digits, or the accuracy with 3 and an error share of at least a tenth.
SAME_COST = 2e-3
# A model that is too sure of itself has 2 to 20 nats an error: one such ratio is in a band of 0.2 % about one of the
# four values of Keras with a chance of some 1 %.
LEAST_WITNESSES = 2


@dataclass(frozen=True, slots=True)
class Saturated:
    """A series that costs `each` nats for every wrong sample and nothing for the others."""

    loss: Series
    accuracy: Series
    each: float


def classes_that_fit(level: float, accuracy: float) -> int | None:
    """K where the loss is ln K to a hundredth and the accuracy 1/K to a fifth; None where no K fits both."""
    classes = round(math.exp(min(level, MOST_LOG_CLASSES))) if level > 0 else 0
    fits = classes >= 2 and abs(level / math.log(classes) - 1) <= SAME_LEVEL and guesses(accuracy, classes)
    return classes if fits else None


def guesses(accuracy: float, classes: int) -> bool:
    """Whether this accuracy is that of guessing among so many classes."""
    return abs(accuracy * classes - 1) <= SAME_SHARE


def saturated_outputs(case: Case) -> Saturated | None:
    """A split whose loss is one of `SATURATED` times its share of errors, at every evaluation of its second half.

    One number may be so by chance: at least `LEAST_WITNESSES` of training and validation together.
    """
    found: list[Saturated] = []
    witnesses = 0
    for split in ("train", "val"):
        loss, accuracy = case.run.get(f"{split}/loss"), case.run.get(f"{split}/accuracy")
        if loss is None or accuracy is None or not len(loss) or list(loss.updates) != list(accuracy.updates):
            continue
        half = slice(len(loss) // 2, None)
        each = _cost(loss.values[half], 1.0 - accuracy.values[half])
        if each is not None:
            found.append(Saturated(loss, accuracy, each))
            witnesses += len(loss.values[half])
    return found[0] if witnesses >= LEAST_WITNESSES else None


def _cost(loss: Floats, wrong: Floats) -> float | None:
    if not np.all(np.isfinite(loss)) or not np.all((wrong >= 0.1) & (wrong <= 1.0)):
        return None
    ratios = loss / wrong
    return next((cost for cost in SATURATED if bool(np.all(np.abs(ratios / cost - 1) <= SAME_COST))), None)
