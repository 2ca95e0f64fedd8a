"""What the clock of a log tells: which keys count something else than updates, and how long an update took.

TensorBoard, MLflow and Weights & Biases let the program choose the step of every value, and programs mix them: the
training loss by update, the validation loss by epoch, a copy of each by samples. Every value also has the time at which
it was logged, and that puts all of them on one axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unstuck.runs import names
from unstuck.runs.run import Floats, Ints

# ours: a key agrees with the reference when nine of ten of its values lie within one logging interval of it; the
# tenth may be a value of an epoch's end that was logged late.
AGREES = 0.9
SAMPLE = 2000  # ours: values compared; 2000 settle a share of nine in ten to within 0.02
# Shorter than this nobody updates a model: a Python loop around one tiny torch update takes about 0.1 ms. Times below
# are those of a program that copied a log.
LEAST_MS = 0.1
# Values that were kept and written together have times that say nothing; then few intervals hold nearly all the time.
LEAST_SHARE = 0.5

_ASIDE = frozenset(("val", "valid", "validation", "eval", "evaluation", "dev", "test", "heldout", "holdout"))
_UPDATES = ("train/loss", "train/objective", "lr/", "grad_norm/", "throughput/", "time/")


@dataclass(frozen=True, slots=True)
class Track:
    """The values of one key in the order of the log.

    Attributes:
        steps: int64, shape (n,), as logged.
        walls: float64, shape (n,), seconds at which each was logged.
    """

    steps: Ints
    walls: Floats

    def __len__(self) -> int:
        return len(self.steps)


def is_aside(key: str) -> bool:
    """Whether a key is logged beside training: by an evaluation, or on its own axis."""
    return not _ASIDE.isdisjoint(names.normalise(key).split("_"))


def training_keys(counts: Mapping[str, int]) -> list[str]:
    """Of the keys of a log (key -> number of values) those whose steps count updates: what each update has.

    Where none has a canonical name, all that no evaluation logs.
    """
    given = names.assign(counts)
    known = [key for key, name in given.items() if name.canonical.startswith(_UPDATES) and not is_aside(key)]
    return known or [key for key in counts if not is_aside(key) and names.normalise(key) not in names.EPOCH_NAMES]


def reference(tracks: Mapping[str, Track]) -> str | None:
    """The key whose steps count the updates: of those that training logs, the one with the most values."""
    usable = training_keys({key: len(track) for key, track in tracks.items()})
    return max(usable, key=lambda key: len(tracks[key]), default=None)


def steps_by_clock(tracks: Mapping[str, Track], chosen: str) -> dict[str, Ints]:
    """The steps, by the clock, of the keys whose own steps count something else than those of `chosen`.

    A value logged between two values of `chosen` must carry a step between theirs, give or take a logging interval.
    Where it does not, it was logged at the last step of `chosen` before it. Keys whose times do not tell (all written
    at once) are left as they are.
    """
    base = tracks[chosen]
    order = np.argsort(base.walls, kind="stable")
    walls, steps = base.walls[order], np.maximum.accumulate(base.steps[order])
    if len(base) < 3 or not np.isfinite(walls).all() or np.unique(walls).size < len(base) / 2:
        return {}
    interval = max(1.0, float(np.median(np.diff(np.unique(steps)))) if steps[-1] > steps[0] else 1.0)
    found: dict[str, Ints] = {}
    for key, track in tracks.items():
        if key == chosen or len(track) < 3 or np.array_equal(track.steps, base.steps):
            continue
        picked = np.unique(np.linspace(0, len(track) - 1, min(len(track), SAMPLE)).astype(np.int64))
        place = np.searchsorted(walls, track.walls[picked], side="right")
        before = np.append(steps[0] - interval, steps)[place]
        after = np.append(steps, steps[-1] + interval)[place]
        own = track.steps[picked]
        agrees = (own >= before - interval) & (own <= after + interval)
        if agrees.mean() >= AGREES:
            continue
        place = np.searchsorted(walls, track.walls, side="right")
        by_clock = np.append(steps[0], steps)[place]
        moved = np.count_nonzero(np.diff(by_clock) > 0)
        if moved >= AGREES * np.count_nonzero(np.diff(track.steps) > 0) and moved:
            found[key] = by_clock.astype(np.int64)
    return found


def counted_on(steps: Ints) -> Ints | None:
    """Steps that begin again with each epoch, counted on; None where they do not.

    Every epoch but the last must hold the same steps; two whole ones at least, so that a second training in the same
    notebook is not taken for a second epoch.
    """
    cuts = np.flatnonzero(np.diff(steps) < 0) + 1
    if len(cuts) < 2 or len(cuts) > len(steps) // 2:
        return None
    parts = np.split(steps, cuts)
    if any(not np.array_equal(part, parts[0]) for part in parts[:-1]) or len(parts[-1]) > len(parts[0]):
        return None
    if not np.array_equal(parts[-1], parts[0][: len(parts[-1])]) or len(parts[0]) < 2:
        return None
    length = int(parts[0][-1] - parts[0][0]) + int(parts[0][1] - parts[0][0])
    return np.concatenate([part + place * length for place, part in enumerate(parts)])


def step_times(track: Track, interruptions: Iterable[Floats]) -> tuple[npt.NDArray[np.int64], Floats] | None:
    """Milliseconds per update between the values of a key, without the intervals in which something else was done.

    Args:
        track: the key that counts the updates.
        interruptions: times at which an evaluation logged.

    Returns:
        Index in `track` of the end of each interval, and its milliseconds per update; None where the times tell
        nothing (written at once, or copied from another log).
    """
    updates, seconds = np.diff(track.steps), np.diff(track.walls)
    good = (updates > 0) & (seconds > 0)
    for times in interruptions:
        place = np.searchsorted(track.walls, times)
        good[np.unique(place[(place > 0) & (place < len(track))]) - 1] = False
    ends = np.flatnonzero(good) + 1
    if len(ends) < 2:
        return None
    spent = seconds[ends - 1]
    per_update = 1000.0 * spent / updates[ends - 1]
    median = float(np.median(per_update))
    explained = median * float(updates[ends - 1].sum()) / 1000.0
    if median < LEAST_MS or explained < LEAST_SHARE * float(spent.sum()):
        return None
    return ends, per_update


def epochs_only(tracks: Mapping[str, Track]) -> bool:
    """Whether the steps count epochs: training and validation losses at the same steps, all of them one apart.

    A program that counts updates does not validate after every one of them. Where the epoch is logged as well, the
    steps are something else.
    """
    given = names.assign({key: len(track) for key, track in tracks.items()})
    by_name = {name.canonical: tracks[key].steps for key, name in given.items()}
    train, val = by_name.get("train/loss"), by_name.get("val/loss")
    if train is None or val is None or "epoch" in by_name or len(train) < 3 or not np.array_equal(train, val):
        return False
    return bool((np.diff(train) == 1).all())
