"""One JSON object per line with any key names: what most home-made loops write.

Key names are inferred by the ordered table of `unstuck.runs.names`. Nested objects are flattened (`{"val": {"loss":
1}}` is `val/loss`), lists of learning rates become groups. A line that holds `{"config": {...}}` gives settings; a
second one further on marks a resume (or a new run, when the steps begin again). NaN, Infinity and the strings "nan",
"inf" survive.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.beside import Beside, settle
from unstuck.runs.build import NO_MATCH, Match, Points, add_raw, changed_settings
from unstuck.runs.logfile import LogFile, number, parse_json
from unstuck.runs.run import Event, Run, Series, Setting, Source
from unstuck.wording import plural

FORMAT = "jsonl-metrics"

CONFIG_KEYS = ("config", "args", "hparams", "hyperparameters", "hyper_parameters", "params", "settings", "cfg")
EVENT_KEYS = ("event", "message", "msg", "note", "status")
# A key that says which split a row is about, so that a bare "loss" can be given its place.
SPLIT_KEYS = ("split", "phase", "mode", "stage", "set", "subset", "type", "kind", "event", "prefix")
VAL_WORDS = frozenset(("val", "valid", "validation", "eval", "evaluation", "evaluate", "dev", "test"))
_RESUMED = re.compile(r"\bresum(?:e|ed|ing)\b", re.I)
_STEP_IN_TEXT = re.compile(r"\b(?:step|iter|iteration|update)s?\s*[=:#]?\s*(\d+)", re.I)
MAX_KEYS = 400  # ours: a log with more scalar names per file is a table of features, not a training curve
MAX_DEPTH = 4


@dataclass(slots=True)
class Columns:
    """One key of a stretch of rows: which rows have it, and its values."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class Part:
    """A stretch of rows between two starts of the program, by columns; `lines` has the line of each row."""

    lines: array[int] = field(default_factory=lambda: array("q"))
    columns: dict[str, Columns] = field(default_factory=dict)
    raw: dict[str, Setting] = field(default_factory=dict)
    events: list[tuple[int, str, dict[str, float]]] = field(default_factory=list)  # line, text, values of a summary
    line: int = 1

    def add(self, line: int, values: Mapping[str, float]) -> None:
        row = len(self.lines)
        self.lines.append(line)
        for key, value in values.items():
            column = self.columns.get(key)
            if column is None:
                column = self.columns[key] = Columns()
            column.rows.append(row)
            column.values.append(value)

    def steps(self) -> list[float]:
        """First, and last, finite value of the part's own x-axis; empty without one."""
        key = next((key for key in names.x_axis(self.counts()) if key is not None), None)
        values = np.asarray(self.columns[key].values) if key is not None else np.empty(0)
        values = values[np.isfinite(values)]
        return [float(values[0]), float(values[-1])] if len(values) else []

    def counts(self) -> dict[str, int]:
        return {key: len(column.values) for key, column in self.columns.items()}

    def resumes(self) -> tuple[int, str] | None:
        """Line and text of the message that says the run was resumed."""
        return next(((line, text) for line, text, _ in self.events if _RESUMED.search(text)), None)

    def between(self, first: int, last: int) -> Part:
        """The rows first to last - 1 as a part of their own."""
        lines = np.asarray(self.lines)[first:last]
        piece = Part(_int_array(lines), raw=self.raw if first == 0 else {}, line=int(lines[0]) if len(lines) else 1)
        low, high = (int(lines[0]) if first else 0), (int(lines[-1]) if len(lines) else 0)
        final = last >= len(self.lines)
        piece.events = [e for e in self.events if low <= e[0] <= high or (final and e[0] > high)]
        for key, column in self.columns.items():
            rows, values = np.asarray(column.rows), np.asarray(column.values)
            mask = (rows >= first) & (rows < last)
            if mask.any():
                piece.columns[key] = Columns(_int_array(rows[mask] - first), array("d", values[mask].tobytes()))
        return piece


def _int_array(values: npt.NDArray[np.int64]) -> array[int]:
    return array("q", values.astype(np.int64).tobytes())


def match(log: LogFile) -> Match:
    """The share of the first lines that are JSON objects, and whether they hold a step or a loss."""
    lines = [text for text in log.head.split("\n")[:60] if text.strip()]
    if len(log.head) >= 60_000 and len(lines) == 1:
        return NO_MATCH
    torn = len(lines) > 1 and not log.head.endswith("\n") and not isinstance(_object(lines[-1]), dict)
    complete = lines[:-1] if torn else lines
    objects = [row for text in complete if isinstance(row := _object(text), dict)]
    if len(objects) < 2 or len(objects) < 0.8 * len(complete):
        return NO_MATCH  # one object alone is a summary
    keys = {names.normalise(key) for row in objects for key in row}
    known = {n for n in names.STEP_NAMES + names.EPOCH_NAMES + names.MICRO_STEP_NAMES if n in keys}
    given = {name.canonical for name in names.assign({k: 1 for row in objects for k in _flat(row)}).values()}
    losses = given & {"train/loss", "val/loss", "train/perplexity", "val/perplexity"}
    if not losses:
        return Match(0.2, "JSON lines without a loss")
    return Match(0.9 if known else 0.7, f"{len(objects)} of the first {len(complete)} lines are JSON with a loss")


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs of the file.

    Raises:
        UserError: no line holds a number under a known name.
    """
    parts, torn = _parts(log)
    groups = _join(parts)
    runs = [_run(log, group, beside, f" (run {k} of {len(groups)})" if len(groups) > 1 else "")
            for k, group in enumerate(groups, start=1)]  # fmt: skip
    runs = [run for run in runs if run.series]
    if not runs:
        raise UserError(f"{log.path} has JSON lines but no loss or other series in them; name the metrics file.")
    for run in runs:
        if torn:
            run.notes.append(
                f"{plural(torn, 'line that is no JSON object was', 'lines that are no JSON objects were')} left out."
            )
    return runs


def _parts(log: LogFile) -> tuple[list[Part], int]:
    """The file cut where a configuration line or the word "resumed" starts a new stretch; and lines left out."""
    parts = [Part()]
    torn = 0
    for line, text in enumerate(log.lines(), start=1):
        row = _object(text)
        if row is None:
            torn += bool(text.strip())
            continue
        config = next((row[key] for key in CONFIG_KEYS if isinstance(row.get(key), dict)), None)
        if config is not None:
            if parts[-1].lines or parts[-1].raw:
                parts.append(Part(line=line))
            add_raw(parts[-1].raw, config, Source(log.name, line))
            continue
        told = next((v for key in EVENT_KEYS if isinstance(v := row.get(key), str)), None)
        if told is not None and _RESUMED.search(told) and parts[-1].lines:
            parts.append(Part(line=line))
        values = _flat(row)
        if "train_runtime" in values:  # transformers' summary of the whole run is no point of a curve
            parts[-1].events.append((line, "end of training", values))
        elif values:
            parts[-1].add(line, values)
        elif told is None and not parts[-1].lines and not parts[-1].raw and len(row) > 3:
            add_raw(parts[-1].raw, row, Source(log.name, line))  # a first line of settings without the key "config"
        if told is not None:
            parts[-1].events.append((line, told[:300], {}))
    return parts, torn


def _join(parts: list[Part]) -> list[list[Part]]:
    """Parts that belong to one run: its later parts go on from a step beyond the first step of the run."""
    groups: list[list[Part]] = []
    for part in (piece for whole in parts for piece in _split_at_restarts(whole)):
        before = next((steps for p in groups[-1] if (steps := p.steps())), []) if groups else []
        here = part.steps()
        starts_again = bool(before and here) and here[0] <= before[0] and part.resumes() is None
        if not groups or starts_again:
            groups.append([part])
        else:
            groups[-1].append(part)
    return groups


def _split_at_restarts(part: Part) -> list[Part]:
    """A part cut where its steps begin again at (or before) its first one: another run in the same file."""
    counts = part.counts()
    step, micro, _ = names.x_axis(counts)
    key = step or micro
    loss = next((k for k, name in names.assign(counts).items() if name.canonical == "train/loss"), None)
    if key is None or loss is None:
        return [part]
    rows, steps = np.asarray(part.columns[key].rows), np.asarray(part.columns[key].values)
    training = np.isin(rows, np.asarray(part.columns[loss].rows)) & np.isfinite(steps)
    rows, steps = rows[training], steps[training]
    cuts = [0]
    at = 0
    while at < len(steps):
        again = np.flatnonzero((steps[at + 1 :] <= steps[at]) & (np.maximum.accumulate(steps[at:-1]) > steps[at]))
        if not len(again):
            break
        at += 1 + int(again[0])
        cuts.append(int(rows[at]))
    if len(cuts) == 1:
        return [part]
    return [part.between(first, last) for first, last in pairwise([*cuts, len(part.lines)])]


def _run(log: LogFile, parts: list[Part], beside: Beside, which: str) -> Run:
    run = Run(str(log.path) + which, FORMAT)
    logged: dict[str, Setting] = {}
    counts: Counter[str] = Counter()
    for part in parts:
        logged.update(part.raw)
        counts.update(part.counts())
    settle(run, logged, beside)
    axis = _Axis(run, counts)
    given = names.assign(counts)
    points = Points(log.name)
    as_logged: dict[str, str] = {}
    units: dict[str, str | None] = {}
    for place, part in enumerate(parts):
        start = axis.last
        updates = axis.updates(part)
        lines = np.asarray(part.lines)
        if place and len(lines):
            _resume(run, parts, place, log.name, start)
        for line, text, summary in part.events:
            before = int(np.searchsorted(lines, line))
            at = int(updates[before - 1]) if before else start
            _event(run, Source(log.name, line), text, at, summary)
        for key, column in part.columns.items():
            if (key in axis.keys and key != axis.epoch) or names.RUNTIME.match(key):
                continue
            entry = given.get(key)
            name = "epoch" if key == axis.epoch else entry.canonical if entry else key
            as_logged.setdefault(name, key)
            units.setdefault(name, entry.unit if entry else None)
            rows = np.asarray(column.rows)
            scale = entry.scale if entry else 1.0
            points.add_many(name, updates[rows], np.asarray(column.values) * scale, lines[rows])
    run.series = points.series(units, as_logged)
    _from_perplexity(run)
    run.notes.extend(axis.notes)
    if renamed := [f"{key} as {name}" for name, key in as_logged.items() if name != key and name in run.series][:12]:
        run.notes.append(f"Names were inferred: {', '.join(renamed)}.")
    return run


class _Axis:
    """Gives each row its optimizer update."""

    def __init__(self, run: Run, counts: Mapping[str, int]) -> None:
        step, micro, self.epoch = names.x_axis(counts)
        self.key = step or micro or self.epoch
        self.keys = {key for key in (step, micro, self.epoch) if key is not None}
        self.last = 0
        self.factor = 1.0
        self.notes: list[str] = []
        self._rows = 0
        if self.key is None:
            self.notes.append("The log has no step; rows were counted instead.")
        elif self.key == micro and step is None:
            accumulation = number(run.setting("accumulation"))
            if accumulation and accumulation >= 1:
                self.factor = 1.0 / accumulation
                self.notes.append(f"{micro} counts micro-batches; divided by {accumulation:g} (accumulation).")
            else:
                self.notes.append(f"{micro} counts micro-batches; the accumulation is unknown, so it was kept.")
        elif step is None:
            per_epoch = _updates_per_epoch(run)
            self.factor = per_epoch or 1.0
            self.notes.append(
                f"The log counts epochs; one epoch is {plural(per_epoch, 'update')} by the settings."
                if per_epoch
                else "The log counts epochs and does not settle how many updates an epoch has: the x-axis is epochs."
            )

    def updates(self, part: Part) -> npt.NDArray[np.int64]:
        """The update of every row, shape (rows,); a row without a step belongs to the last one seen."""
        count = len(part.lines)
        if self.key is None:
            updates = np.arange(self._rows + 1, self._rows + count + 1)
            self._rows += count
        else:
            column = part.columns.get(self.key, Columns())
            steps = np.asarray(column.values) * self.factor
            steps = np.round(steps) if self.factor >= 1.0 else np.floor(steps + 1e-9)
            good = np.isfinite(steps) & (np.abs(steps) < 2**53)
            filled = np.full(count + 1, -1, dtype=np.int64)  # index of the step in force at each row
            filled[np.asarray(column.rows)[good] + 1] = np.flatnonzero(good)
            filled = np.maximum.accumulate(filled)[1:]
            known = np.append(steps, self.last)  # index -1: none yet in this part, the last one before it
            updates = known[filled].astype(np.int64)
        if count:
            self.last = int(updates[-1])
        return updates


def _updates_per_epoch(run: Run) -> float | None:
    samples, batch = number(run.setting("train_samples")), number(run.setting("batch_size"))
    accumulation, world = number(run.setting("accumulation")) or 1.0, number(run.setting("world_size")) or 1.0
    if not samples or not batch or not samples > 0 < batch or accumulation <= 0 or world <= 0:
        return None
    return float(math.ceil(samples / (batch * accumulation * world)))


def _event(run: Run, source: Source, text: str, update: int, summary: dict[str, float]) -> None:
    if summary:
        run.events.append(Event("end", update, text, source, summary))
    elif not _RESUMED.search(text):  # that is told with the part that it opens
        kind = "error" if re.search(r"\berror\b|exception|out of memory", text, re.I) else "note"
        run.events.append(Event(kind, update, text, source))


def _resume(run: Run, parts: list[Part], place: int, file: str, last: int) -> None:
    part = parts[place]
    line, text = part.resumes() or (part.line, "the log goes on with a new header")
    said = _STEP_IN_TEXT.search(text)
    steps = part.steps()
    at = int(said[1][:15]) if said else int(steps[0]) if steps and abs(steps[0]) < 2**53 else last
    before: dict[str, Setting] = {}
    for earlier in parts[:place]:
        before.update(earlier.raw)
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


def _object(text: str) -> dict[str, Any] | None:
    text = text.strip()
    if not text.startswith("{"):
        return None
    try:
        row = parse_json(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _flat(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row under slash-joined keys, with the split of the row in front of a bare loss."""
    if all(type(value) in (int, float) for value in row.values()) and len(row) <= MAX_KEYS:
        try:
            return {key: float(value) for key, value in row.items()}
        except OverflowError:  # an integer beyond a float: the careful way below leaves it out
            pass
    values: dict[str, float] = {}
    split = next(
        (
            str(v).lower()
            for key in SPLIT_KEYS
            if isinstance(v := row.get(key), str) and set(re.findall(r"[a-z]+", v.lower())) & VAL_WORDS
        ),
        None,
    )
    for key, value in _walk(row, "", 0):
        if len(values) >= MAX_KEYS:
            break
        if (logged := number(value)) is not None:
            bare = split is not None and names.normalise(key) in ("loss", "acc", "accuracy", "ppl", "perplexity", "bpb")
            values[f"val/{key}" if bare else key] = logged
    return values


def _walk(row: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if depth < MAX_DEPTH and not (depth == 0 and key in CONFIG_KEYS):
                yield from _walk(value, f"{name}/", depth + 1)
        elif isinstance(value, list):
            if len(value) <= 16:
                for place, item in enumerate(value):
                    yield (name if len(value) == 1 else f"{name}/{place}"), item
        else:
            yield name, value
