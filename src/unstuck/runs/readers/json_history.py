"""One JSON document with a whole history: lists by key, as `json.dump(history.history)` of Keras writes them, or rows.

`{"loss": [2.3, 1.9], "val_loss": [2.4, 2.1]}` and `[{"epoch": 1, "train": {"loss": 2.3}}, ...]` are read, at the top or
below a key such as `history` beside other things. Lists that are shorter than those of training were filled every few
rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.beside import Beside
from unstuck.runs.build import MAX_SERIES, NO_MATCH, Match, add_raw
from unstuck.runs.logfile import HEAD_BYTES, MAX_JSON_BYTES, LogFile, number, parse_json
from unstuck.runs.parts import Part
from unstuck.runs.readers.jsonl_metrics import CONFIG_KEYS, flat
from unstuck.runs.run import Run, Source
from unstuck.runs.table import runs_of

FORMAT = "json-history"

MAX_DEPTH = 3  # ours: objects in objects that are searched for a history
LEAST = 2  # ours: one value is a result, not a history
RISING = 0.9  # ours: share of the steps of a count that do not go back; a resume does
_LOSSES = {"train/loss", "val/loss", "train/perplexity", "val/perplexity"}
_BEGIN = re.compile(r"\s*[{\[]")
_LONG = re.compile(
    r'"[^"\n]{0,40}(?:loss|nll|mse)[^"\n]{0,40}"\s*:\s*\[\s*-?\d|\A\s*\[\s*\{[^\[\]]{0,2000}"[^"\n]{0,40}loss'
)

Lists = dict[str, list[Any]]


def match(log: LogFile) -> Match:
    """Whether the text is one JSON document with a loss that has a history."""
    if _BEGIN.match(log.head) is None:
        return NO_MATCH
    if len(log.head_bytes) < HEAD_BYTES:
        try:
            found = _history(parse_json(log.head))
        except ValueError:
            return NO_MATCH
        return Match(0.85, "one JSON document with the history of a loss") if found else NO_MATCH
    first = log.head.lstrip().split("\n", 1)[0].rstrip()
    if first.startswith("{") and first.endswith("}"):
        return NO_MATCH  # a line of JSON lines
    return Match(0.7, "JSON with lists under the name of a loss") if _LONG.search(log.head) else NO_MATCH


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run of the document.

    Raises:
        UserError: it is torn, too large, or holds no history after all.
    """
    if len(log.text) > MAX_JSON_BYTES:
        raise UserError(f"{log.path} is larger than 256 MiB; name the history of one run.")
    try:
        document = parse_json(log.text)
    except ValueError:
        raise UserError(f"{log.path} is torn or no JSON; write the history again, or name another log.") from None
    lists = _history(document)
    if not lists:
        raise UserError(f"{log.path} is JSON without a history of a loss; name the file that the training wrote.")
    part = Part()
    if isinstance(document, dict):
        config = next((document[key] for key in CONFIG_KEYS if isinstance(document.get(key), dict)), None)
        if config is not None:
            add_raw(part.raw, config, Source(log.name, 1))
    size = max(map(len, lists.values()))
    columns = {}
    for key, values in lists.items():
        rows = np.arange(1, len(values) + 1) * (size // len(values)) - 1
        numbers = np.array([np.nan if (v := number(value)) is None else v for value in values])
        told = np.array([number(value) is not None for value in values])
        columns[key] = (rows[told], numbers[told])
    part.add_rows(np.zeros(size, dtype=np.int64), columns)
    runs = runs_of([part], beside, source=str(log.path), file=log.name, format=FORMAT)
    for run in runs:
        if run.axis == "row" and {"train/loss", "val/loss"} <= run.series.keys():
            run.axis = "epoch"
            run.notes = [note for note in run.notes if not note.startswith("The log has no step")]
            run.notes.append("The lists have no count; a history of both losses has one value for each epoch.")
    return runs


def _history(document: Any, depth: int = 0) -> Lists | None:
    """The lists of a history by key; None where a document holds none."""
    if isinstance(document, list):
        return _of_rows(document)
    if not isinstance(document, dict):
        return None
    lists = _fitting(dict(_lists(document, "", 0)))
    if _has_loss(lists):
        return lists
    if depth >= MAX_DEPTH:
        return None
    inner = (_history(value, depth + 1) for value in document.values() if isinstance(value, dict | list))
    return next((found for found in inner if found), None)


def _of_rows(rows: list[Any]) -> Lists | None:
    """Rows as lists by key, blank where a row has no such key."""
    if len(rows) < LEAST or not all(isinstance(row, dict) for row in rows):
        return None
    lists: Lists = {}
    for place, row in enumerate(rows):
        for key, value in flat(row).items():
            if key in lists or len(lists) < MAX_SERIES:
                lists.setdefault(key, [None] * len(rows))[place] = value
    return lists if _has_loss(lists) and _counts_up(lists) else None


def _counts_up(lists: Lists) -> bool:
    """Whether a step or an epoch rises from row to row; rows without one may be of finished runs."""
    keys = names.x_axis({key: len(values) for key, values in lists.items()})
    counts = next((lists[key] for key in keys if key is not None), [])
    told = np.array([value for value in counts if value is not None])
    return len(told) >= LEAST and bool(np.mean(np.diff(told) >= 0) >= RISING and told[-1] > told[0])


def _lists(document: Mapping[str, Any], way: str, depth: int) -> Iterator[tuple[str, list[Any]]]:
    for key, value in document.items():
        if isinstance(value, dict) and depth < MAX_DEPTH and key not in CONFIG_KEYS:
            yield from _lists(value, f"{way}{key}/", depth + 1)
        elif isinstance(value, list) and len(value) >= LEAST and all(
            one is None or isinstance(one, int | float | str) for one in value
        ):  # fmt: skip
            numbers = sum(number(one) is not None for one in value)
            if numbers >= LEAST:
                yield f"{way}{key}", value


def _fitting(lists: Lists) -> Lists:
    """The lists that can be rows of one table: as long as the loss of training, or filled every k-th row."""
    given = names.assign({key: len(values) for key, values in lists.items()})
    losses = [len(lists[key]) for key, entry in given.items() if entry.canonical in _LOSSES]
    size = max(losses, default=0)
    often = Counter(map(len, lists.values()))
    fitting = {key: values for key, values in lists.items() if len(values) <= size and size % len(values) == 0}
    kept = sorted(fitting, key=lambda key: -often[len(fitting[key])])[:MAX_SERIES]
    return {key: values for key, values in fitting.items() if key in set(kept)}


def _has_loss(lists: Lists) -> bool:
    given = names.assign({key: len(values) for key, values in lists.items()})
    return any(entry.canonical in _LOSSES for entry in given.values())
