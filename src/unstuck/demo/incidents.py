"""The demo's runs: real faults of real projects (INCIDENTS.md), put into a small recipe.

An incident says how a run goes wrong and which rules would name the cause; it says nothing about the cure. What is
found, changed and measured comes from the diagnosis of the run's own record.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from unstuck.config.sections.text import TextConfig


@dataclass(frozen=True, slots=True)
class Size:
    """How much the demo trains. `proof_updates` None: what `proof_seconds` allow on this machine."""

    layers: int = 3
    width: int = 96
    context: int = 64
    batch_size: int = 12
    updates: int = 300
    evaluate_every: int = 20
    validation_tokens: int = 16_384
    max_characters: int | None = None
    proof_updates: int | None = None
    proof_seconds: float = 80.0


# For the tests only (UNSTUCK_DEMO_SIZE=tiny): the same faults in a few seconds of training.
TINY = Size(
    layers=2,
    width=32,
    context=32,
    batch_size=8,
    updates=120,
    evaluate_every=15,
    validation_tokens=2_048,
    max_characters=200_000,
    proof_updates=40,
)


def size() -> Size:
    """The demo's size: the normal one, unless the tests ask for the tiny one."""
    return TINY if os.environ.get("UNSTUCK_DEMO_SIZE") == "tiny" else Size()


@dataclass(frozen=True, slots=True)
class Incident:
    """One way for a run to go wrong.

    Attributes:
        name: of `unstuck demo --incident NAME`.
        story: what happened in the real project, for the reader of the terminal.
        settings: dotted settings of the run as its owner wrote them, for a size.
        resume_settings: settings that its owner changes when resuming halfway; empty: the run is not resumed.
        expected: rules that name the cause; another rank 1 is a failure of the diagnosis, and the demo says so.
    """

    name: str
    story: str
    settings: Callable[[Size], dict[str, Any]]
    expected: frozenset[str]
    resume_settings: dict[str, Any] = field(default_factory=dict)


def healthy(size: Size) -> dict[str, Any]:
    """The recipe `gpt-char` as it is, evaluated more often; only the tests make it smaller."""
    if size.max_characters is None:
        return {"evaluation.every_updates": 15}
    return _small(size)


def plain(size: Size) -> dict[str, Any]:
    """A small GPT under AdamW, as the projects of the incidents have it: no tables of n-grams, one learning rate."""
    return {
        **_small(size),
        "model.ngrams": 1,
        "model.value_embeddings": False,
        "model.input_skip": False,
        "model.smear": False,
        "optimizer.kind": "adamw",
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.95,
        "optimizer.groups": [],
        "evaluation.patience": None,
    }


def _small(size: Size) -> dict[str, Any]:
    return {
        "data.context": size.context,
        "data.max_characters": size.max_characters,
        "model.layers": size.layers,
        "model.width": size.width,
        "training.batch_size": size.batch_size,
        "training.updates": size.updates,
        "evaluation.every_updates": size.evaluate_every,
        "evaluation.max_tokens": size.validation_tokens,
    }


def horizon_in_micro_batches(size: Size) -> dict[str, Any]:
    """I1: three parameter groups, accumulation 3, and a schedule of 20 epochs counted in micro-batches."""
    from unstuck.data import prepare

    data = TextConfig(context=size.context, max_characters=size.max_characters)
    micro_batches_per_epoch = prepare(data).examples // size.batch_size
    return {
        **plain(size),
        "optimizer.learning_rate": 2e-3,
        "optimizer.groups": [{"name": "memory", "pattern": r"blocks\.", "lr_factor": 0.1}],
        "training.accumulation": 3,
        "schedule.kind": "cosine",
        "schedule.warmup_share": 0.1,
        "schedule.horizon_updates": 20 * micro_batches_per_epoch,
    }


def warmup_cast_to_zero(size: Size) -> dict[str, Any]:
    """I3: a warm-up share of 0.1 that the program casts to a whole number of updates, 0, under AdamW."""
    return {
        **plain(size),
        "model.architecture": "gpt2",
        "optimizer.learning_rate": 5e-3,
        "optimizer.beta2": 0.99,
        "schedule.kind": "cosine",
        "schedule.warmup_share": 0.1,
        "inject_fault": "warmup-cast-to-zero",
    }


def resume_keeps_old_lr(size: Size) -> dict[str, Any]:
    """I4, first part: a run at a low constant learning rate, which its owner then wants to raise."""
    return {
        **plain(size),
        "optimizer.learning_rate": 1e-4,
        "schedule.kind": "constant",
        "schedule.warmup_share": None,
        "training.updates": size.updates // 3,
        "inject_fault": "resume-keeps-old-lr",
    }


INCIDENTS = {
    incident.name: incident
    for incident in (
        Incident(
            "horizon-in-micro-batches",
            "A GPT with a slow 'memory' parameter group (CortexGPT, incident I1). Its owner saw a loss that hardly "
            "moves and wrote a guide that blames the learning rate.",
            horizon_in_micro_batches,
            frozenset({"schedule-wrong-horizon", "lr-not-as-configured"}),
        ),
        Incident(
            "warmup-cast-to-zero",
            "A recipe asks for 10 % warm-up and the program computes int(0.1) (LTG-BERT on BabyLM, incident I3).",
            warmup_cast_to_zero,
            frozenset({"warmup-missing", "lr-not-as-configured"}),
        ),
        Incident(
            "resume-keeps-old-lr",
            "A run is resumed with a higher learning rate, and the optimizer's saved state brings the old one back "
            "(GPT-2 on questions and answers, incident I4).",
            resume_keeps_old_lr,
            frozenset({"lr-stale-after-resume"}),
            {"optimizer.learning_rate": 1e-3},
        ),
        Incident(
            "healthy",
            "The recipe gpt-char as it is: nothing is wrong with it, and nothing should be found.",
            healthy,
            frozenset(),
        ),
    )
}
DEFAULT = "horizon-in-micro-batches"
