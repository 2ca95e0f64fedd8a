"""Fewer points of a very long series, without losing what matters: one for each block of consecutive points.

The first point stands for its block, so noise and correlation between the points that are left are those of the log; a
block with a value that is not finite is stood for by the first such value, and one with a value far beyond noise by the
highest. Statistics then take milliseconds where a million points would take a minute.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unstuck.diagnose.statistics import noise_sd
from unstuck.runs import Run, Series

# ours: 1/32768 of a run is finer than any statement about it; all rules together take about half a second on it
MOST_POINTS = 1 << 15
FAR = 20.0  # standard deviations of the point-to-point noise above the block's median: no noise, whatever its tails


def thin(run: Run) -> Run:
    """The run with at most `MOST_POINTS` points in each series; the run itself where none has more."""
    long = {name: len(series) for name, series in run.series.items() if len(series) > MOST_POINTS}
    if not long:
        return run
    name = max(long, key=lambda key: long[key])
    note = (
        f"{name} has {long[name]:,} points: one of every {_block(long[name])} was examined, and every block was looked "
        "through for values that are not finite or far beyond noise."
    )
    series = {name: thinned(one) for name, one in run.series.items()}
    return replace(run, series=series, notes=[*run.notes, note])


def _block(points: int) -> int:
    return -(-points // MOST_POINTS)


def thinned(series: Series) -> Series:
    """At most `MOST_POINTS` points of a series, the last one among them."""
    count = len(series)
    if count <= MOST_POINTS:
        return series
    block = _block(count)
    whole = count // block
    values = series.values[: whole * block].reshape(whole, block)
    chosen = np.zeros(whole, dtype=np.int64)
    finite = np.isfinite(values)
    clean = finite.all(axis=1)
    noise = noise_sd(values[clean][:, 0])
    if np.isfinite(noise) and noise > 0:
        middle = np.median(values[clean], axis=1)
        highest = values[clean].argmax(axis=1)
        far = values[clean][np.arange(len(highest)), highest] > middle + FAR * noise
        chosen[np.flatnonzero(clean)[far]] = highest[far]
    chosen[~clean] = (~finite[~clean]).argmax(axis=1)
    index = np.append(np.arange(whole) * block + chosen, count - 1)
    return replace(series, updates=series.updates[index], values=series.values[index], lines=series.lines[index])
