"""A resumed run that was written to several files, joined into one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unstuck.runs.build import changed_settings
from unstuck.runs.run import Event, Run, Series, Source

# ours: what two parts of one run may leave unlogged between them, in logging intervals
GAP = 3.0


def join_resumed(runs: list[Run]) -> list[Run]:
    """The runs of a folder, those joined that go on where another one of the same folder stopped.

    A run goes on another when both are in the same format and folder, log the same losses, and the later one begins
    beyond its own first logging interval at an update that the earlier one reached. Where the files overlap, the later
    one counts from its first update on, because the program went back to a checkpoint.
    """
    joined: list[Run] = []
    for run in sorted(runs, key=_first_update):
        before = [k for k, earlier in enumerate(joined) if _goes_on(earlier, run)]
        if len(before) == 1:  # of several candidates nothing tells which one it was
            joined[before[0]] = _join(joined[before[0]], run)
        else:
            joined.append(run)
    order = {run.source: place for place, run in enumerate(runs)}
    return sorted(joined, key=lambda run: order[run.source])


def _loss(run: Run) -> Series | None:
    return run.get("train/loss") or run.get("val/loss")


def _first_update(run: Run) -> int:
    series = _loss(run)
    return int(series.updates[0]) if series is not None and len(series) else 0


def _goes_on(earlier: Run, run: Run) -> bool:
    if earlier.format != run.format or earlier.axis != run.axis or run.axis == "row":
        return False
    before, after = _loss(earlier), _loss(run)
    if before is None or after is None or before.name != after.name or len(after) < 2 or len(before) < 2:
        return False
    if Path(earlier.source).parent != Path(run.source).parent or earlier.source == run.source:
        return False
    interval = float(np.median(np.diff(after.updates)))
    first, reached = int(after.updates[0]), int(before.updates[-1])
    later = first > max(int(before.updates[0]), 1.5 * interval)
    return bool(interval > 0 and later and first <= reached + GAP * interval and run.updates > reached)


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
    kept = earlier.updates < first
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
