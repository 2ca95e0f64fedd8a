"""Numbers with a key, a step and a time, as trackers store them, turned into runs.

TensorBoard and MLflow keep for every value its key, the step that the program gave, and the time. Here the steps of all
keys are brought onto one axis, a restart of the program is told from a new run and from an evaluation afterwards, and
the time per update is taken from the clock. Names, units and the rest are settled by `unstuck.runs.table`.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from unstuck.runs import clock, names
from unstuck.runs.beside import Beside
from unstuck.runs.build import MAX_POINTS, SPARE
from unstuck.runs.parts import Column, Part
from unstuck.runs.run import Event, Floats, Ints, Run, Setting, Source
from unstuck.runs.table import runs_of

STEP, EPOCH, STEP_TIME = "step", "epoch", "time by the clock of the log"  # keys of the columns that are added here
_LOGGED = " (as logged)"  # behind a key of the log that is called like one of them
# Megatron logs each quantity a second time over another axis ("lm loss vs samples", megatron/training/training.py),
# Keras each evaluation ("evaluation_loss_vs_iterations", keras/src/callbacks/tensorboard.py).
COPY = re.compile(
    r"^(?:evaluation_)?(?P<of>.+?)[ _]vs[ _](?:samples|iterations|tokens|steps|gigaflos|gigaflops|epochs?)$"
)
# transformers logs these once, at the end (trainer.py, `speed_metrics`); `train_loss` is the mean of the training.
_SUMMARY = re.compile(r"(?:train/)?(train_(?:runtime|samples_per_second|steps_per_second|loss)|total_flos)")


@dataclass
class Scalars:
    """Logged values in the order of the log. `steps` may be replaced; the keys stay as they are.

    Attributes:
        keys: names.
        key: int32, shape (n,), index in `keys` of each value.
        steps: int64, shape (n,), as logged.
        walls: float64, shape (n,), seconds since 1970.
        values: float64, shape (n,).
    """

    keys: list[str] = field(default_factory=list)
    key: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    steps: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    walls: Floats = field(default_factory=lambda: np.empty(0))
    values: Floats = field(default_factory=lambda: np.empty(0))

    def __len__(self) -> int:
        return len(self.values)

    def where(self, chosen: npt.NDArray[np.bool_] | Ints) -> Scalars:
        """The values selected by a mask or by indices."""
        return Scalars(self.keys, self.key[chosen], self.steps[chosen], self.walls[chosen], self.values[chosen])

    def renamed(self, new: Mapping[str, str | None]) -> Scalars:
        """With other names for some keys; values of keys that become None are left out."""
        kept = [name for key in self.keys if (name := new.get(key, key)) is not None]
        place = {name: number for number, name in enumerate(dict.fromkeys(kept))}
        number = np.array([place.get(new.get(key, key) or "", -1) for key in self.keys], np.int32)
        key = number[self.key] if len(self) else self.key
        out = replace(self, keys=list(place), key=key)
        return out.where(key >= 0) if (number < 0).any() else out

    @cached_property
    def rows(self) -> dict[str, Ints]:
        """For each key that has values, their places."""
        small = self.key.astype(np.uint16) if len(self.keys) <= 1 << 16 else self.key  # radix sort
        order = np.argsort(small, kind="stable")
        ends = np.cumsum(np.bincount(self.key, minlength=len(self.keys)))
        pieces = np.split(order, ends[:-1]) if len(self.keys) else []
        return {key: rows for key, rows in zip(self.keys, pieces, strict=True) if len(rows)}


def joined(pieces: Sequence[Scalars]) -> Scalars:
    """Several logs as one, in the order of time."""
    if len(pieces) == 1:
        return pieces[0]
    place = {key: number for number, key in enumerate(dict.fromkeys(key for piece in pieces for key in piece.keys))}
    numbers = [np.array([place[key] for key in piece.keys], np.int32)[piece.key] for piece in pieces if len(piece)]
    pieces = [piece for piece in pieces if len(piece)]
    if not pieces:
        return Scalars(list(place))
    walls = np.concatenate([piece.walls for piece in pieces])
    whole = Scalars(
        list(place),
        np.concatenate(numbers),
        np.concatenate([piece.steps for piece in pieces]),
        walls,
        np.concatenate([piece.values for piece in pieces]),
    )
    return whole.where(np.argsort(walls, kind="stable"))


@dataclass(slots=True)
class Stretch:
    """What one start of the program logged.

    Attributes:
        scalars: its values.
        file: where they begin.
        settings: untranslated, as this stretch logged them.
        resumes_at: the step from which on it supersedes what was logged before, where the log says so.
        summary: values of the whole run, logged at its end.
    """

    scalars: Scalars
    file: str
    settings: dict[str, Setting] = field(default_factory=dict)
    resumes_at: int | None = None
    summary: dict[str, float] = field(default_factory=dict)


def runs_of_stretches(
    stretches: Sequence[Stretch],
    beside: Beside,
    *,
    source: str,
    file: str,
    format: str,
    axis: str | None = None,
    loss_unit: str | None = None,
) -> list[Run]:
    """The runs of a log; none where nothing in it is a number.

    Args:
        stretches: in the order of time.
        beside: configuration found beside the log, and what the user said about its keys.
        source: what the user named.
        file: what evidence calls the log.
        format: the reader's name.
        axis: "epoch" where the format settles that the steps count epochs.
        loss_unit: of the losses, where the format settles it.
    """
    notes: list[str] = []
    tidy = [_tidied(stretch, notes) for stretch in stretches]
    whole = _tracks([stretch.scalars for stretch in tidy])
    chosen = clock.reference(whole)
    by_epoch = axis == EPOCH or (axis is None and clock.epochs_only(whole))
    if axis is None and by_epoch:
        notes.append("Every step has a validation, so the steps count epochs.")
    for stretch in tidy:
        _onto_one_axis(stretch.scalars, chosen, notes)
    name = EPOCH if by_epoch else STEP
    times = [None if by_epoch or chosen is None else _step_times(stretch.scalars, chosen) for stretch in tidy]
    parts = _parts(tidy, times, name)
    said = {name: name, **beside.columns}
    if not any(entry.canonical == "time/step_ms" for entry in names.assign(dict.fromkeys(whole, 1)).values()):
        said = {STEP_TIME: "time/step_ms", **said}
    runs = runs_of(parts, replace(beside, columns=said), source=source, file=file, format=format, loss_unit=loss_unit)
    for run in runs:
        run.notes.extend(dict.fromkeys(notes))
        run.events = [replace(event, source=Source(file)) for event in run.events]  # there are no lines
    started = next((float(s.scalars.walls[0]) for s in tidy if len(s.scalars)), None)
    if runs and started is not None:
        runs[0].events.insert(0, Event("start", None, "start of the log", Source(file), {"time": started}))
    return runs


def _tracks(pieces: Sequence[Scalars]) -> dict[str, clock.Track]:
    found: dict[str, list[clock.Track]] = {}
    for piece in pieces:
        for key, rows in piece.rows.items():
            found.setdefault(key, []).append(clock.Track(piece.steps[rows], piece.walls[rows]))
    return {
        key: tracks[0]
        if len(tracks) == 1
        else clock.Track(np.concatenate([t.steps for t in tracks]), np.concatenate([t.walls for t in tracks]))
        for key, tracks in found.items()
    }


def _tidied(stretch: Stretch, notes: list[str]) -> Stretch:
    """Without the values of the whole training, which become its summary, and without copies."""
    scalars = stretch.scalars
    rows = scalars.rows
    names_of = {key: match[1] for key in rows if len(rows[key]) == 1 and (match := _SUMMARY.fullmatch(key))}
    if "train_runtime" not in names_of.values():
        return replace(stretch, scalars=_without_copies(scalars, notes))
    summary = {name: float(scalars.values[rows[key][0]]) for key, name in names_of.items()}
    return replace(stretch, scalars=_without_copies(scalars.renamed(dict.fromkeys(names_of)), notes), summary=summary)


def _without_copies(scalars: Scalars, notes: list[str]) -> Scalars:
    """Without the keys that repeat another one over another axis."""
    known = {names.normalise(key) for key in scalars.keys}
    copies = [
        key for key in scalars.keys
        if (match := COPY.match(key.rpartition("/")[2])) and not known.isdisjoint(_originals(key, match["of"]))
    ]  # fmt: skip
    if not copies:
        return scalars
    notes.append(f"Left out, because they repeat others over another axis: {', '.join(sorted(copies)[:4])}"
                 f"{' ...' if len(copies) > 4 else ''}.")  # fmt: skip
    return scalars.renamed(dict.fromkeys(copies))


def _originals(key: str, of: str) -> set[str]:
    folder = key.rpartition("/")[0]
    return {names.normalise(name) for name in (of, f"{folder}/{of}", f"{folder}/epoch_{of}")}


def _onto_one_axis(scalars: Scalars, chosen: str | None, notes: list[str]) -> None:
    """Give the values of keys that count something else their steps by the clock, in place."""
    rows = scalars.rows
    for key, places in rows.items():
        if (steps := clock.counted_on(scalars.steps[places])) is not None:
            scalars.steps = scalars.steps.copy()
            scalars.steps[places] = steps
            notes.append(f"The steps of {key} begin again with each epoch; they were counted on.")
    if chosen is None or chosen not in rows:
        return
    tracks = {key: clock.Track(scalars.steps[places], scalars.walls[places]) for key, places in rows.items()}
    for key, steps in clock.steps_by_clock(tracks, chosen).items():
        own = tracks[key].steps
        scalars.steps = scalars.steps.copy()
        scalars.steps[rows[key]] = steps
        notes.append(
            f"{key} has steps {own[0]} to {own[-1]} of another count than {chosen}; its values were put at the step of "
            f"{chosen} at which they were logged ({steps[0]} to {steps[-1]})."
        )


def _step_times(scalars: Scalars, chosen: str) -> tuple[Ints, Floats] | None:
    """Places among the values of the key that counts the updates, and milliseconds per update."""
    rows = scalars.rows
    if chosen not in rows:
        return None
    asides = [scalars.walls[places] for key, places in rows.items() if clock.is_aside(key)]
    found = clock.step_times(clock.Track(scalars.steps[rows[chosen]], scalars.walls[rows[chosen]]), asides)
    return None if found is None else (rows[chosen][found[0]], found[1])


def _parts(stretches: Sequence[Stretch], times: Sequence[tuple[Ints, Floats] | None], axis: str) -> list[Part]:
    parts: list[Part] = []
    seen: dict[str, int] = {}  # training key -> its first step in the run so far
    for stretch, spent in zip(stretches, times, strict=True):
        scalars = stretch.scalars
        rows = scalars.rows
        training = clock.training_keys({key: len(places) for key, places in rows.items()})
        first = {key: int(scalars.steps[rows[key][0]]) for key in training}
        shared = first.keys() & seen.keys()
        begin = min((first[key] for key in shared), default=None)
        again = begin is not None and begin <= min(seen[key] for key in shared) and stretch.resumes_at is None
        if parts and begin is None and stretch.resumes_at is None:
            _append(parts[-1], stretch, spent, axis)  # an evaluation after the training, or another kind of key
        else:
            part = Part()
            if parts and not again:
                at = stretch.resumes_at if stretch.resumes_at is not None else begin
                assert at is not None
                for earlier in parts:
                    _cut(earlier, axis, at)
                part.events.append((1, f"resumed at step {at} in {stretch.file}", {}))
            elif again:
                seen = {}
            _append(part, stretch, spent, axis)
            parts.append(part)
        for key, step in first.items():
            seen.setdefault(key, step)
    return parts


def _append(part: Part, stretch: Stretch, spent: tuple[Ints, Floats] | None, axis: str) -> None:
    scalars = stretch.scalars
    columns = {axis: (np.arange(len(scalars)), scalars.steps.astype(np.float64))}
    strides: dict[str, int] = {}
    for key, rows in scalars.rows.items():
        name = key + _LOGGED if key in (axis, STEP_TIME) else key
        rows, strides[name] = _thinned(rows, scalars.values)
        columns[name] = (rows, scalars.values[rows])
    if spent is not None:
        columns[STEP_TIME] = spent
    part.add_rows(np.zeros(len(scalars), np.int64), columns)
    for name, stride in strides.items():
        part.columns[name].stride = max(stride, part.columns[name].stride)
    part.raw.update(stretch.settings)
    if stretch.summary:
        part.events.append((1, "end of training", stretch.summary))


def _thinned(rows: Ints, values: Floats) -> tuple[Ints, int]:
    """At most `MAX_POINTS` of the rows of one key, evenly spaced, and some of those that are not finite; the stride."""
    stride = -(-len(rows) // MAX_POINTS)
    if stride == 1:
        return rows, 1
    keep = np.zeros(len(rows), bool)
    keep[::stride] = True
    keep[np.flatnonzero(~np.isfinite(values[rows]))[:SPARE]] = True
    return rows[keep], stride


def _cut(part: Part, axis: str, at: int) -> None:
    """Leave out of an earlier stretch what the program logged from step `at` on, because it went back to it."""
    steps = np.asarray(part.columns[axis].values)
    for name, column in part.columns.items():
        rows = np.asarray(column.rows)
        kept = steps[rows] < at if name != axis else np.ones(len(rows), bool)
        if not kept.all():
            values = np.asarray(column.values)[kept]
            part.columns[name] = Column(array("q", rows[kept].tobytes()), array("d", values.tobytes()), column.stride)
