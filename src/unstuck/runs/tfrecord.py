"""The record framing of TensorFlow's event files: where each record begins and ends, found in blocks with numpy.

A record is its length (8 bytes), the masked CRC-32C of the length, the content, and the masked CRC-32C of the content,
little-endian (tensorflow/core/lib/io/record_writer.h). Records are a chain: only the length of one tells where the next
begins. The scan first lists every place that looks like the beginning of an event, then proves the chain: a place
counts only when the record before it ends exactly there. The few records that look otherwise are walked one by one,
with the CRC of their length checked.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unstuck.errors import UserError
from unstuck.runs.run import Ints

HEADER, FOOTER = 12, 4  # bytes before and after the content of a record
BLOCK = 4 << 20  # ours: bytes scanned at once, so that the temporary arrays stay near the caches
NEAR = 4 << 10  # ours: bytes searched first for the record behind a damaged one, which is often the next
MAX_WALKED = 2_000_000  # ours: about ten seconds; writers of events do not make files of odd or empty records
MAX_TRIED = 100_000  # ours: places tried when a damaged file is searched for its next whole record

_WALL_TIME = 0x09  # Event.wall_time, field 1, eight bytes (event.proto): every writer sets it, and it comes first
_STEP = 0x10  # Event.step, field 2, a varint
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _crc_table()


def masked_crc32c(data: bytes) -> int:
    """The checksum of a record: CRC-32C, rotated and shifted by a constant (tensorflow/core/lib/hash/crc32c.h)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def has_length_at(data: bytes, at: int) -> bool:
    """Whether the 12 bytes at `at` are a length with its right checksum."""
    header = data[at : at + HEADER]
    return len(header) == HEADER and masked_crc32c(header[:8]) == struct.unpack_from("<I", header, 8)[0]


@dataclass(slots=True)
class Records:
    """The records of an event file.

    Attributes:
        data: the whole file.
        torn: bytes of a last record that was not written to its end (the run was killed, or is writing).
        damaged: (first byte, byte behind the last) of what is no record and was skipped.
    """

    data: bytes
    torn: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)
    _walked: int = 0
    _tried: int = 0

    def blocks(self) -> Iterator[tuple[Ints, Ints]]:
        """First byte of the content of each record, and the byte behind it, both int64 of shape (n,), some MiB a time.

        Raises:
            UserError: the file has millions of records that are no events.
        """
        at, size = 0, len(self.data)
        while at < size:
            first = at
            places, ends = self._places(first, min(first + BLOCK, size))
            pieces: list[tuple[Ints, Ints]] = []
            breaks = np.flatnonzero(ends[:-1] != places[1:]).tolist()
            while at < min(first + BLOCK, size):
                here = int(np.searchsorted(places, at))
                if here < len(places) and places[here] == at:
                    place = bisect_left(breaks, here)
                    last = breaks[place] if place < len(breaks) else len(places) - 1
                    pieces.append((places[here : last + 1] + HEADER, ends[here : last + 1] - FOOTER))
                    at = int(ends[last])
                elif (end := self._walk(at)) is not None:
                    pieces.append((np.array([at + HEADER]), np.array([end - FOOTER])))
                    at = end
                else:
                    at = self._skip(at)
            if pieces:
                yield np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])

    def _places(self, first: int, last: int) -> tuple[Ints, Ints]:
        """Where, from byte `first` to before `last`, an event may begin, and where its record would end."""
        size = len(self.data)
        # An event that has nothing behind its wall time holds no value; it is walked.
        last = min(last, size - HEADER - 9 - 1)
        if last <= first:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        data = np.frombuffer(self.data, np.uint8)
        places = np.flatnonzero(data[first + HEADER : last + HEADER] == _WALL_TIME) + first
        behind = data[places + HEADER + 9]
        # Behind the wall time comes the step, or another field of an event, all of which are length-delimited.
        places = places[(behind == _STEP) | ((behind & 7 == 2) & (behind < 0x80))]
        lengths = unaligned(self.data, "<u8")[places]
        fits = lengths <= np.uint64(size)
        places = places[fits]
        ends = places + lengths[fits].astype(np.int64) + HEADER + FOOTER
        whole = ends <= size
        return places[whole], ends[whole]

    def _walk(self, at: int) -> int | None:
        """The byte behind the record at `at`; None where no whole record is."""
        self._walked += 1
        if self._walked > MAX_WALKED:
            raise UserError("The event file holds millions of records that are no events; name the record of a run.")
        if not has_length_at(self.data, at):
            return None
        end = at + HEADER + int(struct.unpack_from("<Q", self.data, at)[0]) + FOOTER
        return end if end <= len(self.data) else None

    def _skip(self, at: int) -> int:
        """The next byte where a record begins; notes whether what is skipped is a torn end or damage."""
        size = len(self.data)
        if size - at < HEADER or has_length_at(self.data, at):
            self.torn = size - at
            return size
        first, span = at + 1, NEAR
        while first < size and self._tried < MAX_TRIED:
            for place in self._places(first, min(first + span, size))[0].tolist():
                self._tried += 1
                if has_length_at(self.data, place):
                    self.damaged.append((at, place))
                    return int(place)
                if self._tried >= MAX_TRIED:
                    break
            first, span = first + span, min(8 * span, BLOCK)
        self.damaged.append((at, size))
        return size


def unaligned(data: bytes, dtype: str) -> npt.NDArray[np.generic]:
    """A view of the bytes as a number (or `V<n>` block) beginning at every byte, shape (len(data) - itemsize + 1,)."""
    kind = np.dtype(dtype)
    return np.ndarray((max(0, len(data) - kind.itemsize + 1),), kind, data, strides=(1,))
