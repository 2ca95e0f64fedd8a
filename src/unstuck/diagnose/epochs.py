"""How many optimizer updates an epoch has, as a log shows it that counts both."""

from __future__ import annotations

import numpy as np

from unstuck.runs import Run
from unstuck.runs.run import Floats

# Decimals at which a log may print its epochs; transformers rounds to 2 or 4, others print the float.
MOST_DECIMALS = 6


def logged_updates_per_epoch(run: Run) -> int | None:
    """The whole number of updates in an epoch that every logged epoch allows; None where none or several do.

    A fraction e at update u says u / e, to the digits of e. A whole number k, counted from 1, says that update u lies
    in the k-th epoch, (k - 1) n < u <= k n; evaluations that all come at the same u / k come at its end.
    """
    epoch = run.get("epoch")
    if epoch is None or run.axis != "update":
        return None
    epoch = epoch.finite()
    updates, epochs = epoch.updates.astype(np.float64), epoch.values
    used = updates >= 1
    updates, epochs = updates[used], epochs[used]
    if not len(updates) or epochs.min() < 0:
        return None
    if np.all(epochs == np.round(epochs)):
        return _of_whole(run, updates, epochs + (1.0 if epochs.min() == 0 else 0.0))
    half = _half_a_digit(epochs)
    known = epochs > 2 * half
    if not known.any():
        return None
    low, high = updates[known] / (epochs[known] + half), updates[known] / (epochs[known] - half)
    return _only_whole(float(low.max()), float(high.min()))


def _of_whole(run: Run, updates: Floats, epochs: Floats) -> int | None:
    low = float((updates / epochs).max())
    begun = epochs > 1
    if not begun.any():
        return None
    high = float((updates[begun] / (epochs[begun] - 1)).min())
    if high <= low:
        return None
    val = run.get("val/loss")
    if val is not None and len(val) > 1 and low == round(low):
        of_each = epochs[np.isin(updates, val.updates)]
        at = updates[np.isin(updates, val.updates)]
        # a row of training and one of validation may share the update
        if len(np.unique(of_each)) > 1 and np.all(at == low * of_each):
            return int(low)
    # `high` itself is the first update of the next epoch
    return _only_whole(low, np.nextafter(high, 0.0))


def _only_whole(low: float, high: float) -> int | None:
    first, last = int(np.ceil(low - 1e-9)), int(np.floor(high + 1e-9))
    return first if first == last and first >= 1 else None


def _half_a_digit(epochs: Floats) -> float:
    """Half a unit of the last decimal that the epochs are printed with."""
    decimals = (d for d in range(MOST_DECIMALS) if np.all(np.abs(np.round(epochs, d) - epochs) < 1e-9))
    return 0.5 * 10.0 ** -next(decimals, MOST_DECIMALS)
