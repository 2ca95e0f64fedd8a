"""The step waits for data.

Finds
Loading takes a sixth of the time of the settled updates or more: a note; a third or more: a warning. Says whether each
update waits or single ones wait long.

Why it matters
The accelerator stands idle that long. At a third, the same run would be done in two thirds of the time; nothing about
the learning changes.

Evidence needed
At least 6 points (10 where single updates wait long) of the data share of the step (`time/data_share`), or of the time
spent on data beside the time of a step (`time/data_ms`, `time/step_ms`).

Not when
Loading is overlapped, so that the step does not wait for it; only the first updates wait (workers start, caches fill).

Remedy
More loader processes, data prepared beforehand (tokenised, packed, memory-mapped), prefetching, pinned memory.

References
PyTorch performance tuning guide, "Enable asynchronous data loading and augmentation". Mohan et al. 2021 (arXiv
2007.06775), data stalls in DNN training.
"""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.runs import Series

MIN_POINTS = 6  # the first is the start's; a share that nearly each of the other five has is no accident
ENOUGH = 10  # below: a single long wait among so few says nothing of how often it comes
# As throughput-falls: a step 1.2 times as long as without the wait is more than timings scatter, 1.5 times is worth a
# warning. A share s of waiting makes a step 1 / (1 - s) times as long.
NOTE = 1 / 6
WARNING = 1 / 3
SETTLED = 10  # a tenth of the points, at least one, at the start: workers start and caches fill
BURSTS = 0.5  # the usual update waits less than half of the mean: single ones wait long


@rule(code="TH001", stages="LV", severity="warning")
def check(case: Case) -> Outcome:
    read = _shares(case)
    if read is None:
        return CouldNotCheck(("time/data_share, or time/data_ms and time/step_ms",))
    series, shares, weights, together = read
    n = len(shares)
    if n < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of {series.name}",))
    settled = max(1, n // SETTLED)
    shares, weights = shares[settled:], weights[settled:]
    share = float(np.average(shares, weights=weights))
    if share < NOTE:
        return Clear(f"{share:.0%} of the time goes into waiting for data")
    usual = float(np.median(shares))
    bursts = usual < BURSTS * share
    if bursts and n < ENOUGH:
        return CouldNotCheck((f"{ENOUGH} points of {series.name}",))
    first, last = int(series.updates[settled]), int(series.updates[-1])
    told = f"single updates wait long, the usual one {usual:.0%}" if bursts else f"nearly each update does, {usual:.0%}"
    facts: dict[str, object] = {"share": share, "usual_share": usual, "bursts": bursts}
    if together is not None:
        facts |= {"data_ms": together[0], "step_ms": together[1]}
    return Found(
        title=f"{share:.0%} of the time goes into waiting for data: without it {1 / (1 - min(share, 0.99)):.2g} times "
        f"as fast ({told})",
        evidence=(
            Evidence(series.name, (first, last), "share of the time spent on data", share, NOTE, series.source(n - 1)),
        ),
        confidence=0.9,
        severity="warning" if share >= WARNING else "note",
        detail="Long single waits come from workers that start again with each epoch (persistent_workers), from shards "
        "that are opened, or from a loader that falls behind."
        if bursts
        else "",
        facts=facts,
    )


def _shares(case: Case) -> tuple[Series, np.ndarray, np.ndarray, tuple[float, float] | None] | None:
    """The series to cite, the share at each point, the weight of each point, and the mean times where they are known.

    A step time usually holds the wait (timm, detectron2, MMEngine); where the wait is longer than it, it does not.
    """
    logged = case.run.get("time/data_share")
    if logged is not None and len(logged.finite()):
        series = logged.finite()
        series = series.where((series.values >= 0) & (series.values <= 1))
        return (series, series.values, np.ones(len(series)), None) if len(series) else None
    data, step = case.run.get("time/data_ms"), case.run.get("time/step_ms")
    if data is None or step is None:
        return None
    at, in_data, in_step = np.intersect1d(data.updates, step.updates, return_indices=True)
    waits, times = data.values[in_data], step.values[in_step]
    good = np.isfinite(waits) & np.isfinite(times) & (waits >= 0) & (times > 0)
    if not good.any():
        return None
    series, waits, times = data.where(np.isin(data.updates, at[good])), waits[good], times[good]
    series = series.where(np.concatenate([[True], np.diff(series.updates) > 0]))
    if float(np.mean(waits > times)) > 0.5:
        times = times + waits
    return series, np.minimum(waits / times, 1.0), times, (float(waits.mean()), float(times.mean()))
