"""`metrics.jsonl`: append-only, one object per event, non-finite numbers as the strings "nan", "inf", "-inf"."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from unstuck.json_ready import json_ready

# A kill loses at most this much of the record; written checkpoints never run ahead of it, they flush first.
FLUSH_SECONDS = 1.0


class MetricsWriter:
    """Buffers rows and writes them at least every second. Values keep all their digits, so runs compare bit for bit."""

    def __init__(self, path: Path) -> None:
        repair_torn_line(path)
        self.path = path
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 - closed by close()
        self._rows: list[str] = []
        self._flushed = time.monotonic()

    @property
    def size(self) -> int:
        """Bytes on disk; 0 before the first event of a run."""
        return os.fstat(self._file.fileno()).st_size

    def write(self, row: Mapping[str, Any]) -> None:
        """Add one event; on disk within a second, if the loop calls again."""
        try:
            text = json.dumps(row, allow_nan=False)
        except ValueError:
            text = json.dumps(json_ready(row), allow_nan=False)
        self._rows.append(text)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand all rows to the system in one write.

        Raises:
            OSError: the disk is full; the rows stay, and a part that was written is taken back.
        """
        self._flushed = time.monotonic()
        if not self._rows:
            return
        size = os.fstat(self._file.fileno()).st_size
        data = memoryview(("\n".join(self._rows) + "\n").encode())
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            os.ftruncate(self._file.fileno(), size)
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        self._rows.clear()

    def close(self) -> None:
        """Flush and close; rows that a full disk refuses are lost, and the error is raised."""
        try:
            self.flush()
        finally:
            self._file.close()

    def abandon(self) -> None:
        """Close after an error: write what can be written. Does nothing after `close`."""
        if not self._file.closed:
            with suppress(OSError):
                self.close()


def repair_torn_line(path: Path) -> int:
    """Cut off a last line that a kill left without its end; returns the bytes removed."""
    if not path.exists():
        return 0
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            place = file.read(end - start).rfind(b"\n")
            if place >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            file.truncate(end)
        return size - end
