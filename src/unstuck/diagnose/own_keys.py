"""Settings that have no canonical name, found by the last part of their key, however it is nested or written."""

from __future__ import annotations

from collections.abc import Iterator

from unstuck.config.ways import is_elsewhere
from unstuck.runs import Run, Setting
from unstuck.runs.names import normalise

MAX_KEYS = 5000  # ours: more keys than this are a dump of data, not a configuration


def own_settings(run: Run, names: frozenset[str]) -> Iterator[Setting]:
    """The raw settings whose last part is one of `names`, in their order; those about another split are left out.

    Args:
        names: normalised names ("steps_per_epoch").
    """
    for place, (key, setting) in enumerate(run.raw_settings.items()):
        if place >= MAX_KEYS:
            return
        way, _, last = key.rpartition(".")
        if normalise(last) in names and not is_elsewhere(way.lower()):
            yield setting


def by_transformers(run: Run) -> bool:
    """Whether the transformers Trainer made the run: its format, and the names of its arguments."""
    return run.dialect == "huggingface" and any(w in run.format for w in ("hf", "trainer", "transformers", "trl"))


def own_number(run: Run, names: frozenset[str]) -> tuple[float, Setting] | None:
    """The first of them that is a positive number, with its setting."""
    for setting in own_settings(run, names):
        value = as_number(setting.value)
        if value is not None and value > 0:
            return value, setting
    return None


def as_number(value: object) -> float | None:
    """A finite number, also written as text ("24", "1e-4"); None for anything else. Booleans are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > 32:
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < float("inf") else None
