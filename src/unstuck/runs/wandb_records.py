"""What a W&B datastore records of a run: settings, history, console output and how it ended.

Messages and field numbers: wandb/proto/wandb_internal.proto (`Record` and below; the same in 0.14, 0.15, 0.19 and 0.31
but for additions: 0.19 writes `nested_key` where 0.15 wrote `key`, 0.31 has fields for values that are not JSON text).
"""

from __future__ import annotations

import re
from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from unstuck.runs import protobuf
from unstuck.runs.build import add_raw
from unstuck.runs.leveldb_log import LevelLog
from unstuck.runs.logfile import number, parse_json
from unstuck.runs.protobuf import FIXED64, LENGTH, VARINT, Field
from unstuck.runs.run import Setting, Source

# Record, by field number
_HISTORY, _SUMMARY, _CONFIG, _METRIC, _OUTPUT_RAW, _RUN, _EXIT = 2, 3, 5, 12, 13, 17, 18
_VALUE_JSON = 16  # of history, summary and configuration items
_ITEM, _KEYS, _JSON = 0x0A, (0x0A, 0x12), b"\x82\x01"  # the bytes before an item, its key or nested_key, and value_json

MAX_KEYS = 20_000  # ours: a key per tensor of a large model, several times over
MAX_DEPTH = 6  # ours: levels of a logged object; W&B shows nested keys of two or three
MAX_TAIL = 2000  # ours: pieces of console output kept, from the end, and characters of each: there an error stands
OWN_KEYS = ("_wandb",)


@dataclass(slots=True)
class Metric:
    """The values of one key: the record (counted from 0) of each, and the value."""

    rows: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, row: int, value: float) -> None:
        self.rows.append(row)
        self.values.append(value)


@dataclass(slots=True)
class Datastore:
    """The records of one `.wandb` file.

    Attributes:
        rows: how many history records there are.
        metrics: by key; nested keys are joined with dots, as W&B shows them.
        settings: untranslated, of the run's configuration.
        summary: the last values that were stated.
        step_keys: what `define_metric` says the x-axis of metrics is.
        run_id: W&B's name of the run.
        started: seconds since 1970.
        starting_step: the first step of a resumed run; 0 for a new one.
        resumed: whether the run goes on with an earlier one.
        exit_code: None where the run did not end.
        printed: the last pieces of the console output.
        lines: how many lines were printed.
        unread: records that could not be decoded.
        by_bytes: metrics by the bytes of their key.
    """

    rows: int = 0
    metrics: dict[str, Metric] = field(default_factory=dict)
    settings: dict[str, Setting] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    step_keys: list[str] = field(default_factory=list)
    run_id: str = ""
    started: float | None = None
    starting_step: int = 0
    resumed: bool = False
    exit_code: int | None = None
    printed: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_TAIL))
    lines: int = 0
    unread: int = 0
    by_bytes: dict[bytes, Metric] = field(default_factory=dict)

    def metric(self, key: str) -> Metric | None:
        """The values of a key so far; None for a new one beyond `MAX_KEYS`."""
        if key not in self.metrics and len(self.metrics) < MAX_KEYS:
            self.metrics[key] = Metric()
        return self.metrics.get(key)


def read_datastore(log: LevelLog, source: Source) -> Datastore:
    """Decode the records of a datastore; one that cannot be decoded is counted and left out.

    Args:
        source: what the settings are traced to.
    """
    store = Datastore()
    config: dict[str, Any] = {}
    for record in log.records():
        try:
            for part in protobuf.fields(record):
                if part.kind != LENGTH:
                    continue
                if part.number == _HISTORY:
                    _history(record, part, store)
                elif part.number == _CONFIG:
                    _config(record, part, config)
                elif part.number == _RUN:
                    _run(record, part, store, config)
                elif part.number == _METRIC:
                    _metric(record, part, store)
                elif part.number == _SUMMARY:
                    _summary(record, part, store)
                elif part.number == _OUTPUT_RAW:
                    _printed(record, part, store)
                elif part.number == _EXIT:
                    _exit(record, part, store)
        except ValueError:
            store.unread += 1
    add_raw(store.settings, {key: value for key, value in config.items() if key not in OWN_KEYS}, source)
    return store


def _history(data: bytes, history: Field, store: Datastore) -> None:
    row = store.rows
    store.rows += 1
    at, end = history.start, history.end
    while at < end:
        if (behind := _plain_item(data, at, end, row, store.by_bytes)) > at:
            at = behind
            continue
        item = next(protobuf.fields(data, at, end))
        at = item.end
        if item.number != 1 or item.kind != LENGTH:
            continue
        key, value = _item(data, item)
        for name, nested in _flat(key, value, 0):
            if (metric := store.metric(name)) is not None:
                metric.add(row, nested)
        if data[item.start] in _KEYS and data[item.start + 1] < 128 and isinstance(value, float):
            name_bytes = data[item.start + 2 : item.start + 2 + data[item.start + 1]]
            if (metric := store.metrics.get(name_bytes.decode("utf-8", errors="replace"))) is not None:
                store.by_bytes[name_bytes] = metric


def _plain_item(data: bytes, at: int, end: int, row: int, known: Mapping[bytes, Metric]) -> int:
    """Take the item at `at` when it is one known key with a number as JSON, all below 128 bytes, as most are.

    Returns:
        The offset behind it; `at` where it is something else.
    """
    if end - at < 8 or data[at] != _ITEM or data[at + 2] not in _KEYS:
        return at
    stop, split = at + 2 + data[at + 1], at + 4 + data[at + 3]
    if data[at + 1] > 127 or data[at + 3] > 127 or stop > end or split + 3 > stop:
        return at
    if data[split : split + 2] != _JSON or data[split + 2] != stop - split - 3:
        return at
    metric = known.get(data[at + 4 : split])
    if metric is None:
        return at
    try:
        value = float(data[split + 3 : stop])
    except ValueError:
        return at
    metric.rows.append(row)
    metric.values.append(value)
    return stop


def _flat(key: str, value: Any, depth: int) -> Iterator[tuple[str, float]]:
    """The numbers of a logged value; images, tables and histograms (`_type`) are none."""
    if isinstance(value, dict):
        if depth < MAX_DEPTH and "_type" not in value:
            for name, nested in value.items():
                yield from _flat(f"{key}.{name}", nested, depth + 1)
    elif (logged := number(value)) is not None:
        yield key, logged


def _item(data: bytes, item: Field) -> tuple[str, Any]:
    """Key and value of an item of the history, summary or configuration."""
    names: list[str] = []
    value: Any = None
    for part in protobuf.fields(data, item.start, item.end):
        if part.number == _VALUE_JSON and part.kind == LENGTH:
            value = _json(data[part.start : part.end])
        elif part.number in (1, 2) and part.kind == LENGTH:
            names.append(protobuf.text(data, part))
        elif part.number == 4 and part.kind == VARINT:
            value = bool(part.value)
        elif part.number == 5 and part.kind == VARINT:
            value = float(protobuf.zigzag(part.value))
        elif part.number == 6 and part.kind == FIXED64:
            value = protobuf.double(data, part.start)
        elif part.number == 8 and part.kind == LENGTH:
            value = _json(data[part.start : part.end])
    return ".".join(names), value


def _json(written: bytes) -> Any:
    try:
        return float(written)  # most values, NaN and Infinity too; Python reads the digits of JSON
    except ValueError:
        try:
            return parse_json(written.decode("utf-8", errors="replace"))
        except ValueError:
            return None


def _config(data: bytes, config: Field, into: dict[str, Any]) -> None:
    for change in protobuf.fields(data, config.start, config.end):
        if change.kind != LENGTH or change.number not in (1, 2):
            continue
        names: list[str] = []
        written = b"null"
        for part in protobuf.fields(data, change.start, change.end):
            if part.number in (1, 2) and part.kind == LENGTH:
                names.append(protobuf.text(data, part))
            elif part.number == _VALUE_JSON and part.kind == LENGTH:
                written = data[part.start : part.end]
        if not names or names[0] in OWN_KEYS:
            continue
        place = into
        for name in names[:-1]:
            deeper = place.setdefault(name, {})
            if not isinstance(deeper, dict):
                deeper = place[name] = {}
            place = deeper
        if change.number == 1:
            place[names[-1]] = _setting(written)
        else:
            place.pop(names[-1], None)


def _setting(written: bytes) -> Any:
    try:
        return parse_json(written.decode("utf-8", errors="replace"))
    except ValueError:
        return None


def _run(data: bytes, run: Field, store: Datastore, config: dict[str, Any]) -> None:
    for part in protobuf.fields(data, run.start, run.end):
        match part.number, part.kind:
            case 1, 2:
                store.run_id = protobuf.text(data, part)
            case 4, 2:
                _config(data, part, config)
            case 14, 0:
                store.starting_step = protobuf.signed(part.value)
            case 17, 2:
                store.started = _timestamp(data, part)
            case 18, 0:
                store.resumed = bool(part.value)


def _timestamp(data: bytes, field: Field) -> float:
    """A `google.protobuf.Timestamp`: seconds and nanoseconds."""
    parts = {part.number: part.value for part in protobuf.fields(data, field.start, field.end) if part.kind == VARINT}
    return parts.get(1, 0) + parts.get(2, 0) / 1e9


def _metric(data: bytes, metric: Field, store: Datastore) -> None:
    for part in protobuf.fields(data, metric.start, metric.end):
        if part.number == 4 and part.kind == LENGTH and len(store.step_keys) < MAX_KEYS:
            store.step_keys.append(protobuf.text(data, part))


def _summary(data: bytes, summary: Field, store: Datastore) -> None:
    for part in protobuf.fields(data, summary.start, summary.end):
        if part.number == 1 and part.kind == LENGTH:
            key, value = _item(data, part)
            if isinstance(value, float) and len(store.summary) < MAX_KEYS and key.partition(".")[0] not in OWN_KEYS:
                store.summary[key] = value


def _printed(data: bytes, output: Field, store: Datastore) -> None:
    for part in protobuf.fields(data, output.start, output.end):
        if part.number == 3 and part.kind == LENGTH:
            line = protobuf.text(data, part)
            store.lines += line.count("\n")
            store.printed.append(line[-MAX_TAIL:])


def _exit(data: bytes, ended: Field, store: Datastore) -> None:
    store.exit_code = 0
    for part in protobuf.fields(data, ended.start, ended.end):
        if part.number == 1 and part.kind == VARINT:
            store.exit_code = protobuf.signed(part.value)


_ERROR = re.compile(r"^[ \t]*(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit)\b[^\n]{0,300}", re.M)


def last_error(store: Datastore) -> str | None:
    """The last line of the console output that names an exception; None where there is none."""
    found = _ERROR.findall("".join(store.printed))
    return str(found[-1]).strip() if found else None
