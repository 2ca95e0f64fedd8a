"""What a resume asked for: read from its event, so that a change that was meant is told from one that was not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from unstuck.config.dialects import canonical_settings
from unstuck.runs import Event, Setting, Source

LR_IN_TEXT = re.compile(
    r"\b(?:learning[_ ]rate|lr)(?:\s*[=:]\s*|\s+(?:of\s+|to\s+)?)([0-9][0-9.]*(?:e[-+]?\d+)?)", re.I
)
# How programs name the length of a run: unstuck, nanoGPT, transformers, Lightning, Megatron.
LENGTH_KEYS = re.compile(
    r"(?:^|\.)(?:updates|(?:max|total|num|train|training|num_training|num_train|max_train)_(?:steps|iters|updates|epochs)"
    r"|epochs|steps|iterations)$",
    re.I,
)
# Settings that say how the learning rate goes: whoever changes one has asked for another course.
COURSE_KEYS = re.compile(r"sched|warm_?up|decay_(?:iters|steps|share)|horizon|anneal|(?:^|[._])lr|learning_rate", re.I)


@lru_cache(1024)
def sets_learning_rate(key: str) -> bool:
    """Whether a key of a configuration, in whose words ever, is the learning rate: `optimizer.lr`, `lr_max`."""
    rates = canonical_settings({key: Setting(1.0, key, Source(""))}, "plain")
    return not {"learning_rate", "muon_learning_rate"}.isdisjoint(rates)


def planned_anew(event: Event) -> bool:
    """The resume itself asked for another learning rate, or dropped the schedule (a longer plan drops it too)."""
    changed, dropped = event.data.get("changed"), event.data.get("dropped")
    if isinstance(changed, Mapping) and any(sets_learning_rate(str(k)) for k in changed):
        return True
    if isinstance(dropped, list | tuple) and any("schedule" in str(d) for d in dropped):
        return True
    return bool(LR_IN_TEXT.search(event.text))


def lengthened(event: Event) -> tuple[object, object] | None:
    """(old, new) length where the resume asked for another length and for nothing of the learning rate's course.

    The schedule is then planned anew without anybody having asked for the rate that comes out of it.
    """
    changed = event.data.get("changed")
    if not isinstance(changed, Mapping) or any(COURSE_KEYS.search(str(k)) for k in changed):
        return None
    for key, pair in changed.items():
        if LENGTH_KEYS.search(str(key)) and isinstance(pair, list | tuple) and len(pair) == 2:
            return pair[0], pair[1]
    return None
