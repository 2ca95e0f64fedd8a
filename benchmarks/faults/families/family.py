"""What a family is: it draws healthy setups and makes the problem of a setup."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol

from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Setup

# What most families can have. Those of one family alone stand in its file.
GENERAL_FAULTS = (
    "lr-too-high", "lr-too-low", "warmup-too-long", "horizon-in-micro-batches", "stepped-per-micro-batch",
    "schedule-constant", "restarts-unplanned", "plateau-idle", "lr-jump-at-resume", "stale-rate-at-resume",
    "group-starved", "clip-too-low", "clip-never-active", "bad-samples", "half-overflow", "zero-by-filter",
    "validation-shifted", "validation-small", "loss-summed", "frozen-body", "overfitting", "undertrained",
    "batch-small", "data-bound", "slows-down", "out-of-memory", "unshuffled",
)  # fmt: skip
LANGUAGE_FAULTS = (
    *GENERAL_FAULTS, "targets-permuted", "smoothing", "loss-divided", "decayed-norms",
)  # fmt: skip
CLASS_FAULTS = (*GENERAL_FAULTS, "labels-permuted", "smoothing", "loss-divided", "vanishing")
FIELD_FAULTS = (*GENERAL_FAULTS, "targets-permuted", "vanishing")
LANGUAGE_CONTROLS = (
    "restarts-planned", "resume-planned", "plateau-schedule", "constant-rate", "dropout-gap", "clip-small", "adam",
    "batch-large", "rate-aside", "converged",
)  # fmt: skip
FEATURE_CONTROLS = tuple(name for name in LANGUAGE_CONTROLS if name != "dropout-gap")


class Family(Protocol):
    """One kind of model and data.

    Attributes:
        name: of the family.
        kind: of its problems, see `Problem.kind`.
        trainers: trainer -> styles it is drawn with (the plain loop alone has several).
        faults: names of the catalogue that make sense here.
        controls: names of the healthy controls that make sense here.
    """

    name: str
    kind: str
    trainers: Mapping[str, tuple[str, ...]]
    faults: tuple[str, ...]
    controls: tuple[str, ...]

    def setup(self, trainer: str, style: str, rng: Random) -> Setup: ...

    def problem(self, setup: Setup) -> Problem: ...


@dataclass(frozen=True, slots=True)
class Drawn:
    """Choices that several families draw alike."""

    schedule: str
    warmup_share: float
    floor: float


def draw_schedule(rng: Random, style: str, kinds: tuple[str, ...] = ("cosine", "linear", "wsd")) -> Drawn:
    """A schedule that ends low: what healthy runs of a fixed length have."""
    kind = "cosine" if style == "nano" else rng.choice(kinds)
    return Drawn(kind, rng.choice((0.03, 0.05, 0.1)), rng.choice((0.0, 0.05, 0.1)))
