"""One fuzzed input: a few files in a folder, and which of them (or the folder itself) is diagnosed."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Kind = Literal["file", "link", "fifo"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the case. `data` is a link's target when kind is "link"."""

    name: str
    data: bytes = b""
    kind: Kind = "file"


@dataclass(frozen=True, slots=True)
class Case:
    """The first entry is the log; `folder` diagnoses the folder that holds them all."""

    origin: str
    entries: tuple[Entry, ...]
    folder: bool = False

    @property
    def log(self) -> Entry:
        return self.entries[0]

    @property
    def size(self) -> int:
        return sum(len(entry.data) for entry in self.entries)

    def with_log(self, data: bytes) -> Case:
        """The same case with other bytes in its log."""
        return replace(self, entries=(replace(self.log, data=data), *self.entries[1:]))

    def write(self, folder: Path) -> Path:
        """Lay the files down in an empty folder and return what is to be diagnosed."""
        for entry in reversed(self.entries):  # of two entries with one name the log stays
            path = folder / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if entry.kind == "link":
                os.symlink(os.fsdecode(entry.data), path)
            elif entry.kind == "fifo":
                os.mkfifo(path)
            else:
                path.write_bytes(entry.data)
        return folder if self.folder else folder / self.log.name

    def as_json(self) -> dict[str, Any]:
        """Plain types; `from_json` gives the case back."""
        entries = [[e.name, e.kind, base64.b64encode(e.data).decode()] for e in self.entries]
        return {"origin": self.origin, "folder": self.folder, "entries": entries}


def from_json(stored: dict[str, Any]) -> Case:
    """The case that `as_json` stored."""
    entries = (Entry(name, base64.b64decode(data), kind) for name, kind, data in stored["entries"])
    return Case(stored["origin"], tuple(entries), stored["folder"])


def clear(folder: Path) -> None:
    """Empty a folder that cases are written to, whatever they left in it."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
