"""One JSON object per line with any key names: what most home-made loops write.

Nested objects are flattened (`{"val": {"loss":
1}}` is `val/loss`), lists of learning rates become groups. A line that holds `{"config": {...}}` gives settings; a
second one further on marks a resume (or a new run, when the steps begin again). NaN, Infinity and the strings "nan",
"inf" survive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match, add_raw
from unstuck.runs.logfile import LogFile, number, parse_json
from unstuck.runs.parts import RESUMED, Part
from unstuck.runs.run import Run, Source
from unstuck.runs.table import runs_of
from unstuck.runs.text_settings import known
from unstuck.runs.text_words import split_phase
from unstuck.wording import plural

FORMAT = "jsonl-metrics"

CONFIG_KEYS = ("config", "args", "hparams", "hyperparameters", "hyper_parameters", "params", "settings", "cfg")
EVENT_KEYS = ("event", "message", "msg", "note", "status")
# A key that says which split a row is about, so that a bare "loss" can be given its place.
SPLIT_KEYS = ("split", "phase", "mode", "stage", "set", "subset", "type", "kind", "event", "prefix", "report",
              "loop", "section", "dataset", "tag", "name", "job", "step_type", "datatype")  # fmt: skip
VAL_WORDS = frozenset(("val", "valid", "validation", "eval", "evaluation", "evaluate", "dev", "test"))
MAX_KEYS = 400  # ours: a log with more scalar names per file is a table of features, not a training curve
MAX_DEPTH = 4
LEAST_SETTINGS = 3  # ours: names of settings in an object that make it a configuration, as in a printed header
_BARE = ("train/loss", "train/accuracy", "train/perplexity")  # what a key names that does not say its split


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
    given = {name.canonical for name in names.assign({k: 1 for row in objects for k in flat(row)}).values()}
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
    runs = runs_of(parts, beside, source=str(log.path), file=log.name, format=FORMAT)
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
    for line, row in _rows(log, parts):
        if row is None:
            torn += 1
            continue
        config = next((row[key] for key in CONFIG_KEYS if isinstance(row.get(key), dict)), None) or _options(row)
        told = next((v for key in EVENT_KEYS if isinstance(v := row.get(key), str)), None)
        if config is not None:
            if parts[-1].lines or parts[-1].raw:
                parts.append(Part(line=line))
            add_raw(parts[-1].raw, config, Source(log.name, line))
            if told is not None:
                parts[-1].events.append((line, told[:300], {}))
            continue
        if told is not None and RESUMED.search(told) and parts[-1].lines:
            parts.append(Part(line=line))
        values = flat(row)
        if "train_runtime" in values:  # transformers' summary of the whole run is no point of a curve
            parts[-1].events.append((line, "end of training", values))
        elif values:
            parts[-1].add(line, values)
        elif told is None and not parts[-1].lines and not parts[-1].raw and len(row) > 3:
            add_raw(parts[-1].raw, row, Source(log.name, line))  # a first line of settings without the key "config"
        if told is not None:
            parts[-1].events.append((line, told[:300], {}))
    return parts, torn


def _rows(log: LogFile, parts: list[Part]) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The rows of the file that must be looked at one by one, with their lines; None for a line that is no object.

    Rows of nothing but numbers are appended to the last part at once: they are nearly all rows of a long log.
    """
    for first, piece in log.pieces():
        texts = piece.split("\n")
        if not texts[-1]:
            texts.pop()
        rows = _parsed(texts)
        at = 0
        while at < len(rows):
            end = _plain_until(rows, at)
            if end > at:
                _add_plain(parts[-1], rows[at:end], first + at)
                at = end
                continue
            if rows[at] is not None or texts[at].strip():
                yield first + at, rows[at]
            at += 1


def _parsed(texts: list[str]) -> list[dict[str, Any] | None]:
    """The object of each line, all parsed at once where each line is one."""
    if all(text.startswith("{") and text.rstrip().endswith("}") for text in texts):
        try:
            rows = parse_json(f"[{','.join(texts)}]")
        except ValueError:
            rows = []
        if len(rows) == len(texts):
            return list(rows)
    return [_object(text) for text in texts]


_PLAIN = frozenset({int, float})  # not bool, which is an int to isinstance


def _plain_until(rows: list[dict[str, Any] | None], at: int) -> int:
    """The index after the last of the rows from `at` on that have the keys of the first and hold numbers only."""
    first = rows[at]
    if first is None or "train_runtime" in first or not 0 < len(first) <= MAX_KEYS:
        return at
    keys = first.keys()
    for end in range(at, len(rows)):
        row = rows[end]
        if row is None or row.keys() != keys or not _PLAIN.issuperset(map(type, row.values())):
            return end
    return len(rows)


def _add_plain(part: Part, rows: list[dict[str, Any] | None], line: int) -> None:
    columns: dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]] = {}
    index = np.arange(len(rows))
    for key in rows[0] or ():
        try:
            values = np.array([row[key] for row in rows if row is not None], dtype=np.float64)
        except OverflowError:  # an integer beyond a float
            values = np.array([number(row[key]) for row in rows if row is not None], dtype=np.float64)
        columns[key] = (index, values)
    part.add_rows(line + index, columns)


def _object(text: str) -> dict[str, Any] | None:
    text = text.strip()
    if not text.startswith("{"):
        return None
    try:
        row = parse_json(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _options(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The settings of a row under a name that sections of numbers have too (`opt`, `options`): they are not all
    numbers, and most are known; None without such."""
    for key in ("opt", "opts", "options", "arguments", "flags"):
        inner = row.get(key)
        if isinstance(inner, dict) and any(isinstance(value, str | bool) for value in inner.values()):
            known_ = sum(known(str(name)) is not None for name in inner)
            if known_ >= LEAST_SETTINGS:
                return inner
    return None


def flat(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row under slash-joined keys, with the split of the row in front of a bare loss.

    Of keys that come twice (`{"loss": 1, "metrics": {"loss": 2}}`) the first stays.
    """
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
            bare = split is not None and _is_bare(key)
            values.setdefault(f"val/{key}" if bare else key, logged)
    return values


@lru_cache(4096)  # ours: keys of one log
def _is_bare(key: str) -> bool:
    """Whether a key names a loss, an accuracy or a perplexity, and no split."""
    entry = names.assign({key: 1}).get(key)
    known_ = (entry is not None and entry.canonical in _BARE) or names.normalise(key) == "bpb"
    return known_ and not split_phase(key)[0]


# Keys of an object that hold the numbers of a row, and say nothing about them: structured loggers nest so.
_CONTAINERS = frozenset(("metrics", "scalars", "values", "payload", "fields", "record", "data", "extra"))


# `train_report`, `valid_metrics`, `eval_stats`: the phase of the numbers in them.
_REPORT = re.compile(r"(?<=[a-z])[_ -]?(?:[rR]eport|[mM]etrics|[sS]tats|[rR]esults?|[lL]ogs?|[sS]cores|[sS]ummary)s?\Z")


def _contains(key: str, inner: Mapping[str, Any]) -> bool:
    """Whether an object only wraps the numbers of a row: `data` does where it holds a loss or other objects."""
    if key not in _CONTAINERS:
        return False
    return key != "data" or "loss" in inner or any(isinstance(value, dict) for value in inner.values())


def _walk(row: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if depth < MAX_DEPTH and not (depth == 0 and key in CONFIG_KEYS):
                section = f"{prefix}{_REPORT.sub('', key)}/"
                yield from _walk(value, prefix if _contains(key, value) else section, depth + 1)
        elif isinstance(value, list):
            if len(value) <= 16:
                for place, item in enumerate(value):
                    yield (name if len(value) == 1 else f"{name}/{place}"), item
        else:
            yield name, value
