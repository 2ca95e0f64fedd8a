"""The ledger: what was run, found, changed, and what the change measurably did. Append-only JSON lines.

`ledger.jsonl` lies in the runs folder. One line is one entry:

    {"time": "2026-11-21T03:20:11Z", "kind": "verdict", "run": "demo/stuck", "changes": [...], "verdict": "better", ...}

kind is `run` (a training ended), `diagnosis` (what was found in a run), `change` (a patch was applied) or `verdict`
(a proof ended, with its changes). Nothing is ever rewritten. An append is one write under a lock, flushed to the disk
before it returns, so that several processes may write and a kill loses at most the line being written.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unstuck.errors import UserError
from unstuck.json_ready import json_ready
from unstuck.wording import plural

Kind = Literal["run", "diagnosis", "change", "verdict"]
KINDS: tuple[Kind, ...] = ("run", "diagnosis", "change", "verdict")
FILE = "ledger.jsonl"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Entries in the order they were written, and how many lines could not be read (a kill's torn line)."""

    path: Path
    entries: tuple[dict[str, Any], ...]
    unreadable: int


def append(runs_folder: Path, kind: Kind, *, run: str, **fields: Any) -> dict[str, Any]:
    """Write one entry and return it.

    Args:
        runs_folder: made if it is not there.
        kind: one of `KINDS`.
        run: the run folder or recipe that it is about, as the user names it.
        fields: what else belongs to it; numbers that JSON cannot hold become "nan", "inf", "-inf".

    Raises:
        OSError: the disk refuses.
    """
    entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "kind": kind, "run": run, **fields}
    line = json.dumps(json_ready(entry), allow_nan=False).encode() + b"\n"
    runs_folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(runs_folder / FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        with _locked(descriptor):
            size = os.fstat(descriptor).st_size
            if size and _last_byte(descriptor, size) != b"\n":
                line = b"\n" + line  # the torn line of a process that was killed keeps its place, ours gets its own
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return entry


def read(path: Path) -> Ledger:
    """The ledger of a runs folder, or a ledger file itself.

    Raises:
        UserError: there is none.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"There is no ledger at {file}. A run's proof writes it: unstuck prove RECIPE --change key=value"
        )
    entries: list[dict[str, Any]] = []
    unreadable = 0
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            entry = None
        if isinstance(entry, dict) and entry.get("kind") in KINDS:
            entries.append(entry)
        else:
            unreadable += 1
    if unreadable and not entries:
        raise UserError(f"{file} is not a ledger. Name the runs folder: unstuck ledger runs")
    return Ledger(file, tuple(entries), unreadable)


def changes_text(changes: Sequence[Mapping[str, Any]]) -> str:
    """`learning_rate 0.0001 -> 0.0003, ...`"""
    return ", ".join(f"{c['key']} {_value(c.get('old'))} -> {_value(c.get('new'))}" for c in changes)


def effect_text(entry: Mapping[str, Any]) -> str:
    """What an entry says, in a few words: the measured effect of a verdict, the finding, how the run ended."""
    kind = entry["kind"]
    if kind == "verdict":
        difference = entry.get("difference") or {}
        mean, low, high = (difference.get(name) for name in ("mean", "low", "high"))
        if not isinstance(low, float) or not isinstance(mean, float) or not isinstance(high, float):
            return str(entry.get("verdict"))
        return f"{entry.get('verdict')}: {mean:+.4f} [{low:+.4f}, {high:+.4f}] nats/token"
    if kind == "diagnosis":
        return str(entry.get("title") or entry.get("verdict") or "")
    if kind == "run":
        loss = entry.get("val_loss")
        updates = entry.get("updates")
        made = plural(updates, "update") if isinstance(updates, int) else "? updates"
        text = f"{made}, stopped by {entry.get('stopped_by', '?')}"
        return text + (f", val loss {loss:.4f}" if isinstance(loss, float) else "")
    return str(entry.get("summary") or "")


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else json.dumps(value) if value is None else str(value)


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows has no flock; O_APPEND alone keeps short lines apart there
        yield
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _last_byte(descriptor: int, size: int) -> bytes:
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1)
