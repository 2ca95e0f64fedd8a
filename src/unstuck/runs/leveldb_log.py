"""The record framing of W&B's datastore: LevelDB's log format with another checksum and a header.

Source: https://github.com/google/leveldb/blob/main/doc/log_format.md and wandb/sdk/internal/datastore.py (from 0.19 on
core/internal/transactionlog). A header of 7 bytes, then blocks of 32 KiB, the first of which counts the header. A
record has the CRC-32 (of zlib; LevelDB itself takes CRC-32C) of its type and content, a length of 2 bytes and a type:
whole, first, middle or last piece. What remains of a block below 7 bytes is zeros.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b":W&B\xe1\xbe"  # ident and magic number; the version follows
HEADER = 7
BLOCK = 32 * 1024

_PIECE = struct.Struct("<IHB")  # checksum, length, type
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_TYPE_CRC = {kind: zlib.crc32(bytes([kind])) for kind in (_WHOLE, _FIRST, _MIDDLE, _LAST)}


@dataclass(slots=True)
class LevelLog:
    """The records of a datastore.

    Attributes:
        data: the whole file.
        torn: the last record was not written to its end (the run was killed, or is writing).
        damaged: blocks of which a part had a wrong checksum and was skipped.
    """

    data: bytes
    torn: bool = False
    damaged: int = 0

    @property
    def version(self) -> int:
        """What the header states; 0 is the only one that has been written."""
        return self.data[HEADER - 1]

    def records(self) -> Iterator[bytes]:
        """The content of each record, in the order of the file."""
        data, size = self.data, len(self.data)
        at = HEADER
        pieces: list[bytes] = []
        while at < size:
            room = BLOCK - at % BLOCK
            if room < _PIECE.size:
                at += room
                continue
            if size - at < _PIECE.size:
                self.torn = True
                return
            checksum, length, kind = _PIECE.unpack_from(data, at)
            if kind == 0 and length == 0:  # space that was reserved, or lost in a crash; never a record
                at += room
                continue
            end = at + _PIECE.size + length
            if end > size and length + _PIECE.size <= room:
                self.torn = True
                return
            content = data[at + _PIECE.size : end]
            if length + _PIECE.size > room or zlib.crc32(content, _TYPE_CRC.get(kind, 0)) != checksum:
                self.damaged += 1  # LevelDB goes on with the next block too
                pieces = []
                at += room
                continue
            at = end
            if kind == _WHOLE:
                pieces = []
                yield content
            elif kind == _FIRST:
                pieces = [content]
            elif pieces:
                pieces.append(content)
                if kind == _LAST:
                    yield b"".join(pieces)
                    pieces = []
        self.torn = self.torn or bool(pieces)
