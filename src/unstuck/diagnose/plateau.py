"""Reduce-on-plateau schedulers, replayed over a list of evaluations.

Three ways to count, each from its source: PyTorch's `torch.optim.lr_scheduler.ReduceLROnPlateau` lowers the rate when
more than `patience` evaluations in a row brought no improvement of a share `threshold` of the best; Keras'
`ReduceLROnPlateau` when `patience` of them brought none of an absolute `min_delta`; ours counts as PyTorch does, with
an absolute threshold. Lightning and the transformers Trainer use PyTorch's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from unstuck.diagnose.statistics import Floats

# The same in PyTorch (patience, threshold) and Keras (patience, min_delta).
DEFAULT_PATIENCE = 10
DEFAULT_THRESHOLD = 1e-4


@dataclass(frozen=True, slots=True)
class PlateauScheduler:
    """The rule of one scheduler.

    Attributes:
        patience: as configured.
        counting: `torch` fires after patience + 1 evaluations without improvement, `keras` after patience.
        threshold: smallest improvement that counts.
        relative: whether the threshold is a share of the best value.
        cooldown: evaluations after a reduction that are not counted.
        mode: `min` for a loss, `max` for an accuracy.
    """

    patience: int
    counting: Literal["torch", "keras"] = "torch"
    threshold: float = DEFAULT_THRESHOLD
    relative: bool = True
    cooldown: int = 0
    mode: Literal["min", "max"] = "min"

    @property
    def needed(self) -> int:
        """Evaluations in a row without improvement at which it fires."""
        return self.patience + 1 if self.counting == "torch" else max(1, self.patience)

    def improves(self, value: float, best: float) -> bool:
        """Whether `value` counts as better than `best`; nan never does."""
        if not math.isfinite(best):
            return value < best if self.mode == "min" else value > best
        margin = self.threshold * best if self.relative else self.threshold
        return value < best - margin if self.mode == "min" else value > best + margin


@dataclass(frozen=True, slots=True)
class Replay:
    """What a scheduler did over a history.

    Attributes:
        fired: indices of the evaluations after which it lowered the rate.
        best: index of the last evaluation that counted as an improvement; None where none did.
        bad: evaluations counted without improvement at the end.
        longest: for each index, `bad` before any reduction, to look up other patience values.
        next: index of the evaluation at which it fires if no improvement comes any more.
    """

    fired: tuple[int, ...]
    best: int | None
    bad: int
    longest: tuple[int, ...]
    next: int


def replay(values: Floats, scheduler: PlateauScheduler) -> Replay:
    """Step the scheduler once per value, shape (n,); nan is no improvement."""
    worst = math.inf if scheduler.mode == "min" else -math.inf
    best, best_at, bad, streak, cooldown = worst, None, 0, 0, 0
    fired: list[int] = []
    streaks: list[int] = []
    for index, value in enumerate(values.tolist()):
        better = scheduler.improves(value, best)
        if better:
            best, best_at = value, index
        streak = 0 if better else streak + 1
        bad = 0 if better else bad + 1
        if cooldown:
            cooldown -= 1
            # Keras counts the evaluation that ends the cooldown, PyTorch does not
            bad = 0 if better or cooldown or scheduler.counting == "torch" else 1
        if bad >= scheduler.needed:
            fired.append(index)
            bad, cooldown = 0, scheduler.cooldown
        streaks.append(streak)
    wait = cooldown - (scheduler.counting == "keras") if cooldown else 0
    upcoming = len(streaks) - 1 + wait + scheduler.needed - bad
    return Replay(tuple(fired), best_at, bad, tuple(streaks), upcoming)


def first_firings(replayed: Replay, scheduler: PlateauScheduler) -> dict[int, int]:
    """Smaller patience -> index of the evaluation at which it would first have fired; those that never would left out.

    The first reduction does not depend on the cooldown, so the longest row without improvement decides it.
    """
    extra = scheduler.needed - scheduler.patience
    firings: dict[int, int] = {}
    reached = 0
    for index, streak in enumerate(replayed.longest):
        if streak > reached:
            reached = streak
            if 1 <= streak - extra < scheduler.patience:
                firings[streak - extra] = index
    return firings
