"""Training loss over validation loss at each evaluation, and over what a model that knows nothing has.

A row of a log may hold the loss of one batch, or the mean since the row before. A mean over an epoch lags behind the
evaluation at its end; it belongs beside the mean of validation over the same epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from unstuck.config.dialects import PER_EPOCH
from unstuck.diagnose.case import Case
from unstuck.diagnose.class_count import MOST_LOG_CLASSES
from unstuck.diagnose.own_keys import by_transformers
from unstuck.diagnose.statistics import Floats

MANY_ROWS = 3  # rows of training for each evaluation: enough that a running mean of 5 does not reach over two of them
FACTORS = ("accumulation", "batch_size", "world_size", "context")  # what a loss may be summed over
LEAST_WINDOW = 5  # points of the shortest trend (statistics.trend)


@dataclass(frozen=True, slots=True)
class Ratios:
    """Training over validation loss.

    Attributes:
        values: shape (n,).
        places: their indices in `case.val`, shape (n,).
        noise: relative standard deviation of one of them that the batches' noise leaves.
    """

    values: Floats
    places: npt.NDArray[np.intp]
    noise: float = 0.0


def at_evaluations(case: Case) -> Ratios:
    """The ratios at the evaluations that lie within the training log."""
    if case.val is None or case.loss is None or case.loss_trend is None:
        return Ratios(np.zeros(0), np.zeros(0, dtype=np.intp))
    inside = (case.val.updates >= case.loss.updates[0]) & (case.val.values > 0)
    smoothed = len(case.loss) > MANY_ROWS * len(case.val)
    level = case.loss_trend.values if smoothed else case.loss.values
    train = np.interp(case.val.updates.astype(np.float64), case.loss.updates.astype(np.float64), level)
    inside &= train > 0
    middle = float(np.median(np.abs(case.loss.values[len(case.loss) // 2 :])))
    noise = float(np.nan_to_num(case.loss_noise)) / middle if middle > 0 else 0.0
    if smoothed:
        noise /= math.sqrt(LEAST_WINDOW)
    return Ratios(train[inside] / case.val.values[inside], np.flatnonzero(inside), noise)


def over_epochs(case: Case) -> Ratios:
    """Where each row has both losses: training over the mean of validation since the row before.

    That mean is the logarithmic one, exact where the loss falls exponentially. The first row has no row before: it is
    left out unless validation was evaluated at update 0.
    """
    val, loss = case.val, case.loss
    none = Ratios(np.zeros(0), np.zeros(0, dtype=np.intp))
    if val is None or loss is None or len(val) < 2 or bool((val.values <= 0).any()):
        return none
    rows = {int(update): place for place, update in enumerate(loss.updates)}
    places = np.array([i for i in range(1, len(val)) if int(val.updates[i]) in rows], dtype=np.intp)
    if len(places) < len(val) - 1 or len(loss) > len(val):
        return none
    before, after = val.values[places - 1], val.values[places]
    logs = np.log(before / after)
    means = np.where(np.abs(logs) < 1e-6, after, (before - after) / np.where(logs == 0, 1.0, logs))
    train = np.array([loss.values[rows[int(val.updates[i])]] for i in places])
    return Ratios(train / means, places)


def before_memorising(case: Case) -> Ratios:
    """The ratios of the first part of the run: half of the epochs, else a third of the evaluations without the first.

    At the first evaluation the loss falls so fast that a running mean of training lags behind it.
    """
    epochs = over_epochs(case)
    if len(epochs.values):
        half = len(epochs.values) // 2
        return Ratios(epochs.values[:half], epochs.places[:half])
    found = at_evaluations(case)
    part = slice(1, max(1, len(found.values) // 3))
    return Ratios(found.values[part], found.places[part], found.noise)


def level_of_chance(case: Case) -> tuple[float, str] | None:
    """(loss, name) of a model that gives every token or class the same probability; None where neither is known."""
    if case.is_token_loss and case.chance:
        return case.chance, "ln V"
    classes = case.classes
    return (math.log(classes), f"ln {classes}") if classes else None


def most_of_guessing(case: Case) -> tuple[float, str] | None:
    """(loss, name) that no cross-entropy of a model that knows nothing passes; None where no class is told apart.

    For a loss over an unknown number of them: an accuracy, a perplexity or label smoothing says that it is one.
    """
    if case.setting("task") == "regression" or level_of_chance(case) is not None:
        return None
    names = ("accuracy", "perplexity")
    measured = any(case.run.get(f"{split}/{name}") is not None for split in ("train", "val") for name in names)
    smoothing = case.setting("label_smoothing") is not None and not by_transformers(case.run)
    return (MOST_LOG_CLASSES, "guessing among 60,000 classes") if measured or smoothing else None


def batches_compared(case: Case) -> tuple[float, float] | None:
    """(training's batch, validation's batch over it) where the settings have both and validation's is larger."""
    batch, theirs = case.setting("batch_size"), case.setting("evaluation_batch_size")
    if not isinstance(batch, int | float) or not isinstance(theirs, int | float) or not 2 <= batch < theirs:
        return None
    return float(batch), float(theirs) / float(batch)


def lag(case: Case, places: npt.NDArray[np.intp]) -> Floats:
    """How far training falls between the rows around each evaluation, in logarithms: their ratio is no surer.

    Where training is logged as often as validation the two rows tell a whole interval, which is no lag.
    """
    loss, val = case.loss, case.val
    if loss is None or val is None or len(loss) < 2 * len(val) or bool((loss.values <= 0).any()):
        return np.zeros(len(places))
    behind = np.searchsorted(loss.updates, val.updates[places]).clip(1, len(loss) - 1)
    fallen: Floats = np.abs(np.log(loss.values[behind - 1] / loss.values[behind]))
    return fallen


def counts_of(case: Case) -> dict[tuple[str, ...], float]:
    """What a loss may have been summed over: settings (by name) -> their product, at least 2."""
    known: dict[str, float] = {}
    for name in FACTORS:
        value = case.setting(name)
        if isinstance(value, int | float) and value >= 2:
            known[name] = float(value)
    found = {
        names: math.prod(known[name] for name in names)
        for size in range(1, len(known) + 1)
        for names in combinations(known, size)
    }
    batches = _batches_per_epoch(case)
    if batches is not None and batches >= 2:
        found["batches per epoch",] = batches
    return found


def _batches_per_epoch(case: Case) -> float | None:
    for key, setting in case.run.raw_settings.items():
        if key.lower().rpartition(".")[2] in PER_EPOCH and isinstance(setting.value, int | float):
            return float(setting.value)
    samples, batch = case.setting("train_samples"), case.setting("batch_size")
    return float(samples) / float(batch) if samples and batch else None
