"""W&B's `wandb-summary.json`: the last value of every metric of a run, one point without a course.

Where the run's own record lies beside it (`run-<id>.wandb`, `output.log`), that is named instead. Else the one point is
read: it cannot show that a run is healthy, but it shows a loss that is not finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.logfile import MAX_JSON_BYTES, LogFile, number, parse_json
from unstuck.runs.run import Run
from unstuck.runs.scalars import Scalars, Stretch, runs_of_stretches

FORMAT = "wandb-summary"

STEP, TIME = "_step", "_timestamp"
OWN = (STEP, TIME, "_runtime", "_wandb")
MAX_DEPTH = 6  # ours: as for the datastore
MAX_KEYS = 20_000  # ours: as for the datastore


def match(log: LogFile) -> Match:
    """By the keys that W&B adds to every summary."""
    head = log.head.lstrip()
    own = sum(f'"{key}"' in head for key in OWN)
    if not head.startswith("{") or own < 2 or "\n{" in head:
        return NO_MATCH
    return Match(0.9, f"one JSON object with {own} of W&B's own keys")


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run of one point.

    Raises:
        UserError: no JSON object, no number in it, or a fuller record of the run lies beside it.
    """
    if (record := _record(log.path)) is not None:
        raise UserError(
            f"{log.path} holds the last values only; diagnose {record} of the same run, which has the course."
        )
    if len(log.text) > MAX_JSON_BYTES:
        raise UserError(f"{log.path} is too large for a summary; name the run's .wandb file or its output.log.")
    try:
        summary = parse_json(log.text)
    except ValueError:
        raise UserError(f"{log.path} is not whole JSON; name the run's .wandb file or its output.log.") from None
    if not isinstance(summary, dict):
        raise UserError(f"{log.path} is no summary of W&B; name the run's .wandb file or its output.log.")
    values = dict(_numbers({key: value for key, value in summary.items() if key not in OWN}, "", 0))
    keys = [key for key in values if names.normalise(key) not in names.STEP_NAMES][:MAX_KEYS]
    own_step = names.x_axis(dict.fromkeys(values, 1))[0]
    step = values.get(own_step or "", number(summary.get(STEP)) or 0.0)
    at = int(step) if np.isfinite(step) and abs(step) < 2**53 else 0
    time = number(summary.get(TIME)) or 0.0
    points = np.array([values[key] for key in keys])
    scalars = Scalars(keys, np.arange(len(keys), dtype=np.int32), np.full(len(keys), at),
                      np.full(len(keys), time), points)  # fmt: skip
    runs = runs_of_stretches([Stretch(scalars, log.name)], beside, source=str(log.path), file=log.name, format=FORMAT)
    if not runs:
        raise UserError(f"{log.path} holds no number; name the run's .wandb file or its output.log.")
    runs[0].notes.append(
        "W&B's summary holds the last value of each metric only, so no course can be judged; diagnose the run's "
        "run-<id>.wandb file or its output.log instead."
    )
    return runs


def _record(path: Path) -> Path | None:
    """A fuller record of the same run: W&B puts the summary into `files/` of the run's folder."""
    for folder in (path.parent, path.parent.parent):
        try:
            found = sorted(folder.glob("run-*.wandb"))
        except OSError:
            continue
        if len(found) == 1:
            return found[0]
    printed = path.parent / "output.log"
    return printed if printed.is_file() else None


def _numbers(values: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, dict):
            if depth < MAX_DEPTH and "_type" not in value:
                yield from _numbers(value, f"{prefix}{key}.", depth + 1)
        elif (logged := number(value)) is not None:
            yield prefix + key, logged
