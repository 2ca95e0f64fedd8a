"""From a patch to the user's own words: a diff of their configuration file, or options for their command line."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unstuck.config import files
from unstuck.config.dialects import in_dialect
from unstuck.config.patch import Change, ConfigPatch
from unstuck.config.recipe import load_recipe
from unstuck.config.render import scalar
from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.beside import read_beside

# How each dialect sets a value where the run is started.
ON_COMMAND_LINE = {
    "unstuck": "{key}={value}",
    "huggingface": "--{key} {value}",
    "nanogpt": "--{key}={value}",
    "environment": "{key}={value}",
    "plain": "--{key} {value}",
}
FIXED = "fixed.yaml"
NOT_CONFIGURATION = {"trainer_state.json", "summary.json", "metrics.jsonl"}  # written by programs, read by programs


@dataclass(frozen=True, slots=True)
class Prescription:
    """A patch in the user's own words.

    Attributes:
        changes: keys and values as the user writes them.
        file: the file that `--apply` writes; None: the run's settings are in no file that can be edited.
        text: its new contents.
        diff: unified diff of the user's configuration; empty without a file.
        command: options for the command line, or for our own runs the command that trains with the change.
        replaces: whether `file` exists and is changed, rather than new.
        came_from: our own runs: key -> where its old value came from ("my.yaml:14", "command line").
    """

    changes: tuple[Change, ...]
    file: Path | None
    text: str
    diff: str
    command: str
    replaces: bool
    came_from: dict[str, str] = field(default_factory=dict)


def prescription(run: Run, patch: ConfigPatch, why: str, config: Path | None = None) -> Prescription:
    """Translate a patch for this run.

    Args:
        why: the rule's name, for the origin of the new values.
        config: the configuration file, when the user named it; else the one beside the log.

    Raises:
        UserError: the configuration file cannot be edited by a program.
    """
    theirs = tuple(in_dialect(change, run) for change in patch)
    pattern = ON_COMMAND_LINE.get(run.dialect, "--{key} {value}")
    options = " ".join(pattern.format(key=c.key, value=_on_command_line(c.new, run.dialect)) for c in theirs)
    own = _own_config(run)
    if own is not None:
        return _ours(own, theirs, patch, why)
    path = config or _configuration_of(run, theirs)
    if path is None:
        return Prescription(theirs, None, "", "", options, False)
    old = files.read_text(path)
    new = files.edited(path, {change.key: change.new for change in theirs})
    return Prescription(theirs, path, new, _diff(old, new, str(path), str(path)), options, True)


def is_applied(prescribed: Prescription) -> bool:
    """Whether the file already holds the new values, so that there is nothing to write."""
    path = prescribed.file
    return path is not None and path.is_file() and files.read_text(path) == prescribed.text


def write(prescribed: Prescription) -> Path | None:
    """Write the prescription's file in one step; returns where the old contents are kept, None for a new file.

    The new contents go to a temporary file beside it, which then takes the old one's place: at every moment the file
    is either the old or the new one, whole.

    Raises:
        UserError: there is no file to write.
        OSError: it cannot be written; nothing was changed.
    """
    if prescribed.file is None:
        raise UserError(
            "This run's settings are in no configuration file that can be edited; change them where the run is "
            f"started: {prescribed.command}"
        )
    path = prescribed.file.resolve()  # through links, so that the link stays
    kept: Path | None = None
    if prescribed.replaces:
        kept = _free(path)
        try:
            shutil.copy2(path, kept)
        except OSError:
            kept.unlink(missing_ok=True)
            raise
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(prescribed.text)
            file.flush()
            os.fsync(file.fileno())
        if kept is not None:
            shutil.copymode(kept, temporary)
        else:
            os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        for leftover in (Path(temporary), kept):
            if leftover is not None:
                with contextlib.suppress(OSError):
                    leftover.unlink()
        raise
    return kept


def _ours(config: Path, theirs: tuple[Change, ...], patch: ConfigPatch, why: str) -> Prescription:
    """A run of ours: the run's record stays as it is; the change becomes a recipe beside it."""
    recipe = load_recipe(config)
    new = {c.key if c.key == "group_lr_factors" else t.key: c.new for c, t in zip(patch, theirs, strict=True)}
    changed = recipe.with_changes(new, f"fix of {why}")
    target = config.with_name(FIXED)
    diff = _diff(recipe.to_yaml(comments=False), changed.to_yaml(comments=False), str(config), str(target))
    places = {change.key: recipe.origins[change.key] for change in theirs if change.key in recipe.origins}
    return Prescription(theirs, target, changed.to_yaml(), diff, f"unstuck train {target}", False, places)


def _own_config(run: Run) -> Path | None:
    """The config.yaml of a run of ours."""
    if run.dialect != "unstuck":
        return None
    source = Path(run.source)
    folder = source if source.is_dir() else source.parent
    return folder / "config.yaml" if (folder / "config.yaml").is_file() else None


def _configuration_of(run: Run, theirs: tuple[Change, ...]) -> Path | None:
    """The file that holds the settings to change, or for new ones the file that holds most of the others."""
    logs = {Path(series.file).name for series in run.series.values()} | NOT_CONFIGURATION
    votes: dict[Path, int] = {}
    wanted = {change.key for change in theirs}
    source = Path(run.source)
    beside = read_beside(source).raw if source.is_file() else {}  # the log's own print of a setting hides its file
    for key, setting in [*run.raw_settings.items(), *beside.items()]:
        path = _found(setting.source.file, run)
        if path is None or path.name in logs or path == source:
            continue
        votes[path] = votes.get(path, 0) + (1000 if key in wanted else 1)
    for path in sorted(votes, key=lambda p: -votes[p]):
        try:
            files.locate(path)
        except UserError:
            continue
        return path
    return None


def _found(file: str, run: Run) -> Path | None:
    source = Path(run.source)
    folder = source if source.is_dir() else source.parent
    for path in (Path(file), folder / file, folder / Path(file).name):
        if path.is_file():
            return path
    return None


def _diff(old: str, new: str, old_name: str, new_name: str) -> str:
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm="", n=2)
    return "\n".join(lines)


def _on_command_line(value: Any, dialect: str) -> str:
    if dialect == "nanogpt":
        return repr(value)
    text = json.dumps(value) if isinstance(value, (dict, list)) else scalar(value)
    return f"'{text}'" if " " in text else text


def _free(path: Path) -> Path:
    """`config.py.bak`, or `config.py.bak2` ... where that is taken: an older copy is never lost."""
    number = 1
    while True:
        name = f"{path.name}.bak" + ("" if number == 1 else str(number))
        if not path.with_name(name).exists():
            return path.with_name(name)
        number += 1


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
