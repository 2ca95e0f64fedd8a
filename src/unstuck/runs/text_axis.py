"""From the counts of a log to optimizer updates: which count rises over the whole run, and how many make an epoch.

The finest count wins. One that begins again with every epoch is continued, `(epoch - 1) x batches per epoch + batch`; a
log that counts only epochs stays on them. A fraction of an epoch (transformers) becomes steps by the logging interval
of the settings or by the progress bar between the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unstuck.runs.run import Floats, Ints
from unstuck.runs.text_counts import (
    TextAxis,
    evaluates,
    filled,
    in_order,
    is_fraction,
    last_at,
    loose_rows,
    nothing,
    own,
    plan,
)
from unstuck.runs.text_fractions import by_bar, fractions
from unstuck.runs.text_groups import Group
from unstuck.wording import plural

WITHIN = 0.5  # ours: share of the steps back of a count that fall on a new epoch for it to count within the epoch
SMALL_BATCH = 16  # ours: a smaller power of two may be an interval of logging
SEVERAL = 3  # ours: a resume goes back once or twice, and seldom into a later epoch
CROWDED = 4  # ours: rows of an epoch; two or three may be of training, of an evaluation and of a test
SAME_LENGTH = 0.1  # ours: a dropped last batch, a count printed now and then; accumulation is a factor of 2 or more
SAMPLES = 64  # pytorch/examples mnist/main.py: default batch size; it prints samples where others print batches


def axis_of(groups: Sequence[Group], batch_size: float | None, bars: Sequence[Group], logging_steps: float | None,
            per_epoch: float | None, finished: tuple[float, float] | None = None,
            accumulation: float | None = None) -> TextAxis:  # fmt: skip
    """The x-axis of the points of a log.

    Args:
        groups: its points.
        batch_size: by the settings, for logs that count samples.
        bars: states of progress bars, for rows that have no count.
        logging_steps: by the settings, updates between two rows of a log that prints fractions of epochs only.
        per_epoch: updates of an epoch by the settings, None where they do not say.
        finished: steps and epochs of the whole run, where the log tells them at its end.
        accumulation: micro-batches of an update, by the settings.
    """
    axis = _counted(groups, batch_size, bars, logging_steps, per_epoch, finished)
    micro = per_epoch * accumulation if per_epoch and accumulation and accumulation > 1 else None
    if axis.batches and micro and abs(axis.batches / micro - 1) <= SAME_LENGTH:
        axis.kind = "micro-batch"  # an epoch has as many of them as its samples make micro-batches, not updates
    return axis


def _counted(groups: Sequence[Group], batch_size: float | None, bars: Sequence[Group], logging_steps: float | None,
             per_epoch: float | None, finished: tuple[float, float] | None) -> TextAxis:  # fmt: skip
    """The axis of the finest count that the log prints."""
    axis = TextAxis("row", updates=[nothing(group) for group in groups])
    _epochs(axis, groups)
    training = [group for group in groups if not evaluates(group) and group.template.metrics]
    counted = {role for group in training or groups for role in group.template.counts}
    if not counted & {"step", "micro_step"} and _batches(axis, groups, ("batch", "count"), batch_size):
        return axis
    for role, kind in (("step", "update"), ("micro_step", "micro-batch")):
        if any(role in group.template.counts for group in groups) and _steps(axis, groups, role, kind):
            return axis
    if any(np.isfinite(epochs).any() for epochs in axis.epochs):
        if fractions(axis, groups, bars, logging_steps, finished):
            return axis
        if not is_fraction(axis):
            if _is_crowded(axis, groups):
                axis.kind = "row"
                axis.notes.append("The log counts epochs only and prints many rows in each.")
            return axis
        axis.kind = "epoch" if per_epoch else "row"
        return axis
    by_bar(axis, groups, bars)
    return axis


def _epochs(axis: TextAxis, groups: Sequence[Group]) -> None:
    """The epoch of every row, counted from 1 where it is a whole number; the axis is epochs until a count is found."""
    printed = [own(group, "epoch") for group in groups]
    rows, values = in_order(groups, printed)
    if not len(values):
        axis.epochs = printed
        return
    whole = bool(np.all(values == np.floor(values)))
    shift = 1.0 if whole and values.min() == 0 else 0.0
    span = loose_rows(groups)
    axis.epochs = [filled(rows, values, group, span) + shift for group in groups]
    axis.kind = "epoch"
    axis.name = next(g.template.holes[g.template.counts["epoch"]].key for g in groups if "epoch" in g.template.counts)
    plan(axis, "epochs", groups, "epoch")


def _is_crowded(axis: TextAxis, groups: Sequence[Group]) -> bool:
    """Whether many training rows say the same epoch and nothing else of where they are."""
    counted, _ = in_order(groups, [own(group, "epoch") for group in groups])
    for epochs, group in zip(axis.epochs, groups, strict=True):
        if group.template.outcomes and not group.is_evaluation and len(epochs) > CROWDED:
            told = epochs if "epoch" in group.template.counts else np.searchsorted(counted, group.rows)
            ends = np.flatnonzero(np.diff(told))
            if np.median(np.diff(np.concatenate([[-1], ends, [len(told) - 1]]))) >= CROWDED:
                return True
    return False


def _steps(axis: TextAxis, groups: Sequence[Group], role: str, kind: str) -> bool:
    """Take a count of steps that goes on over the whole run; False where it counts within the epoch."""
    having = [group for group in groups if role in group.template.counts]
    training = [group for group in having if not evaluates(group) and group.template.metrics]
    counting = training or having
    if _within_epoch(axis, groups, counting, role):
        return _batches(axis, groups, (role,), None)
    columns = [own(group, role) for group in groups]
    _, values = in_order(counting, [own(group, role) for group in counting])
    for place, group in enumerate(groups):
        if evaluates(group) and training and _is_other(columns[place], values):
            columns[place] = nothing(group)  # it counts the batches of the evaluation
    axis.kind, axis.updates = kind, columns
    axis.name = counting[0].template.holes[counting[0].template.counts[role]].key
    epochs = axis.planned.get("epochs")
    seen = max((float(np.nanmax(e)) for e in axis.epochs if np.isfinite(e).any()), default=0.0)
    whole = epochs is None or seen > 1 or epochs.value == 1
    plan(axis, "updates" if whole else "steps_per_epoch", counting, role)  # a first epoch of several has its own total
    return True


def _is_other(column: Floats, training: Floats) -> bool:
    finite = column[np.isfinite(column)]
    falls = np.mean(np.diff(finite) < 0) if len(finite) > 1 else 0.0
    return bool(len(finite) and len(training) and (falls > 0.1 or finite.max() > 1.5 * training.max() + 1))


def _within_epoch(axis: TextAxis, groups: Sequence[Group], counting: Sequence[Group], role: str) -> bool:
    """Whether a count begins again with the epochs."""
    rows, values = in_order(counting, [own(group, role) for group in counting])
    epoch_rows, epochs = in_order(groups, axis.epochs)
    if not len(epochs) or len(values) < 2 or is_fraction(axis):
        return False
    at = last_at(epoch_rows, epochs, rows)
    back = np.diff(values) < 0
    up = np.diff(at) > 0
    if back.any():
        if up[back].all() and np.count_nonzero(back) >= SEVERAL and any(g.total(role) is not None for g in counting):
            return True  # the epochs may have fewer batches than stand between two rows
        return bool(np.mean(up[back]) >= WITHIN and np.mean(back[up] if up.any() else [True]) >= WITHIN)
    totals = [group.total(role) for group in counting]
    if up.any():  # the same count in every epoch, its total: what an epoch ended with
        return bool(np.ptp(values) == 0 and all(t is not None and np.all(t == values[0]) for t in totals))
    if not all("epoch" in group.template.counts for group in counting):
        return False
    # one epoch only: did it reach the total while more are planned?
    planned = axis.planned.get("epochs")
    return bool(planned and planned.value > 1 and any(t is not None and values.max() >= t.max() for t in totals))


def _batches(axis: TextAxis, groups: Sequence[Group], roles: tuple[str, ...], batch_size: float | None) -> bool:
    """Continue a count that begins again with every epoch; False where no group has one."""
    role_of = [next((role for role in roles if role in group.template.counts), "") for group in groups]
    counting = [g for g, role in zip(groups, role_of, strict=True) if role and not evaluates(g)]
    if not counting:
        return False
    if all(group.template.is_running for group in counting) and axis.kind == "epoch":
        plan(axis, "steps_per_epoch", counting, role_of[groups.index(counting[0])])
        return True  # its rows are the means of an epoch
    counts = [own(g, role) if role and not evaluates(g) else nothing(g)
           for g, role in zip(groups, role_of, strict=True)]  # fmt: skip
    role = max(roles, key=lambda name: sum(len(group.rows) for group in counting if name in group.template.counts))
    rows, values = in_order(groups, counts)
    has_epoch = any(np.isfinite(epochs).any() for epochs in axis.epochs)
    if not has_epoch:
        restarts = np.append(0, np.cumsum(np.diff(values) < 0))
        totals = [t for group in counting if (t := group.total(role)) is not None]
        ends = values[:-1][np.diff(values) < 0]
        if not restarts[-1] or not totals or np.mean(ends >= 0.9 * max(float(t.max()) for t in totals)) < WITHIN:
            axis.kind, axis.updates = "update", counts
            axis.name = counting[0].template.holes[counting[0].template.counts[role]].key
            plan(axis, "updates", counting, role)
            _evaluated_at(axis, groups)
            return True
        axis.epochs = [last_at(rows, restarts + 1.0, group.rows) for group in groups]
        axis.notes.append("Each new start of the count of batches was taken for a new epoch.")
    seen = {float(e) for column in axis.epochs for e in np.unique(column[np.isfinite(column)])}
    apart = not any("epoch" in group.template.counts for group in counting)
    whole = len(seen) == 1 and apart and "epochs" not in axis.planned  # one epoch told elsewhere, and no end of it
    total = plan(axis, "updates" if whole else "steps_per_epoch", counting, role)
    size = _sample_counting(counting, role, values, batch_size)
    if size is not None:
        counts = [column / size for column in counts]
        axis.notes.append(f"The count within the epoch is of samples; {size:g} make a batch.")
        if total is not None:
            total = float(math.ceil(total / size))
            axis.planned["updates" if whole else "steps_per_epoch"].value = total
    if total is None:
        total = _length(rows, values, axis, groups)
        axis.notes.append(f"The log does not print how many batches an epoch has; by its counts they are {total:g}.")
    axis.kind, axis.name = "update", ""
    axis.batches = None if whole else total
    first = min((float(np.nanmin(e)) for e in axis.epochs if np.isfinite(e).any()), default=1.0)
    for place, group in enumerate(groups):
        before = (np.nan_to_num(axis.epochs[place], nan=first) - 1) * total
        summed = "epoch" in group.template.counts and group.template.outcomes and not role_of[place]
        axis.updates[place] = before + (total if summed else counts[place])  # sums are printed at the end of the epoch
        if summed:
            axis.updates[place][_goes_on(group, axis.epochs[place], groups, axis.epochs, role_of)] = np.nan
    axis.notes.append(
        f"Batches are counted within the epoch of {plural(total, 'batch', 'batches')}; the x-axis goes on."
    )
    return True


def _goes_on(group: Group, epochs: Floats, groups: Sequence[Group], told: Sequence[Floats], role_of: Sequence[str]
             ) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Which rows are followed by batches of their own epoch: evaluations in the middle of it (icefall), no sums."""
    counted = [(g.rows, e) for g, e, role in zip(groups, told, role_of, strict=True) if role and not evaluates(g)]
    rows, values = (np.concatenate(columns) for columns in zip(*counted, strict=True))
    order = np.argsort(rows, kind="stable")
    following = np.append(values[order], np.nan)[np.searchsorted(rows[order], group.rows)]
    found: npt.NDArray[np.bool_] = following == epochs
    return found


def _evaluated_at(axis: TextAxis, groups: Sequence[Group]) -> None:
    """Evaluations that name their own step keep it beside training rows that count batches."""
    for place, group in enumerate(groups):
        if evaluates(group) and "step" in group.template.counts:
            axis.updates[place] = own(group, "step")


def _length(rows: Ints, values: Floats, axis: TextAxis, groups: Sequence[Group]) -> float:
    """Batches of an epoch, from the counts themselves: the largest one and the logging interval beyond it."""
    ends = np.flatnonzero(np.diff(values) < 0)
    largest = float(np.max(values)) if not len(ends) else float(np.max(values[ends]))
    gaps = np.diff(values)
    interval = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0
    first = float(values.min())
    regular = (largest - first) % interval == 0
    if first == 0:
        return largest + (interval if regular else 1.0)
    return largest + interval - 1.0 if regular and first == 1 and interval > 1 else largest


def _sample_counting(counting: Sequence[Group], role: str, values: Floats, batch_size: float | None) -> float | None:
    """The batch size where the count within the epoch is of samples, else None.

    Batches logged every k-th are 0, 1 or k - 1 modulo k; samples leave the batch size as the remainder.
    """
    gaps = np.diff(values)
    gaps = gaps[gaps > 0]
    mnist = any("Train Epoch" in g.template.shape and "%)]" in g.template.shape for g in counting)
    if mnist and batch_size and not len(gaps) and len(values) and values.max() <= batch_size:
        return float(values.max())  # one batch makes an epoch
    if not len(gaps) or not np.all(values == np.floor(values)):
        return None
    interval = int(np.bincount(gaps.astype(np.int64)).argmax()) if gaps.max() < 10**7 else 0
    rest = int(values[0]) % interval if interval > 1 else 0
    totals = [t for group in counting if (t := group.total(role)) is not None]
    if rest not in (0, 1, interval - 1) and totals and interval < float(totals[0].max()):
        size = math.gcd(interval, rest)
        return float(size) if size > 1 else None
    whole = float(totals[0].max()) if totals else 0.0
    if interval >= SMALL_BATCH and interval & (interval - 1) == 0 and values[0] == interval and whole % interval:
        # a power of two from the first row on, and less than it to the end: the samples of the batches so far
        return float(interval) if whole == values.max() and np.mean(gaps == interval) >= WITHIN else None
    if not mnist or interval <= 1:
        return None
    size = int(batch_size) if batch_size else SAMPLES
    return float(size) if size > 1 and interval % size == 0 else None
