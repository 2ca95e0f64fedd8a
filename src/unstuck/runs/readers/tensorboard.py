"""TensorBoard event files (`events.out.tfevents.*`) and the folders that they come in.

One folder is one run: files of later starts of the program go on with it, and so do the sub-folders that writers make
for parts of a run: `train/` and `validation/` (Keras, fairseq), one for each line of `SummaryWriter.add_scalars`, and
one named by the time for `SummaryWriter.add_hparams`. Settings come from the hparams plugin and from logged texts. An
event that was not written to its end (a killed run) is left out, and what a restart supersedes as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from unstuck.config.files import read_settings_file
from unstuck.errors import UserError
from unstuck.runs import tftags
from unstuck.runs.beside import LOG_SUFFIXES, SHARED_NAMES, Beside
from unstuck.runs.build import NO_MATCH, Match, add_raw
from unstuck.runs.logfile import LogFile
from unstuck.runs.run import Ints, Run, Setting, Source
from unstuck.runs.scalars import EPOCH, Stretch, joined, runs_of_stretches
from unstuck.runs.texts import settings_of
from unstuck.runs.tfevents import EventFile, read_event_file
from unstuck.runs.tfrecord import HEADER, has_length_at
from unstuck.wording import plural

FORMAT = "tensorboard-events"
BINARY = True

MARK = "tfevents"  # in the name of every event file (tensorboard/util/io_wrapper.py asks for it too)
MAX_FILES = 200  # ours: starts of one program; beyond it the folder holds many runs
_BY_TIME = re.compile(r"\d{9,}\.\d+")  # `add_hparams` names its folder by the time


def match(log: LogFile) -> Match:
    """Certain when the first record is whole and calls itself an event of TensorFlow."""
    head = log.head_bytes
    if not has_length_at(head, 0):
        return NO_MATCH
    if head[HEADER : HEADER + 1] == b"\x09" and b"brain.Event:" in head[HEADER : HEADER + 40]:
        return Match(0.99, "the first record is an event of TensorBoard")
    if MARK in log.name:
        return Match(0.8, "records of TensorFlow in a file named as events")
    return Match(0.3, "records of TensorFlow, but not of events")


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run of one event file.

    Raises:
        UserError: no scalar in it.
    """
    runs = _runs([_File(log.path, _decoded(log.path))], beside, str(log.path), log.name)
    others = [path for path in _event_files(log.path.parent) if path != log.path]
    if others and MARK in log.name:
        runs[0].notes.append(
            f"{plural(len(others), 'more event file lies', 'more event files lie')} in the folder; name the folder "
            "to read a run of several files."
        )
    return runs


def match_folder(folder: Path) -> Match:
    """Certain when the folder holds event files and nothing else that is a log."""
    layout = _layout(folder)
    if layout is None:
        return NO_MATCH
    files = len(layout.own) + sum(len(files) for _, files in layout.parts)
    return Match(0.95, f"a folder of {plural(files, 'event file', 'event files')} of TensorBoard")


def read_folder(folder: Path, beside: Beside) -> list[Run]:
    """The run of a folder; several where the program began anew in it.

    Raises:
        UserError: no scalar in any of its files.
    """
    layout = _layout(folder)
    if layout is None:
        raise UserError(f"{folder} holds no event files of one run; name the folder in which they lie.")
    files = [_File(path, _decoded(path)) for path in layout.own]
    for part, paths in layout.parts:
        files += [_File(path, _decoded(path), part) for path in paths]
    raw, used = _settings_inside(folder)
    beside = replace(beside, raw={**raw, **beside.raw}, files=(*used, *beside.files))
    return _runs(files, beside, str(folder), folder.resolve().name or str(folder))


@dataclass(slots=True)
class _File:
    """A decoded event file, and the name of its sub-folder when it lies in one."""

    path: Path
    events: EventFile
    part: str = ""


@dataclass(slots=True)
class _Layout:
    """Event files of a run's folder: its own, and by the name of the sub-folder."""

    own: list[Path] = field(default_factory=list)
    parts: list[tuple[str, list[Path]]] = field(default_factory=list)


def _layout(folder: Path) -> _Layout | None:
    """None where the folder is not the record of one run."""
    found = _Layout(_event_files(folder))
    foreign = False
    for child in _folders(folder):
        if files := _event_files(child):
            if child.name in tftags.SPLITS or (found.own and (_BY_TIME.fullmatch(child.name) or _is_line(files[0]))):
                found.parts.append((child.name, files))
            else:
                foreign = True
    count = len(found.own) + sum(len(files) for _, files in found.parts)
    if not count or foreign or count > MAX_FILES or (found.own and _has_other_logs(folder)):
        return None
    return found


def _event_files(folder: Path) -> list[Path]:
    return sorted(Path(entry) for entry in _entries(folder) if MARK in entry.name and not _is_folder(entry))


def _folders(folder: Path) -> list[Path]:
    return sorted(Path(entry) for entry in _entries(folder) if _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _has_other_logs(folder: Path) -> bool:
    """Whether another log lies in the folder; Lightning's `metrics.csv` holds the same values."""
    names = {entry.name for entry in _entries(folder)}
    if "hparams.yaml" in names:
        names.discard("metrics.csv")
    return any((name.endswith(LOG_SUFFIXES) and MARK not in name) or name == "trainer_state.json" for name in names)


def _is_line(path: Path) -> bool:
    """Whether the file is of `add_scalars`, which names its folder by the tag and the line."""
    try:
        tags = read_event_file(LogFile(path).head_bytes).scalars.keys
    except UserError:
        return False
    return bool(tags) and all(path.parent.name.startswith(tag.replace("/", "_") + "_") for tag in tags)


def _settings_inside(folder: Path) -> tuple[dict[str, Setting], tuple[str, ...]]:
    for name in SHARED_NAMES:
        if (folder / name).is_file():
            try:
                return read_settings_file(folder / name)[1], (name,)
            except (UserError, OSError):
                continue
    return {}, ()


def _decoded(path: Path) -> EventFile:
    return read_event_file(LogFile(path).data)  # of a file of its own, so that the bytes are not kept


def _runs(files: Sequence[_File], beside: Beside, source: str, name: str) -> list[Run]:
    if not any(len(file.events.scalars) for file in files):
        seen = sum(file.events.events for file in files)
        raise UserError(
            f"{source} holds {plural(seen, 'event', 'events')}, none of them a scalar; name a run that logs its loss."
        )
    sessions = _sessions(_tidy(files))
    by_epoch = any(tftags.counts_epochs(file.events.scalars) for file in files)
    updates = [tftags.updates_of_epochs(joined([file.events.scalars for file in session])) for session in sessions]
    mapped = by_epoch and all(found is not None for found in updates)
    stretches: list[Stretch] = []
    for session, found in zip(sessions, updates, strict=True):
        stretches += _stretches(session, by_epoch, found if mapped else None)
    axis = EPOCH if by_epoch and not mapped else None
    runs = runs_of_stretches(stretches, beside, source=source, file=name, format=FORMAT, axis=axis)
    if not runs:
        raise UserError(f"{source} holds no scalar that is a number; name the folder of a run that logs a loss.")
    damage = list(_damage(files))
    for run in runs:
        run.notes.extend(damage)
        if mapped:
            run.axis = "epoch"
            run.notes.append("Keras logs by epoch; each was put at the update that its evaluation states.")
    return runs


def _tidy(files: Sequence[_File]) -> list[_File]:
    """The files with their scalars under the names of the run."""
    fairseq = any(file.part == "train_inner" for file in files)
    for file in files:
        scalars = file.events.scalars
        if _BY_TIME.fullmatch(file.part):  # `add_hparams` repeats final values there
            file.events.scalars = scalars.renamed(dict.fromkeys(scalars.keys))
        elif fairseq and file.part:
            file.events.scalars = tftags.of_fairseq(scalars, file.part)
        else:
            file.events.scalars = tftags.named(scalars, file.part)
    return list(files)


def _sessions(files: Sequence[_File]) -> list[list[_File]]:
    """The files of each start of the program, in the order of time: those that were written at the same time.

    Files that were written at the same time with the same tags are of runs of their own (one for each device).
    """
    sessions: list[list[_File]] = []
    ends: list[float] = []
    for file in sorted(files, key=lambda file: (file.events.wall_time, file.path.name)):
        scalars = file.events.scalars
        end = float(scalars.walls.max()) if len(scalars) else file.events.wall_time
        keys = set(scalars.keys)
        together = not sessions or not len(scalars) or file.events.wall_time <= ends[-1]
        if sessions and together and all(keys.isdisjoint(other.events.scalars.keys) for other in sessions[-1]):
            sessions[-1].append(file)
            ends[-1] = max(ends[-1], end)
        else:
            sessions.append([file])
            ends.append(end)
    return sessions


def _stretches(session: Sequence[_File], keras: bool, updates: Ints | None) -> list[Stretch]:
    """What one start of the program logged, cut where a log says that another one began."""
    settings: dict[str, Setting] = {}
    for file in session:
        source = Source(file.path.name)
        settings = {**settings, **settings_of(file.events.texts, source)}
        add_raw(settings, file.events.settings, source)
    name = session[0].path.name
    scalars = joined([file.events.scalars for file in session])
    if keras:
        scalars = tftags.of_keras(scalars, updates)
    starts = [start for file in session for start in file.events.session_starts] if len(session) == 1 else []
    cuts = [(place, step) for place, step in starts if place > 0]
    first_start = next((step for place, step in starts if place == 0), None)
    bounds = [0, *(place for place, _ in cuts), len(scalars)]
    resumes = [first_start or None, *(step for _, step in cuts)]
    pieces = [scalars.where(np.arange(a, b)) for a, b in pairwise(bounds)]
    out = [Stretch(piece, name, resumes_at=at) for piece, at in zip(pieces, resumes, strict=True)]
    out[0].settings = settings
    return out


def _damage(files: Iterable[_File]) -> Iterator[str]:
    for file in files:
        events = file.events
        if events.torn:
            yield f"The last event of {file.path.name} is torn, as after a kill; it was left out."
        if events.damaged:
            lost = sum(end - start for start, end in events.damaged)
            yield f"{plural(lost, 'byte', 'bytes')} of {file.path.name} are damaged and were left out."
        if events.unread:
            yield f"{plural(events.unread, 'event', 'events')} of {file.path.name} could not be decoded."
