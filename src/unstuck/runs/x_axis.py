"""Which key of a log counts updates, micro-batches or epochs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from unstuck.runs.spelling import normalise, words

# The x-axis, best first. An "optimizer step" is certain; "step" and "iteration" count updates in every trainer that we
# read (transformers, Lightning, fairseq, nanoGPT, accelerate examples).
STEP_NAMES = words(
    "update updates optimizer_update optimizer_step optimizer_steps opt_step num_updates global_step "
    "train_global_step trainer_global_step step steps train_step training_step global_steps cur_step current_step "
    "iteration iterations iter iters iter_num n_iter it train_iter num_steps train_num_updates num_iter niter nb_iter "
    "iter_no gstep global_iter global_iteration step_num step_idx step_count training_iteration"
)
# Words around "step" that leave it a count of updates: `total_train_updates`, `train_steps_done`, `num_batch_updates`.
_COUNTED = frozenset(words("update updates upd step steps iteration iterations iter iters"))
_AROUND_STEP = frozenset(words("total train training trainer num number of n nb global current cur optim optimizer "
                                "optimization model overall cumulative done completed finished so far taken performed "
                                "count no idx index"))  # fmt: skip
MICRO_STEP_NAMES = words("micro_step micro_steps micro_batch micro_batches microbatch microstep forward_step")
BATCH_NAMES = words("batch batch_idx batch_num batch_no batch_id batch_index batch_i batches")
EPOCH_NAMES = words("epoch epochs train_epoch current_epoch epoch_num num_epoch epoch_idx ep")


@cache
def is_worded_step(name: str) -> bool:
    """Whether a normalised name counts updates in several words: one for the step, the others of those around it."""
    parts = name.split("_")
    return len(parts) > 1 and sum(part in _COUNTED for part in parts) == 1 and {*parts} <= _COUNTED | _AROUND_STEP


def x_axis(
    points: Mapping[str, int], columns: Mapping[str, str] | None = None, still: Collection[str] | None = None
) -> tuple[str | None, str | None, str | None]:
    """The keys that count updates, micro-batches and epochs; None where a log has no such key.

    Args:
        still: keys whose value never changes: no axis beside one that does (`updates: 15` of each report, a plan).
            Where it is given, `batch` beside an epoch may count the updates; one that never changes is a size.
    """
    may_count_batches, still = still is not None, still or ()
    said = {name: key for key, name in (columns or {}).items() if key in points}

    def first(axis: str, names: tuple[str, ...]) -> str | None:
        if axis in said:
            return said[axis]
        order = {name: place for place, name in enumerate(names)}
        found = [key for key in points if normalise(key) in order and key not in (columns or {})]
        if axis == "step" and all(key in still for key in found):
            worded = [key for key in points if is_worded_step(normalise(key)) and key not in {*(columns or {}), *still}]
            found = worded or found
        found = [key for key in found if key not in still] or found
        enough = max((points[key] for key in found), default=0) / 2  # a key of a summary row is no x-axis
        last = len(order)
        return min((k for k in found if points[k] >= enough), key=lambda k: order.get(normalise(k), last), default=None)

    step, micro, epoch = first("step", STEP_NAMES), first("micro_step", MICRO_STEP_NAMES), first("epoch", EPOCH_NAMES)
    if step is None and micro is None and epoch is not None and may_count_batches:
        batch = first("step", BATCH_NAMES)
        step = None if batch in still or points.get(batch or "", 0) < points[epoch] / 2 else batch
    return step, micro, epoch
