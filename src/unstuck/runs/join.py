"""A resumed run that was written to several files, joined into one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from unstuck.runs.build import changed_settings
from unstuck.runs.run import Event, Run, Series, Source

# ours: what two parts of one run may leave unlogged between them, in logging intervals
GAP = 3.0

Kind = tuple[str, str, str, Path]


class _Reach(NamedTuple):
    """Where a run begins and ends: first and last update of its loss, its last update, and the logging interval."""

    source: str
    first: int
    last: int
    updates: int
    interval: float


def join_resumed(runs: list[Run]) -> list[Run]:
    """The runs of a folder, those joined that go on where another one of the same folder stopped.

    A run goes on another when both are in the same format and folder, log the same losses, and the later one begins
    beyond its own first logging interval at an update that the earlier one reached. Where the files overlap, the later
    one counts from its first update on, because the program went back to a checkpoint.
    """
    joined: list[Run] = []
    kinds: dict[Kind, list[tuple[int, _Reach]]] = {}  # place in `joined`, of runs that may belong together
    for run in sorted(runs, key=_first_update):
        kind, reach = _kind(run), _reach(run)
        if kind is None or reach is None:
            joined.append(run)
            continue
        alike = kinds.setdefault(kind, [])
        before = [k for k, (_, earlier) in enumerate(alike) if _goes_on(earlier, reach)]
        if len(before) == 1:  # of several candidates nothing tells which one it was
            place = alike[before[0]][0]
            joined[place] = whole = _join(joined[place], run)
            alike[before[0]] = place, _reach(whole) or reach
        else:
            alike.append((len(joined), reach))
            joined.append(run)
    order = {run.source: place for place, run in enumerate(runs)}
    return sorted(joined, key=lambda run: order[run.source])


def _loss(run: Run) -> Series | None:
    return run.get("train/loss") or run.get("val/loss")


def _first_update(run: Run) -> int:
    series = _loss(run)
    return int(series.updates[0]) if series is not None and len(series) else 0


def _kind(run: Run) -> Kind | None:
    """What two stretches of one run have in common; None where a run cannot be joined."""
    loss = _loss(run)
    if loss is None or run.axis == "row":
        return None
    return run.format, run.axis, loss.name, Path(run.source).parent


def _reach(run: Run) -> _Reach | None:
    """Where a run begins and ends; None below two points."""
    loss = _loss(run)
    if loss is None or len(loss) < 2:
        return None
    interval = float(np.median(np.diff(loss.updates)))
    return _Reach(run.source, int(loss.updates[0]), int(loss.updates[-1]), run.updates, interval)


def _goes_on(before: _Reach, after: _Reach) -> bool:
    later = after.first > max(before.first, 1.5 * after.interval)
    return (
        before.source != after.source
        and after.interval > 0
        and later
        and after.first <= before.last + GAP * after.interval
        and after.updates > before.last
    )


def _join(earlier: Run, later: Run) -> Run:
    first = _first_update(later)
    changed = changed_settings(earlier.raw_settings, later.raw_settings)
    names = dict.fromkeys([*earlier.series, *later.series])
    series = {name: _joined(earlier.get(name), later.get(name), first) for name in names}
    source = Source(Path(later.source).name)
    resume = Event("resume", first, f"resumed at update {first} in {source}", source, {"changed": changed})
    kept = [e for e in earlier.events if (e.update is None or e.update <= first) and e.kind != "end"]
    return Run(
        earlier.source,
        earlier.format,
        min(earlier.format_confidence, later.format_confidence),
        earlier.axis,
        later.dialect,
        series,
        [*kept, resume, *(e for e in later.events if e.kind != "resume")],
        {**earlier.settings, **later.settings},
        {**earlier.raw_settings, **later.raw_settings},
        [*earlier.notes, f"{source} goes on with this run from update {first} and was joined to it."],
    )


def _joined(earlier: Series | None, later: Series | None, first: int) -> Series:
    if earlier is None or later is None:
        series = later if earlier is None else earlier
        assert series is not None
        return series
    kept = earlier.updates < min(first, int(later.updates[0]))  # a series may begin before the loss does
    return Series(
        later.name,
        np.concatenate([earlier.updates[kept], later.updates]),
        np.concatenate([earlier.values[kept], later.values]),
        np.concatenate([earlier.lines[kept], later.lines]),
        earlier.file,
        later.unit,
        later.logged_as,
        (*earlier.later_files, (first, later.file)),
    )
