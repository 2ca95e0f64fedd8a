"""One JSON object per line with any key names: what most home-made loops write.

Key names are inferred by the ordered table of `unstuck.runs.names`. Nested objects are flattened (`{"val": {"loss":
1}}` is `val/loss`), lists of learning rates become groups. A line that holds `{"config": {...}}` gives settings; a
second one further on marks a resume (or a new run, when the steps begin again). NaN, Infinity and the strings "nan",
"inf" survive.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.beside import Beside, settle
from unstuck.runs.build import NO_MATCH, Match, Points, add_raw, changed_settings
from unstuck.runs.logfile import LogFile, number, parse_json
from unstuck.runs.run import Event, Run, Setting, Source

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
class Row:
    line: int
    values: dict[str, float]


@dataclass(slots=True)
class Part:
    """A stretch of rows between two starts of the program."""

    rows: list[Row] = field(default_factory=list)
    raw: dict[str, Setting] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)
    line: int = 1


def match(log: LogFile) -> Match:
    """The share of the first lines that are JSON objects, and whether they hold a step or a loss."""
    lines = [text for text in log.head.split("\n")[:60] if text.strip()]
    if len(log.head) < 60_000 or len(lines) > 1:
        complete = lines[:-1] if len(lines) > 1 and not log.head.endswith("\n") else lines
    else:
        return NO_MATCH
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
            run.notes.append(f"{torn} lines are not JSON objects and were left out.")
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
        told = next((v for key in EVENT_KEYS if isinstance(v := row.get(key), str)), None)
        if config is not None and (parts[-1].rows or parts[-1].raw):
            parts.append(Part(line=line))
        if config is not None:
            add_raw(parts[-1].raw, config, Source(log.name, line))
            continue
        if told is not None and _RESUMED.search(told) and parts[-1].rows:
            parts.append(Part(line=line))
        if told is not None:
            parts[-1].events.append((line, told[:300]))
        values = _flat(row)
        if values:
            parts[-1].rows.append(Row(line, values))
        elif told is None and not parts[-1].rows and not parts[-1].raw and len(row) > 3:
            add_raw(parts[-1].raw, row, Source(log.name, line))  # a first line of settings without the key "config"
    return parts, torn


def _join(parts: list[Part]) -> list[list[Part]]:
    """Parts that belong to one run: its later parts go on from a step beyond the first step of the run.

    Within a part, steps that begin again at (or before) the part's first step are another run in the same file.
    """
    groups: list[list[Part]] = []
    for part in (piece for whole in parts for piece in _split_at_restarts(whole)):
        if not groups:
            groups.append([part])
            continue
        before = [step for p in groups[-1] for step in _steps(p)]
        here = _steps(part)
        if before and here and here[0] <= before[0] and not any(_RESUMED.search(text) for _, text in part.events):
            groups.append([part])
        else:
            groups[-1].append(part)
    return groups


def _steps(part: Part) -> list[float]:
    counts = _counts(part.rows)
    step, micro, epoch = names.x_axis(counts)
    key = step or micro or epoch
    return [] if key is None else [row.values[key] for row in part.rows if math.isfinite(row.values.get(key, math.nan))]


def _split_at_restarts(part: Part) -> list[Part]:
    counts = _counts(part.rows)
    step, micro, _ = names.x_axis(counts)
    key = step or micro
    loss = next((k for k, name in names.assign(counts).items() if name.canonical == "train/loss"), None)
    if key is None or loss is None:
        return [part]
    pieces = [Part(raw=part.raw, events=part.events, line=part.line)]
    first = highest = None
    for row in part.rows:
        at = row.values.get(key) if loss in row.values else None
        if at is not None and first is not None and highest is not None and at <= first < highest:
            pieces.append(Part(raw=part.raw, line=row.line))
            first = highest = None
        if at is not None:
            first = at if first is None else first
            highest = at if highest is None else max(at, highest)
        pieces[-1].rows.append(row)
    return pieces


def _run(log: LogFile, parts: list[Part], beside: Beside, which: str) -> Run:
    run = Run(str(log.path) + which, FORMAT)
    logged: dict[str, Setting] = {}
    for part in parts:
        logged.update(part.raw)
    settle(run, logged, beside)
    counts = _counts([row for part in parts for row in part.rows])
    axis = _Axis(run, counts)
    given = names.assign(counts)
    points = Points(log.name)
    as_logged: dict[str, str] = {}
    units: dict[str, str | None] = {}
    for place, part in enumerate(parts):
        start = axis.last
        for line, text in part.events:
            _event(run, Source(log.name, line), text, axis.last)
        for row in part.rows:
            if "train_runtime" in row.values:  # transformers' summary of the whole run is no point of a curve
                run.events.append(Event("end", axis.last, "end of training", Source(log.name, row.line), row.values))
                continue
            update = axis.update(row)
            for key, value in row.values.items():
                if key in axis.keys or names.RUNTIME.match(key):
                    continue
                entry = given.get(key)
                name = entry.canonical if entry else key
                if name not in as_logged:
                    as_logged[name], units[name] = key, entry.unit if entry else None
                points.add(name, update, value * entry.scale if entry else value, row.line)
            if axis.epoch is not None and axis.epoch in row.values:
                points.add("epoch", update, row.values[axis.epoch], row.line)
        if place and part.rows:
            _resume(run, parts, place, log.name, start)
    run.series = points.series(units, as_logged)
    _from_perplexity(run)
    run.notes.extend(axis.notes)
    if renamed := [f"{key} as {name}" for name, key in as_logged.items() if name != key and name in run.series][:12]:
        run.notes.append(f"Names were inferred: {', '.join(renamed)}.")
    return run


class _Axis:
    """Gives each row its optimizer update."""

    def __init__(self, run: Run, counts: Mapping[str, int]) -> None:
        self.step, self.micro, self.epoch = names.x_axis(counts)
        self.keys = {key for key in (self.step, self.micro, self.epoch) if key is not None}
        self.last = 0
        self.notes: list[str] = []
        self._row = 0
        accumulation = number(run.setting("accumulation"))
        self._divisor = 1
        if self.step is None and self.micro is not None:
            if accumulation and accumulation >= 1:
                self._divisor = int(accumulation)
                self.notes.append(f"{self.micro} counts micro-batches; divided by {self._divisor} (accumulation).")
            else:
                self.notes.append(f"{self.micro} counts micro-batches; the accumulation is unknown, so it was kept.")
            self.step = self.micro
        self._per_epoch: float | None = None
        if self.step is None and self.epoch is not None:
            self._per_epoch = self._updates_per_epoch(run)
            self.notes.append(
                f"The log counts epochs; one epoch is {self._per_epoch:g} updates by the settings."
                if self._per_epoch
                else "The log counts epochs and does not settle how many updates an epoch has: the x-axis is epochs."
            )
        elif self.step is None:
            self.notes.append("The log has no step; rows were counted instead.")

    @staticmethod
    def _updates_per_epoch(run: Run) -> float | None:
        samples, batch = number(run.setting("train_samples")), number(run.setting("batch_size"))
        accumulation, world = number(run.setting("accumulation")) or 1.0, number(run.setting("world_size")) or 1.0
        if not samples or not batch or accumulation <= 0 or world <= 0:
            return None
        return math.ceil(samples / (batch * accumulation * world))

    def update(self, row: Row) -> int:
        """The row's update; a row without a step belongs to the last one seen."""
        self._row += 1
        if self.step is not None:
            value = row.values.get(self.step)
            factor = 1.0 / self._divisor
        elif self.epoch is not None:
            value, factor = row.values.get(self.epoch), self._per_epoch or 1.0
        else:
            value, factor = float(self._row), 1.0
        if value is not None and math.isfinite(value) and abs(value * factor) < 2**53:
            self.last = round(value * factor) if factor >= 1.0 else int(value * factor)
        return self.last


def _event(run: Run, source: Source, text: str, update: int) -> None:
    if _RESUMED.search(text):
        return  # told with the part that it opens
    kind = "error" if re.search(r"\berror\b|exception|out of memory", text, re.I) else "note"
    run.events.append(Event(kind, update, text, source))


def _resume(run: Run, parts: list[Part], place: int, file: str, last: int) -> None:
    part = parts[place]
    told = next(((line, text) for line, text in part.events if _RESUMED.search(text)), (part.line, ""))
    at = last
    if said := _STEP_IN_TEXT.search(told[1]):
        at = int(said[1])
    elif steps := _steps(part):
        at = int(steps[0])
    before: dict[str, Setting] = {}
    for earlier in parts[:place]:
        before.update(earlier.raw)
    changed = changed_settings(before, part.raw)
    text = told[1] or "the log goes on with a new header"
    run.events.append(Event("resume", at, text, Source(file, told[0]), {"changed": changed}))
    for key, (old, new) in changed.items():
        run.notes.append(f"{key} changed from {old} to {new} at the resume ({file}:{part.line}).")


def _from_perplexity(run: Run) -> None:
    """Where a log has a perplexity and no loss, the loss is its logarithm (the definition of perplexity)."""
    import numpy as np

    from unstuck.runs.run import Series

    for side in ("train", "val"):
        ppl = run.series.get(f"{side}/perplexity")
        if ppl is None or f"{side}/loss" in run.series:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.log(ppl.values)
        name = f"{side}/loss"
        run.series[name] = Series(name, ppl.updates, values, ppl.lines, ppl.file, "nats/token", ppl.logged_as)
        run.notes.append(f"{name} is the natural logarithm of the logged {ppl.logged_as}.")


def _counts(rows: list[Row]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in rows:
        for key in row.values:
            counts[key] = counts.get(key, 0) + 1
    return counts


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
