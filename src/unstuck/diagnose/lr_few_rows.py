"""Signs of a step size that is too large in a log of few rows: what each row's mean over many updates still shows.

A sound run's first row is its highest, all the more so where it is the mean of a first epoch: rows above it tell what
noise of unknown size cannot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose import few_points, statistics
from unstuck.diagnose.case import Case
from unstuck.diagnose.lr_curve import LEAST_ROWS
from unstuck.diagnose.rule import Evidence, Severity
from unstuck.diagnose.scales import Scale
from unstuck.diagnose.statistics import Floats
from unstuck.runs import Series

FAR_OVER = 3.0  # times the highest published value
BLOW_UP = 0.1  # of the start: what noise and a bump in the warm-up leave behind is less (ours)
EARLY = 0.1  # of the run: warm-ups are 1 to 10 % of a run in the published recipes
HALF_GUESSED = 0.5  # ours: of ln K; a classifier that has learned half of it did not fail for its step size
AT_PEAK = 0.5  # "at its peak": at least half of it
RUN_AWAY = 2  # times in a row that noise does not double a loss
ORDER = 10.0  # as gradient-exploding
HUMP = 3  # rows in a row: one or two may be bad batches, as in loss-spike
ALARM = 1e-3  # as `statistics.false_alarm_z`


@dataclass(frozen=True, slots=True)
class Sign:
    """One pattern: what it is in words, the evidence, and how sure."""

    says: str
    evidence: Evidence
    confidence: float
    severity: Severity


def rates_of(case: Case) -> Floats | None:
    """The learning rate at the points of the loss, shape (n,); a constant schedule may be configured only."""
    if case.loss is None:
        return None
    if case.lr is not None and len(case.lr) >= 2:
        return np.interp(case.loss.updates.astype(np.float64), case.lr.updates.astype(np.float64), case.lr.values)
    return None


def ran_away(case: Case) -> Sign | None:
    """Rows that double and double again, or one in the first tenth that is ten times as high, and then no number."""
    series = case.run.get("train/loss")
    if series is None or not len(series):
        return None
    stop = int(np.argmin(np.isfinite(series.values)))
    values = series.values[:stop]
    if stop < 2 or values.min() <= 0:
        return None
    least = min(float(factor) for factor in values[1:][-RUN_AWAY:] / values[:-1][-RUN_AWAY:])
    early = stop <= EARLY * len(series) and values[-1] >= ORDER * values[:-1].max()
    if not early and (stop <= RUN_AWAY or least < 2.0):
        return None
    start, end = int(series.updates[max(0, stop - 1 - RUN_AWAY)]), int(series.updates[stop])
    rates = None if case.lr is None else case.lr.between(0, end).values
    if rates is not None and len(rates) and float(rates[-1]) < AT_PEAK * float(rates.max()):
        return None
    first, top = float(values[max(0, stop - 1 - RUN_AWAY)]), float(values[-1])
    says = f"the loss goes from {first:.4g} at update {start:,} to {top:.4g} and is not finite at update {end:,}"
    evidence = Evidence("train/loss", (start, end), "least factor from row to row", least, 2.0, series.source(stop))
    return Sign(says, evidence, 0.85, "error")


def towers(loss: Series, scale: Scale | None, peak: float) -> Sign | None:
    """A rate far over any published one, and a row twice as high as the first; of few rows each is a mean."""
    top = int(np.argmax(loss.values))
    first, high = float(loss.values[0]), float(loss.values[top])
    if scale is None or peak < FAR_OVER * scale.high or first <= 0 or high <= 2 * first:
        return None
    update = int(loss.updates[top])
    says = f"the loss goes from {first:.4g} in the first row to {high:.4g} at update {update:,}"
    evidence = Evidence("train/loss", (int(loss.updates[0]), update), "over the first row", high / first, 2.0,
                        loss.source(top))  # fmt: skip
    return Sign(says, evidence, 0.85, "error")


def by_epochs(case: Case, loss: Series, scale: Scale | None, peak: float) -> Sign | None:
    """A rate far over any published one, and a classifier not below half of guessing whose loss rose after a first row.

    Of a few rows the noise cannot be known; of a sound run each is a mean over an epoch, and they come down.
    """
    classes = case.classes
    if scale is None or classes is None or peak < FAR_OVER * scale.high:
        return None
    first, end = float(loss.values[0]), float(np.median(loss.values[-3:]))
    if end < first or end < HALF_GUESSED * math.log(classes):
        return None
    span = (int(loss.updates[0]), int(loss.updates[-1]))
    says = (
        f"the loss goes from {first:.4g} in the first row to {end:.4g} in the last three (guessing costs "
        f"{math.log(classes):.4g})"
    )
    evidence = Evidence("train/loss", span, "level at the end, against the first row", end, first,
                        loss.source(len(loss) - 1))  # fmt: skip
    return Sign(says, evidence, 0.8, "error")


def humped(case: Case, loss: Series) -> Sign | None:
    """Three rows together far above the first at a high rate, and an end below it at a low one, in few rows.

    A sound run's first row is its highest, all the more so where it is the mean of a first epoch. The validation loss,
    where there are as many evaluations, must show the same: its noise is another one, so that each may pass by chance
    as often as the root of what both may.
    """
    if case.setting("schedule") == "restarts" or not (loss.values > 0).all():
        return None
    rates = rates_of(case)
    peak = 0.0 if rates is None else float(rates.max())
    if rates is None or float(rates[-1]) >= AT_PEAK * peak:
        return None
    places = [i for i in range(1, len(loss) // 2) if i + HUMP < len(loss) and rates[i + HUMP - 1] >= AT_PEAK * peak]
    first, end = float(loss.values[0]), float(np.median(loss.values[-3:]))
    if not places or end > (1 - BLOW_UP) * first:
        return None
    witness = case.val if case.val is not None and len(case.val) >= LEAST_ROWS and (case.val.values > 0).all() else None
    chance = ALARM / len(places)
    shown = [i for i in places if _above_first(loss.values, i, chance if witness is None else math.sqrt(chance))]
    if not shown:
        return None
    at = max(shown, key=lambda i: float(np.median(loss.values[i : i + HUMP])))
    if witness is not None:
        near = int(np.searchsorted(witness.updates, loss.updates[at]))
        if not any(_above_first(witness.values, i, math.sqrt(chance)) for i in (near - 1, near, near + 1) if i > 0):
            return None
    level, source = float(np.median(loss.values[at : at + HUMP])), loss.source(at)
    span = (int(loss.updates[at]), int(loss.updates[at + HUMP - 1]))
    says = (
        f"the loss goes from {first:.4g} in the first row to {level:.4g} at updates {span[0]:,} to {span[1]:,} and "
        "comes down only when the learning rate does"
    )
    evidence = Evidence("train/loss", span, "level of three rows, against the first", level, first, source)
    return Sign(says, evidence, 0.85, "error")


def _above_first(values: Floats, at: int, chance: float) -> bool:
    """Whether `HUMP` rows from one on lie above the first by `BLOW_UP` and by what noise gives with this chance.

    Noise in shares of the level, from second differences of the logarithms of what follows. Of m second differences
    neighbours are correlated by -2/3 and 1/6, so their mean square is worth m / 1.94 (1 + 2 (4/9 + 1/36)) squares.
    """
    logs = np.log(values)
    second = np.diff(logs[at + HUMP :], n=2)
    dof = int(len(second) / 1.94)
    if dof < 1 or float(values[at : at + HUMP].min()) <= (1 + BLOW_UP) * float(values[0]):
        return False
    noise = math.sqrt(float(np.mean(second**2)) / 6 * (1 + 1 / HUMP))  # of the first row and of the mean of the others
    limit = few_points.student_quantile(statistics.false_alarm_z(1, chance), dof) * noise
    return float(logs[at : at + HUMP].mean() - logs[0]) > limit
