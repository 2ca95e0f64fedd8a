"""Learning-rate multipliers as plain scripts write them, and with the bugs that plain scripts have."""

from __future__ import annotations

import math

from benchmarks.faults.settings import Bugs, Settings


def warmup_of(settings: Settings, bugs: Bugs) -> int:
    """The ramp that is applied: `int(share)` of a share is 0 (incident I3)."""
    return 0 if bugs.warmup_cast else settings.warmup


def multiplier(settings: Settings, bugs: Bugs, update: int, begun_at: int = 0) -> float:
    """The share of the peak with which update `update` (counted from 0) is made.

    Args:
        begun_at: the update at which the schedule was begun anew; 0: never.
    """
    step = (update - begun_at) * bugs.steps_per_update
    horizon = max(1.0, (settings.updates - begun_at) * bugs.horizon_factor)
    warmup = warmup_of(settings, bugs)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if settings.schedule in ("constant", "plateau"):
        return 1.0
    done = (step - warmup) / max(1.0, horizon - warmup)
    if settings.schedule == "restarts":
        done = math.fmod(done * settings.cycles, 1.0) if done < 1.0 else 1.0
    if not bugs.mirrored or settings.schedule != "cosine":
        done = min(1.0, done)
    if settings.schedule == "linear":
        shape = 1.0 - done
    elif settings.schedule == "wsd":
        shape = min(1.0, (1.0 - done) / settings.decay_share)
    else:
        shape = 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.floor + (1.0 - settings.floor) * shape


class Plateau:
    """torch's ReduceLROnPlateau (mode min, relative threshold 1e-4), as a factor."""

    def __init__(self, patience: int, factor: float) -> None:
        self.patience, self.factor = patience, factor
        self.best, self.bad, self.share = math.inf, 0, 1.0

    def see(self, loss: float) -> None:
        """Take one evaluation into account."""
        if loss < self.best * (1 - 1e-4):
            self.best, self.bad = loss, 0
        else:
            self.bad += 1
        if self.bad > self.patience:
            self.share, self.bad = self.share * self.factor, 0
