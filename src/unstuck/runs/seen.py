"""Logs whose only count is of samples or tokens seen: how many of them make an update.

Progress is counted in images in StyleGAN and EDM (thousands, `kimg`), in examples in Vowpal Wabbit and big_vision, in
tokens in pretraining code. The settings say how many reach one update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from unstuck.runs.logfile import number
from unstuck.runs.names import normalise
from unstuck.runs.parts import Part
from unstuck.runs.run import Run

_SAMPLES = frozenset(
    f"{before}{what}{behind}"
    for what in ("samples", "examples", "images", "imgs", "img", "sequences", "seqs", "sentences")
    for before, behind in (("", ""), ("", "_seen"), ("n_", "_seen"), ("num_", "_seen"), ("total_", "_seen"),
                           ("seen_", ""), ("consumed_", ""), ("consumed_train_", ""), ("", "_consumed"),
                           ("", "_processed"), ("processed_", ""), ("trained_", ""), ("total_", ""))
) | {"nimg", "cur_nimg", "n_img"}  # fmt: skip
_THOUSANDS = frozenset(("kimg", "kimgs", "cur_kimg", "ksamples", "ksamples_seen"))
_TOKENS = frozenset(("tokens", "tokens_seen", "seen_tokens", "total_tokens", "total_tokens_seen", "n_tokens_seen",
                     "num_tokens_seen", "tokens_processed", "consumed_tokens", "consumed_train_tokens",
                     "tokens_consumed", "trained_tokens", "train_tokens", "num_input_tokens_seen"))  # fmt: skip
_SECTIONS = ("train_", "training_", "progress_", "throughput_", "perf_")
FALLS = 0.1  # ours: a resume goes back now and then; a number that falls more often is no count
BEYOND = 1.5  # ours: a run that counts on so far beyond its plan counts something else


class Seen(NamedTuple):
    """A count of what was seen.

    Attributes:
        key: as logged.
        per_update: how much of it makes an update.
    """

    key: str
    per_update: float


def seen_axis(run: Run, parts: Sequence[Part], counts: Mapping[str, int]) -> Seen | None:
    """The count of samples or tokens that can stand for the step; None where there is none or the settings do not say
    how many make an update."""
    most = max(counts.values(), default=0)
    for key in counts:
        each = _per_update(run, _without_section(normalise(key)))
        if each is None or each <= 0 or counts[key] < most / 2:  # as for a step: a key of a summary row is no axis
            continue
        columns = [np.asarray(part.columns[key].values) for part in parts if key in part.columns]
        values = np.concatenate(columns)
        values = values[np.isfinite(values)]
        planned = number(run.setting("updates"))
        if len(values) < 2 or values[0] < 0 or values[-1] <= values[0] or np.mean(np.diff(values) < 0) > FALLS:
            continue
        if planned and values.max() / each > BEYOND * planned + 1:
            continue
        return Seen(key, each)
    return None


def _without_section(name: str) -> str:
    return next((name.removeprefix(section) for section in _SECTIONS if name.startswith(section)), name)


def _per_update(run: Run, name: str) -> float | None:
    """How many of what a normalised name counts reach one update, by the settings."""
    batch, context = number(run.setting("batch_size")), number(run.setting("context"))
    accumulation, world = number(run.setting("accumulation")) or 1.0, number(run.setting("world_size")) or 1.0
    samples = batch * accumulation * world if batch else None
    if name in _TOKENS or f"{name}_seen" in _TOKENS:
        told = number(run.setting("tokens_per_update"))
        return told or (samples * context if samples and context else None)
    if samples is None:
        return None
    return samples / 1000 if name in _THOUSANDS else samples if name in _SAMPLES else None
