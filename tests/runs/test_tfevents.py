"""Decoding of event files. Files are written by `tests.runs.trackers`, see there how that was checked. The decoder was
also compared with tensorboard 2.21's `EventFileLoader` on 40 random files of torch's, tensorboardX's and tensorboard's
own writers (old and new style, all dtypes, histograms, images, texts, several values per event): every value equal."""

from __future__ import annotations

import math
import struct
import time

import numpy as np
import pytest
from benchmarks.read_speed import records, varint

from tests.runs.trackers import event, integer, message, simple, string, tensor
from unstuck.runs.tfevents import read_event_file
from unstuck.runs.tfrecord import masked_crc32c

START = 1.7e9


def test_crc_is_castagnoli_masked() -> None:
    # RFC 3720, B.4: CRC-32C of 32 zero bytes is 0x8A9136AA; the mask rotates right by 15 and adds 0xA282EAD8
    crc = 0x8A9136AA
    assert masked_crc32c(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (tensor("loss", b"\x2a\x04" + struct.pack("<f", 1.5)), 1.5),  # float_val, packed
        (tensor("loss", b"\x2d" + struct.pack("<f", 1.5)), 1.5),  # float_val, not packed
        (tensor("loss", b"\x32\x08" + struct.pack("<d", 0.1), 2), 0.1),
        (tensor("loss", message(2, b"") + message(4, struct.pack("<f", 1.5))), 1.5),  # tensor_content, as TF2 writes
        (tensor("loss", message(4, struct.pack("<d", 0.1)), 2), 0.1),
        (tensor("loss", message(4, np.float16(0.5).tobytes()), 19), 0.5),
        (tensor("loss", message(13, varint(int(np.float16(0.5).view(np.uint16)))), 19), 0.5),
        (tensor("loss", integer(13, 0x3FC0), 14), 1.5),  # bfloat16: the upper half of 0x3FC00000
        (tensor("loss", message(7, varint(3)), 3), 3.0),
        (tensor("loss", integer(10, -7), 9), -7.0),
        (tensor("loss", message(4, struct.pack("<q", -7)), 9), -7.0),
        (tensor("loss", b"\x2a\x04" + struct.pack("<f", math.inf)), math.inf),
        (simple("loss", math.nan), math.nan),
    ],
)
def test_every_form_of_a_scalar(value: bytes, expected: float) -> None:
    events = [event(START + step, step, value) for step in range(5)]
    decoded = read_event_file(b"".join(records(events)))
    assert decoded.scalars.keys == ["loss"]
    np.testing.assert_allclose(decoded.scalars.values, [expected] * 5)
    assert decoded.scalars.steps.tolist() == [0, 1, 2, 3, 4]


def test_what_is_no_scalar_is_left_out() -> None:
    two = b"\x2a\x08" + struct.pack("<ff", 1, 2)
    events = [
        event(START, 1, tensor("vector", two)),
        event(START, 1, tensor("histogram", b"\x2a\x04" + struct.pack("<f", 1.5), plugin="histograms")),
        event(START, 1, string("notes", "the loss is 3")),
        event(START, 1, simple("loss", 2.0)),
    ]
    decoded = read_event_file(b"".join(records(events)))
    assert decoded.scalars.keys == ["loss"]
    assert decoded.unread == 0


def test_several_values_in_one_event() -> None:
    events = [event(START + step, step, simple("a", step), simple("b", -step), simple("a", 100)) for step in range(9)]
    scalars = read_event_file(b"".join(records(events))).scalars
    assert scalars.values[scalars.rows["b"]].tolist() == [-step for step in range(9)]
    assert scalars.values[scalars.rows["a"]].tolist() == [v for step in range(9) for v in (step, 100)]


def test_tags_of_one_length_and_steps_of_every_length() -> None:
    tags = [f"layer_{k:03d}/norm" for k in range(300)]
    steps = [0, 1, 127, 128, 16383, 16384, 2**31, 2**40, 2**62, -1]
    events = [event(START, step, simple(tag, k)) for step in steps for k, tag in enumerate(tags)]
    scalars = read_event_file(b"".join(records(events))).scalars
    assert scalars.keys == tags
    assert scalars.steps[scalars.rows["layer_123/norm"]].tolist() == steps
    assert set(scalars.values[scalars.rows["layer_123/norm"]]) == {123.0}


def test_the_first_summary_of_a_tag_names_its_plugin() -> None:
    # FileWriter strips the metadata from all but the first
    value = b"\x2a\x04" + struct.pack("<f", 1.5)
    events = [event(START, 0, tensor("x", value, plugin="text")), event(START, 1, tensor("x", value, plugin="")),
              event(START, 2, tensor("loss", value)), event(START, 3, tensor("loss", value, plugin=""))]  # fmt: skip
    assert read_event_file(b"".join(records(events))).scalars.steps.tolist() == [2, 3]


def test_a_million_scalars_take_a_moment() -> None:
    """A bound that only a decoder in Python would miss; `benchmarks/read_speed.py` measures."""
    block = b"".join(
        records([event(START + s, s, simple(f"layer_{k}/norm", s)) for s in range(500) for k in range(20)])
    )
    data = block * 100
    before = time.process_time()
    decoded = read_event_file(data)
    assert len(decoded.scalars) == 1_000_000
    assert time.process_time() - before < 5


def test_the_encoder_writes_what_the_format_says() -> None:
    assert simple("a", 1.0) == b"\x0a\x08\x0a\x01a\x15\x00\x00\x80?"
