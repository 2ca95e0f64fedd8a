"""What programs call the scalars that they log to TensorBoard, and what the steps of those count.

Sources: keras/src/callbacks/tensorboard.py (`epoch_loss` by epoch, `batch_loss` as a running mean of the epoch,
`evaluation_loss_vs_iterations` by update); fairseq/logging/progress_bar.py (a folder for each of `train_inner`, `train`
and `valid`; losses in base 2, the criterions divide by ln 2); Megatron-DeepSpeed's megatron/training.py
("lm-loss-training/lm loss"); torch/utils/tensorboard/writer.py (`add_scalars`: a folder for each line, named by the
tag and the line).
"""

from __future__ import annotations

import math
import re

import numpy as np

from unstuck.runs.names import normalise
from unstuck.runs.run import Ints
from unstuck.runs.scalars import Scalars

SPLITS = ("train", "training", "train_inner", "validation", "valid", "val", "eval", "evaluation", "test", "dev")
RUNNING_MEAN = " (running mean)"

_EPOCH = re.compile(r"(?P<folder>.*/)?epoch_(?P<name>.+)")
_BATCH = re.compile(r"(?:.*/)?batch_.+")
_ITERATIONS = re.compile(r"(?:.*/)?evaluation_.+_vs_iterations")


def named(scalars: Scalars, part: str) -> Scalars:
    """The scalars of one folder under names that tell the part of the run.

    Args:
        part: name of the sub-folder, "" for the run's own folder.
    """
    new: dict[str, str | None] = {}
    for tag in scalars.keys:
        panel, _, short = tag.rpartition("/")
        name = short if panel and normalise(panel).startswith(normalise(short)) else tag
        if part in SPLITS:
            name = name if normalise(name).startswith(normalise(part)) else f"{part}/{name}"
        elif part:
            name = tag + part.removeprefix(tag.replace("/", "_"))
        new[tag] = name
    return scalars.renamed(new)


def of_fairseq(scalars: Scalars, part: str) -> Scalars:
    """The scalars of one of fairseq's folders: names as in its log, losses in nats; the means of epochs left out."""
    if part == "train":
        return scalars.renamed(dict.fromkeys(scalars.keys))
    in_bits = [place for place, key in enumerate(scalars.keys) if key in ("loss", "nll_loss")]
    share = [place for place, key in enumerate(scalars.keys) if key == "clip"]
    values = np.where(np.isin(scalars.key, in_bits), scalars.values * math.log(2), scalars.values)
    scalars.values = np.where(np.isin(scalars.key, share), values / 100, values)
    prefix = "train" if part == "train_inner" else part
    new: dict[str, str | None] = {key: f"{prefix}/{key}" for key in scalars.keys}
    if "nll_loss" in new:  # `loss` holds the label smoothing too
        new["nll_loss"], new["loss"] = f"{prefix}/loss", f"{prefix}/objective"
    if "clip" in new:
        new["clip"] = "clipped_share"
    return scalars.renamed(new)


def counts_epochs(scalars: Scalars) -> bool:
    """Whether Keras logged it: its losses are by epoch."""
    return any(_EPOCH.fullmatch(key) for key in scalars.keys)


def updates_of_epochs(scalars: Scalars) -> Ints | None:
    """For each step of Keras's epochs the update at its end, shape (epochs,); None where it is not logged."""
    rows = scalars.rows
    iterations = next((rows[key] for key in rows if _ITERATIONS.fullmatch(key)), None)
    epochs = next((rows[key] for key in rows if _EPOCH.fullmatch(key) and key.startswith("val")), None)
    if iterations is None or epochs is None or len(iterations) != len(epochs):
        return None
    at = scalars.steps[iterations]
    consecutive = np.array_equal(scalars.steps[epochs], np.arange(len(epochs)) + scalars.steps[epochs[0]])
    return at if consecutive and (np.diff(at) > 0).all() else None


def of_keras(scalars: Scalars, updates: Ints | None) -> Scalars:
    """Keras's scalars without the `epoch_` of their names, at the updates of `updates_of_epochs` where given."""
    if updates is not None:
        rows = scalars.rows
        scalars.steps = scalars.steps.copy()
        first = next(int(scalars.steps[rows[key][0]]) for key in rows if _EPOCH.fullmatch(key))
        for key, places in rows.items():
            if _EPOCH.fullmatch(key):
                scalars.steps[places] = updates[np.clip(scalars.steps[places] - first, 0, len(updates) - 1)]
    new: dict[str, str | None] = {}
    for key in scalars.keys:
        if match := _EPOCH.fullmatch(key):
            new[key] = (match["folder"] or "") + match["name"]
        elif _BATCH.fullmatch(key):
            new[key] = key + RUNNING_MEAN
    return scalars.renamed(new)
