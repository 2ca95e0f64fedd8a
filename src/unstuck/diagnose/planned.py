"""Changes that the run's own record says were made on purpose: stages, batch sizes, sequence lengths.

What the loss or the speed does at such an update is the plan's doing. Planned learning-rate changes (warm restarts, the
decay phase) are told by the schedule's rules.
"""

from __future__ import annotations

import re

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.runs.names import normalise

# Series that state what a batch is; a new value is a new stage.
STAGE_SERIES = frozenset((
    "global_batch_size", "batch_size", "bs", "seq_len", "seqlen", "sequence_length", "context_length", "block_size",
    "curriculum_seqlen", "stage", "phase", "image_size", "img_size", "resolution",
))  # fmt: skip
# What programs print when they begin another stage.
_SWITCH = re.compile(
    r"\b(?:stage|phase) ?\d"
    r"|\b(?:switch(?:ed|ing)?|enter(?:ed|ing)?|start(?:ed|ing)?) (?:to |of )?\w* ?(?:stage|phase)\b"
    r"|\bcurriculum\b|\bcool-?down\b|\bunfreez|\bQAT (?:started|enabled)|\bsequence length (?:now|changed|increased)",
    re.I,
)


def stage_switches(case: Case) -> list[int]:
    """The updates at which a stage began, ascending; the start of the run is none."""
    found: set[int] = set()
    for name, series in case.run.series.items():
        if normalise(name.removeprefix("train/")) in STAGE_SERIES and len(series) > 1:
            found.update(series.updates[1:][np.diff(series.values) != 0].tolist())
    for event in case.run.events:
        if event.kind == "note" and event.update and _SWITCH.search(event.text):
            found.add(event.update)
    return sorted(found)


def switched_between(case: Case, first: int, last: int) -> bool:
    """Whether a stage began at first <= update <= last."""
    return any(first <= update <= last for update in stage_switches(case))
