"""Updates get slower over the run.

Finds
The speed at the end (the last quarter, at least three points) lies below that of the settled beginning by more than
noise and by at least a sixth.

Why it matters
A growing list, a leak, a full cache or a hot device: the rest of the run takes longer than planned, and the cause
usually ends in an out-of-memory error.

Evidence needed
Tokens per second or time per update, at least 7 points; of a few points only a gross change passes their noise.

Not when
Single slow updates (evaluation, checkpoints); the slow first updates of compilation; a batch or context that grows as
planned, so that each update holds more tokens; the process's own CPU time per update (`time/cpu_ms`, logged where the
CPU does the work) did not grow as well: then it waits for a machine that others use too.

Remedy
Profile one early and one late update; look for tensors kept in a list, growing logs, fragmentation, swapping.

References
PyTorch FAQ, "My model reports out of memory": do not accumulate history across your training loop. MLPerf training
rules: throughput as the median over windows.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.few_points import chance_of_order
from unstuck.diagnose.planned import switched_between
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import (
    Floats,
    change_points,
    false_alarm_z,
    lag1,
    mad_sd,
    noise_sd,
    residuals,
    student_z,
)
from unstuck.runs import Series

LEAST = 3  # points at either end: their median survives one update that held an evaluation or a checkpoint
ONCE = 1e-3  # as `false_alarm_z`
MIN_POINTS = 2 * LEAST + 1  # and one for the start; fewer points raise the threshold by Student's t
ENOUGH = 20  # points: quarters of five, and a trend of 5 points that leaves the noise of one
# A sixth slower (speed 1 / 1.2): the spread of repeated timings on shared machines is about 10 % (our own benchmarks),
# so a change of the settled level of twice that is not the neighbours' doing.
SLOWER = 1.2
# Half again as slow is worth a warning, less is a note: runs of a minute on a shared machine were 1.24 times slower at
# their end for no reason of their own (a new user's, 2026-11-21), and threads that wait for a core burn CPU time too.
# It must be so after one standard error is taken off: what scatters around it may be the neighbours' work.
MUCH_SLOWER = 1.5


@rule(code="TH002", stages="LV", severity="warning")
def check(case: Case) -> Outcome:
    series, times = _time_per_token(case)
    if series is None:
        return CouldNotCheck(("throughput/tokens_per_second or time/step_ms",))
    n = len(times)
    if n < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of {series.name}",))
    logs = np.log(times)
    change = _growth(logs)
    rest = residuals(logs)
    r = min(0.9, max(0.0, lag1(rest)))
    # median of m points: 1.25 sd / sqrt(m), inflated for autocorrelation; both ends. A trend follows few points and
    # leaves little of their noise, second differences leave all of it.
    noise = mad_sd(rest) if n >= ENOUGH else max(mad_sd(rest), noise_sd(logs))
    error = 1.25 * noise * math.sqrt(2 / _width(n) * (1 + r) / (1 - r))
    threshold = max(math.log(SLOWER), student_z(false_alarm_z(1), n) * error)
    if n < ENOUGH and chance_of_order(logs) < ONCE:
        threshold = math.log(SLOWER)  # the order alone tells, whatever the noise
    if change <= threshold:
        return Clear()
    if series.name == "time/step_ms" and switched_between(case, int(series.updates[0]) + 1, int(series.updates[-1])):
        return Clear("the batch or the stage changed, so its updates take another time")
    own = _own_cpu_growth(case)
    if own is not None and own < SLOWER:
        slower = math.exp(change)
        return Clear(f"{slower:.2f} times slower, but not in CPU time ({own:.2f} times): others use the machine too")
    cuts = change_points(logs[_settled(n) :])
    single_step = len(cuts) == 1
    factor = math.exp(change)
    first, last = int(series.updates[_settled(n)]), int(series.updates[-1])
    return Found(
        title=f"Updates are {factor:.2f} times slower at the end than at the settled start"
        + (" (one step, not a drift)" if single_step else ""),
        evidence=(
            Evidence(
                series.name,
                (first, last),
                "time per token, end over start",
                factor,
                math.exp(threshold),
                series.source(-1),
            ),
        ),
        confidence=0.85,
        severity="note" if min(math.exp(change - error), own or factor) < MUCH_SLOWER else "warning",
        facts={"factor": factor, "gradual": not single_step, "error": error},
    )


def _settled(n: int) -> int:
    """Points of the start: a tenth, at least one (compilation, caches)."""
    return max(1, n // 10)


def _width(n: int) -> int:
    """Points at either end whose medians are compared: a quarter, at least `LEAST`."""
    return max(LEAST, n // 4)


def _growth(logs: Floats) -> float:
    """Median of the end less that of the settled beginning; at least `MIN_POINTS` values."""
    start, width = _settled(len(logs)), _width(len(logs))
    return float(np.median(logs[-width:]) - np.median(logs[start : start + width]))


def _own_cpu_growth(case: Case) -> float | None:
    """CPU time per update at the end over that of the settled beginning; None where it is not logged."""
    cpu = case.run.get("time/cpu_ms")
    if cpu is None or len(cpu.finite()) < MIN_POINTS:
        return None
    return math.exp(_growth(np.log(np.maximum(cpu.finite().values, 1e-9))))


def _time_per_token(case: Case) -> tuple[Series | None, np.ndarray]:
    """The series to cite and the time per token (or per update, where tokens are unknown), shape (n,)."""
    speed = case.run.get("throughput/tokens_per_second")
    if speed is not None and len(speed.finite()):
        series = speed.finite()
        series = series.where(series.values > 0)
        return series, 1 / series.values
    step = case.run.get("time/step_ms")
    if step is None or not len(step.finite()):
        return None, np.zeros(0)
    series = step.finite()
    series = series.where(series.values > 0)
    tokens = case.run.get("tokens")
    if tokens is None or len(tokens) < 3 or len(series) < 2:
        return series, series.values
    seen = np.interp(series.updates, tokens.updates, tokens.values)
    per_update = np.gradient(seen, np.maximum(series.updates, np.arange(len(series))).astype(np.float64))
    return series, series.values / np.maximum(per_update, 1.0)
