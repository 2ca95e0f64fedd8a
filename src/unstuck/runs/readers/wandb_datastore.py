"""Weights & Biases' own record of a run: `run-<id>.wandb`, and the run folder that it lies in.

History, settings, the error that ended the run and its exit code are read from the records themselves, so an offline
run needs no account. The x-axis is the step that the program logged (`train/global_step`, `iteration`, or what
`define_metric` names), else W&B's own `_step`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.leveldb_log import HEADER, MAGIC, LevelLog
from unstuck.runs.logfile import LogFile
from unstuck.runs.run import Event, Floats, Ints, Run, Source
from unstuck.runs.scalars import EPOCH, Scalars, Stretch, runs_of_stretches
from unstuck.runs.wandb_records import Datastore, Metric, last_error, read_datastore
from unstuck.wording import plural

FORMAT = "wandb-binary"
BINARY = True

STEP, TIME = "_step", "_timestamp"
OWN = (STEP, TIME, "_runtime")
LEAST_SHARE = 0.5  # ours: a key that fewer of the records hold is not their x-axis


def match(log: LogFile) -> Match:
    """Certain by the header."""
    if log.head_bytes.startswith(MAGIC):
        return Match(0.99, "the header of a W&B datastore")
    return NO_MATCH


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run of one datastore.

    Raises:
        UserError: another version of the format, or no history in it.
    """
    level = LevelLog(log.data)
    if len(level.data) < HEADER or level.version != 0:
        raise UserError(f"{log.path} is of a version of W&B's format that unstuck does not know; name its output.log.")
    store = read_datastore(level, Source(log.name))
    if not store.metrics:
        raise UserError(_without_history(log.path, store))
    scalars, axis, notes = _scalars(store)
    stretch = Stretch(scalars, log.name, store.settings)
    runs = runs_of_stretches([stretch], beside, source=str(log.path), file=log.name, format=FORMAT, axis=axis)
    if not runs:
        raise UserError(_without_history(log.path, store))
    run = runs[0]
    run.notes.extend([*notes, *_damage(store, level)])
    _add_events(run, store, Source(log.name))
    return runs


def match_folder(folder: Path) -> Match:
    """Certain when exactly one datastore lies in it, as in W&B's `run-<time>-<id>` folders."""
    return Match(0.95, "a run folder of W&B") if _datastore(folder) is not None else NO_MATCH


def read_folder(folder: Path, beside: Beside) -> list[Run]:
    """The run of a run folder.

    Raises:
        UserError: as `read`.
    """
    path = _datastore(folder)
    if path is None:
        raise UserError(f"{folder} holds no datastore of W&B; name the .wandb file.")
    runs = read(LogFile(path), beside)
    for run in runs:
        run.source = str(folder) + run.source.removeprefix(str(path))
    return runs


def _datastore(folder: Path) -> Path | None:
    try:
        found = [path for path in folder.iterdir() if path.suffix == ".wandb" and path.is_file()]
        if len(found) == 1 and LogFile(found[0]).head_bytes.startswith(MAGIC):
            return found[0]
    except (OSError, UserError):
        pass
    return None


def _scalars(store: Datastore) -> tuple[Scalars, str | None, list[str]]:
    """The history with a step and a time for each value; whether the steps count epochs; and notes."""
    logged = {key: metric for key, metric in store.metrics.items() if key not in OWN}
    chosen, axis = _x_axis(store, logged)
    notes = []
    if chosen == STEP:
        notes.append("The x-axis is W&B's _step: it counts calls of wandb.log where the program gives no step.")
    steps = _filled(store.metrics.get(chosen), store.rows)
    walls = _filled(store.metrics.get(TIME), store.rows)
    counters = {chosen} if axis == EPOCH else {key for key in logged if names.normalise(key) in names.STEP_NAMES}
    keys = [key for key in logged if key not in counters]
    rows = [np.asarray(logged[key].rows) for key in keys]
    if not keys:
        return Scalars(), axis, notes
    at = np.concatenate(rows)
    order = np.argsort(at, kind="stable")
    key = np.repeat(np.arange(len(keys), dtype=np.int32), [len(r) for r in rows])
    values = np.concatenate([np.asarray(logged[name].values) for name in keys])
    at = at[order]
    whole = np.where(np.isfinite(steps) & (np.abs(steps) < 2**53), steps, 0.0)
    return Scalars(keys, key[order], np.floor(whole[at]).astype(np.int64), walls[at], values[order]), axis, notes


def _x_axis(store: Datastore, logged: Mapping[str, Metric]) -> tuple[str, str | None]:
    """The key whose values are the steps, and "epoch" where they count epochs."""
    counts = {key: len(metric.values) for key, metric in logged.items()}
    step, _, epoch = names.x_axis(counts)
    if step is not None and counts[step] >= LEAST_SHARE * store.rows:
        return step, None
    for key in store.step_keys:
        if counts.get(key, 0) >= LEAST_SHARE * store.rows and names.normalise(key) not in names.EPOCH_NAMES:
            return key, None
    if epoch is not None and counts[epoch] >= LEAST_SHARE * store.rows and _one_each(logged[epoch]):
        return epoch, EPOCH
    return STEP, None


def _one_each(epoch: Metric) -> bool:
    """Whether every record is another epoch."""
    values = np.asarray(epoch.values)
    return bool(len(values) > 1 and np.isfinite(values).all() and (np.diff(values) == 1).all())


def _filled(metric: Metric | None, rows: int) -> Floats:
    """The value in force at each of the records, shape (rows,); 0 before the first."""
    if metric is None:
        return np.zeros(rows)
    at: Ints = np.full(rows, -1, dtype=np.int64)
    at[np.asarray(metric.rows)] = np.arange(len(metric.rows))
    at = np.maximum.accumulate(at)
    return np.append(np.asarray(metric.values), 0.0)[at]


def _damage(store: Datastore, level: LevelLog) -> Iterator[str]:
    if level.torn:
        yield "The last record is torn, as after a kill; it was left out."
    if level.damaged:
        yield f"{plural(level.damaged, 'block', 'blocks')} with a wrong checksum were left out from the damage on."
    if store.unread:
        yield f"{plural(store.unread, 'record', 'records')} could not be decoded."


def _add_events(run: Run, store: Datastore, source: Source) -> None:
    if store.started is not None and run.events and run.events[0].kind == "start":
        run.events[0] = Event("start", None, "start of the run", source, {"time": store.started})
    if store.resumed or store.starting_step > 0:
        run.events.append(Event("resume", store.starting_step, f"resumed at step {store.starting_step}", source))
    if store.exit_code is None:
        return
    if store.exit_code != 0 and (error := last_error(store)):
        run.events.append(Event("error", run.updates, error, source))
    data = {"exit_code": store.exit_code}
    run.events.append(Event("end", run.updates, f"the program ended with exit code {store.exit_code}", source, data))


def _without_history(path: Path, store: Datastore) -> str:
    """Why there is nothing to diagnose, and what to do."""
    ended = ""
    if store.exit_code:
        error = last_error(store)
        ended = f" The program ended with exit code {store.exit_code}" + (f": {error[:200]}." if error else ".")
    beside = path.parent / "files" / "output.log"
    if beside.is_file():
        then = f"diagnose {beside}, which has what the program printed."
    elif store.lines:
        then = "if the program printed its loss, name the output.log of the run (files/output.log in its folder)."
    else:
        then = "name the record of a run that called wandb.log."
    return (
        f"{path} holds settings and {plural(store.lines, 'printed line', 'printed lines')} but no metric: "
        f"wandb.log was never called.{ended} Next: {then}"
    )
