"""Protocol buffer messages read by hand: the wire format, without generated classes.

Source of the format: https://protobuf.dev/programming-guides/encoding/. Only offsets are handed out, so that a field of
any declared length costs no memory; a length beyond its message is an error, never an allocation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_VARINT_BYTES = 10  # 64 bits in groups of seven
MAX_DEPTH = 20  # ours: hparams and configurations nest a few levels; more is hostile


class Field(NamedTuple):
    """One field of a message: data[start:end] is its content; `value` is the number of a varint, else 0."""

    number: int
    kind: int
    start: int
    end: int
    value: int


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The unsigned number at `at` and the offset behind it.

    Raises:
        ValueError: the message ends inside it, or it is longer than 64 bits.
    """
    if at < end and data[at] < 128:
        return data[at], at + 1
    value = shift = 0
    for place in range(at, min(end, at + MAX_VARINT_BYTES)):
        byte = data[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (2**64 - 1), place + 1
        shift += 7
    raise ValueError("a number of the message does not end")


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """The fields of the message data[start:end], in the order of the bytes.

    Raises:
        ValueError: the bytes are no message.
    """
    at, end = start, len(data) if end is None else end
    while at < end:
        key, at = varint(data, at, end)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ValueError("a field has the number 0")
        value, first = 0, at
        if kind == VARINT:
            value, at = varint(data, at, end)
        elif kind == FIXED64:
            at += 8
        elif kind == FIXED32:
            at += 4
        elif kind == LENGTH:
            size, first = varint(data, at, end)
            at = first + size
        else:
            raise ValueError(f"a field is of the unknown kind {kind}")
        if at > end:
            raise ValueError("a field reaches beyond its message")
        yield Field(number, kind, first, at, value)


def text(data: bytes, field: Field) -> str:
    """A string field; bytes that are no UTF-8 become replacement characters."""
    return data[field.start : field.end].decode("utf-8", errors="replace")


def signed(value: int) -> int:
    """An int32 or int64 field, which is written as its 64-bit two's complement."""
    return value - 2**64 if value >= 2**63 else value


def zigzag(value: int) -> int:
    """An sint32 or sint64 field."""
    return (value >> 1) ^ -(value & 1)


def double(data: bytes, at: int) -> float:
    """Eight bytes as a float."""
    return float(struct.unpack_from("<d", data, at)[0])


def single(data: bytes, at: int) -> float:
    """Four bytes as a float."""
    return float(struct.unpack_from("<f", data, at)[0])


def packed(data: bytes, field: Field) -> Iterator[int]:
    """The numbers of a repeated varint field, packed or not.

    Raises:
        ValueError: the last one does not end.
    """
    if field.kind == VARINT:
        yield field.value
        return
    at = field.start
    while at < field.end:
        value, at = varint(data, at, field.end)
        yield value


def struct_value(data: bytes, start: int, end: int, depth: int = 0) -> Any:
    """A `google.protobuf.Value` (struct.proto): None, number, string, bool, object or list.

    Raises:
        ValueError: the bytes are no such message, or it nests too deeply.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    value: Any = None
    for field in fields(data, start, end):
        if field.number == 2 and field.kind == FIXED64:
            number = double(data, field.start)
            value = int(number) if number.is_integer() and abs(number) < 2**53 else number
        elif field.number == 3 and field.kind == LENGTH:
            value = text(data, field)
        elif field.number == 4 and field.kind == VARINT:
            value = bool(field.value)
        elif field.number == 5 and field.kind == LENGTH:
            value = struct_object(data, field.start, field.end, depth + 1)
        elif field.number == 6 and field.kind == LENGTH:
            value = [
                struct_value(data, item.start, item.end, depth + 1)
                for item in fields(data, field.start, field.end)
                if item.number == 1 and item.kind == LENGTH
            ]
    return value


def struct_object(data: bytes, start: int, end: int, depth: int = 0) -> dict[str, Any]:
    """A message whose field 1 is `map<string, google.protobuf.Value>`: `Struct`, or `hparams` of a session start.

    Raises:
        ValueError: the bytes are no such message.
    """
    found: dict[str, Any] = {}
    for entry in fields(data, start, end):
        if entry.number != 1 or entry.kind != LENGTH:
            continue
        key, value = "", None
        for part in fields(data, entry.start, entry.end):
            if part.number == 1 and part.kind == LENGTH:
                key = text(data, part)
            elif part.number == 2 and part.kind == LENGTH:
                value = struct_value(data, part.start, part.end, depth)
        found[key] = value
    return found
