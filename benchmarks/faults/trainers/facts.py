"""Everything a script could print of its configuration, under canonical names; each style picks and renames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from benchmarks.faults.problem import Problem, parameter_count
from benchmarks.faults.settings import Settings

Facts = dict[str, Any]


def facts_of(settings: Settings, problem: Problem, model: nn.Module, seed: int) -> Facts:
    """Canonical name -> value, None where the run has no such thing. Nothing here comes from `Bugs`."""
    samples = len(problem.train[0])
    per_update = settings.batch_size * settings.accumulation
    per_epoch = max(1, samples // settings.batch_size // settings.accumulation)
    sgd = settings.optimizer == "sgd"
    return {
        "seed": seed,
        **problem.facts,
        **{f"model_{key}": value for key, value in settings.model.items()},
        "dropout": settings.dropout,
        "parameters": parameter_count(model),
        "trainable": parameter_count(model, trainable=True),
        "train_samples": samples,
        "val_samples": problem.validation_draw or len(problem.validation[0]),
        "updates": settings.updates,
        "epochs": max(1, round(settings.updates / per_epoch)),
        "updates_per_epoch": per_epoch,
        "batch_size": settings.batch_size,
        "accumulation": settings.accumulation,
        "samples_per_update": per_update,
        "optimizer": settings.optimizer,
        "lr": settings.learning_rate,
        "beta2": None if sgd else settings.beta2,
        "momentum": settings.momentum if sgd else None,
        "weight_decay": settings.weight_decay,
        "schedule": settings.schedule,
        "warmup": None if settings.warmup_as_share else settings.warmup,
        "warmup_ratio": settings.warmup / settings.updates if settings.warmup_as_share else None,
        "floor": settings.floor if settings.schedule not in ("constant", "plateau") else None,
        "cycles": settings.cycles if settings.schedule == "restarts" else None,
        "patience": settings.patience if settings.schedule == "plateau" else None,
        "factor": settings.factor if settings.schedule == "plateau" else None,
        "decay_share": settings.decay_share if settings.schedule == "wsd" else None,
        "clip": settings.clip_norm or 0.0,
        "smoothing": settings.label_smoothing or None,
        "precision": settings.precision,
        "shuffle": settings.shuffle,
        "eval_every": settings.eval_every,
        "log_every": settings.log_every,
        **{f"lr_mult_{name}": factor for name, factor in settings.group_factors.items()},
    }


def renamed(facts: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The facts that `names` has a key for, in its order, without those that the run has not."""
    given = {key: facts[name] for name, key in names.items() if facts.get(name) is not None}
    further = {n: v for n, v in facts.items() if n.startswith("lr_mult_")} if "lr" in names else {}
    return given | further


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested sections."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree
