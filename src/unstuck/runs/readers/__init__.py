"""One file per format. A reader is found by its place and chosen by what is in the file, not by its name.

Each module of this folder defines:

- `FORMAT: str`, the name in `diagnose --json`;
- `match(log: LogFile) -> Match`: confidence 0 to 1 with a reason, from the first 64 KiB;
- `read(log: LogFile, beside: Beside) -> list[Run]`: the runs in the file, most have one. It calls `beside.settle` to
  give a run its settings, and raises `unstuck.errors.UserError` when the file turns out unreadable, nothing else;
- `BINARY = True` where its files are not text: only such readers are asked about a binary file;
- where one run is a folder of files, `match_folder(folder: Path) -> Match` and `read_folder(folder: Path, beside:
  Beside) -> list[Run]`. Folders are asked before the files in them, which are then not read on their own.

`read_runs(path)` picks the reader and adds the configuration found beside the log. What was converted, joined or left
out is said in `run.notes`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from unstuck.errors import UserError
from unstuck.runs.beside import LOG_SUFFIXES, Beside, read_beside
from unstuck.runs.blanks import settle_blanks
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.join import join_resumed
from unstuck.runs.logfile import LogFile
from unstuck.runs.micro_steps import settle_epoch_means, settle_micro_steps, settle_waits
from unstuck.runs.run import Run
from unstuck.runs.search import search
from unstuck.runs.settle import settle_accuracy, settle_grad_norm, settle_times
from unstuck.wording import plural

LEAST_CONFIDENCE = 0.5  # ours: below this a reader says itself that it is guessing
LEAST_WITH_COLUMNS = 0.2  # ours: who says what the columns are has looked at the file


class Reader(Protocol):
    """A reader module, as the engine sees it."""

    FORMAT: str

    def match(self, log: LogFile) -> Match: ...

    def read(self, log: LogFile, beside: Beside) -> list[Run]: ...


class FolderReader(Protocol):
    """A reader of runs that are folders."""

    FORMAT: str

    def match_folder(self, folder: Path) -> Match: ...

    def read_folder(self, folder: Path, beside: Beside) -> list[Run]: ...


SHOWN_NAMES = 8  # ours: of logs of a folder that nobody could read; a line or two


@cache
def all_readers() -> dict[str, Reader]:
    """Every reader of this folder by its format, discovered by its place."""
    found: dict[str, Reader] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if hasattr(module, "FORMAT"):
            found[module.FORMAT] = cast(Reader, module)
    return found


@cache
def folder_readers() -> tuple[FolderReader, ...]:
    """Those of them that read folders."""
    return tuple(cast(FolderReader, reader) for reader in all_readers().values() if hasattr(reader, "match_folder"))


def read_runs(
    path: Path, *, config: Path | None = None, beside: bool = True, columns: Mapping[str, str] | None = None
) -> list[Run]:
    """Every run that a file or folder holds.

    Args:
        path: a log file (gzip too), a run folder, or a folder of logs, which is searched five levels deep.
        config: the configuration of the run; default: what lies beside the log.
        beside: False leaves every configuration out that was not named.
        columns: what the user says about the log's columns, see `Beside.columns`.

    Returns:
        At least one run, in the order of the file names and of the file.

    Raises:
        UserError: missing, empty or in no known format; a folder without anything readable.
    """
    path = Path(path)
    if config is not None and not Path(config).is_file():
        raise UserError(f"The configuration {config} is no file; check the path given to --config.")
    ask = _Ask(config, beside, columns or {})
    return _read_folder(path, ask) if path.is_dir() else _read_file(path, ask)


@dataclass(frozen=True, slots=True)
class _Ask:
    """What the caller said beside the path."""

    config: Path | None
    beside: bool
    columns: Mapping[str, str]

    def settings(self, path: Path) -> Beside:
        found = read_beside(path, self.config) if self.beside or self.config is not None else Beside()
        return replace(found, columns=self.columns)


def best_match(log: LogFile, least: float = LEAST_CONFIDENCE) -> tuple[Reader | None, Match]:
    """The reader that is surest of the file; None when all of them are below `least`."""
    best: Reader | None = None
    best_match = Match(0.0, "no reader recognised anything")
    for reader in all_readers().values():
        if getattr(reader, "BINARY", False) != log.is_binary:
            continue
        match = reader.match(log)
        if match.confidence > best_match.confidence:
            best, best_match = reader, match
    return (best if best_match.confidence >= least else None), best_match


def _read_file(path: Path, ask: _Ask) -> list[Run]:
    log = LogFile(path)
    reader, match = best_match(log, LEAST_WITH_COLUMNS if ask.columns else LEAST_CONFIDENCE)
    if reader is None:
        if log.is_binary:
            raise UserError(f"{path} is binary and no record that unstuck knows; name the log that the run printed.")
        near = f" ({match.reason})" if match.confidence > 0 else ""
        raise UserError(
            f"{path} is in no format that unstuck reads{near}; name the log of a training run (docs/formats.md lists "
            "the formats), or say what its columns are with --columns."
        )
    return _settled(reader.read(log, ask.settings(path)), match)


def _settled(runs: list[Run], match: Match) -> list[Run]:
    for run in runs:
        run.format_confidence = match.confidence
        run.notes.insert(0, f"Read as {run.format} ({match.reason}).")
        settle_blanks(run)
        settle_grad_norm(run)
        settle_micro_steps(run)
        settle_waits(run)
        settle_epoch_means(run)
        settle_times(run)
        settle_accuracy(run)
    return runs


def _read_folder(folder: Path, ask: _Ask) -> list[Run]:
    ours = folder / "metrics.jsonl"
    if ours.is_file():
        try:
            return _read_file(ours, ask)
        except UserError:
            if (folder / "summary.json").is_file():
                raise
    runs: list[Run] = []
    failed: list[str] = []
    unknown: list[str] = []
    found = search(folder, _takes)
    for place in found:
        try:
            if place.is_dir():
                reader, match = _best_folder_match(place)
                if reader is not None:
                    runs.extend(_settled(reader.read_folder(place, ask.settings(place)), match))
            else:
                read = _read_known(place, ask)
                runs.extend(read)
                if not read and place.suffix in LOG_SUFFIXES and place.suffix != ".txt":
                    unknown.append(place.name)
        except UserError as error:
            failed.append(str(error))
    if runs:
        runs = join_resumed(runs)
        runs[0].notes.extend(f"Left out: {sentence}" for sentence in failed)
        if unknown:
            more = f" and {len(unknown) - SHOWN_NAMES} more" if len(unknown) > SHOWN_NAMES else ""
            runs[0].notes.insert(
                0, f"Not read, in no format that unstuck knows: {', '.join(unknown[:SHOWN_NAMES])}{more}."
            )
        return runs
    if failed:
        raise UserError(failed[0])
    raise UserError(
        f"{folder} holds no log that unstuck can read ({plural(len(found), 'file')} looked at); name the log file "
        "itself (docs/formats.md lists the formats)."
    )


def _takes(folder: Path) -> bool:
    return _best_folder_match(folder)[0] is not None


def _best_folder_match(folder: Path) -> tuple[FolderReader | None, Match]:
    best: FolderReader | None = None
    best_match = NO_MATCH
    for reader in folder_readers():
        match = reader.match_folder(folder)
        if match.confidence > best_match.confidence:
            best, best_match = reader, match
    return (best if best_match.confidence >= LEAST_CONFIDENCE else None), best_match


def _read_known(path: Path, ask: _Ask) -> list[Run]:
    """The runs of a file that some reader knows; other files of a folder are nobody's business."""
    log = LogFile(path)
    try:
        reader, match = best_match(log)
    except UserError:
        return []
    return _settled(reader.read(log, ask.settings(path)), match) if reader is not None else []
