"""Validation of a model that remembers: each source is read in order, and only what was not read before counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unstuck.data import IGNORED
from unstuck.evaluate.loss import TOKENS_PER_BATCH, Evaluation

Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Step:
    """What a group of streams reads at once: int64 (B, T) each, and which of them begin their source here."""

    inputs_BT: Tensor
    targets_BT: Tensor
    begins_B: Tensor


class StreamValidation:
    """Cuts every source into stretches that are read side by side, each by a stream of its own that begins empty.

    A stream first reads the `warm` windows before its stretch, uncounted, so that it knows what one reader of the whole
    source would still remember: with a memory that forgets what is older, the loss is that reader's.

    Args:
        rows_by_source: inputs and targets of consecutive windows, int64, each (n, T).
        warm: windows read before each stretch.
        device: of the model.
        max_targets: target tokens at most, from the front of each source by its length; None: all.
        bytes_of_tokens: bytes of each token id, shape (vocabulary,), for bits per byte.
    """

    def __init__(
        self,
        rows_by_source: Mapping[str, Rows],
        *,
        warm: int,
        device: torch.device,
        max_targets: int | None = None,
        bytes_of_tokens: npt.NDArray[np.integer] | None = None,
    ) -> None:
        self.warm, self.device = warm, device
        total = sum(int(np.count_nonzero(targets != IGNORED)) for _, targets in rows_by_source.values())
        share = 1.0 if max_targets is None or not total else min(1.0, max_targets / total)
        self.sources = {
            name: (inputs[: math.ceil(len(inputs) * share)], targets[: math.ceil(len(targets) * share)])
            for name, (inputs, targets) in rows_by_source.items()
        }
        self.counts = {name: int((targets != IGNORED).sum()) for name, (_, targets) in self.sources.items()}
        self.targets = sum(self.counts.values())
        self.bytes: int | None = None
        if bytes_of_tokens is not None:
            seen = (targets[targets != IGNORED] for _, targets in self.sources.values())
            self.bytes = sum(int(bytes_of_tokens[ids].sum()) for ids in seen)

    def measure(self, model: Any, autocast: Callable[[], AbstractContextManager[object]] = nullcontext) -> Evaluation:
        """Evaluate the model, without gradients; its mode and what its own streams remember are put back afterwards.

        Args:
            model: remembers: has `other_streams`, `forget` and `model(inputs_BT, targets_BT, "sum", stream)`.
            autocast: makes the context of the forward passes; default: full precision.
        """
        was_training = model.training
        model.eval()
        sums: dict[str, float] = {}
        with torch.no_grad():
            for name, (inputs, targets) in self.sources.items():
                total = torch.zeros((), dtype=torch.float64, device=self.device)
                for streams, steps in stretches(inputs, targets, self.warm):
                    with model.other_streams(streams):
                        for step in steps:
                            model.forget(step.begins_B.to(self.device))
                            with autocast():
                                loss = model(step.inputs_BT.to(self.device), step.targets_BT.to(self.device), "sum", 0)
                            total += loss.double()
                sums[name] = float(total)
        model.train(was_training)
        nats = sum(sums.values())
        return Evaluation(
            loss=nats / max(1, self.targets),
            by_source={name: value / max(1, self.counts[name]) for name, value in sums.items()},
            targets=self.targets,
            bits_per_byte=nats / math.log(2) / self.bytes if self.bytes else None,
        )


def stretches(
    inputs: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], warm: int
) -> Iterator[tuple[int, Iterator[Step]]]:
    """One source as groups of stretches: the number of streams, and what they read step by step.

    Stretches are at least as long as what is read before them, so that at most half of the reading is not counted.
    """
    windows, context = inputs.shape
    together = max(1, TOKENS_PER_BATCH // context)
    length = max(-(-windows // together), warm, 1)
    starts = np.arange(0, windows, length)
    for group in np.split(starts, range(together, len(starts), together)):
        yield len(group), _steps(inputs, targets, group, length, warm)


def _steps(
    inputs: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], starts: npt.NDArray[np.intp], length: int, warm: int
) -> Iterator[Step]:
    """The stream at the front of the source has nothing to warm up on: it reads anything, and forgets it at step 0. One
    that is through with the source reads anything, uncounted."""
    for step in range(-min(warm, int(starts.max())), length):
        places = starts + step
        there = (places >= 0) & (places < len(inputs))
        read = np.where(there, places, 0)
        wanted = np.where((there & (step >= 0))[:, None], targets[read], IGNORED)
        yield Step(torch.from_numpy(inputs[read]), torch.from_numpy(wanted), torch.from_numpy(places == 0))
