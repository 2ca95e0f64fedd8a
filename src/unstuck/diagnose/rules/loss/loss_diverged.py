"""The loss left its best level for good.

Finds
At the end of the run the training loss lies above its best level by more than noise, by at least a fifth of what it
had learnt and 5 % of its level (and, where ln V is known, of its distance to ln V), and it does not come back. A run
that had learnt nothing has nothing to lose: there the loss must have doubled, beyond the scatter of single points.

Why it matters
The weights are worse than they were; going on does not repair it.

Evidence needed
At least 30 points of the training loss; of 10 or more, means over many updates, what no few points hide.

Not when
A spike that was recovered from; a restart or another stage that the learning rate explains and the loss falls from
again; a level that wanders within its noise; a loss that never fell and is small, noisy or negative (a penalty or a
policy's loss, whose level says nothing of learning).

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
from unstuck.diagnose.statistics import false_alarm_z, level, rise_after_best
from unstuck.runs import Series

MIN_POINTS = 30
FEWEST, HALF_AFTER = 10, 4  # points, and those after the lowest: two of them are the level at the end
# A fifth of what was learnt: warm restarts (Loshchilov, Hutter 2017) give back less and regain it.
LOST_SHARE = 0.2
LEVEL_SHARE = 0.05  # five times what another seed gives (overfitting.MATERIAL_SHARE)
# Without anything learnt the best level is the start's. Outputs as large as the targets and independent of them have
# twice the squared error of predicting nothing (the two variances add): beyond it the outputs themselves have grown.
BLOWN_UP = 2.0
# Where ln V is known, as initial-loss-implausible: a quarter above it is no answer of untrained weights any more.
ABOVE_CHANCE = 1.25


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
    if len(loss) < FEWEST:
        return CouldNotCheck((f"{FEWEST} points of train/loss",))
    if len(loss) < MIN_POINTS:
        return _of_few(case, loss)
    n = len(loss)
    tail = max(5, n // 10)
    end, error = level(loss.values[-tail:])
    end = float(np.median(loss.values[-tail:]))
    best = int(np.argmin(trend.values[: n - tail]))
    best_level = float(trend.values[best])
    scatter = float(np.std(loss.values[: n - tail] - trend.values[: n - tail]))
    rise = end - best_level
    # the best of n / tail independent levels was chosen: as many looks
    noise = false_alarm_z(n / tail) * math.hypot(0.0 if math.isnan(error) else error, scatter / math.sqrt(min(tail, 5)))
    learnt = _learnt(case, best_level, scatter)
    if not learnt and best_level <= 0:
        return Clear("a loss that never fell and is not positive says nothing of learning")
    threshold = max(noise, _least(case, best_level) if learnt else _blown_up(case, best_level, scatter))
    if rise <= threshold:
        return Clear()
    half = loss.values[-tail:]
    returning = float(np.median(half[: tail // 2]) - np.median(half[tail // 2 :]))
    peak = float(trend.values[best:].max())
    if returning > 2 * (error if error == error else 0.0) and end < best_level + (peak - best_level) / 2:
        return Clear("the loss is on its way back")
    since = _leaves(trend.values, best, threshold)
    return _found(case, loss, since, best, (best_level, end), threshold, learnt)


def _of_few(case: Case, loss: Series) -> Outcome:
    """As above, from the lowest point and its neighbours to the later half of what came after it."""
    values = loss.values
    rise = rise_after_best(values)
    if rise is None or len(values) - 1 - rise.best < HALF_AFTER:
        return Clear("the last points are the lowest")
    learnt = case.descent > 0 and rise.best > 0
    if not learnt and rise.best_level <= 0:
        return Clear("a loss that never fell and is not positive says nothing of learning")
    least = _least(case, rise.best_level) if learnt else _blown_up(case, rise.best_level, 0.0)
    threshold = max(rise.threshold, least)
    peak = float(values[rise.best :].max())
    if not rise.rise > threshold or values[-1] < (rise.best_level + peak) / 2:
        return Clear()
    since = _leaves(values, rise.best, threshold)
    return _found(case, loss, since, rise.best, (rise.best_level, rise.end_level), threshold, learnt)


def _found(
    case: Case, loss: Series, since: int, best: int, levels: tuple[float, float], threshold: float, learnt: bool
) -> Found:
    (best_level, end), n = levels, len(loss)
    from_update, last = int(loss.updates[since]), int(loss.updates[-1])
    return Found(
        title=f"Loss rose from {best_level:.4g} at update {int(loss.updates[best])} to {end:.4g} and stayed there"
        + ("" if learnt else "; it had never fallen before"),
        evidence=(
            Evidence(
                "train/loss",
                (from_update, last),
                "level at the end above the best",
                end - best_level,
                threshold,
                loss.source(n - 1),
            ),
        ),
        confidence=0.95,
        facts={
            "best_update": int(loss.updates[best]),
            "best_value": best_level,
            "rise": end - best_level,
            "since_update": from_update,
            "applied_lr": None if case.lr is None else case.lr.at(from_update),
            "level": end,
            "learnt": learnt,
        },
    )


def _learnt(case: Case, best_level: float, scatter: float) -> bool:
    """Whether the loss came down beyond the scatter of its points, or stands below ln V as a pretrained start does."""
    if case.is_token_loss and case.chance is not None and best_level > 0:
        return case.chance - best_level > LEVEL_SHARE * case.chance
    return case.loss is not None and case.descent > false_alarm_z(len(case.loss)) * scatter


def _least(case: Case, best_level: float) -> float:
    """The least rise that costs something of what was learnt."""
    to_chance = case.chance - best_level if case.is_token_loss and case.chance is not None else 0.0
    return max(LOST_SHARE * case.descent, LEVEL_SHARE * max(abs(best_level), to_chance))


def _blown_up(case: Case, best_level: float, scatter: float) -> float:
    """The rise beyond which a loss that never fell is worse than any untrained answer, scatter of points included."""
    chance = case.chance if case.is_token_loss else None
    limit = ABOVE_CHANCE * chance if chance is not None else BLOWN_UP * best_level
    return limit - best_level + false_alarm_z(0 if case.loss is None else len(case.loss)) * scatter


def _leaves(trend: np.ndarray, best: int, threshold: float) -> int:
    """Index of the last crossing of best + threshold / 2 from below, after the best."""
    above = trend[best:] > trend[best] + threshold / 2
    below = np.flatnonzero(~above)
    return min(len(trend) - 1, best + (int(below[-1]) + 1 if len(below) else 0))
