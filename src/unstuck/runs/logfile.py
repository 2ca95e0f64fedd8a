"""A file that may be a log: decompressed, decoded, and refused in one sentence when it cannot be read.

Nothing read here is ever executed. Sizes are bounded, so that a wrong file costs a sentence, not the machine's memory.
"""

from __future__ import annotations

import codecs
import json
import stat
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from unstuck.errors import UserError

HEAD_BYTES = 64 * 1024  # what format detection looks at
MAX_BYTES = 1 << 30  # ours: what is held in memory at once
MAX_UNZIPPED = 256 << 20  # ours: a gzip file of more text (7 million lines) is some seconds of unpacking for every look
MAX_STREAM = 16 << 30  # ours: 16 GiB of text is some 200 million lines, minutes of reading
BLOCK = 4 << 20  # ours: bytes per piece; larger ones are no faster
MAX_LINE = 8 << 20  # ours: a metrics line of 8 MiB is a broken file (joined lines, embedded data)
MAX_JSON_BYTES = 256 << 20  # ours: Python objects take about ten times their JSON text
BINARY_SHARE = 0.1  # ours: more control characters than this is no text; ANSI colours and progress bars stay below

_TEXT_CONTROLS = frozenset(b"\t\n\r\f\b\x1b")
_GZIP = b"\x1f\x8b"
_MOST_DEFLATED = 1032  # zlib's technical details (zlib.net): the limit of deflate's ratio
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_FOREIGN = {
    b"PK\x03\x04": "a zip archive (a PyTorch checkpoint is one)",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"BZh": "bzip2-compressed",
    b"\xfd7zXZ": "xz-compressed",
    b"(\xb5/\xfd": "zstd-compressed",
    b"SQLite format 3": "a SQLite database",
}


class LogFile:
    """One regular file, read lazily: its beginning, as text in pieces of whole lines, or as one string.

    Attributes:
        path: where it is.
        name: what evidence calls it: the file's name without its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name

    @cached_property
    def head_bytes(self) -> bytes:
        """The first 64 KiB, decompressed.

        Raises:
            UserError: the file is missing, not a regular file, not readable, empty or of a kind that is never a log.
        """
        raw = b"".join(self._blocks(HEAD_BYTES))[:HEAD_BYTES]
        if not raw:
            raise UserError(f"{self.path} is empty; wait until the run has written something, or name another file.")
        for start, what in _FOREIGN.items():
            if raw.startswith(start):
                raise UserError(f"{self.path} is {what}, not a log; name the log file that the run wrote beside it.")
        return raw

    @cached_property
    def is_binary(self) -> bool:
        """Whether the beginning is no text in UTF-8, UTF-16 or a one-byte encoding."""
        raw = self.head_bytes
        if raw.startswith(_UTF16):  # as PowerShell's `Tee-Object` writes it
            return False
        controls = sum(1 for byte in raw if byte < 32 and byte not in _TEXT_CONTROLS)
        return b"\0" in raw or controls > BINARY_SHARE * len(raw)

    @cached_property
    def head(self) -> str:
        """The first 64 KiB as text.

        Raises:
            UserError: as `head_bytes`, or the file is binary.
        """
        if self.is_binary:
            raise UserError(f"{self.path} is binary, not a text log; name the log file that the run printed or wrote.")
        return _decode(self.head_bytes)

    @cached_property
    def data(self) -> bytes:
        """The whole file, decompressed, for formats that are not text.

        Raises:
            UserError: as `head_bytes`, or the file is larger than 1 GiB.
        """
        _ = self.head_bytes
        raw = b"".join(self._blocks(MAX_BYTES + 1))
        if len(raw) > MAX_BYTES:
            raise UserError(f"{self.path} holds more than 1 GiB; name the record of one run.")
        return raw

    @cached_property
    def text(self) -> str:
        """The whole file as text; bytes that are no UTF-8 become replacement characters.

        Raises:
            UserError: as `head`, or the file is larger than 1 GiB.
        """
        _ = self.head
        raw = b"".join(self._blocks(MAX_BYTES + 1))
        if len(raw) > MAX_BYTES:
            raise UserError(f"{self.path} holds more than 1 GiB of text; cut it, for example `tail -n 1000000 FILE`.")
        return _decode(raw)

    def pieces(self) -> Iterator[tuple[int, str]]:
        """The file as pieces of whole lines, some MiB each: (line number of the first, counted from 1; text).

        Every piece but the last ends with a newline. Only one is in memory at a time.

        Raises:
            UserError: as `head`, or a line is longer than 8 MiB, or the file than `MAX_STREAM`.
        """
        _ = self.head
        utf16 = self.head_bytes.startswith(_UTF16)
        decoder = codecs.getincrementaldecoder("utf-16" if utf16 else "utf-8-sig")(errors="replace")
        line, kept, total = 1, "", 0
        for raw in self._blocks(MAX_STREAM + 1):
            total += len(raw)
            if total > MAX_STREAM:
                raise UserError(f"{self.path} holds more than {MAX_STREAM >> 30} GiB of text; cut it with `tail`.")
            text = kept + decoder.decode(raw)
            cut = text.rfind("\n") + 1
            kept = text[cut:]
            if text.find("\n") > MAX_LINE or len(kept) > MAX_LINE:
                self._refuse_line(line if text.find("\n") > MAX_LINE else line + text.count("\n"))
            if cut:
                piece = text[:cut]
                yield line, piece
                line += piece.count("\n")
        kept += decoder.decode(b"", final=True)
        if kept:
            yield line, kept

    def lines(self) -> Iterator[str]:
        """The lines, split at newlines only, so that counting them from 1 gives the line numbers of an editor.

        Raises:
            UserError: as `pieces`.
        """
        for _, piece in self.pieces():
            lines = piece.split("\n")
            if not lines[-1]:
                lines.pop()
            yield from lines

    def _refuse_line(self, number: int) -> None:
        raise UserError(
            f"{self.path}:{number} is a single line of more than {MAX_LINE >> 20} MiB, which is no log line; "
            "name the log file itself."
        )

    def _refuse_bomb(self, file: BinaryIO) -> None:
        """Unpack a gzip file once without looking at it, so that one that grows without end is refused early."""
        if sum(map(len, _unzipped(file, MAX_UNZIPPED + 1))) > MAX_UNZIPPED:
            raise UserError(
                f"{self.path} unpacks to more than {MAX_UNZIPPED >> 20} MiB; unpack it with `gunzip -k` and name the "
                "text file, if it is a log at all."
            )
        file.seek(0)

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        at = self.text.find("\n")
        while at >= 0:
            starts.append(at + 1)
            at = self.text.find("\n", at + 1)
        return starts

    def line_at(self, offset: int) -> int:
        """The line, counted from 1, of a character offset in `text`."""
        return bisect_right(self._line_starts, offset)

    def _blocks(self, size: int) -> Iterator[bytes]:
        """The file, decompressed, in blocks; stops soon after `size` bytes."""
        try:
            info = self.path.stat()
            if not stat.S_ISREG(info.st_mode):
                raise UserError(f"{self.path} is not a regular file; name a log file or a folder of logs.")
            with self.path.open("rb") as file:
                start = file.read(2)
                file.seek(0)
                if start == _GZIP:
                    if size > MAX_UNZIPPED and info.st_size * _MOST_DEFLATED > MAX_UNZIPPED:
                        self._refuse_bomb(file)
                    yield from _unzipped(file, min(size, MAX_UNZIPPED))
                    return
                total = 0
                while total < size and (block := file.read(min(BLOCK, size - total))):
                    total += len(block)
                    yield block
        except FileNotFoundError:
            raise UserError(f"{self.path} does not exist; check the path, or name the folder that holds it.") from None
        except OSError as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UserError(f"{self.path} cannot be read ({reason}); check the file and its permissions.") from error


def _unzipped(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Up to `size` bytes; what precedes a torn or damaged end (a run that was killed while it wrote) is kept."""
    total = 0
    member = zlib.decompressobj(wbits=31)  # 31: gzip
    data = b""
    while total < size and (data or (data := file.read(1 << 18))):
        try:
            part = member.decompress(data, min(BLOCK, size - total))
        except zlib.error:
            break
        yield part
        total += len(part)
        data = member.unconsumed_tail
        if member.eof:  # a gzip file may hold several members (appended logs)
            data = member.unused_data
            member = zlib.decompressobj(wbits=31)


def _decode(raw: bytes) -> str:
    if raw.startswith(_UTF16):
        return raw.decode("utf-16", errors="replace")
    return raw.decode("utf-8-sig", errors="replace")


def number(value: Any) -> float | None:
    """A logged value as a float, None where it is no number. The strings "nan", "inf", "-inf" and "1e-4" count."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and len(value) > 40:
        return None
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return None
    return None


def parse_json(text: str) -> Any:
    """`json.loads` whose every failure is a ValueError (deep nesting and giant numbers too); NaN and Infinity parse."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
