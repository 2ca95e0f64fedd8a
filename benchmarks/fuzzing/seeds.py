"""Where mutation starts: a short log of every format that we know of, written by us, and the heads of real ones.

`seeds.txt` holds the texts, each under a line `#### NAME`; `<CR>` and `<ESC>` stand for those characters. TensorBoard
event files and W&B datastores are built here, record by record, so that mutations can keep their checksums right.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from functools import cache
from pathlib import Path

from benchmarks.fuzzing.cases import Entry

HEAD_BYTES = 2 * 1024  # ours: a header and some lines; dozens of them are read in a second
SHARED_LOGS = Path(__file__).resolve().parents[3] / "shared" / "logs"
CONFIG_NAMES = ("config.yaml", "args.json", "config.py", "config.toml", ".env")


@cache
def text_seeds() -> dict[str, bytes]:
    """The texts of `seeds.txt` by file name."""
    stored = Path(__file__).with_name("seeds.txt").read_bytes().replace(b"<CR>", b"\r").replace(b"<ESC>", b"\x1b")
    parts = stored.removeprefix(b"#### ").split(b"\n#### ")
    pairs = (part.partition(b"\n") for part in parts)
    return {name.decode(): body.rstrip(b"\n") + b"\n" for name, _, body in pairs}


@cache
def log_seeds() -> tuple[Entry, ...]:
    """Every log to start from: texts, binary formats, and the heads of the shared logs when they are there."""
    entries = [Entry(name, data) for name, data in text_seeds().items() if name not in CONFIG_NAMES]
    entries += [Entry("events.out.tfevents.1700000000.host", tfevents()), Entry("run-abc.wandb", wandb())]
    for path in sorted(SHARED_LOGS.glob("*/*")):
        if path.is_file() and path.suffix != ".md":
            with path.open("rb") as file:
                entries.append(Entry(path.name, file.read(HEAD_BYTES)))
    return tuple(entries)


@cache
def config_seeds() -> tuple[Entry, ...]:
    """Configurations to lay beside a log."""
    return tuple(Entry(name, text_seeds()[name]) for name in CONFIG_NAMES)


def varint(number: int) -> bytes:
    """Protocol buffers' variable-length integer."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: int | float | bytes) -> bytes:
    """One protocol buffers field: an integer as varint, a float as double, bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


@cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial, reflected
        table.append(byte)
    return tuple(table)


def masked_crc32c(data: bytes) -> int:
    """The checksum of TFRecord files (tensorflow/core/lib/hash/crc32c.h: rotated right by 15, plus a constant)."""
    table, crc = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def pack_tfrecords(payloads: list[bytes]) -> bytes:
    """TFRecord framing: length, its checksum, payload, its checksum."""
    out = b""
    for payload in payloads:
        length = struct.pack("<Q", len(payload))
        out += length + struct.pack("<I", masked_crc32c(length)) + payload + struct.pack("<I", masked_crc32c(payload))
    return out


def unpack_tfrecords(data: bytes) -> list[bytes]:
    """The payloads of well-framed records, up to the first that is not."""
    payloads, at = [], 0
    while at + 16 <= len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        if at + 16 + length > len(data):
            break
        payloads.append(data[at + 12 : at + 12 + length])
        at += 16 + length
    return payloads


def tfevents() -> bytes:
    """A TensorBoard event file of two scalars (tensorflow/core/util/event.proto, summary.proto)."""
    payloads = [field(1, 1.7e9) + field(3, b"brain.Event:2")]
    for step in range(0, 60, 10):
        for tag, value in ((b"train/loss", 4.0 - step / 40), (b"lr", 1e-3)):
            scalar = field(1, tag) + varint(2 << 3 | 5) + struct.pack("<f", value)  # simple_value
            payloads.append(field(1, 1.7e9 + step) + field(2, step) + field(5, field(1, scalar)))
    tensor = field(1, 1) + field(4, struct.pack("<f", 3.5))  # DT_FLOAT, tensor_content
    payloads.append(field(2, 60) + field(5, field(1, field(1, b"val/loss") + field(8, tensor))))
    return pack_tfrecords(payloads)


WANDB_HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)  # wandb/sdk/internal/datastore.py
WANDB_BLOCK = 32 * 1024


def pack_wandb(payloads: list[bytes]) -> bytes:
    """The LevelDB log framing of a .wandb file: checksum, length, type (1 full, 2 first, 3 middle, 4 last)."""
    out = bytearray(WANDB_HEADER)
    for payload in payloads:
        first = True
        while first or payload:
            room = WANDB_BLOCK - len(out) % WANDB_BLOCK
            if room < 8:
                out += bytes(room)
                continue
            part, payload = payload[: room - 7], payload[room - 7 :]
            kind = bytes([(1 if first else 4) if not payload else (2 if first else 3)])
            out += struct.pack("<IH", zlib.crc32(kind + part), len(part)) + kind + part
            first = False
    return bytes(out)


def unpack_wandb(data: bytes) -> list[bytes]:
    """The payloads of a well-framed .wandb file, up to the first record that is not."""
    payloads, at, part = [], len(WANDB_HEADER), b""
    while at + 7 <= len(data):
        if WANDB_BLOCK - at % WANDB_BLOCK < 7:
            at += WANDB_BLOCK - at % WANDB_BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + length > len(data) or kind not in (1, 2, 3, 4):
            break
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            payloads.append(part)
            part = b""
    return payloads


def wandb() -> bytes:
    """A W&B datastore of a configuration and a history (wandb/proto/wandb_internal.proto, Record)."""

    def item(key: str, value: object) -> bytes:
        return field(1, field(1, key.encode()) + field(16, json.dumps(value).encode()))

    config = b"".join(field(1, field(1, k) + field(16, v)) for k, v in ((b"lr", b"0.001"), (b"batch_size", b"8")))
    payloads = [field(1, 1) + field(17, field(1, b"abc") + field(5, config))]
    for step in range(6):
        row = item("_step", step) + item("train/loss", 4.0 - step / 4) + item("lr", 1e-3) + item("_runtime", step * 2.5)
        payloads.append(field(1, step + 2) + field(2, row + field(2, field(1, step))))
    payloads.append(field(1, 9) + field(3, field(1, field(1, b"best") + field(16, b"2.75"))))
    return pack_wandb(payloads)


@cache
def names() -> tuple[str, ...]:
    """File names that a mutant may be given: those of all seeds, and some that mean something to a folder search."""
    meant = ("metrics.jsonl", "a.log.gz", "summary.json", "labels.json", "x.csv", "log", "a b\n.txt", "-rf.log")
    return (*dict.fromkeys(os.path.basename(e.name) for e in log_seeds()), *meant)
