"""The configuration beside a log: which files it may be in, and what of it a run takes over.

What the log itself printed wins over a file beside it, because that is what the program really used; every
contradiction becomes a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unstuck.config.dialects import canonical_settings, guess_dialect
from unstuck.config.files import read_settings_file
from unstuck.config.forms import OPTIONS
from unstuck.errors import UserError
from unstuck.runs.run import Run, Setting

# `run_7.log` -> `run_7.config.json`, `run_7.hparams.yaml`, `run_7.json` ...
OWN_SUFFIXES = (
    ".config.json", ".config.yaml", ".config.yml", ".config.py", ".config.toml", ".hparams.yaml", ".hparams.yml",
    ".args.json", ".args.yaml", ".training_args.json", ".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".py", ".env",
)  # fmt: skip
# Taken for every log of the folder when the folder holds one log only; of several the values of the first win.
_FIRST_NAMES = (
    "config.yaml", "config.yml", "hparams.yaml", "hparams.yml", "args.json", "args.yaml", "training_args.json",
    "training_args.yaml", "train_config.json", "train_config.yaml", "hyperparameters.json", "params.json",
    "config.json", "config.toml", "config.py", ".env", "adapter_config.json", "config.ini", "config.cfg",
    "hparams.json", "hparams.toml", "params.yaml", "hyperparameters.yaml", "hyperparams.json", "hyperparams.yaml",
    "cfg.yaml", "options.yaml", "options.json", "flags.json", ".hydra/config.yaml",
    "config.gin", "operative_config.gin",
)  # fmt: skip
_STEMS = ("config", "cfg", "conf", "args", "arguments", "hparams", "params", "hyperparameters", "hyperparams",
          "options", "opt", "settings", "training_args", "train_config", "training_config", "run_config")  # fmt: skip
_SUFFIXES = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg")
SHARED_NAMES = tuple(dict.fromkeys((
    *_FIRST_NAMES, *(stem + suffix for stem in (*_STEMS, "train_opt", "model") for suffix in (*_SUFFIXES, *OPTIONS)
                     if stem != "model" or suffix in (".opt", ".args", ".hparams")),
)))  # fmt: skip
LOG_SUFFIXES = (".log", ".txt", ".out", ".jsonl", ".ndjson", ".csv", ".tsv", ".gz", ".err")
NEVER = ("trainer_state.json", "summary.json", "labels.json", "tokenizer.json", "tokenizer_config.json")
MOST_BYTES = 1 << 16  # ours: of such a file; configurations have a few thousand
MAX_BESIDE = 8  # ours: files of settings beside a log that are looked into; a folder of many experiments has more
LEAST_SETTINGS = 3  # ours: known settings that make a file under a name of its own a configuration
OURS = ("findings.jsonl", "ledger.jsonl")  # what unstuck writes beside metrics.jsonl is no log of another run


@dataclass(frozen=True, slots=True)
class Beside:
    """Untranslated settings of the configuration files found beside a log.

    Attributes:
        raw: key as written -> setting.
        files: names of the files, for notes.
        notes: what was found but not used.
        columns: what the user said about the log's columns: key as logged -> canonical series, "step", "micro_step",
            "epoch", or "" for a column to leave out.
    """

    raw: Mapping[str, Setting] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)


def read_beside(log: Path, config: Path | None = None) -> Beside:
    """The configuration of a log: `config` when given, else what lies beside it by the names above.

    Raises:
        UserError: the configuration that the user named cannot be read. One that was only found is left out instead.
    """
    if config is not None:
        return Beside(read_settings_file(config)[1], (config.name,))
    own, shared = _own_files(log), _shared_files(log)
    raw: dict[str, Setting] = {}
    used: list[str] = []
    notes: list[str] = []
    if not own and shared and (others := _other_logs(log)):
        notes.append(
            f"{shared[0].name} lies beside {others + 1} logs and may belong to any of them; give it with --config."
        )
        shared = []
    for path in own or shared or _by_content(log):
        try:
            found = read_settings_file(path)[1]
        except (UserError, OSError) as error:
            notes.append(f"The configuration beside the log was left out: {error}")
            continue
        used.append(path.name)
        raw = {**found, **raw}
        if (kept := _changed_since(path, log)) is not None:
            notes.append(
                f"{path.name} was changed after the log was written, and {kept} holds what was there before: the run "
                "may have had those settings. Give the right ones with --config."
            )
    if (log.parent / "training_args.bin").exists():
        notes.append("training_args.bin is a pickle, which is never opened; save the arguments as JSON.")
    return Beside(raw, tuple(used), tuple(notes))


def _changed_since(path: Path, log: Path) -> str | None:
    """The name of the copy that `unstuck fix --apply` kept of a configuration which is newer than the log."""
    kept = path.with_name(f"{path.name}.bak")
    try:
        return kept.name if kept.is_file() and path.stat().st_mtime > log.stat().st_mtime else None
    except OSError:
        return None


def _own_files(log: Path) -> list[Path]:
    stem = log.name
    while "." in stem[1:]:
        stem = stem[: stem.rindex(".")]
        for suffix in OWN_SUFFIXES:
            path = log.with_name(stem + suffix)
            try:
                there = path.is_file()
            except OSError:  # a name that is too long with the suffix
                continue
            if there and path.name not in NEVER and path.name not in SHARED_NAMES and path != log:
                return [path]
    return []


def _shared_files(log: Path) -> list[Path]:
    folders = [log.parent]
    if log.parent.name.startswith("checkpoint-"):  # transformers writes the arguments one level up, if at all
        folders.append(log.parent.parent)
    return [folder / name for folder in folders for name in SHARED_NAMES if (folder / name).is_file()]


def _by_content(log: Path) -> list[Path]:
    """The one file beside a log that holds settings of training under a name of its own: `solver.yaml`, `lm.opt`."""
    suffixes = (*_SUFFIXES, *OPTIONS)
    try:
        files = sorted(path for path in log.parent.iterdir() if path.suffix in suffixes and path != log)
        files = [path for path in files if path.is_file() and 0 < path.stat().st_size <= MOST_BYTES]
    except OSError:
        return []
    if len(files) > MAX_BESIDE or _other_logs(log):
        return []
    found = [path for path in files if path.name not in NEVER and _is_of_training(path)]
    return found if len(found) == 1 else []


def _is_of_training(path: Path) -> bool:
    """Whether a file holds a learning rate and other settings of training."""
    try:
        dialect, raw = read_settings_file(path)
    except (UserError, OSError):
        return False
    settings = canonical_settings(raw, dialect)
    return "learning_rate" in settings and len(settings) >= LEAST_SETTINGS


def _other_logs(log: Path) -> int:
    """How many other files of the folder look like logs by their name."""
    suffixes = LOG_SUFFIXES if log.suffix in LOG_SUFFIXES else (log.suffix,)
    try:
        names = [p.name for p in log.parent.iterdir() if p != log]
    except OSError:
        return 0
    if log.name == "trainer_state.json":
        return 0
    return sum(name.endswith(suffixes) and name not in (*SHARED_NAMES, *OURS, "requirements.txt") for name in names)


def settle(run: Run, logged: Mapping[str, Setting], beside: Beside, dialect: str | None = None) -> None:
    """Give the run its settings: those printed in the log, then those of the files beside it.

    Args:
        logged: settings as the log printed them, untranslated; they win.
        dialect: the run's dialect where the format settles it; else told from the keys.
    """
    raw = {**beside.raw, **logged}
    run.raw_settings = raw
    run.dialect = dialect or guess_dialect(raw)
    run.notes.extend(beside.notes)
    if beside.files and beside.raw:
        run.notes.append(f"Settings were taken from {', '.join(beside.files)} beside the log.")
    overruled: set[str] = set()  # keys of files for what the log calls by another name
    if beside.raw and logged:
        theirs = canonical_settings(beside.raw, run.dialect)
        mine = canonical_settings(logged, run.dialect)
        for name in sorted(mine.keys() & theirs.keys()):
            if _is_derived(mine, name) and not _is_derived(theirs, name):
                continue  # updates from the epochs and batches that the log prints, where a file has them in words
            if mine[name].value != theirs[name].value:
                overruled |= {theirs[name].key} - logged.keys()
                run.notes.append(
                    f"{mine[name].key} is {mine[name].value} in the log ({mine[name].source}) and "
                    f"{theirs[name].value} in {theirs[name].source}; the log's value is used."
                )
    run.settings = canonical_settings({key: raw[key] for key in raw if key not in overruled}, run.dialect)


def _is_derived(settings: Mapping[str, Setting], name: str) -> bool:
    """Whether a setting was worked out of another one, whose key it carries."""
    return any(other != name and settings[other].key == settings[name].key for other in settings)
