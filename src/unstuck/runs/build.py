"""What every reader needs to turn logged rows into a `Run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from unstuck.runs.run import Run, Series, Setting, Source, series_from_points

Point = tuple[int, float, int]  # update, value, line


class Match(NamedTuple):
    """How sure a reader is that a file is in its format, 0 to 1, and why, in a few words."""

    confidence: float
    reason: str


NO_MATCH = Match(0.0, "nothing of this format in it")


@dataclass(slots=True)
class Points:
    """Points by series name while a log is read, in the order of the log."""

    file: str
    by_name: dict[str, list[Point]] = field(default_factory=dict)

    def add(self, name: str, update: int, value: float, line: int) -> None:
        self.by_name.setdefault(name, []).append((update, value, line))

    def drop_after(self, update: int) -> int:
        """Forget what came after `update`, because the run went back to it; returns how many points that were."""
        dropped = 0
        for name, points in self.by_name.items():
            kept = [p for p in points if p[0] <= update]
            dropped += len(points) - len(kept)
            self.by_name[name] = kept
        return dropped

    def series(
        self, units: Mapping[str, str | None] | None = None, logged_as: Mapping[str, str] | None = None
    ) -> dict[str, Series]:
        """The series by name; later points at an update replace earlier ones beyond it."""
        units, logged_as = units or {}, logged_as or {}
        return {
            name: series_from_points(name, points, self.file, unit=units.get(name), logged_as=logged_as.get(name))
            for name, points in self.by_name.items()
            if points
        }


def add_raw(
    raw: dict[str, Setting], values: Mapping[str, Any], source: Source, prefix: str = "", depth: int = 0
) -> None:
    """Flatten a configuration object found in a log into dotted raw settings; deeper than 6 levels is left out."""
    for key, value in values.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < 6:
            add_raw(raw, value, source, f"{dotted}.", depth + 1)
        else:
            raw[dotted] = Setting(value, dotted, source)


def changed_settings(old: Mapping[str, Setting], new: Mapping[str, Setting]) -> dict[str, list[Any]]:
    """Settings that differ between two headers of one log: key -> [old, new]."""
    return {key: [old[key].value, new[key].value] for key in new if key in old and old[key].value != new[key].value}


def sampled_lines(updates: Iterable[int]) -> int | None:
    """The usual distance between two logged updates; None below two points."""
    gaps = np.diff(np.fromiter(updates, dtype=np.int64))
    gaps = gaps[gaps > 0]
    return int(np.median(gaps)) if len(gaps) else None


def add_inferred(run: Run, name: str, value: Any, key: str, source: Source) -> None:
    """Add a setting that the log itself shows, unless a configuration has said it already."""
    if value is not None and name not in run.settings:
        run.settings[name] = Setting(value, key, source)
