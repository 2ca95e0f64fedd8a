"""Cells that hold nan because nothing was measured there: tables that pandas wrote, rows with a key for everything.

An evaluation every so many rows leaves nan in the others. A run that went wrong has its nan in one stretch, or at
places that follow no count.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from unstuck.runs.run import Run, Series

LEAST_MEASURED = 3  # ours: evaluations that show a distance twice


def settle_blanks(run: Run) -> None:
    """Leave the nan out of series that are not measured in each row, and say so."""
    train = run.get("train/loss")
    found = [name for name, series in run.series.items() if name.startswith("val/") and _is_measured_at_times(series)]
    if train is not None and any(_fill_each_other(train, run.series[name]) for name in found):
        found.append("train/loss")
    for name in found:
        series = run.series[name]
        run.series[name] = series.where(~np.isnan(series.values))
    if found:
        run.notes.append(f"nan stands for what was not measured in {', '.join(found)}; it was left out.")


def _is_measured_at_times(series: Series) -> bool:
    """Whether single numbers stand at equal distances among nan."""
    blank = np.isnan(series.values)
    if np.isinf(series.values).any() or (~blank).sum() < LEAST_MEASURED or not blank.any():
        return False
    stretches = [(is_blank, len(list(rows))) for is_blank, rows in groupby(blank.tolist())]
    inner = {length for is_blank, length in stretches[1:-1] if is_blank}
    between = sum(is_blank for is_blank, _ in stretches[1:-1])
    at_ends = max((length for is_blank, length in (stretches[0], stretches[-1]) if is_blank), default=0)
    alone = all(length == 1 for is_blank, length in stretches if not is_blank)
    return alone and len(inner) == 1 and between >= LEAST_MEASURED - 1 and at_ends <= max(inner)


def _fill_each_other(train: Series, val: Series) -> bool:
    """Whether each row has the one or the other: two tables that were put below one another by their step."""
    same = np.array_equal(train.updates, val.updates)
    return same and bool(np.all(np.isnan(train.values) ^ np.isnan(val.values)))
