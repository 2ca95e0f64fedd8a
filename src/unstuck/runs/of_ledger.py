"""The run folders that a ledger names, in the order in which they were first written down."""

from __future__ import annotations

import json
from pathlib import Path

from unstuck import ledger
from unstuck.errors import UserError

HEAD = 64 * 1024  # bytes that show whether a file is a ledger: its first line is an entry


def is_ledger(path: Path) -> bool:
    """Whether a file is a ledger, by its first line."""
    if not path.is_file() or path.suffix != ".jsonl":
        return False
    try:
        with path.open("rb") as file:
            first = json.loads(file.read(HEAD).partition(b"\n")[0])
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(first, dict) and first.get("kind") in ledger.KINDS and isinstance(first.get("run"), str)


def runs_of_ledger(path: Path) -> list[Path]:
    """Run folders that the ledger names and that are still there.

    A run is written down as its user named it: relative to where the command ran, which is the ledger's folder, the
    folder above it or here.

    Raises:
        UserError: none of them is there.
    """
    names = dict.fromkeys(str(entry["run"]) for entry in ledger.read(path).entries if entry.get("run"))
    found: dict[Path, None] = {}
    for name in names:
        for place in (path.parent / name, path.parent.parent / name, Path(name)):
            if _is_run(place):
                found[place] = None
                break
    if not found:
        raise UserError(f"{path} is a ledger, and no run folder that it names is there; name the runs themselves.")
    return list(found)


def _is_run(folder: Path) -> bool:
    try:
        return (folder / "metrics.jsonl").is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False
