"""What a resume asked for: read from its event, so that a change that was meant is told from one that was not."""

from __future__ import annotations

import re
from collections.abc import Mapping

from unstuck.runs import Event

LR_KEYS = re.compile(r"(?:^|\.)(?:learning_rate|muon_learning_rate|lr|max_lr|base_lr)$", re.I)
LR_IN_TEXT = re.compile(r"\b(?:learning[_ ]rate|lr)\s*[=:]\s*([0-9][0-9.]*(?:e[-+]?\d+)?)", re.I)


def planned_anew(event: Event) -> bool:
    """The resume itself asked for another learning rate, or dropped the schedule (a longer plan drops it too)."""
    changed, dropped = event.data.get("changed"), event.data.get("dropped")
    if isinstance(changed, Mapping) and any(LR_KEYS.search(str(k)) for k in changed):
        return True
    if isinstance(dropped, list | tuple) and any("schedule" in str(d) for d in dropped):
        return True
    return bool(LR_IN_TEXT.search(event.text))
