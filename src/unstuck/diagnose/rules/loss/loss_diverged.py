"""The loss left its best level for good.

Finds
At the end of the run the training loss lies above its best level by more than noise, by at least a fifth of what it
had learnt and 5 % of its level, and it does not come back.

Why it matters
The weights are worse than they were; going on does not repair it.

Evidence needed
At least 30 points of the training loss.

Not when
A spike that was recovered from; a restart or another stage that the learning rate explains and the loss falls from
again; a level that wanders within its noise.

Remedy
Go back to the last checkpoint before the rise, with a lower learning rate.

References
Wortsman et al. 2023 (arXiv 2309.14322), small-scale proxies of training instability. Threshold: `statistics.fall`,
with the error of both levels.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import false_alarm_z, level

MIN_POINTS = 30
# A fifth of what was learnt: warm restarts (Loshchilov, Hutter 2017) give back less and regain it.
LOST_SHARE = 0.2
LEVEL_SHARE = 0.05  # five times what another seed gives (overfitting.MATERIAL_SHARE)


@rule(
    code="LO005",
    stages="LV",
    severity="error",
    explains=("loss-not-finite", "loss-spike", "best-checkpoint-passed", "loss-plateau", "loss-oscillating"),
)
def check(case: Case) -> Outcome:
    loss, trend = case.loss, case.loss_trend
    if loss is None or trend is None:
        return CouldNotCheck(("train/loss",))
    if len(loss) < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of train/loss",))
    n = len(loss)
    tail = max(5, n // 10)
    end, error = level(loss.values[-tail:])
    end = float(np.median(loss.values[-tail:]))
    best = int(np.argmin(trend.values[: n - tail]))
    best_level = float(trend.values[best])
    residual_sd = float(np.std(loss.values[: n - tail] - trend.values[: n - tail])) / math.sqrt(min(tail, 5))
    rise = end - best_level
    # the best of n / tail independent levels was chosen: as many looks
    threshold = max(
        false_alarm_z(n / tail) * math.hypot(0.0 if math.isnan(error) else error, residual_sd),
        LOST_SHARE * case.descent,
        LEVEL_SHARE * abs(best_level),
    )
    if rise <= threshold:
        return Clear()
    half = loss.values[-tail:]
    returning = float(np.median(half[: tail // 2]) - np.median(half[tail // 2 :]))
    peak = float(trend.values[best:].max())
    if returning > 2 * (error if error == error else 0.0) and end < best_level + (peak - best_level) / 2:
        return Clear("the loss is on its way back")
    since = int(loss.updates[_leaves(trend.values, best, threshold)])
    last = int(loss.updates[-1])
    return Found(
        title=f"Loss rose from {best_level:.4g} at update {int(loss.updates[best])} to {end:.4g} and stayed there",
        evidence=(
            Evidence(
                "train/loss", (since, last), "level at the end above the best", rise, threshold, loss.source(n - 1)
            ),
        ),
        confidence=0.95,
        facts={
            "best_update": int(loss.updates[best]),
            "best_value": best_level,
            "rise": rise,
            "since_update": since,
            "applied_lr": None if case.lr is None else case.lr.at(since),
            "level": end,
        },
    )


def _leaves(trend: np.ndarray, best: int, threshold: float) -> int:
    """Index of the last crossing of best + threshold / 2 from below, after the best."""
    above = trend[best:] > trend[best] + threshold / 2
    below = np.flatnonzero(~above)
    return min(len(trend) - 1, best + (int(below[-1]) + 1 if len(below) else 0))
