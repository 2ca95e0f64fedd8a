"""A cache of things that can be made again: below the user's cache folder, or nowhere if that cannot be written."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Entries kept of each kind. One entry of the built-in corpus is 4 MB, so a cache of ordinary use stays below 100 MB.
KEPT_ENTRIES = 16
ABANDONED_AFTER_SECONDS = 24 * 3600


def cache_folder(kind: str) -> Path | None:
    """The folder for one kind of entry, made if need be: `$UNSTUCK_CACHE`, else `$XDG_CACHE_HOME/unstuck`, else
    `~/.cache/unstuck`; None where it cannot be made, and the caller then works without a cache."""
    named = os.environ.get("UNSTUCK_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME")
    try:
        if named:
            base = Path(named)
        elif xdg and Path(xdg).is_absolute():  # the XDG specification asks to ignore relative paths
            base = Path(xdg) / "unstuck"
        else:
            base = Path.home() / ".cache" / "unstuck"
        folder = base / kind
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home folder can be found
        return None
    return folder


def store(folder: Path | None, name: str, write: Callable[[Path], None]) -> None:
    """Make the entry `folder/name`, a folder that `write` fills, so that it is there completely or not at all.

    Written aside and renamed: several processes may store the same entry at once, the first one wins. A full disk or a
    folder that may not be written costs the entry, never the run.
    """
    if folder is None:
        return
    aside = None
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
        write(aside)
        final = folder / name
        with suppress(OSError):  # somebody else stored it meanwhile
            aside.rename(final)
    except OSError:
        pass
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
    _drop_old(folder)


def discard(folder: Path, name: str) -> None:
    """Take out an entry that turned out to be unreadable."""
    shutil.rmtree(folder / name, ignore_errors=True)


def touch(entry: Path) -> None:
    """Note that an entry was used, so that it is dropped last."""
    with suppress(OSError):
        os.utime(entry)


def _drop_old(folder: Path) -> None:
    """Keep the `KEPT_ENTRIES` entries used last; clear up after processes that were killed while storing."""
    entries: list[tuple[float, str]] = []
    abandoned: list[tuple[float, str]] = []
    try:
        for entry in os.scandir(folder):
            changed = entry.stat().st_mtime
            if not entry.name.startswith("."):
                entries.append((changed, entry.path))
            elif time.time() - changed > ABANDONED_AFTER_SECONDS:
                abandoned.append((changed, entry.path))
    except OSError:
        return
    for _, path in sorted(entries)[:-KEPT_ENTRIES] + abandoned:
        shutil.rmtree(path, ignore_errors=True)
