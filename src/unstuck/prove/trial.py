"""One trial's recipe: the run's own, shortened. Schedules shrink by the same ratio for both settings.

A short trial of an unscaled schedule measures the wrong thing: missing warm-up costs 0.714 nats at update 1,000 and
0.106 at the end, linear decay leads at 1,000 and loses 0.022 at the end (PERFORMANCE.md, "Noise"). So everything the
recipe gives in updates is multiplied by trial / planned. A horizon ten times the run stays ten times the trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import unstuck
from unstuck.config.recipe import flatten
from unstuck.config.schema import Config
from unstuck.train.accumulation import micro_batches

# Settings that do not change what is trained, so that trials on disk stay usable when they change.
NOT_TRAINED = ("name", "runs_folder", "checkpoint")
TRAINS = ("config", "data", "evaluate", "models", "train")  # the packages whose code decides a trial's result
LENGTH_KEYS = frozenset({"training.updates", "training.epochs"})


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long a setting's run is planned, and how many tokens (or fields) one of its updates takes."""

    planned_updates: int
    tokens_per_update: int


def lengths(config: Config, train_windows: int | None = None) -> Lengths:
    """Planned optimizer updates of the run that `config` describes.

    Args:
        train_windows: windows in one epoch; needed only where the length is given in epochs.
    """
    training = config.training
    context = getattr(config.data, "context", 1)
    windows_per_update = training.batch_size * micro_batches(training, context)
    if training.updates is not None:
        planned = training.updates
    else:
        if training.epochs is None or train_windows is None:
            raise ValueError("a length in epochs needs the number of training windows")
        planned = max(1, round(training.epochs * train_windows / windows_per_update))
    return Lengths(planned, windows_per_update * context)


def changed_updates(base: Lengths, changed: Lengths, base_trial: int, *, length_changed: bool) -> int:
    """Updates of the changed setting's trial: the same tokens as the base's trial.

    Only a change of the length itself (`training.updates`, `training.epochs`) may change the tokens: then the trial
    keeps the ratio of the two planned lengths in tokens.
    """
    tokens = base_trial * base.tokens_per_update
    if length_changed:
        tokens = round(
            tokens
            * (changed.planned_updates * changed.tokens_per_update)
            / (base.planned_updates * base.tokens_per_update)
        )
    return max(1, round(tokens / changed.tokens_per_update))


def shortened(config: Config, *, updates: int, planned: int, seed: int, folder: Path) -> Config:
    """The recipe of one trial: `updates` long, schedule scaled by updates / planned, one thread, no spare writing."""
    ratio = updates / planned
    schedule: dict[str, Any] = {}
    for key in ("warmup_updates", "horizon_updates"):
        value = getattr(config.schedule, key)
        if value:  # a length given in updates; 0 (no warm-up) stays 0, null stays null
            schedule[key] = max(1, round(value * ratio))
    model: dict[str, Any] = {}
    sleep = getattr(config.model, "sleep", None)
    if sleep is not None and sleep.every_updates is not None:
        model["sleep"] = {key: max(1, round(getattr(sleep, key) * ratio)) for key in ("every_updates", "updates")}
    evaluates_often = config.schedule.kind == "plateau" or config.evaluation.patience is not None
    every = max(1, round(config.evaluation.every_updates * ratio)) if evaluates_often else updates
    return replaced(
        config,
        {
            "name": "trial",
            "seed": seed,
            "runs_folder": str(folder),
            "schedule": schedule,
            "model": model,
            "training": {"updates": updates, "epochs": None, "threads": 1},
            "evaluation": {"every_updates": every},
            "checkpoint": {"every_updates": None},
        },
    )


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
    """A validated copy with nested values replaced."""

    def merge(old: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        return {**old, **{k: merge(old[k], v) if isinstance(v, Mapping) else v for k, v in new.items()}}

    return Config.model_validate(merge(config.model_dump(), values))


def trial_key(config: Config) -> str:
    """Name of a trial on disk: a hash of everything that decides its result, the program's own code included."""
    values = config.model_dump(mode="json", exclude=set(NOT_TRAINED))
    if config.start_from is not None:  # a path alone does not say that the weights are still the same
        values["start_from"] = _fingerprint(Path(config.start_from))
    for section, key in (("data", "source"), ("data", "tokenizer"), ("model", "path")):
        named = values[section].get(key)
        if isinstance(named, str) and (path := Path(named).expanduser()).exists():
            values[section][key] = _fingerprint(path)
    text = json.dumps({"program": _program(), **values}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _program() -> list[str]:
    """What trains: a trial of other code, or of another torch, must not be taken for one of this."""
    root = Path(unstuck.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(p for folder in TRAINS for p in (root / folder).rglob("*.py")):
        digest.update(file.read_bytes())
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    return [unstuck.__version__, digest.hexdigest(), torch]


def _fingerprint(path: Path) -> list[Any]:
    """Path, sizes and times of change of the files below: cheap, and any rewrite changes it."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [str(path.resolve()), [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in files]]


def differences(base: Config, changed: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ in what is trained: key -> (base's, changed's)."""
    old, new = flatten(base.model_dump(mode="json")), flatten(changed.model_dump(mode="json"))
    ignored = {*NOT_TRAINED, "seed"}
    keys = [key for key in {**old, **new} if key.split(".")[0] not in ignored]
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}
