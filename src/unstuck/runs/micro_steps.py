"""Logs that count batches where an update takes several of them, and epochs told by their rows and again by their mean.

Speech toolkits count so: ESPnet's rows are `3epoch:train:101-200batch`, its TensorBoard scalars stand at the number of
batches, and `accum_grad` of them make an update (espnet2/train/trainer.py, reporter.py); WeNet's executor is alike.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unstuck.config.dialects import BATCHES_PER_EPOCH
from unstuck.runs.logfile import number
from unstuck.runs.names import WAITED_BATCHES, normalise
from unstuck.runs.run import Ints, Run, Series

LEAST = 3  # ours: evaluations, or epochs: two may fall on such counts by chance
SAME_MEAN = 0.01  # of a mean of printed means; a single row of an epoch differs from its mean by several times that
MOST = 0.8  # of the epochs: the first one may begin with a resume


def settle_micro_steps(run: Run) -> None:
    """Divide a count of batches by the accumulation, where the record shows that the log counts batches.

    It does where the configuration states the batches of an epoch and the run goes beyond the updates that they make,
    and not beyond the batches, with an evaluation behind each epoch of so many steps; or where it is planned by updates
    and ends at that many batches, with a learning rate that is annealed at the end and not before; or where no plan
    says otherwise and the warm-up ends after its updates times the accumulation.
    """
    each = number(run.setting("accumulation"))
    if run.axis != "update" or not each or each <= 1 or not each.is_integer():
        return
    if not (_epochs_of_batches(run, each) or _planned_in_updates(run, each) or _warmed_in_updates(run, each)):
        return
    run.series = {name: replace(s, updates=s.updates // int(each)) for name, s in run.series.items()}
    run.events = [
        event if event.update is None else replace(event, update=event.update // int(each)) for event in run.events
    ]
    run.notes.append(f"The log counts batches; its steps were divided by {each:g} (accumulation).")


def _epochs_of_batches(run: Run, each: float) -> bool:
    stated = next(
        (number(s.value) for key, s in run.raw_settings.items() if key.lower().rpartition(".")[2] in BATCHES_PER_EPOCH),
        None,
    )
    epochs, val = number(run.setting("epochs")), run.get("val/loss")
    if not stated or not epochs or val is None or len(val) < LEAST:
        return False
    every = np.unique(np.diff(val.updates))
    whole = bool(np.all(val.updates[:-1] % stated == 0)) and float(every[-1]) == stated
    return whole and epochs * stated / each < run.updates <= epochs * stated


def _planned_in_updates(run: Run, each: float) -> bool:
    """Whether the last step is the planned updates times the accumulation, within an interval of logging."""
    loss, rates = run.get("train/loss"), list(run.learning_rates().values())
    written = run.settings.get("horizon_updates") or run.settings.get("updates")
    planned = number(written.value) if written is not None else None
    if not planned or loss is None or len(loss) < LEAST or not rates or len(rates[0]) < LEAST:
        return False
    interval = int(np.median(np.diff(loss.updates)))
    if not planned * each - interval < run.updates <= planned * each:
        return False
    return _anneals_to_end(rates[0], interval)


def _warmed_in_updates(run: Run, each: float) -> bool:
    """Whether the rate peaks at the batches that the updates of the warm-up make, to an interval of logging."""
    warmup, rates = number(run.setting("warmup_updates")), list(run.learning_rates().values())
    planned = any(name in run.settings for name in ("updates", "horizon_updates"))
    if not warmup or planned or not rates or len(rates[0]) < LEAST:
        return False
    rate = rates[0]
    interval = float(np.median(np.diff(rate.updates)))
    peak = float(rate.updates[int(np.argmax(rate.values >= 0.999 * rate.values.max()))])  # 0.999: printed digits
    ramp = rate.updates < peak
    return bool(
        abs(peak - each * warmup) <= interval < (each - 1) * warmup / 2
        and ramp.sum() >= LEAST
        and np.all(np.diff(rate.values[ramp]) >= 0)
    )


def _anneals_to_end(rate: Series, interval: int) -> bool:
    """Whether the rate falls by a tenth or more behind its peak and reaches its least at the very end only: a schedule
    that was over at 1 / accumulation of the run would have stayed there, or have risen again."""
    values = rate.values[int(np.argmax(rate.values)) :]
    updates = rate.updates[int(np.argmax(rate.values)) :]
    fall = float(values[0] - values.min())
    if not fall > 0.1 * float(values[0]) > 0:
        return False
    near = updates[values <= values.min() + 0.01 * fall]  # 0.01: a cosine's last tenth changes by 2.4 % of its fall
    last = int(rate.updates[-1])
    return int(near[0]) >= last - max(2 * interval, last // 10)


def settle_waits(run: Run) -> None:
    """The wait of an update of several batches, where the log gives that of one (see `names.WAITED_BATCHES`)."""
    wait, each = run.get("time/data_ms"), number(run.setting("accumulation"))
    if wait is None or not each or each <= 1 or normalise(wait.logged_as or "") not in WAITED_BATCHES:
        return
    run.series["time/data_ms"] = replace(wait, values=wait.values * each)
    run.notes.append(f"{wait.logged_as} is of one batch; it was multiplied by {each:g} (accumulation).")


def settle_epoch_means(run: Run) -> None:
    """Leave out rows that give an epoch's training as the mean of the rows that the log has of it.

    `3epoch results: [train] loss=..., [valid] loss=...` stands behind the rows of the epoch at the same step: as a
    further point it is stale by half an epoch. What validation says in such a row stays.
    """
    loss = run.get("train/loss")
    if loss is None or len(loss) < 2 * LEAST or not (doubled := _doubled(loss)).size:
        return
    starts = np.concatenate([[0], doubled[:-1] + 1])
    means = np.array([loss.values[a:b].mean() if b > a else np.nan for a, b in zip(starts, doubled, strict=True)])
    several = doubled - starts >= 2
    same = np.abs(loss.values[doubled] - means) <= SAME_MEAN * np.abs(means)
    if int(several.sum()) < LEAST or float(np.mean(same[several])) < MOST:
        return
    lines = loss.lines[doubled]
    for name, series in run.series.items():
        if name.startswith("val/") or name == "epoch":
            continue
        summary = np.isin(series.lines, lines)
        if 0 < int(summary.sum()) < len(series):
            run.series[name] = series.where(~summary)
    run.notes.append("Rows that give the mean of an epoch's rows again were left out of the training series.")


def _doubled(loss: Series) -> Ints:
    """The places of points that stand at the same update as the one before."""
    return np.asarray(np.flatnonzero(np.diff(loss.updates) == 0) + 1, dtype=np.int64)
