"""Learning-rate schedules: the one authority, in optimizer updates, in pure Python.

`multiplier(schedule, update, planned_updates=...)` gives the share of the peak that the update with index `update`
(counted from 0: the first update is 0) is made with. Every group's learning rate is its base rate times this one
number. With W warm-up updates, horizon H, floor f and progress p = (update - W) / (H - W) cut to [0, 1]:

| kind | multiplier after the warm-up | source |
|---|---|---|
| constant | 1 | |
| linear | f + (1 - f) (1 - p) | arXiv 1706.02677 for the warm-up; linear decay to zero: arXiv 2502.15938 |
| cosine | f + (1 - f) (1 + cos(pi p)) / 2 | Loshchilov, Hutter, SGDR, arXiv 1608.03983, equation 5 |
| wsd | 1, then linear to f over the last decay_share of H | Hu et al., MiniCPM, arXiv 2404.06395, section 4 |
| polynomial | f + (1 - f) (1 - p)^power | Chen et al., DeepLab, arXiv 1606.00915, section 4.1 ("poly") |
| inverse_sqrt | max(f, sqrt(T / (update + 1 - W + T))), T = W or 10,000 | Vaswani et al., arXiv 1706.03762, 5.3 |
| restarts | cosine, begun anew `cycles` times within H | SGDR, arXiv 1608.03983, section 3 |
| plateau | what `Plateau` has come to | PyTorch's ReduceLROnPlateau, mode min |

Warm-up: (update + 1) / W, linear; the first update already moves, and update W - 1 is made at the peak. The decay
reaches f at update H, that is after the last planned update, so no planned update is wasted at a learning rate of 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from unstuck.config.schema import ScheduleConfig

# Without a warm-up there is no T to take from it; transformers' inverse-square-root schedule takes 10,000 as well
# (`get_inverse_sqrt_schedule`, optimization.py).
INVERSE_SQRT_TIMESCALE = 10_000


def horizon(schedule: ScheduleConfig, planned_updates: int) -> int:
    """Optimizer updates the schedule spans: what it says itself, else all planned updates."""
    return schedule.horizon_updates or max(1, planned_updates)


def warmup_updates(schedule: ScheduleConfig, planned_updates: int) -> int:
    """Length of the warm-up in optimizer updates; a share is of the horizon, rounded to the nearest update."""
    if schedule.warmup_updates is not None:
        return schedule.warmup_updates
    return round((schedule.warmup_share or 0.0) * horizon(schedule, planned_updates))


def decay_from(schedule: ScheduleConfig, planned_updates: int) -> int:
    """The update that wsd's decay begins at."""
    span = horizon(schedule, planned_updates)
    return max(warmup_updates(schedule, planned_updates), span - round(schedule.decay_share * span))


def multiplier(schedule: ScheduleConfig, update: int, *, planned_updates: int, plateau_scale: float = 1.0) -> float:
    """Share of the peak learning rate, in [0, 1], for the update with index `update`.

    Args:
        schedule: the recipe's schedule.
        update: optimizer updates made before this one, from 0.
        planned_updates: optimizer updates the run is to make; the horizon unless the schedule names its own.
        plateau_scale: what `Plateau.scale` has come to; only the plateau schedule looks at it.
    """
    span = horizon(schedule, planned_updates)
    warmup = warmup_updates(schedule, planned_updates)
    if update < warmup:
        return (update + 1) / warmup * (plateau_scale if schedule.kind == "plateau" else 1.0)
    floor = schedule.floor
    progress = min(1.0, (update - warmup) / max(1, span - warmup))
    kind = schedule.kind
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return floor + (1.0 - floor) * (1.0 - progress)
    if kind == "cosine":
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))
    if kind == "wsd":
        begin = decay_from(schedule, planned_updates)
        decayed = min(1.0, max(0.0, (update - begin) / max(1, span - begin)))
        return floor + (1.0 - floor) * (1.0 - decayed)
    if kind == "polynomial":
        return float(floor + (1.0 - floor) * (1.0 - progress) ** schedule.power)
    if kind == "inverse_sqrt":
        timescale = warmup or INVERSE_SQRT_TIMESCALE
        return max(floor, math.sqrt(timescale / (update + 1 - warmup + timescale)))
    if kind == "restarts":
        within = 1.0 if progress >= 1.0 else (progress * schedule.cycles) % 1.0
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * within))
    return plateau_scale


@dataclass(slots=True)
class Plateau:
    """Reduce on plateau: the state that the plateau schedule carries from evaluation to evaluation.

    As PyTorch's ReduceLROnPlateau: the rate is lowered at the first evaluation at which more than `patience`
    evaluations in a row brought no improvement (so with patience 5 and the best at the first, at the seventh).
    """

    scale: float = 1.0
    best: float = math.inf
    bad_evaluations: int = 0

    def observe(self, val_loss: float, schedule: ScheduleConfig, min_improvement: float = 0.0) -> bool:
        """Take one evaluation's loss (nats/token); True when the learning rate was lowered."""
        if val_loss < self.best - min_improvement:
            self.best, self.bad_evaluations = val_loss, 0
            return False
        self.bad_evaluations += 1  # nan is no improvement
        if self.bad_evaluations <= schedule.patience:
            return False
        self.bad_evaluations = 0
        lowered = max(schedule.floor, self.scale * schedule.factor)
        changed, self.scale = lowered < self.scale, lowered
        return changed
