"""Checkpoints: safetensors and JSON in a folder that exists only when it is complete.

    checkpoints/update-00000300/model.safetensors      weights, shared tensors once
                                optimizer.safetensors  the optimizer's tensors
                                random.safetensors     states of the random generators, as uint8 tensors
                                state.json             update, data position, early stopping, schedule, settings
    checkpoints/best, checkpoints/last                 links for people; the program goes by the state files

A checkpoint is written to `.writing-update-...`, every file and the folder are synced, then it is renamed: a kill at
any moment leaves the old checkpoints whole. Nothing is pickled, so a checkpoint cannot run code when it is loaded.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from unstuck.errors import UserError
from unstuck.train.state import LoopState

PREFIX = "update-"
WRITING = ".writing-"
REPLACED = ".replaced-"
FORMAT = 1
PARTS = ("model", "optimizer", "random")
STORED = {
    "config": dict, "recipe": dict, "model_arguments": dict, "base_rates": dict, "fingerprint": str, "tokenizer": str,
}  # beside the loop's own state  # fmt: skip

Tensors = dict[str, Tensor]


@dataclass(slots=True)
class Snapshot:
    """Everything that a run needs to go on exactly: three flat tensor dictionaries on the CPU and a JSON state."""

    model: Tensors
    optimizer: Tensors
    random: Tensors
    state: dict[str, Any]

    @property
    def update(self) -> int:
        return int(self.state["update"])


def path_of(run_folder: Path, update: int) -> Path:
    """Where the checkpoint after `update` optimizer updates lies."""
    return run_folder / "checkpoints" / f"{PREFIX}{update:08d}"


def update_of(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def complete(run_folder: Path) -> list[Path]:
    """All complete checkpoints of a run, oldest update first."""
    return sorted(p for p in (run_folder / "checkpoints").glob(PREFIX + "*") if (p / "state.json").is_file())


def find(path: Path, which: str = "last") -> Path | None:
    """The checkpoint that `path` means: itself, or the `last` or `best` one of the run folder; None without any."""
    if (path / "state.json").is_file():
        return path.resolve()
    saved = complete(path)
    if not saved:
        return None
    if which == "best":
        best = path_of(path, int(read_state(saved[-1]).get("best_update") or -1))
        return best if best in saved else saved[-1]
    return saved[-1]


def instead_of_best(path: Path) -> str | None:
    """Why `find(path, "best")` gives a run's last checkpoint, where its best evaluation is of another update."""
    saved = [] if (path / "state.json").is_file() else complete(path)
    best = read_state(saved[-1]).get("best_update") if saved else None
    if best is None or path_of(path, best) in saved:
        return None
    when = "was before training" if best == 0 else f"was after update {best}, whose checkpoint is not there"
    return f"The best evaluation of {path} {when}; this is its last checkpoint, of update {update_of(saved[-1])}."


def read_state(path: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint.

    Raises:
        UserError: it is damaged; names a checkpoint that is not.
    """
    state = _whole_state(path)
    if isinstance(state, str):
        raise UserError(f"{path}/state.json is damaged ({state}); {_instead_of(path)}")
    return state


def _whole_state(path: Path) -> dict[str, Any] | str:
    """The state, or what is wrong with it."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return str(error)
    if not isinstance(state, dict):
        return "it holds no object"
    try:
        LoopState.from_json(state)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return f"{error} is missing" if isinstance(error, KeyError) else str(error)
    for key, kind in STORED.items():
        if not isinstance(state.get(key), kind):
            return f"'{key}' is {'wrong' if key in state else 'missing'}"
    return state


def _instead_of(path: Path) -> str:
    """What to do without this checkpoint: go on from the newest of the others, or begin again."""
    for other in reversed(complete(path.parent.parent)):
        if other.name != path.name and isinstance(_whole_state(other), dict):
            return f"another checkpoint is whole: unstuck train --resume {other}"
    return f"the run has no other checkpoint: delete {path}, and --resume begins again at update 0."


def read(path: Path) -> Snapshot:
    """Load a checkpoint; every tensor owns aligned memory, so that what is computed with it is the same bit for bit."""
    parts = {}
    for part in PARTS:
        try:
            parts[part] = {name: tensor.clone() for name, tensor in load_file(path / f"{part}.safetensors").items()}
        except (SafetensorError, FileNotFoundError) as error:
            raise UserError(f"{path}/{part}.safetensors cannot be read ({error}); {_instead_of(path)}") from error
    return Snapshot(parts["model"], parts["optimizer"], parts["random"], read_state(path))


def read_weights(path: Path) -> Tensors:
    """The weights of a checkpoint alone."""
    try:
        return load_file(path / "model.safetensors")
    except (SafetensorError, FileNotFoundError) as error:
        raise UserError(f"{path}/model.safetensors cannot be read ({error}); name another checkpoint.") from error


def unshared(tensors: Tensors) -> Tensors:
    """Leave out tensors that share the memory of an earlier one (a tied head); safetensors keeps each memory once."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in tensors.items():
        if tensor.data_ptr() not in seen or not tensor.numel():
            kept[name] = tensor
        seen.add(tensor.data_ptr())
    return kept


def write(run_folder: Path, snapshot: Snapshot) -> Path:
    """Write one checkpoint so that it is there completely or not at all.

    Raises:
        OSError: the disk is full or may not be written; older checkpoints are intact and nothing partial is left.
    """
    final = path_of(run_folder, snapshot.update)
    writing = final.with_name(WRITING + final.name)
    try:
        if writing.exists():
            shutil.rmtree(writing)
        writing.mkdir(parents=True)
        for part in PARTS:
            save_file(getattr(snapshot, part), writing / f"{part}.safetensors", metadata={"format": "pt"})
            _sync(writing / f"{part}.safetensors")
        with open(writing / "state.json", "w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, **snapshot.state}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        _sync(writing)
        if final.exists():  # the same update once more, after a resume from an older checkpoint
            final.rename(final.with_name(REPLACED + final.name))
        writing.rename(final)
        _sync(final.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(writing, ignore_errors=True)
        raise _as_os_error(error, final) from error
    shutil.rmtree(final.with_name(REPLACED + final.name), ignore_errors=True)
    return final


def clean(run_folder: Path) -> None:
    """Remove what a kill during a write left; bring back a checkpoint caught between its two renames."""
    folder = run_folder / "checkpoints"
    for partial in folder.glob(WRITING + "*"):
        shutil.rmtree(partial, ignore_errors=True)
    for replaced in folder.glob(REPLACED + "*"):
        final = replaced.with_name(replaced.name.removeprefix(REPLACED))
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            replaced.rename(final)


def set_aside_after(run_folder: Path, update: int) -> list[Path]:
    """Rename checkpoints later than `update`, which a resume from an older one leaves behind; gives the new paths."""
    moved = []
    for path in complete(run_folder):
        if update_of(path) > update:
            target, number = path.with_name(f"set-aside-{path.name}"), 1
            while target.exists():
                number += 1
                target = path.with_name(f"set-aside-{number}-{path.name}")
            moved.append(path.rename(target))
    return moved


def prune(run_folder: Path, keep: int, best_update: int | None) -> None:
    """Keep the newest `keep` checkpoints and the best one, delete the others, and renew the links `best` and `last`."""
    saved = complete(run_folder)
    best = None if best_update is None else path_of(run_folder, best_update)
    for path in saved[:-keep]:
        if path != best:
            shutil.rmtree(path, ignore_errors=True)
    if saved:
        _link(run_folder / "checkpoints" / "last", saved[-1].name)
    if best in saved and best is not None:
        _link(run_folder / "checkpoints" / "best", best.name)


def random_state() -> Tensors:
    """States of torch's generators, of the CPU and of the GPU in use; the loop draws from no other."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_state(states: Tensors, rank: int = 0) -> None:
    """Put back what `random_state` returned in the process of this rank; what is not there stays as it is."""
    prefix = f"{rank}/" if rank else ""
    if f"{prefix}cpu" in states:
        torch.set_rng_state(states[f"{prefix}cpu"])
    if f"{prefix}cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states[f"{prefix}cuda"])


def _link(link: Path, target: str) -> None:
    try:
        if link.is_symlink() and os.readlink(link) == target:
            return
        fresh = link.with_name(f".{link.name}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(link)
    except OSError:
        return  # a file system without links: they are for people only


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_os_error(error: Exception, path: Path) -> OSError:
    """safetensors reports a full disk as an error of its own: give it its errno back."""
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, str(path))
    text = str(error)  # "Error while serializing: I/O error: No space left on device (os error 28)"
    known = {errno.ENOSPC: "os error 28", errno.EDQUOT: "os error 122", errno.EACCES: "os error 13",
             errno.EROFS: "os error 30", errno.EFBIG: "os error 27"}  # fmt: skip
    number = next((code for code, words in known.items() if words in text), errno.EIO)
    return OSError(number, os.strerror(number) if number != errno.EIO else text, str(path))
