"""Rows of numbers under a log's own key names, turned into runs: the core that most readers share.

A reader fills one `Part` for each stretch of rows between two starts of the program; `runs_of` finds the x-axis, gives
the keys their canonical names (`unstuck.runs.names`), tells several runs in one file apart, joins a resumed one, and
settles units. What it converted or left out is in `run.notes`.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from unstuck.config.dialects import PER_EPOCH
from unstuck.runs import names
from unstuck.runs.beside import Beside, settle
from unstuck.runs.build import MAX_RUNS, MAX_SERIES, Points, changed_settings, too_many_runs
from unstuck.runs.logfile import number
from unstuck.runs.parts import RESUMED, Column, Part, int_array, is_still
from unstuck.runs.run import Axis, Event, Run, Series, Setting, Source
from unstuck.runs.seen import seen_axis
from unstuck.wording import plural

_FAILED = re.compile(r"\b\w*error\b|exception|out of memory|\bkilled\b|SIG(?:KILL|TERM|SEGV|ABRT)|fault|DUE TO", re.I)
_STEP_IN_TEXT = re.compile(r"\b(?:step|iter|iteration|update)s?\s*[=:#]?\s*(\d+)", re.I)


def runs_of(
    parts: Iterable[Part],
    beside: Beside,
    *,
    source: str,
    file: str,
    format: str,
    dialect: str | None = None,
    loss_unit: str | None = None,
) -> list[Run]:
    """The runs of a file, without those that have no series.

    Args:
        parts: in the order of the file.
        beside: configuration found beside the log, and what the user said about its columns.
        source: what the user named.
        file: what evidence calls the file.
        format: the reader's name.
        dialect: whose names the settings carry, where the format settles it.
        loss_unit: of train/loss and val/loss, where the format settles it.
    """
    groups = _join((_unwrapped(part, beside.columns) for part in parts), beside.columns)
    rest = len(groups) > MAX_RUNS
    del groups[MAX_RUNS:]
    runs = [
        _run(
            group, beside, f"{source} (run {k} of {len(groups)})" if len(groups) > 1 else source, file, format, dialect
        )
        for k, group in enumerate(groups, start=1)
    ]
    for run in runs:
        for name in ("train/loss", "val/loss") if loss_unit else ():
            if (series := run.get(name)) is not None:
                run.series[name] = replace(series, unit=loss_unit)
    runs = [run for run in runs if run.series]
    if rest and runs:
        runs[0].notes.append(too_many_runs(file))
    return runs


WITHIN_EPOCH = "step within the epoch"

Said = tuple[tuple[str, str], ...]


def _x_axis(part: Part, said: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """The keys of a part that count updates, micro-batches and epochs."""
    return _x_axis_of(tuple(part.counts().items()), tuple(said.items()), part.still())


@lru_cache(64)  # ours: parts of one log with as many rows are asked about again and again
def _x_axis_of(
    counts: tuple[tuple[str, int], ...], said: Said, still: tuple[str, ...]
) -> tuple[str | None, str | None, str | None]:
    return names.x_axis(dict(counts), dict(said), still)


def _steps(part: Part, said: Mapping[str, str]) -> list[float]:
    """First, and last, finite value of a part's own x-axis; empty without one."""
    key = next((key for key in _x_axis(part, said) if key is not None), None)
    values = np.asarray(part.columns[key].values) if key is not None else np.empty(0)
    values = values[np.isfinite(values)]
    return [float(values[0]), float(values[-1])] if len(values) else []


def _unwrapped(part: Part, said: Mapping[str, str]) -> Part:
    """A part whose step begins again with every epoch, with a step that goes on.

    The updates of an epoch are what its last row counts, the largest of all epochs that another one follows; a log that
    writes every 50th batch counts up to 49 too few, the same in every epoch.
    """
    step, micro, epoch = _x_axis(part, said)
    key = step or micro
    if key is None or epoch is None or not len(part.lines):
        return part
    whole = np.full((2, len(part.lines)), np.nan)
    for place, name in enumerate((key, epoch)):
        column = part.columns[name]
        whole[place, np.asarray(column.rows)] = np.asarray(column.values)
    both = np.isfinite(whole).all(axis=0)
    steps, epochs = whole[0, both], whole[1, both]
    back = np.diff(steps) < 0
    # the first epoch may be short, a resume may go back: it is the rule that must hold
    if not back.any() or not np.all(np.diff(epochs) >= 0) or (np.diff(epochs)[back] <= 0).any():
        return part
    if np.any(epochs != np.round(epochs)) or float(np.max(epochs)) > 1e6:
        return part
    ends = {int(e): float(steps[epochs == e].max()) for e in np.unique(epochs)}
    followed = [last for e, last in ends.items() if e != int(epochs[-1])]
    zero_based = float(steps.min()) == 0
    length = max(followed) + zero_based
    going_on = (whole[1] - min(1.0, float(epochs[0]))) * length + whole[0]  # a log may begin in a later epoch
    column = part.columns.pop(key)
    part.columns[WITHIN_EPOCH] = column
    rows = np.flatnonzero(both)
    part.columns["step"] = Column(int_array(rows), array("d", going_on[rows].tobytes()))
    return part


def _join(parts: Iterable[Part], said: Mapping[str, str]) -> list[list[Part]]:
    """Parts that belong to one run: its later parts go on from a step beyond the first step of the run.

    Reading stops one run beyond `MAX_RUNS`, so that the caller can tell.
    """
    groups: list[list[Part]] = []
    before: list[float] = []  # the steps of the run's first part that has any
    for part in (piece for whole in parts for piece in _split_at_restarts(whole, said)):
        here = _steps(part, said)
        starts_again = bool(before and here) and here[0] <= before[0] and part.resumes() is None
        if not groups or starts_again:
            if len(groups) > MAX_RUNS:
                break
            groups.append([part])
            before = here
        else:
            groups[-1].append(part)
            before = before or here
    return groups


def _split_at_restarts(part: Part, said: Mapping[str, str]) -> Iterable[Part]:
    """A part cut where its steps begin again at (or before) its first one: another run in the same file."""
    step, micro, _ = _x_axis(part, said)
    key = step or micro
    if key is None:
        return [part]
    rows, steps = np.asarray(part.columns[key].rows), np.asarray(part.columns[key].values)
    if (steps[1:] > steps[:-1]).all():
        return [part]
    counts = part.counts()
    losses = {name.canonical: k for k, name in names.assign(counts, said).items() if name.canonical.endswith("/loss")}
    loss = losses.get("train/loss") or losses.get("val/loss")
    if loss is None:
        return [part]
    training = np.isin(rows, np.asarray(part.columns[loss].rows)) & np.isfinite(steps)
    rows, steps = rows[training], steps[training]
    if not len(steps) or (steps[1:] > steps[0]).all():
        return [part]
    cuts = [0]
    first, rose = float(steps[0]), False
    for row, here in zip(rows.tolist(), steps.tolist(), strict=True):
        if here > first:
            rose = True
        elif rose:
            first, rose = here, False
            cuts.append(row)
    if len(cuts) == 1:
        return [part]
    return (part.between(first, last) for first, last in pairwise([*cuts, len(part.lines)]))


def _run(parts: list[Part], beside: Beside, source: str, file: str, format: str, dialect: str | None) -> Run:
    run = Run(source, format)
    logged: dict[str, Setting] = {}
    counts: Counter[str] = Counter()
    for part in parts:
        logged.update(part.raw)
        counts.update(part.counts())
    settle(run, logged, beside, dialect)
    axis = _XAxis(run, parts, counts, beside.columns)
    given = names.assign(counts, beside.columns)
    if (rate := _rate_by_values(parts, {*given, *beside.columns})) and not any(
        entry.canonical.startswith("lr/") for entry in given.values()
    ):
        given[rate] = names.by_canonical("lr/all")
    points = Points(file)
    as_logged: dict[str, str] = {}
    units: dict[str, str | None] = {}
    printed = dict(beside.raw)  # what held before a part: the configuration, then what the earlier parts printed
    for place, part in enumerate(parts):
        start = axis.last
        updates = axis.updates(part)
        lines = np.asarray(part.lines)
        if place and len(lines):
            counted = (
                np.isfinite(np.asarray(part.columns[axis.key].values)).any() if axis.key in part.columns else False
            )
            _resume(run, part, printed, file, int(updates[0]) if counted else start)
        printed.update(part.raw)
        for line, text, summary in part.events:
            before = int(np.searchsorted(lines, line))
            at = int(updates[before - 1]) if before else start
            _event(run, Source(file, line), text, at, summary)
        for key, column in part.columns.items():
            if (
                (key in axis.keys and key != axis.epoch)
                or names.RUNTIME.match(names.normalise(key))
                or names.left_out(key, beside.columns)
            ):
                continue
            entry = given.get(key)
            name = "epoch" if key == axis.epoch else entry.canonical if entry else key
            if len(as_logged) >= MAX_SERIES and name not in as_logged:
                continue
            as_logged.setdefault(name, key)
            units.setdefault(name, entry.unit if entry else None)
            rows = np.asarray(column.rows)
            values = np.asarray(column.values)
            points.add_many(name, updates[rows], entry.converted(values) if entry else values, lines[rows])
    run.series = points.series(units, as_logged)
    _from_perplexity(run)
    run.notes.extend(axis.notes)
    if max(len(as_logged), *(len(part.columns) for part in parts)) >= MAX_SERIES:
        run.notes.append(f"The log has {plural(MAX_SERIES, 'name')} of numbers or more; further ones were left out.")
    if (stride := max((c.stride for part in parts for c in part.columns.values()), default=1)) > 1:
        run.notes.append(f"The log is very long: of its densest series every {stride}th point was read.")
    if renamed := [f"{key} as {name}" for name, key in as_logged.items() if name != key and name in run.series][:12]:
        run.notes.append(f"Names were inferred: {', '.join(renamed)}.")
    return run


def _rate_by_values(parts: list[Part], named: Collection[str]) -> str | None:
    """The key that may name the learning rate (`rate`, `eta`) and holds such values; None without one."""
    for key in dict.fromkeys(key for part in parts for key in part.columns):
        if key not in named and names.may_be_rate(key):
            columns = [np.asarray(part.columns[key].values) for part in parts if key in part.columns]
            if names.is_small_rate(np.concatenate(columns)):
                return key
    return None


def _still(parts: list[Part]) -> set[str]:
    """The keys that have the same value wherever they stand in several rows."""
    keys = {key for part in parts for key in part.still()}
    columns = {key: [part.columns[key] for part in parts if key in part.columns] for key in keys}
    return {
        key
        for key, pieces in columns.items()
        if len({piece.values[0] for piece in pieces if piece.values}) == 1
        and all(len(piece.values) < 2 or is_still(piece) for piece in pieces)
    }


class _XAxis:
    """Gives each row its optimizer update."""

    def __init__(self, run: Run, parts: list[Part], counts: Mapping[str, int], columns: Mapping[str, str]) -> None:
        step, micro, self.epoch = names.x_axis(counts, columns, _still(parts))
        if step is None and micro is None and self.epoch is not None and _fractional(parts, self.epoch):
            self.epoch = None  # 0.1, 0.2: rows of one epoch would share an update; the series stays
        self.seen = seen_axis(run, parts, counts) if step is None and micro is None else None
        self.key = step or micro or (self.seen.key if self.seen else self.epoch)
        self.keys = {key for key in (step, micro, self.epoch) if key is not None}
        self.last = 0
        self.factor = 1.0
        self.offset = 0.0
        self.notes: list[str] = []
        self._rows = 0
        run.axis = self._settle(run, step, micro)
        if self.key is not None and self.key == self.epoch and _trains_at_zero(parts, counts, self.epoch, columns):
            self.offset = 1.0
            self.notes.append(f"{self.epoch} begins at 0; its values come at the end of the epoch, so 1 was added.")

    def _settle(self, run: Run, step: str | None, micro: str | None) -> Axis:
        if self.key is None:
            self.notes.append("The log has no step; rows were counted instead.")
            return "row"
        if step is not None:
            return "update"
        if self.seen is not None:
            self.factor = 1.0 / self.seen.per_update
            self.keys.discard(self.seen.key)  # its series stays
            self.notes.append(f"{self.seen.key} counts what was seen; {self.seen.per_update:g} of it make an update.")
            return "update"
        if micro is not None:
            accumulation = number(run.setting("accumulation"))
            if accumulation and accumulation >= 1:
                self.factor = 1.0 / accumulation
                self.notes.append(f"{micro} counts micro-batches; divided by {accumulation:g} (accumulation).")
                return "update"
            self.notes.append(f"{micro} counts micro-batches; the accumulation is unknown, so it was kept.")
            return "micro-batch"
        per_epoch = updates_per_epoch(run)
        self.factor = per_epoch or 1.0
        self.notes.append(
            f"The log counts epochs; one epoch is {plural(per_epoch, 'update')} by the settings."
            if per_epoch
            else "The log counts epochs and does not settle how many updates an epoch has: the x-axis is epochs."
        )
        return "update" if per_epoch else "epoch"

    def updates(self, part: Part) -> npt.NDArray[np.int64]:
        """The update of every row, shape (rows,); a row without a step belongs to the last one seen."""
        count = len(part.lines)
        if self.key is None:
            updates = np.arange(self._rows + 1, self._rows + count + 1)
            self._rows += count
        else:
            column = part.columns.get(self.key, Column())
            steps = (np.asarray(column.values) + self.offset) * self.factor
            steps = np.round(steps) if self.factor >= 1.0 or self.seen else np.floor(steps + 1e-9)
            good = np.isfinite(steps) & (np.abs(steps) < 2**53)
            filled = np.full(count + 1, -1, dtype=np.int64)  # index of the step in force at each row
            filled[np.asarray(column.rows)[good] + 1] = np.flatnonzero(good)
            filled = np.maximum.accumulate(filled)[1:]
            known = np.append(steps, self.last)  # index -1: none yet in this part, the last one before it
            updates = known[filled].astype(np.int64)
        if count:
            self.last = int(updates[-1])
        return updates


def _fractional(parts: list[Part], key: str) -> bool:
    values = np.concatenate([np.asarray(part.columns[key].values) for part in parts if key in part.columns])
    values = values[np.isfinite(values)]
    return bool(len(values) and np.any(values != np.round(values)))


def _trains_at_zero(parts: list[Part], counts: Mapping[str, int], epoch: str | None, said: Mapping[str, str]) -> bool:
    """Whether the first epoch is called 0 and has a training loss, which is only known when the epoch has passed."""
    loss = next((k for k, name in names.assign(counts, said).items() if name.canonical == "train/loss"), None)
    first = parts[0].columns.get(epoch or "")
    if loss is None or first is None or not len(first.values) or loss not in parts[0].columns:
        return False
    rows = np.asarray(first.rows)[np.asarray(first.values) == 0]
    return bool(np.isin(rows, np.asarray(parts[0].columns[loss].rows)).any())


def updates_per_epoch(run: Run) -> float | None:
    """Optimizer updates in one epoch by the settings: samples / (batch x accumulation x devices), rounded up; else the
    batches of an epoch that a configuration or the log states / accumulation."""
    samples, batch = number(run.setting("train_samples")), number(run.setting("batch_size"))
    accumulation, world = number(run.setting("accumulation")) or 1.0, number(run.setting("world_size")) or 1.0
    if accumulation <= 0 or world <= 0:
        return None
    if not samples or not batch or not samples > 0 < batch:
        printed = next((number(s.value) for key, s in run.raw_settings.items() if key.lower() in PER_EPOCH), None)
        return float(math.ceil(printed / accumulation)) if printed and printed >= 1 else None
    return float(math.ceil(samples / (batch * accumulation * world)))


def _event(run: Run, source: Source, text: str, update: int, summary: dict[str, float]) -> None:
    if summary:
        run.events.append(Event("end", update, text, source, summary))
    elif not RESUMED.search(text):  # that is told with the part that it opens
        run.events.append(Event("error" if _FAILED.search(text) else "note", update, text, source))


def _resume(run: Run, part: Part, before: Mapping[str, Setting], file: str, first: int) -> None:
    line, text = part.resumes() or (part.line, "the log goes on with a new header")
    told = _STEP_IN_TEXT.search(text)
    at = int(told[1][:15]) if told else first
    changed = changed_settings(before, part.raw)
    run.events.append(Event("resume", at, text, Source(file, line), {"changed": changed}))
    for key, (old, new) in changed.items():
        run.notes.append(f"{key} changed from {old} to {new} at the resume ({file}:{part.line}).")


def _from_perplexity(run: Run) -> None:
    """Where a log has a perplexity and no loss, the loss is its logarithm (the definition of perplexity)."""
    for side in ("train", "val"):
        ppl = run.series.get(f"{side}/perplexity")
        if ppl is None or f"{side}/loss" in run.series:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(ppl.values)
        name = f"{side}/loss"
        run.series[name] = Series(name, ppl.updates, values, ppl.lines, ppl.file, "nats/token", ppl.logged_as)
        run.notes.append(f"{name} is the natural logarithm of the logged {ppl.logged_as}.")
