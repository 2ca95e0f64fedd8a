"""One TensorBoard event, read field by field: its scalars, texts, and the settings of the hparams plugin.

Messages: event, summary, tensor, tensor_shape and types.proto of tensorboard/compat/proto, and plugin_data.proto of
tensorboard/plugins/hparams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from unstuck.runs import protobuf
from unstuck.runs.protobuf import FIXED32, FIXED64, LENGTH, VARINT

MAX_PLUGINS = 100_000  # ours: tags whose plugin is remembered

# TensorProto: how the elements of a DataType (types.proto) lie in `tensor_content`, little-endian.
_CONTENT = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 19: "<f2",
            22: "<u4", 23: "<u8"}  # fmt: skip
_STRING, _BFLOAT16, _HALF = 7, 14, 19
_SIGNED = (3, 5, 6, 9)
# Fields of a TensorProto that list its elements one by one. half_val holds the bits of float16 and bfloat16; then come
# int_val, int64_val, bool_val, uint32_val and uint64_val.
_FLOAT_VAL, _DOUBLE_VAL, _HALF_VAL = 5, 6, 13
_INTEGER_VALS = (7, 10, 11, 16, 17)
_SESSION_START = 1  # SessionLog.SessionStatus.START


class Scalar(NamedTuple):
    """One number of a summary and, where its bytes have a fixed length, where they begin and what they are."""

    tag: str
    value: float
    start: int = -1
    dtype: str = ""


class Text(NamedTuple):
    """One text summary."""

    tag: str
    text: str


@dataclass(slots=True)
class Event:
    """One event.

    Attributes:
        wall_time: seconds since 1970.
        step: as logged.
        version: of the format, in the first event of a file, such as "brain.Event:2".
        session_start: a program began here; what an earlier one logged from this step on is superseded.
        settings: of a session start of the hparams plugin.
    """

    wall_time: float = 0.0
    step: int = 0
    version: str = ""
    session_start: bool = False
    scalars: list[Scalar] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


def read_event(data: bytes, start: int, end: int, plugins: dict[str, str]) -> Event:
    """The event data[start:end].

    Args:
        plugins: tag -> plugin, as learnt so far: writers of TensorFlow state the plugin with the first summary of a
            tag only (event_accumulator.py).

    Raises:
        ValueError: the bytes are no event.
    """
    event = Event()
    for part in protobuf.fields(data, start, end):
        match part.number, part.kind:
            case 1, 1:
                event.wall_time = protobuf.double(data, part.start)
            case 2, 0:
                event.step = protobuf.signed(part.value)
            case 3, 2:
                event.version = protobuf.text(data, part)[:40]
            case 5, 2:
                read_summary(data, part.start, part.end, plugins, event)
            case 7, 2:
                status = [f.value for f in protobuf.fields(data, part.start, part.end) if f.number == 1]
                event.session_start = status == [_SESSION_START]
    return event


def read_summary(data: bytes, start: int, end: int, plugins: dict[str, str], event: Event) -> None:
    """Add what the summary data[start:end] holds to the event.

    Raises:
        ValueError: the bytes are no summary.
    """
    for value in protobuf.fields(data, start, end):
        if value.number == 1 and value.kind == LENGTH:
            found = _value(data, value.start, value.end, plugins)
            if isinstance(found, Scalar):
                event.scalars.append(found)
            elif isinstance(found, Text):
                event.texts.append(found)
            elif found is not None:
                event.settings.update(found)


def _value(data: bytes, start: int, end: int, plugins: dict[str, str]) -> Scalar | Text | dict[str, Any] | None:
    tag = node = plugin = ""
    content = (0, 0)
    simple: protobuf.Field | None = None
    tensor: protobuf.Field | None = None
    for part in protobuf.fields(data, start, end):
        match part.number, part.kind:
            case 1, 2:
                tag = protobuf.text(data, part)
            case 2, 5:
                simple = part
            case 7, 2:
                node = protobuf.text(data, part)
            case 8, 2:
                tensor = part
            case 9, 2:
                plugin, content = _plugin(data, part)
    tag = tag or node
    if not tag:
        return None
    if plugin and len(plugins) < MAX_PLUGINS:
        plugins.setdefault(tag, plugin)
    plugin = plugins.get(tag, plugin)
    if simple is not None:
        return Scalar(tag, protobuf.single(data, simple.start), simple.start, "<f4")
    if plugin == "hparams":
        return _session(data, *content)
    if tensor is None:
        return None
    if plugin == "text":
        return _text(data, tensor, tag)
    if plugin in ("", "scalars"):
        element = _element(data, tensor)
        return None if element is None else Scalar(tag, *element)
    return None


def _plugin(data: bytes, metadata: protobuf.Field) -> tuple[str, tuple[int, int]]:
    """The plugin's name and where its content lies, of a SummaryMetadata."""
    for part in protobuf.fields(data, metadata.start, metadata.end):
        if part.number == 1 and part.kind == LENGTH:
            name, content = "", (0, 0)
            for item in protobuf.fields(data, part.start, part.end):
                if item.number == 1 and item.kind == LENGTH:
                    name = protobuf.text(data, item)
                elif item.number == 2 and item.kind == LENGTH:
                    content = (item.start, item.end)
            return name, content
    return "", (0, 0)


def _session(data: bytes, start: int, end: int) -> dict[str, Any] | None:
    """The settings of an HParamsPluginData that holds a session start (field 3; its `hparams` are field 1)."""
    for part in protobuf.fields(data, start, end):
        if part.number == 3 and part.kind == LENGTH:
            return protobuf.struct_object(data, part.start, part.end)
    return None


def _text(data: bytes, tensor: protobuf.Field, tag: str) -> Text | None:
    dtype, lines = 0, []
    for part in protobuf.fields(data, tensor.start, tensor.end):
        if part.number == 1 and part.kind == VARINT:
            dtype = part.value
        elif part.number == 8 and part.kind == LENGTH:
            lines.append(protobuf.text(data, part))
    return Text(tag, "\n".join(lines)) if dtype == _STRING and lines else None


def _element(data: bytes, tensor: protobuf.Field) -> tuple[float, int, str] | None:
    """The only element of a numeric tensor: value, first byte and dtype (-1 and "" where its length varies).

    None where the tensor has none or several, or is not numeric.
    """
    dtype = 0
    elements: list[tuple[float, int, str]] = []
    for part in protobuf.fields(data, tensor.start, tensor.end):
        if part.number == 1 and part.kind == VARINT:
            dtype = part.value
        elif part.number == 2 and part.kind == LENGTH and not _is_single(data, part):
            return None
        elif part.number == 4 and part.kind == LENGTH and part.end > part.start:
            width = part.end - part.start
            if dtype == _BFLOAT16 and width == 2:
                elements.append((_half(int.from_bytes(data[part.start : part.end], "little"), dtype), -1, ""))
            elif (kind := _CONTENT.get(dtype)) is not None and width == np.dtype(kind).itemsize:
                elements.append((float(np.frombuffer(data, kind, 1, part.start)[0]), part.start, kind))
            else:
                return None
        else:
            elements.extend(islice(_listed(data, part, dtype), 2))
    return elements[0] if len(elements) == 1 else None


def _is_single(data: bytes, shape: protobuf.Field) -> bool:
    """Whether a TensorShapeProto has one element: the `size` (field 1) of every `dim` (field 2) is 1."""
    for dim in protobuf.fields(data, shape.start, shape.end):
        if dim.number == 2 and dim.kind == LENGTH:
            sizes = [f.value for f in protobuf.fields(data, dim.start, dim.end) if f.number == 1 and f.kind == VARINT]
            if sizes != [1]:
                return False
    return True


def _listed(data: bytes, part: protobuf.Field, dtype: int) -> Iterator[tuple[float, int, str]]:
    """The elements that a tensor lists in a field of their own, packed or not."""
    width = {_FLOAT_VAL: 4, _DOUBLE_VAL: 8}.get(part.number)
    if width is not None and part.kind in (LENGTH, FIXED32, FIXED64):
        kind = f"<f{width}"
        for at in range(part.start, part.end - width + 1, width):
            yield float(np.frombuffer(data, kind, 1, at)[0]), at, kind
    elif part.number == _HALF_VAL and part.kind in (LENGTH, VARINT):
        for bits in protobuf.packed(data, part):
            yield _half(bits, dtype), -1, ""
    elif part.number in _INTEGER_VALS and part.kind in (LENGTH, VARINT):
        for value in protobuf.packed(data, part):
            yield float(protobuf.signed(value) if dtype in _SIGNED else value), -1, ""


def _half(bits: int, dtype: int) -> float:
    """A float16, or a bfloat16, which is the upper half of a float32."""
    if dtype == _HALF:
        return float(np.array(bits & 0xFFFF, "<u2").view("<f2"))
    return float(np.array((bits & 0xFFFF) << 16, "<u4").view("<f4"))
