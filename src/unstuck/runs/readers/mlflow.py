"""MLflow's file store: `mlruns/<experiment>/<run>` with `metrics/`, `params/` and `meta.yaml`.

A metric is a file of lines "time in milliseconds, value, step", two, three or five fields (mlflow/store/tracking/
file_store.py); slashes in its key make folders. A folder is one run; naming one metric file reads its whole run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.errors import UserError
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.literal import literal_value
from unstuck.runs.logfile import LogFile
from unstuck.runs.run import Event, Floats, Ints, Run, Setting, Source
from unstuck.runs.scalars import Scalars, Stretch, joined, runs_of_stretches
from unstuck.wording import plural

FORMAT = "mlflow"

METRICS, PARAMS, META = "metrics", "params", "meta.yaml"
MAX_METRICS = 2_000  # ours: files of one run
MAX_PARAM = 8_000  # ours: characters of a parameter; MLflow itself allows 6000
# RunStatus (mlflow/protos/service.proto), as `meta.yaml` states it.
STATUS = {3: "finished", 4: "failed", 5: "killed"}
ENDED = tuple(STATUS.values())
_LINE = re.compile(r"-?\d{1,18} \S{1,40}(?: -?\d{1,18}(?: \S+ \S+)?)?")
_META = re.compile(r"^(run_id|run_name|status|start_time|end_time):[ ]*'?([^'\n]*)'?\s*$", re.M)


def match(log: LogFile) -> Match:
    """By the form of the lines, and that they lie in a run's folder."""
    lines = log.head.split("\n")[:20]
    whole = [line for line in lines[: -1 if len(lines) > 1 else None] if line]
    if not whole or not all(_LINE.fullmatch(line) for line in whole):
        return NO_MATCH
    if _run_of(log.path) is not None:
        return Match(0.95, "a metric file in a run folder of MLflow")
    return NO_MATCH


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run that a metric file belongs to.

    Raises:
        UserError: as `read_folder`.
    """
    folder = _run_of(log.path)
    if folder is None:
        raise UserError(f"{log.path} lies in no run folder of MLflow; name the folder that holds meta.yaml.")
    return read_folder(folder, beside)


def match_folder(folder: Path) -> Match:
    """Certain when it holds `meta.yaml` of a run and `metrics/`."""
    if not _is_run(folder):
        return NO_MATCH
    return Match(0.97, "a run folder of MLflow")


def read_folder(folder: Path, beside: Beside) -> list[Run]:
    """The run of a run folder.

    Raises:
        UserError: no metric in it that can be read.
    """
    pieces: list[Scalars] = []
    left = 0
    for key, path in _files(folder / METRICS):
        found = _metric(path)
        left += found is None
        if found is not None:
            steps, walls, values = found
            pieces.append(Scalars([key], np.zeros(len(values), np.int32), steps, walls, values))
    if not pieces:
        raise UserError(f"{folder} holds no metric that can be read; name the folder of a run that logged its loss.")
    meta = dict(_META.findall(_small(folder / META)))
    settings = _settings(folder)
    scalars, name = joined(pieces), folder.resolve().name
    counted = _count_without_steps(scalars)
    runs = runs_of_stretches([Stretch(scalars, name, settings)], beside, source=str(folder), file=name, format=FORMAT)
    if not runs:
        raise UserError(f"{folder} holds no metric that is a number; name the folder of a run that logged its loss.")
    status = meta.get("status", "").lower()
    status = STATUS.get(int(status), "") if status.isdecimal() and len(status) < 3 else status
    for run in runs:
        if left:
            run.notes.append(f"{plural(left, 'metric file', 'metric files')} could not be read.")
        if counted:
            run.notes.append(f"Logged without a step, so the values were counted: {', '.join(counted[:4])}.")
        if status in ENDED:
            source = Source(META)
            run.events.append(Event("end", run.updates, f"the run is marked as {status}", source, {"status": status}))
    return runs


def _is_run(folder: Path) -> bool:
    return (folder / METRICS).is_dir() and "run_id" in dict(_META.findall(_small(folder / META)))


def _run_of(path: Path) -> Path | None:
    """The run's folder of a metric file, at most five levels up: keys with slashes make folders."""
    for folder in list(path.resolve().parents)[:6]:
        if folder.name == METRICS and _is_run(folder.parent):
            return folder.parent
    return None


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Key and file of each metric or parameter."""
    count = 0
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            count += 1
            if count > MAX_METRICS:
                return
            path = Path(place) / name
            yield path.relative_to(folder).as_posix(), path


def _metric(path: Path) -> tuple[Ints, Floats, Floats] | None:
    """Steps, times in seconds, and values of a metric, each of shape (n,); None where the file is something else."""
    try:
        rows = [line.split(" ") for line in LogFile(path).lines() if line.strip()]
    except UserError:
        return None
    rows = rows[:-1] if rows and len(rows) > 1 and len(rows[-1]) != len(rows[0]) else rows  # torn
    try:
        walls = np.array([row[0] for row in rows], dtype=np.float64) / 1000.0
        values = np.array([row[1] for row in rows], dtype=np.float64)
        steps = np.array([row[2] if len(row) > 2 else "0" for row in rows], dtype=np.float64)
    except (ValueError, IndexError):
        return None
    if not len(rows) or not np.isfinite(steps).all() or np.abs(steps).max() >= 2**53:
        return None
    return steps.astype(np.int64), walls, values


def _count_without_steps(scalars: Scalars) -> list[str]:
    """Count, in place, the values of keys that were logged without a step (MLflow then writes 0); those keys."""
    counted = []
    for key, rows in scalars.rows.items():
        if len(rows) > 1 and not scalars.steps[rows].any():
            scalars.steps[rows] = np.arange(len(rows))
            counted.append(key)
    return counted


def _settings(folder: Path) -> dict[str, Setting]:
    return {key: Setting(_value(_small(path)), key, Source(f"{PARAMS}/{key}")) for key, path in _files(folder / PARAMS)}


def _value(written: str) -> Any:
    try:
        return literal_value(written)
    except ValueError:
        return written


def _small(path: Path) -> str:
    try:
        return LogFile(path).head[:MAX_PARAM].rstrip("\n")
    except UserError:
        return ""
