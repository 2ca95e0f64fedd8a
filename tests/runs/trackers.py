"""Event files of TensorBoard and datastores of W&B, written byte by byte for the tests.

Checked once against the real packages (2026-11-21): what `event_file` writes is read by tensorboard 2.21
(`EventAccumulator`, which verifies every checksum) and what `datastore` writes by wandb 0.15.12 (`DataStore.scan_data`
and `Record.ParseFromString`), value for value.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from benchmarks.read_speed import records, varint


def message(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value % 2**64)


def double(number: int, value: float) -> bytes:
    return varint(number << 3 | 1) + struct.pack("<d", value)


def text(number: int, written: str) -> bytes:
    return message(number, written.encode())


# TensorBoard: event.proto, summary.proto, tensor.proto, hparams/plugin_data.proto


def simple(tag: str, value: float) -> bytes:
    """A Summary.Value of `SummaryWriter.add_scalar`."""
    return message(1, text(1, tag) + b"\x15" + struct.pack("<f", value))


def tensor(tag: str, fields: bytes, dtype: int = 1, plugin: str = "scalars", content: bytes = b"") -> bytes:
    """A Summary.Value that holds a tensor; `fields` are those of the TensorProto behind its dtype."""
    metadata = message(9, message(1, text(1, plugin) + (message(2, content) if content else b""))) if plugin else b""
    return message(1, text(1, tag) + message(8, integer(1, dtype) + fields) + metadata)


def string(tag: str, written: str) -> bytes:
    """A Summary.Value of `SummaryWriter.add_text`."""
    return tensor(f"{tag}/text_summary", message(2, message(2, integer(1, 1))) + text(8, written), 7, "text")


def value_of(value: Any) -> bytes:
    """The content of a `google.protobuf.Value`."""
    if isinstance(value, bool):
        return integer(4, int(value))
    return double(2, value) if isinstance(value, int | float) else text(3, value)


def hparams(values: dict[str, Any]) -> bytes:
    """A Summary.Value of the hparams plugin's session start."""
    entries = b"".join(message(1, text(1, key) + message(2, value_of(value))) for key, value in values.items())
    return tensor("_hparams_/session_start_info", message(2, message(2, b"")), 1, "hparams", message(3, entries))


def event(wall: float, step: int, *values: bytes, session_start: bool = False) -> bytes:
    """An Event with a summary of these values."""
    head = double(1, wall) + (integer(2, step) if step else b"")
    return head + (message(7, integer(1, 1)) if session_start else message(5, b"".join(values)))


def event_file(path: Path, events: list[bytes], wall: float = 1.7e9) -> Path:
    """Write an event file, with the event of its version first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records([double(1, wall) + text(3, "brain.Event:2"), *events])))
    return path


# W&B: wandb_internal.proto


def items(number: int, values: dict[str, Any], nested: bool) -> bytes:
    """Items of a history, summary or configuration; nested: keys as wandb writes them from 0.19 on."""
    return b"".join(
        message(number, text(2 if nested else 1, key) + text(16, json.dumps(value))) for key, value in values.items()
    )


def history(values: dict[str, Any], nested: bool = True) -> bytes:
    return message(2, items(1, values, nested) + message(2, integer(1, int(values.get("_step", 0)))))


def run(config: dict[str, Any], started: float = 1.7e9, starting_step: int = 0) -> bytes:
    fields = text(1, "abc123") + message(4, items(1, config, False)) + message(17, integer(1, int(started)))
    return message(17, fields + (integer(14, starting_step) + integer(18, 1) if starting_step else b""))


def printed(line: str) -> bytes:
    return message(13, integer(1, 1) + text(3, line))


def ended(code: int) -> bytes:
    return message(18, integer(1, code) if code else b"")


def datastore(path: Path, contents: list[bytes]) -> Path:
    """Write a `.wandb` file: LevelDB's log format."""
    out = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))

    def piece(kind: int, data: bytes) -> None:
        out.extend(struct.pack("<IHB", zlib.crc32(data, zlib.crc32(bytes([kind]))), len(data), kind) + data)

    for number, content in enumerate(contents, start=1):
        data = integer(1, number) + content
        room = 32768 - len(out) % 32768
        if room < 7:
            out.extend(bytes(room))
            room = 32768
        if len(data) + 7 <= room:
            piece(1, data)
            continue
        piece(2, data[: room - 7])
        data = data[room - 7 :]
        while len(data) > 32768 - 7:
            piece(3, data[: 32768 - 7])
            data = data[32768 - 7 :]
        piece(4, data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(out))
    return path
