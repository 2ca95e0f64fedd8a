"""The points of a log as a peer would have met them: once per epoch (or evaluation), or at the steps that it saves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from unstuck.runs.run import Ints, Run, Series


class Epoch(NamedTuple):
    """What a Keras callback is given at the end of an epoch; nan where the log has no such value."""

    update: int
    train_loss: float
    val_loss: float
    train_accuracy: float
    val_accuracy: float


def epochs(run: Run) -> list[Epoch]:
    """The run's evaluations, or its epochs where nothing was evaluated; empty where neither is known.

    The training values of an epoch are means over the points since the last one, as Keras reports them; nanoGPT's
    training loss over evaluation batches is taken where it was printed.
    """
    marks = _marks(run)
    evaluated, logged = run.get("train/loss_eval"), run.get("train/loss")
    rows: list[Epoch] = []
    before = -1
    for update in marks.tolist():
        train_loss = _at(evaluated, update) if evaluated is not None else _mean(logged, before, update)
        train_accuracy = _mean(run.get("train/accuracy"), before, update)
        val_loss, val_accuracy = _at(run.get("val/loss"), update), _at(run.get("val/accuracy"), update)
        rows.append(Epoch(update, train_loss, val_loss, train_accuracy, val_accuracy))
        before = update
    return rows


def _marks(run: Run) -> Ints:
    validated = [s.updates for name in ("val/loss", "val/accuracy") if (s := run.get(name)) is not None and len(s)]
    if validated:
        return np.unique(max(validated, key=len))
    epoch = run.get("epoch")
    if epoch is None or not len(epoch):
        return np.empty(0, dtype=np.int64)
    number = np.ceil(np.nan_to_num(epoch.values, posinf=0.0, neginf=0.0))
    return np.unique(epoch.updates[np.append(np.diff(number) > 0, True)])


def _mean(series: Series | None, after: int, upto: int) -> float:
    if series is None:
        return float("nan")
    points = series.between(after + 1, upto)
    return float(points.values.mean()) if len(points) else _at(series, upto)


def _at(series: Series | None, update: int) -> float:
    value = None if series is None else series.at(update)
    return float("nan") if value is None else value


def counts_epochs(run: Run) -> bool:
    """Whether the x-axis of the run is epochs, because the log has nothing finer."""
    epoch = run.get("epoch")
    if epoch is None or len(epoch) < 2:
        return False
    return bool(np.all(np.abs(epoch.values - epoch.updates) <= 1))


def at_least_apart(series: Series, updates: int) -> Series:
    """The first point and each next one that lies at least `updates` beyond the last one taken."""
    kept = np.zeros(len(series), dtype=bool)
    last = -updates - 1
    for place, update in enumerate(series.updates.tolist()):
        if not kept.any() or update - last >= updates:
            kept[place] = True
            last = update
    return series.where(kept)
