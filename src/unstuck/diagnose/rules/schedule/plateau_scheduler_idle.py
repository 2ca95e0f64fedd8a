"""A reduce-on-plateau scheduler has not fired, or cannot fire before the run ends.

Finds
A plateau scheduler whose rule, replayed over the real validation history, was not met although validation no longer
improves; gives the earliest epoch at which it can fire, and what smaller patience values would have done. Or: its rule
was met and the logged learning rate did not move.

Why it matters
Until it fires the schedule is a constant one, and the loss stays at the level that a constant learning rate allows.
Judging the scheduler (or the learning rate) before its first possible reduction judges something that has not happened.

Evidence needed
The schedule and its patience, and 3 evaluations of the quantity that it watches (validation loss where nothing else is
named); the planned length says whether a later reduction comes in time.

Not when
It lowered the rate; validation still improves, so there is nothing to do; the rate is at its minimum. A reduction that
can still come within the planned run is a note, and so is a patience that no run of the planned length can exhaust
while validation still improves.

Remedy
A patience that fires within the run, or a schedule that is planned over the run (cosine, linear).

References
PyTorch, torch/optim/lr_scheduler.py, ReduceLROnPlateau. Keras, reduce_lr_on_plateau.py. Incident I2: patience 5, best
at epoch 1, judged at epoch 6; the earliest reduction is epoch 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.plateau import (
    DEFAULT_PATIENCE,
    DEFAULT_THRESHOLD,
    PlateauScheduler,
    Replay,
    first_firings,
    replay,
)
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import noise_sd
from unstuck.runs import Series

MIN_EVALUATIONS = 3  # a best, and one after it, and one more: below that nothing can be called flat
# The latest share of the planned run for a first reduction that still has time to work: assumption (two thirds).
IN_TIME = 2 / 3
WHOLE = 0.02  # an evaluation at the end of an epoch lies within a fiftieth of a whole one: the last batch may be short
MOST_TOLD = 8  # ours: a sentence, not a table
MOVED = 1e-3  # a logged rate has at least four digits; a smaller fall is rounding
STEPS_PER_EVALUATION = ("huggingface", "unstuck")  # the Trainer and we step the scheduler at each evaluation


@rule(
    code="SC005", stages="LC", severity="warning", explains=("schedule-constant", "loss-plateau", "setting-truncated")
)
def check(case: Case) -> Outcome:
    schedule, patience = case.setting("schedule"), case.setting("patience")
    if schedule is None and patience is None:
        return CouldNotCheck(("schedule",))
    if schedule not in (None, "plateau"):
        return Clear("the schedule is none that waits for a plateau")
    if patience is None and case.run.dialect == "huggingface":
        patience = DEFAULT_PATIENCE  # transformers passes lr_scheduler_kwargs on and has no default of its own
    if not isinstance(patience, int | float):
        return CouldNotCheck(("patience",))
    watched = _watched(case)
    if isinstance(watched, str):
        return _cannot_fire(case, _scheduler(case, int(patience), "min")) or CouldNotCheck((watched,))
    series, mode = watched
    if not _counts_epochs(case):
        series = series.where(series.updates > 0)  # an evaluation before training is none of the scheduler's
    if len(series) < MIN_EVALUATIONS:
        return CouldNotCheck((f"{MIN_EVALUATIONS} evaluations",))
    scheduler = _scheduler(case, int(patience), mode)
    lowered = _lowered(case)
    if lowered is not None:
        return Clear(f"the learning rate was lowered at update {lowered}")
    least = case.setting("min_learning_rate")
    if case.lr is not None and least and case.lr.values[-1] <= least * (1 + MOVED):
        return Clear("the learning rate is at its minimum")
    history = replay(series.values, scheduler)
    axis = _axis(case, series)
    if history.fired:
        return _not_applied(case, series, scheduler, history, axis)
    if _still_improves(series, mode, history):
        if axis.planned is not None and scheduler.needed > axis.planned - 1:
            return _never(series, scheduler, axis)
        return Clear("validation still improves: there is nothing to do for it")
    return _waits(case, series, scheduler, history, axis)


def _cannot_fire(case: Case, scheduler: PlateauScheduler) -> Found | None:
    """A patience beyond the evaluations planned, by the settings alone."""
    every, total, lasts = case.setting("evaluation_every"), case.planned_updates, case.run.settings.get("patience")
    if not every or not total or lasts is None or case.run.axis != "update" or _lowered(case) is not None:
        return None
    evaluations = total // int(every)
    if evaluations < MIN_EVALUATIONS or scheduler.needed <= evaluations - 1:
        return None
    what = "evaluations without improvement that it waits for, against those planned after the first"
    return Found(
        title=f"The plateau scheduler (patience {scheduler.patience}) cannot fire in {evaluations} planned "
        "evaluations: the learning rate is a constant one, whatever validation does",
        evidence=(Evidence("patience", (0, total), what, scheduler.needed, evaluations - 1, lasts.source),),
        confidence=0.8,
        severity="note",
        detail="No validation is logged, so nothing shows what this costs.",
        facts={"patience": scheduler.patience, "earliest": float(every) * (scheduler.needed + 1), "unit": "update",
               "suggested_patience": max(1, evaluations // 10), "cause": "too patient"},
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Axis:
    """Where evaluations lie: `unit` (epoch or update), the place of the first and the distance between two."""

    unit: str
    places: tuple[float, ...]
    distance: float
    planned: float | None  # evaluations that the run was to have

    def at(self, index: int) -> float:
        """The place of an evaluation, also of one to come."""
        if index < len(self.places):
            return self.places[index]
        return self.places[-1] + (index - len(self.places) + 1) * self.distance

    def told(self, index: int) -> str:
        return f"{self.unit} {round(self.at(index), 1):,g}"


def _watched(case: Case) -> tuple[Series, str] | str:
    """The series that the scheduler watches and its mode, or what is missing."""
    named = _raw(case, "monitor", "metric_for_best_model", "plateau_metric")
    mode = "max" if _raw(case, "scheduler_mode", "lr_mode", "plateau_mode", "mode").lower() == "max" else "min"
    name = "val/loss"
    if "acc" in named:
        name, mode = "val/accuracy", "max"
    elif named and "loss" not in named:
        return named
    elif named and (named.startswith("train") or (named == "loss" and case.run.format.startswith("keras"))):
        name = "train/loss"
    series = case.run.get(name)
    return name if series is None or not len(series) else (series, mode)


def _counts_epochs(case: Case) -> bool:
    """Whether the x-axis is epochs, which may be counted from 0."""
    epoch = case.run.get("epoch")
    return epoch is not None and bool(np.array_equal(epoch.updates, epoch.values))


def _raw(case: Case, *names: str) -> str:
    """The text of the first of these raw settings that is no early stopping's or checkpoint's; "" without one."""
    for name in names:
        for key, setting in case.run.raw_settings.items():
            way, _, last = key.lower().rpartition(".")
            about_lr = name != "mode" or "plateau" in way or "scheduler" in way
            if last == name and about_lr and not any(word in way for word in ("early", "checkpoint")):
                return str(setting.value or "").lower()
    return ""


def _scheduler(case: Case, patience: int, mode: str) -> PlateauScheduler:
    ours, keras = case.run.dialect == "unstuck", case.run.format.startswith("keras")
    threshold = case.setting("plateau_threshold")
    if not isinstance(threshold, int | float):
        threshold = 0.0 if ours else DEFAULT_THRESHOLD
    cooldown = case.setting("plateau_cooldown")
    absolute = ours or keras or _raw(case, "threshold_mode") == "abs"
    return PlateauScheduler(
        max(0, patience),
        "keras" if keras else "torch",
        float(threshold),
        not absolute,
        int(cooldown) if isinstance(cooldown, int | float) else 0,
        "max" if mode == "max" else "min",
    )


def _lowered(case: Case) -> int | None:
    """The first update at which the logged rate lies below its peak, after the peak; None where it never does."""
    if case.lr is None:
        return None
    factor = case.setting("plateau_factor")
    fall = min(MOVED, (1 - factor) / 2) if isinstance(factor, int | float) and 0 < factor < 1 else MOVED
    values = case.lr.values
    below = np.flatnonzero(values < (1 - fall) * np.maximum.accumulate(values))
    return int(case.lr.updates[below[0]]) if len(below) else None


def _axis(case: Case, series: Series) -> Axis:
    """Epochs where evaluations lie at whole ones, else updates; and how many evaluations were planned."""
    updates = series.updates.astype(np.float64)
    distance = max(1.0, float(np.median(np.diff(updates))))
    epoch, epochs = case.run.get("epoch"), case.setting("epochs")
    if epoch is not None and len(epoch.finite()) >= 2:
        counted = epoch.finite()
        places = np.interp(updates, counted.updates.astype(np.float64), counted.values)
        apart = float(np.median(np.diff(places)))
        if apart > 0 and np.allclose(places, np.round(places), atol=WHOLE):
            planned = float(epochs) / apart if epochs else None
            return Axis("epoch", tuple(np.round(places).tolist()), apart, planned)
    total = case.planned_updates
    return Axis("update", tuple(updates.tolist()), distance, total / distance if total else None)


def _still_improves(series: Series, mode: str, history: Replay) -> bool:
    """The last two evaluations hold a new best, or the later half is better than the earlier beyond its noise."""
    n = len(series)
    if history.best is None or history.best >= n - 2:
        return history.best is not None
    values = series.finite().values * (1.0 if mode == "min" else -1.0)
    late = values[len(values) // 2 :]
    gain = float(values[: len(values) // 2].min() - late.min())
    noise = noise_sd(late if len(late) >= 5 else values)
    if math.isnan(noise) or gain <= 0:
        return gain > 0
    # 2 standard errors: of the lowest of several values (below 0.7 sd each), and of the means of two quarters
    quarter = max(1, len(late) // 2)
    fell = float(late[:quarter].mean() - late[-quarter:].mean())
    return gain > 2 * noise or fell > 2 * noise * math.sqrt(2 / quarter)


def _not_applied(case: Case, series: Series, scheduler: PlateauScheduler, history: Replay, axis: Axis) -> Outcome:
    """The rule was met in the history; the logged rate says whether anything came of it."""
    index = history.fired[0]
    met = int(series.updates[index])
    if case.lr is None or len(case.lr) < 2 or int(case.lr.updates[-1]) <= met or index == len(series) - 1:
        return Clear(f"by its rule it lowered the learning rate at {axis.told(index)}")
    often = axis.unit == "update" and case.run.get("epoch") is not None
    if often and case.run.dialect not in STEPS_PER_EVALUATION:
        return CouldNotCheck(("whether the patience counts epochs or evaluations",))
    rate = float(case.lr.values[-1])
    return Found(
        title=f"The plateau scheduler (patience {scheduler.patience}) should have lowered the learning rate at "
        f"{axis.told(index)}; it stayed at {rate:g}",
        evidence=(
            Evidence(series.name, (int(series.updates[0]), met), "evaluations in a row without improvement",
                     float(scheduler.needed), float(scheduler.needed), series.source(index)),
            Evidence(case.lr.name, (met, int(case.lr.updates[-1])), "learning rate at the end", rate, None,
                     case.lr.source(len(case.lr) - 1)),
        ),
        confidence=0.7,
        detail="Either its step() is not called with the validation loss after each evaluation, or it watches another "
        "quantity or another threshold than assumed here.",
        facts={"patience": scheduler.patience, "met_at": axis.at(index), "cause": "not applied"},
    )  # fmt: skip


def _never(series: Series, scheduler: PlateauScheduler, axis: Axis) -> Found:
    """More evaluations without improvement are asked for than the plan has after its first: no run can have them."""
    planned = axis.planned or 0.0
    return Found(
        title=f"The plateau scheduler (patience {scheduler.patience}) cannot fire in {round(planned):,} planned "
        "evaluations: the learning rate is a constant one, whatever validation does",
        evidence=(
            Evidence(series.name, (int(series.updates[0]), int(series.updates[-1])),
                     "evaluations without improvement that it waits for, against those planned after the first",
                     float(scheduler.needed), planned - 1, series.source(len(series) - 1)),
        ),
        confidence=0.8,
        severity="note",
        detail="Validation still improves, so nothing shows yet what this costs.",
        facts={"patience": scheduler.patience, "earliest": axis.at(scheduler.needed), "unit": axis.unit,
               "suggested_patience": max(1, round(planned / 10)), "cause": "too patient"},
    )  # fmt: skip


def _waits(case: Case, series: Series, scheduler: PlateauScheduler, history: Replay, axis: Axis) -> Found:
    """Not fired, and validation stands still."""
    n = len(series)
    best = history.best or 0
    late = axis.planned is None or history.next >= axis.planned
    others = dict(sorted(first_firings(history, scheduler).items(), reverse=True))
    deadline = n if axis.planned is None else IN_TIME * axis.planned
    suggested = next((p for p, i in others.items() if i <= deadline), None)
    told = f"; patience {suggested} would have at {axis.told(others[suggested])}" if suggested else ""
    when = f"the earliest is {axis.told(history.next)}"
    if late and axis.planned is not None:
        when += f", after the planned end ({round(axis.planned):,} evaluations)"
    facts: dict[str, object] = {
        "patience": scheduler.patience,
        "best_at": axis.at(best),
        "best_value": float(series.values[best]),
        "earliest": axis.at(history.next),
        "unit": axis.unit,
        "replayed": {p: axis.at(i) for p, i in others.items()},
        "cause": "too patient",
    }
    if suggested:
        facts |= {"suggested_patience": suggested, "suggested_at": axis.at(others[suggested])}
    return Found(
        title=f"The plateau scheduler (patience {scheduler.patience}) has not lowered the learning rate in {n} "
        f"evaluations: the best came at {axis.told(best)}, {when}{told}",
        evidence=(
            Evidence(series.name, (int(series.updates[best]), int(series.updates[-1])),
                     "evaluations in a row without improvement", float(history.bad), float(scheduler.needed),
                     series.source(best)),
        ),
        confidence=0.85,
        severity="warning" if late else "note",
        detail=_replays(others, axis),
        facts=facts,
    )  # fmt: skip


def _replays(others: dict[int, int], axis: Axis) -> str:
    if not others:
        return "No smaller patience would have fired in this history either."
    told = ", ".join(f"{p} at {axis.told(i)}" for p, i in sorted(others.items())[:MOST_TOLD])
    return f"Replayed over this history, patience would have fired: {told}."
