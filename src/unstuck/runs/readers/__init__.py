"""One file per format. A reader is found by its place and chosen by what is in the file, not by its name.

Each module of this folder defines:

- `FORMAT: str`, the name in `diagnose --json`;
- `match(log: LogFile) -> Match`: confidence 0 to 1 with a reason, from the first 64 KiB;
- `read(log: LogFile, beside: Beside) -> list[Run]`: the runs in the file, most have one. It calls `beside.settle` to
  give a run its settings, and raises `unstuck.errors.UserError` when the file turns out unreadable, nothing else.

`read_runs(path)` picks the reader and adds the configuration found beside the log. What was converted, joined or left
out is said in `run.notes`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Protocol, cast

from unstuck.errors import UserError
from unstuck.runs.beside import NEVER, SHARED_NAMES, Beside, read_beside
from unstuck.runs.build import Match
from unstuck.runs.logfile import LogFile
from unstuck.runs.run import Run
from unstuck.runs.settle import settle_grad_norm
from unstuck.wording import plural

LEAST_CONFIDENCE = 0.5  # ours: below this a reader says itself that it is guessing
MAX_FILES = 2000  # ours: a folder with more files than this is a dataset, not a folder of logs
MAX_DEPTH = 5
SKIP_FOLDERS = {".git", ".venv", "venv", "node_modules", "__pycache__", "site-packages"}
SKIP_SUFFIXES = {
    ".py", ".pt", ".pth", ".bin", ".safetensors", ".npy", ".npz", ".pkl", ".png", ".jpg", ".svg", ".pdf", ".html",
    ".css", ".js", ".zip", ".so", ".pyc", ".ckpt", ".h5", ".onnx", ".parquet", ".arrow", ".md", ".tmp",
}  # fmt: skip
# Files of our own run folder that tell of a run but are not its record.
OUR_FILES = {"summary.json", "findings.jsonl", "config.yaml", "report.html"}


class Reader(Protocol):
    """A reader module, as the engine sees it."""

    FORMAT: str

    def match(self, log: LogFile) -> Match: ...

    def read(self, log: LogFile, beside: Beside) -> list[Run]: ...


@cache
def all_readers() -> dict[str, Reader]:
    """Every reader of this folder by its format, discovered by its place."""
    found: dict[str, Reader] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if hasattr(module, "FORMAT"):
            found[module.FORMAT] = cast(Reader, module)
    return found


def read_runs(path: Path, *, config: Path | None = None, beside: bool = True) -> list[Run]:
    """Every run that a file or folder holds.

    Args:
        path: a log file (gzip too), a run folder, or a folder of logs, which is searched five levels deep.
        config: the configuration of the run; default: what lies beside the log.
        beside: False leaves every configuration out that was not named.

    Returns:
        At least one run, in the order of the file names and of the file.

    Raises:
        UserError: missing, empty, binary or in no known format; a folder without anything readable.
    """
    path = Path(path)
    if config is not None and not Path(config).is_file():
        raise UserError(f"The configuration {config} is no file; check the path given to --config.")
    if path.is_dir():
        return _read_folder(path, config, beside)
    return _read_file(path, config, beside)


def best_match(log: LogFile) -> tuple[Reader | None, Match]:
    """The reader that is surest of the file; None when all of them are below 0.5."""
    best: Reader | None = None
    best_match = Match(0.0, "no reader recognised anything")
    for reader in all_readers().values():
        match = reader.match(log)
        if match.confidence > best_match.confidence:
            best, best_match = reader, match
    return (best if best_match.confidence >= LEAST_CONFIDENCE else None), best_match


def _read_file(path: Path, config: Path | None, beside: bool) -> list[Run]:
    log = LogFile(path)
    reader, match = best_match(log)
    if reader is None:
        near = f" ({match.reason})" if match.confidence > 0 else ""
        raise UserError(
            f"{path} is in no format that unstuck reads{near}; it reads {', '.join(all_readers())}. "
            "If it is one of them, look whether the file was cut or is another output."
        )
    runs = reader.read(log, read_beside(path, config) if beside or config is not None else Beside())
    for run in runs:
        run.format_confidence = match.confidence
        run.notes.insert(0, f"Read as {run.format} ({match.reason}).")
        settle_grad_norm(run)
    return runs


def _read_folder(folder: Path, config: Path | None, beside: bool) -> list[Run]:
    ours = folder / "metrics.jsonl"
    if ours.is_file():
        try:
            return _read_file(ours, config, beside)
        except UserError:
            if (folder / "summary.json").is_file():
                raise
    candidates = _newest_states(list(_candidates(folder)))
    runs: list[Run] = []
    failed: list[str] = []
    for path in candidates:
        try:
            reader, _ = best_match(LogFile(path))
        except UserError:
            continue
        if reader is None:
            continue
        try:
            runs.extend(_read_file(path, config, beside))
        except UserError as error:
            failed.append(str(error))
    if runs:
        runs[0].notes.extend(f"Left out: {sentence}" for sentence in failed)
        return runs
    if failed:
        raise UserError(failed[0])
    raise UserError(
        f"{folder} holds no log that unstuck can read ({plural(len(candidates), 'file')} looked at); name the log file "
        f"itself, in one of these formats: {', '.join(all_readers())}."
    )


def _candidates(folder: Path) -> Iterator[Path]:
    """Files of the folder that may be logs, in the order of their names."""
    seen = 0
    for place, folders, files in os.walk(folder):
        depth = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if f not in SKIP_FOLDERS and not f.startswith(".") and depth < MAX_DEPTH)
        ours = "metrics.jsonl" in files and "config.yaml" in files
        for name in sorted(files):
            path = Path(place) / name
            if name.startswith(".") or path.suffix in SKIP_SUFFIXES or (ours and name in OUR_FILES):
                continue
            if name in SHARED_NAMES or (name in NEVER and name != "trainer_state.json"):
                continue
            if name.endswith((".config.json", ".hparams.yaml", ".config.yaml", ".args.json")):
                continue
            seen += 1
            if seen > MAX_FILES:
                raise UserError(f"{folder} holds more than {MAX_FILES} files; name the folder of one run's logs.")
            yield path


def _newest_states(paths: list[Path]) -> list[Path]:
    """Of the `checkpoint-N/trainer_state.json` of one output folder only the newest: it holds the others' history."""

    def number(path: Path) -> int:
        digits = path.parent.name.rpartition("-")[2]
        return int(digits) if digits.isdecimal() and len(digits) < 16 else -1

    states = [p for p in paths if p.name == "trainer_state.json" and p.parent.name.startswith("checkpoint-")]
    older: set[Path] = set()
    for parent in {p.parent.parent for p in states}:
        group = sorted((p for p in states if p.parent.parent == parent), key=number)
        older.update(group if parent / "trainer_state.json" in paths else group[:-1])
    return [p for p in paths if p not in older]
