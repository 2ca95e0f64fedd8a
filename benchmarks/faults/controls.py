"""Healthy controls: what sound runs also do, and rules have mistaken for a fault.

Each is a change of a healthy setup that leaves it healthy; `effect.py` checks that it did (its clean loss is compared
with its siblings'), and a control that learned less is left out of the count of healthy runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from benchmarks.faults.catalogue import resume_point
from benchmarks.faults.settings import Setup


@dataclass(frozen=True, slots=True)
class Control:
    """`accepted`: findings that state a fact of the run and are not wrong."""

    name: str
    apply: Callable[[Random, Setup], Setup | None]
    accepted: tuple[str, ...] = ()
    trainers: tuple[str, ...] = ("loop", "transformers", "unstuck")


def restarts_planned(rng: Random, setup: Setup) -> Setup | None:
    return setup.but(schedule="restarts", cycles=rng.choice((2, 3))) if setup.style != "nano" else None


def resume_planned(rng: Random, setup: Setup) -> Setup | None:
    return setup.but(resume_at=resume_point(rng, setup))


def plateau_schedule(rng: Random, setup: Setup) -> Setup | None:
    if setup.style == "nano":
        return None
    return setup.but(schedule="plateau", patience=rng.choice((1, 2)), factor=0.3)


def constant_rate(rng: Random, setup: Setup) -> Setup | None:
    rate = float(f"{0.5 * setup.settings.learning_rate:.2g}")
    return setup.but(schedule="constant", learning_rate=rate)


def dropout_gap(rng: Random, setup: Setup) -> Setup | None:
    return setup.but(dropout=rng.choice((0.05, 0.1)))


def clip_small(rng: Random, setup: Setup) -> Setup | None:
    return setup.but(clip_norm=rng.choice((0.1, 0.2))) if setup.settings.optimizer != "sgd" else None


def adam(rng: Random, setup: Setup) -> Setup | None:
    return setup.but(optimizer="adam", weight_decay=0.0) if setup.settings.optimizer == "adamw" else None


def batch_large(rng: Random, setup: Setup) -> Setup | None:
    return setup.but(batch_size=2 * setup.settings.batch_size)


def rate_aside(rng: Random, setup: Setup) -> Setup | None:
    rate = float(f"{setup.settings.learning_rate * rng.choice((0.5, 1.5)):.2g}")
    return setup.but(learning_rate=rate)


def converged(rng: Random, setup: Setup) -> Setup | None:
    """Twice as long: it ends where there is nothing more to learn."""
    settings = setup.settings
    return setup.but(
        updates=2 * settings.updates, eval_every=2 * settings.eval_every, log_every=2 * settings.log_every,
        warmup=2 * settings.warmup,
    )  # fmt: skip


CONTROLS: dict[str, Control] = {
    control.name: control
    for control in (
        Control("restarts-planned", restarts_planned),
        Control("resume-planned", resume_planned, trainers=("loop", "unstuck")),
        Control("plateau-schedule", plateau_schedule, trainers=("loop",)),
        Control("constant-rate", constant_rate, ("schedule-constant",)),
        Control("dropout-gap", dropout_gap),
        Control("clip-small", clip_small, ("clip-saturated",)),
        Control("adam", adam, trainers=("loop",)),
        Control("batch-large", batch_large),
        Control("rate-aside", rate_aside),
        Control("converged", converged),
    )
}
