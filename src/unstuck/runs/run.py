"""The one type for what happened: a `Run` of named `Series`, `Event`s and `Setting`s, each traced to its line.

Canonical series: `train/loss`, `val/loss`, `train/objective`, `lr/<group>`, `grad_norm/preclip`,
`grad_norm/postclip`, `grad_norm/clipped_share`, `update_ratio/<group>`, `tokens`, `throughput/tokens_per_second`,
`time/step_ms`, `time/cpu_ms` (CPU time of the process, where the CPU does the work), `time/data_share`, `epoch`. A log
with a single learning rate gives `lr/all`. The x-axis of every series is the optimizer update; readers convert once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# What the x-axis counts: where a log does not settle how many updates an epoch has, "epoch" it stays.
Axis = Literal["update", "micro-batch", "epoch", "row"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where something was read: a file as the user named it, and a line counted from 1 (None: the whole file)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One logged quantity over optimizer updates. Non-finite values stay as they were logged.

    Attributes:
        name: canonical name, or the log's own name where there is no canonical one.
        updates: int64, shape (n,), optimizer updates, not decreasing.
        values: float64, shape (n,), may hold nan and infinities.
        lines: int64, shape (n,), line of each point in `file`, counted from 1; 0 where unknown.
        file: the file that the points were read from.
        unit: "nats/token", "1/update", "ms", ... or None where the log does not settle it.
        logged_as: the name in the log.
        later_files: (update, file) of a resumed run in several files: from that update on the lines are in that file.
    """

    name: str
    updates: Ints
    values: Floats
    lines: Ints
    file: str
    unit: str | None = None
    logged_as: str | None = None
    later_files: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        if not len(self.updates) == len(self.values) == len(self.lines):
            raise ValueError(f"series {self.name}: updates, values and lines differ in length")

    def __len__(self) -> int:
        return len(self.values)

    def source(self, index: int) -> Source:
        """The place of one point, for evidence."""
        line, update = int(self.lines[index]), int(self.updates[index])
        file = next((file for first, file in reversed(self.later_files) if update >= first), self.file)
        return Source(file, line or None)

    def finite(self) -> Series:
        """The points whose value is finite."""
        return self.where(np.isfinite(self.values))

    def between(self, first_update: int, last_update: int) -> Series:
        """The points with first_update <= update <= last_update."""
        return self.where((self.updates >= first_update) & (self.updates <= last_update))

    def where(self, mask: npt.NDArray[np.bool_]) -> Series:
        """The points selected by a boolean mask of shape (n,)."""
        return replace(self, updates=self.updates[mask], values=self.values[mask], lines=self.lines[mask])

    def at(self, update: int) -> float | None:
        """The last value logged at or before `update`; None before the first."""
        index = int(np.searchsorted(self.updates, update, side="right")) - 1
        return None if index < 0 else float(self.values[index])


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened once: kind is `start`, `resume`, `evaluation`, `checkpoint`, `end`, `error` or `note`."""

    kind: str
    update: int | None
    text: str = ""
    source: Source | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of the configuration, in canonical name and unit, with the user's own key beside it.

    Attributes:
        value: the value in canonical units.
        key: the key as the user writes it in this run's dialect (`max_grad_norm`, `grad_clip`, `training.clip_norm`).
        source: where it was read.
        written: the value as written, when conversion changed it.
    """

    value: Any
    key: str
    source: Source
    written: Any = None


@dataclass(slots=True)
class Run:
    """One training run.

    Attributes:
        source: what the user named: a file or a folder.
        format: the reader's name, such as `nanogpt-text`.
        format_confidence: 0 to 1, how sure the reader is that this is its format.
        axis: what the x-axis of the series counts. "update" is the rule, also of a log that counts epochs where the
            settings tell how many updates one has; "epoch", "micro-batch" and "row" (no step at all) where they do not.
        dialect: whose names the settings carry: `unstuck`, `huggingface`, `nanogpt`, `environment` or `plain`.
        series: by canonical name.
        events: in order of time.
        settings: by canonical name, see `unstuck.config.dialects` for the names and their units.
        raw_settings: every key that was found beside the log, untranslated.
        notes: what the reader converted, joined or left out, one sentence each.
    """

    source: str
    format: str
    format_confidence: float = 1.0
    axis: Axis = "update"
    dialect: str = "plain"
    series: dict[str, Series] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    settings: dict[str, Setting] = field(default_factory=dict)
    raw_settings: dict[str, Setting] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def updates(self) -> int:
        """The last optimizer update that anything was logged at; 0 for an empty run."""
        return max((int(s.updates[-1]) for s in self.series.values() if len(s)), default=0)

    def get(self, name: str) -> Series | None:
        """The series of that canonical name, None where it was not logged."""
        return self.series.get(name)

    def learning_rates(self) -> dict[str, Series]:
        """The `lr/<group>` series by group name."""
        return {name.removeprefix("lr/"): s for name, s in self.series.items() if name.startswith("lr/")}

    def setting(self, name: str) -> Any | None:
        """The canonical setting's value, None where it is unknown."""
        found = self.settings.get(name)
        return None if found is None else found.value

    def events_of(self, kind: str) -> Iterator[Event]:
        return (event for event in self.events if event.kind == kind)


def series_from_points(
    name: str, points: list[tuple[int, float, int]], file: str, *, unit: str | None = None, logged_as: str | None = None
) -> Series:
    """Build a series from (update, value, line) rows in the order of the log.

    A run that goes back (a resume from an older checkpoint) writes an update twice; the later row is what the run
    went on from, so rows after the step back replace the earlier ones from that update on.
    """
    updates, values, lines = zip(*points, strict=True) if points else ((), (), ())
    return series_from_columns(
        name,
        np.array(updates, dtype=np.int64),
        np.array(values, dtype=np.float64),
        np.array(lines, dtype=np.int64),
        file,
        unit=unit,
        logged_as=logged_as,
    )


def series_from_columns(
    name: str,
    updates: Ints,
    values: Floats,
    lines: Ints,
    file: str,
    *,
    unit: str | None = None,
    logged_as: str | None = None,
) -> Series:
    """As `series_from_points`, from columns of shape (n,) in the order of the log."""
    # A point survives when no later point has a smaller update: it is not above the minimum of its suffix.
    kept = updates <= np.minimum.accumulate(updates[::-1])[::-1]
    return Series(name, updates[kept], values[kept], lines[kept], file, unit, logged_as)
