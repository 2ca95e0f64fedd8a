"""Where in a folder the logs may be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from unstuck.errors import UserError
from unstuck.runs.beside import NEVER, SHARED_NAMES

MAX_FILES = 2000  # ours: a folder with more files than this is a dataset, not a folder of logs
MAX_DEPTH = 5
SKIP_FOLDERS = {".git", ".venv", "venv", "node_modules", "__pycache__", "site-packages"}
SKIP_SUFFIXES = {
    ".py", ".pt", ".pth", ".bin", ".safetensors", ".npy", ".npz", ".pkl", ".png", ".jpg", ".svg", ".pdf", ".html",
    ".css", ".js", ".zip", ".so", ".pyc", ".ckpt", ".h5", ".onnx", ".parquet", ".arrow", ".md", ".tmp",
}  # fmt: skip
# Files of our own run folder that tell of a run but are not its record.
OUR_FILES = {"summary.json", "findings.jsonl", "config.yaml", "report.html"}


def search(folder: Path, is_run: Callable[[Path], bool]) -> list[Path]:
    """Files that may be logs and folders that are one run, in the order of their names, five levels deep.

    Args:
        folder: where to begin.
        is_run: whether a folder is the record of one run; what is in it is then not looked at.

    Raises:
        UserError: more than 2000 files.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        if is_run(here):
            folders.clear()
            found.append(here)
            continue
        depth = len(here.relative_to(folder).parts)
        folders[:] = sorted(f for f in folders if f not in SKIP_FOLDERS and not f.startswith(".") and depth < MAX_DEPTH)
        ours = "metrics.jsonl" in files and "config.yaml" in files
        for name in sorted(files):
            path = here / name
            if name.startswith(".") or path.suffix in SKIP_SUFFIXES or (ours and name in OUR_FILES):
                continue
            if name in SHARED_NAMES or (name in NEVER and name != "trainer_state.json"):
                continue
            if name.endswith((".config.json", ".hparams.yaml", ".config.yaml", ".args.json")):
                continue
            found.append(path)
            if len(found) > MAX_FILES:
                raise UserError(f"{folder} holds more than {MAX_FILES} files; name the folder of one run's logs.")
    return _newest_states(found)


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
