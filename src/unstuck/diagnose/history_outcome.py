"""How two runs compare: their losses at the last update that both reached, and whether noise explains it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unstuck.diagnose import statistics
from unstuck.diagnose.history_order import common_result, result
from unstuck.runs import Run, Series, Source

# Standard deviation over seeds as a share of the loss, where no runs of the same settings tell it: GPT-2 124M has
# 0.0004 at its end (0.00135 nats, modded-nanogpt records), small models 5 to 30 times that; 0.005 is in between (ours).
SEED_SHARE = 0.005
Verdict = Literal["better", "worse", "no difference beyond noise"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Two runs at a matched update.

    Attributes:
        series: `val/loss` where both have it, else the training loss.
        update: the last update that both reached; where they have none in common, the last one of the run that was
            trained longer and is worse all the same.
        old, new: lowest validation loss up to there, or the level of the training loss there.
        error: standard error of the difference: what another seed would give, and both runs' own noise where no
            repeats show it.
        limit: difference that noise passes once in a thousand times.
        verdict: of the new run.
        source: where the new run's value was read.
    """

    series: str
    update: int
    old: float
    new: float
    error: float
    limit: float
    verdict: Verdict
    source: Source | None = None

    @property
    def difference(self) -> float:
        """New minus old: negative is better."""
        return self.new - self.old


def compare(old: Run, new: Run, seed_sd: float | None = None) -> Outcome | None:
    """The outcome of `new` against `old`; None where they have no loss or no update in common.

    Args:
        seed_sd: standard deviation over seeds as runs of the same settings show it, which holds all noise of a run;
            `SEED_SHARE` of the loss where that is larger, because a few repeats may lie close by chance.
    """
    name = common_result(old, new)
    a, b = (result(run, name) if name else None for run in (old, new))
    if name is None or a is None or b is None:
        return None
    update = int(min(a.updates[-1], b.updates[-1]))
    apart = update < max(int(a.updates[0]), int(b.updates[0]))
    x, y = (_level(series, int(series.updates[-1]) if apart else update, name) for series in (a, b))
    assumed = SEED_SHARE * min(abs(x[0]), abs(y[0]))
    seed = math.sqrt(2) * max(assumed, seed_sd or 0.0)
    own = () if seed_sd is not None else (_noise(old, a, x[1], name), _noise(new, b, y[1], name))
    error = math.hypot(seed, *own)
    limit = statistics.false_alarm_z(1) * error
    verdict: Verdict = "no difference beyond noise"
    if abs(y[0] - x[0]) > limit:
        verdict = "better" if y[0] < x[0] else "worse"
    if apart:
        if verdict != ("worse" if b.updates[-1] > a.updates[-1] else "better"):
            return None  # that the longer run is better says nothing
        update = int(max(a.updates[-1], b.updates[-1]))
    return Outcome(name, update, x[0], y[0], error, limit, verdict, y[2])


def _level(series: Series, update: int, name: str) -> tuple[float, float, Source | None]:
    """Value, its own error where the points around it tell it (nan else), and place."""
    until = series.where(series.updates <= update)
    if name != "train/loss":
        best = int(np.argmin(until.values))
        return float(until.values[best]), math.nan, until.source(best)
    # the last tenth: a level, since one point of the training loss is one batch
    tail = until.values[-max(5, len(until) // 10) :]
    level, error = statistics.level(tail)
    return level, error, until.source(len(until) - 1)


def _noise(run: Run, series: Series, own: float, name: str) -> float:
    """Standard error of one run's value, 0 where nothing tells it."""
    if math.isfinite(own):
        return own
    half = series.values[len(series) // 2 :]
    noise = _point_noise(half if len(half) >= 6 else series.values)
    if math.isfinite(noise):
        return noise
    tokens = run.setting("validation_tokens")
    if name == "val/loss" and tokens and series.unit == "nats/token":
        error = statistics.validation_standard_error(float(series.values.min()), float(tokens))
        return error if math.isfinite(error) else 0.0
    return 0.0


def _point_noise(values: statistics.Floats) -> float:
    """`noise_sd`, or what third differences give where that is less: few evaluations of a fast fall are curved.

    Third differences of white noise of variance s^2 have variance 20 s^2, and a quadratic leaves nothing in them.
    """
    noise = statistics.noise_sd(values)
    if len(values) < 6:
        return noise
    third = statistics.MAD_TO_SD * float(np.median(np.abs(np.diff(values, n=3)))) / math.sqrt(20)
    return min(noise, third)
