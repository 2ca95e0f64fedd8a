"""The run folder: its name, who may write in it, and files in it that are whole or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unstuck.errors import UserError

LOCK = ".lock"
# What a process that was killed before config.yaml was there can leave; a folder with nothing else is free again.
BEGUN = {LOCK, "tokenizer.json", ".tokenizer.json.tmp", ".config.yaml.partial", "checkpoints"}


def new_folder(asked: Path | None, *, runs_folder: str, name: str, fresh: bool) -> Path:
    """Make the folder of a new run and return it.

    Without `asked` it is `runs_folder/name`, numbered where that exists (`gpt-char`, `gpt-char-2`, ...). With `asked`
    that very folder, which may not hold anything yet but the traces of a start that failed; with `fresh` a taken name
    is numbered as well.

    Raises:
        UserError: the folder asked for holds something.
        OSError: it cannot be made.
    """
    wish = asked or Path(runs_folder) / name
    if asked is not None and asked.exists() and not asked.is_dir():
        raise UserError(f"{asked} is a file, and --folder names the run's folder; a recipe's file is named without it.")
    if asked is not None and not fresh and _taken(asked) and not only_begun(asked):
        if (asked / "config.yaml").is_file():
            raise UserError(
                f"{asked} holds a run already. Go on with it: unstuck train --resume {asked} "
                f"- or add --fresh for a new folder beside it."
            )
        raise UserError(f"{asked} is not empty and not a run folder. Name another one with --folder, or add --fresh.")
    if asked is not None and not fresh and asked.exists():
        (asked / "checkpoints").mkdir(exist_ok=True)
        return asked
    number = 1
    while True:
        folder = wish if number == 1 else wish.with_name(f"{wish.name}-{number}")
        number += 1
        if _taken(folder):
            continue
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # it is there and empty, or another process was faster
            if _taken(folder) or (asked is None):
                continue
        (folder / "checkpoints").mkdir(exist_ok=True)
        return folder


def run_of(asked: Path) -> tuple[Path, Path | None]:
    """The run folder that `asked` means, and the checkpoint where it is one of that run's.

    Raises:
        UserError: it is neither.
    """
    found = asked.resolve()
    if (found / "state.json").is_file() and (found.parent.parent / "config.yaml").is_file():
        return found.parent.parent, found
    if (found / "config.yaml").is_file():
        return asked, None
    if not found.exists():
        what = "does not exist"
    elif not found.is_dir():
        what = "is a file"
    elif (found / "state.json").is_file():
        what = "is a checkpoint without its run folder (new training can take its weights: start_from=...)"
    else:
        what = "is not a run folder (it has no config.yaml)"
    raise UserError(f"{asked} {what}; name a run folder that `unstuck train` made: unstuck train --resume runs/NAME")


def _taken(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def only_begun(folder: Path) -> bool:
    """Whether all it holds is of a start that came to nothing, or goes on now: that its lock tells."""
    names = {path.name for path in folder.iterdir()}
    return (
        names <= BEGUN
        and (LOCK in names or "tokenizer.json" not in names)
        and not any((folder / "checkpoints").glob("*"))
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:
        UserError: another process trains in it.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there two processes are not kept apart
        yield
        return
    with open(folder / LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UserError(
                f"{folder} is being written by process {owner}. Wait for it, stop it with `kill {owner}`, "
                "or train in another folder with --fresh."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that a reader, or a kill, meets the old one or the new one, never half of one."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
