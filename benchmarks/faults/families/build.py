"""Puts a family's samples together as a setup wants them: the data faults that every family can have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.faults.problem import IGNORED, Pair, Problem, joined, subset
from benchmarks.faults.settings import Setup


def build(
    setup: Setup,
    kind: str,
    make_model: Callable[[], nn.Module],
    *,
    train: Pair,
    validation: Pair,
    shifted: Pair,
    clean: Pair,
    order: Tensor,
    groups: Callable[[nn.Module], Mapping[str, list[nn.Parameter]]] | None = None,
    vary: Callable[[Tensor, Tensor, torch.Generator], Pair] | None = None,
    facts: Mapping[str, Any],
) -> Problem:
    """A problem with the setup's data options and data bugs.

    Args:
        shifted: validation samples of another distribution.
        order: training samples sorted by class or source, shape (N,).
    """
    data, bugs = setup.settings.data, setup.bugs
    train = subset(train, data.get("train_samples"))
    train = (train[0].clone(), train[1].clone())
    if bugs.targets == "permuted":
        train, validation = permuted(train), permuted(validation)
    if bugs.validation == "shifted":
        validation = shifted
    draw = data.get("val_samples")
    if bugs.validation == "trained":
        validation, draw = subset(validation, draw), None
        train = joined(train, validation)
    if bugs.bad_samples:
        _spoil(train, kind, _places(setup, len(train[0])))
    return Problem(
        kind=kind, make_model=make_model, train=train, validation=validation, clean=clean, validation_draw=draw,
        vary=vary, groups=groups, facts=dict(facts), sorted_order=order[order < len(train[0])],
    )  # fmt: skip


def permuted(pair: Pair) -> Pair:
    """Each input with the target of another sample."""
    return pair[0], pair[1][torch.randperm(len(pair[1]), generator=torch.Generator().manual_seed(1))]


def _places(setup: Setup, count: int) -> range:
    """Every n-th sample, so that the first is met after about a third of the run (or of the first epoch)."""
    settings = setup.settings
    seen = min(count, settings.updates * settings.batch_size * settings.accumulation)
    return range(0, count, max(1, min(count, seen // setup.bugs.bad_samples)))


def _spoil(pair: Pair, kind: str, places: range) -> None:
    """Samples with no target, or with a missing value."""
    for place in places:
        if kind == "tokens":
            pair[1][place] = IGNORED
        elif kind == "classes":
            pair[0][place].view(-1)[0] = math.nan
        else:
            pair[1][place].view(-1)[0] = math.nan
