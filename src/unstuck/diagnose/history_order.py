"""In which order runs were made, which of them are one run recorded twice, and which may be compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from unstuck.diagnose.changes import SettingChange
from unstuck.runs import Run, Series
from unstuck.runs.names import normalise

# 2025-11-10T19:16:51, 20251110_191651, 11102025_191651 in a file's name.
_YEAR_FIRST = re.compile(
    r"(20\d\d)[-_.]?([01]\d)[-_.]?([0-3]\d)[T_\- ]?([0-2]\d)[-:_.h]?([0-5]\d)(?:[-:_.m]?([0-5]\d))?"
)
_YEAR_LAST = re.compile(r"(?<!\d)([01]\d)([0-3]\d)(20\d\d)[_\-]([0-2]\d)([0-5]\d)([0-5]\d)(?!\d)")
# Two records of one run agree to the digits that the shorter of them prints: four significant ones at least.
SAME_RECORD = 1e-3
LEAST_SAME = 5  # ours: points; five equal losses of four digits are no coincidence
# Keys that say what is minimised: another one makes another loss.
LOSS_KEYS = frozenset({"loss", "loss_fn", "loss_function", "loss_type", "criterion", "task_loss", "reduction"})
RESULTS = ("val/loss", "train/loss_eval", "train/loss")
LEAST_POINTS = {"val/loss": 1, "train/loss_eval": 1, "train/loss": 5}


def ordered(runs: Sequence[Run]) -> tuple[list[int], str]:
    """Indices of the runs in the order of time, and how that is known.

    By the time that every log states, else by the time in every name, else as given; runs that come in the alphabetical
    order in which a folder is read are put in the order of the numbers in their names.
    """
    stated = [_stated_time(run) for run in runs]
    if all(time is not None for time in stated):
        return sorted(range(len(runs)), key=lambda k: (stated[k] or 0.0, k)), "by the time in the logs"
    named = [_named_time(run.source) for run in runs]
    if all(time is not None for time in named):
        return sorted(range(len(runs)), key=lambda k: (named[k] or 0.0, k)), "by the time in their names"
    sources = [run.source for run in runs]
    if sources == sorted(sources):
        return sorted(range(len(runs)), key=lambda k: _natural(sources[k])), "by name"
    return list(range(len(runs))), "in the order given"


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts `run_9` before `run_10`."""
    return [(int(part), "") if part.isdecimal() and len(part) < 18 else (-1, part) for part in re.split(r"(\d+)", name)]


def _stated_time(run: Run) -> float | None:
    for event in run.events_of("start"):
        time = event.data.get("time")
        if isinstance(time, int | float) and not isinstance(time, bool):
            return float(time)
    return None


def _named_time(source: str) -> float | None:
    for pattern, order in ((_YEAR_FIRST, (0, 1, 2)), (_YEAR_LAST, (2, 0, 1))):
        for found in pattern.finditer(source[-400:]):
            parts = [int(part or 0) for part in found.groups()]
            year, month, day = (parts[k] for k in order)
            try:
                date = datetime(year, month, day, parts[3], parts[4], parts[5], tzinfo=UTC)
            except ValueError:
                continue
            return date.timestamp()
    return None


def result(run: Run, name: str) -> Series | None:
    """The finite points of a loss, None where there are too few."""
    series = run.get(name)
    series = None if series is None else series.finite()
    return series if series is not None and len(series) >= LEAST_POINTS[name] else None


def common_result(a: Run, b: Run) -> str | None:
    """The loss by which two runs are compared: validation, else training as evaluated, else training."""
    return next((name for name in RESULTS if result(a, name) is not None and result(b, name) is not None), None)


def same_record(a: Run, b: Run) -> bool:
    """Whether both are records of one run: every loss that both logged at the same update is the same."""
    compared = 0
    for name in RESULTS:
        x, y = result(a, name), result(b, name)
        if x is None or y is None:
            continue
        _, i, j = np.intersect1d(x.updates, y.updates, return_indices=True)
        if np.any(np.abs(x.values[i] - y.values[j]) > SAME_RECORD * np.maximum(np.abs(x.values[i]), 1e-12)):
            return False
        compared += len(i)
    return compared >= LEAST_SAME and abs(a.updates - b.updates) <= 0.05 * max(a.updates, b.updates)


def why_not_comparable(a: Run, b: Run, changes: tuple[SettingChange, ...] | None) -> str:
    """Why the losses of two runs do not compare, in a few words; empty where nothing speaks against it.

    Args:
        changes: what differs between their settings; None where it is not known.
    """
    name = common_result(a, b)
    if name is None:
        return "they log no loss in common"
    units = {series.unit for run in (a, b) if (series := run.get(name)) is not None and series.unit is not None}
    if len(units) > 1:
        return f"their losses are in {' and '.join(sorted(units))}"
    if a.axis != b.axis:
        return f"one counts in {a.axis}s, the other in {b.axis}s"
    for setting in ("task", "vocabulary", "label_smoothing"):
        values = a.setting(setting), b.setting(setting)
        if None not in values and values[0] != values[1]:
            return f"{setting} is {values[0]} and {values[1]}"
    for change in changes or ():
        if change.lever == "data" and change.canonical is None:
            return f"{change.key} is {change.old} and {change.new}"
        if change.canonical == "label_smoothing":
            return "label smoothing is in the loss of one of them only"
        if normalise(change.key.rpartition(".")[2]) in LOSS_KEYS and isinstance(change.new, str):
            return f"{change.key} is {change.old} and {change.new}: another loss"
    if not _something_in_common(a, b):
        return "nothing says that they train on the same task"
    return ""


def _something_in_common(a: Run, b: Run) -> bool:
    """Whether the two share what identifies a task: its data or vocabulary, or a configuration of the same keys."""
    for setting in ("vocabulary", "train_samples", "train_tokens", "parameters", "unigram_entropy"):
        if a.setting(setting) is not None and a.setting(setting) == b.setting(setting):
            return True
    return same_configuration_keys(a, b)


def same_configuration_keys(a: Run, b: Run) -> bool:
    """Whether both configurations have most keys in common, so that a key which differs was changed."""
    ours, theirs = (
        {key for key, setting in run.raw_settings.items() if not setting.source.file.endswith("(default)")}
        for run in (a, b)
    )
    return len(ours & theirs) >= max(3, (min(len(ours), len(theirs)) + 1) // 2)


def goes_on(earlier: Run, later: Run) -> bool:
    """Whether the later run began where the earlier one was, so that its loss is no result of its own settings.

    It begins beyond its own first logging interval, at an update that the earlier one reached.
    """
    name = common_result(earlier, later)
    before, after = (result(run, name) if name else None for run in (earlier, later))
    if before is None or after is None or len(after) < 2 or later.setting("start") == "fresh":
        return False
    begun = min(int(series.updates[0]) for loss in RESULTS if (series := result(later, loss)) is not None)
    interval = float(np.median(np.diff(after.updates)))
    return begun > 1.5 * interval and begun <= int(before.updates[-1]) + interval
