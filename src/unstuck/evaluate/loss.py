"""Validation: the mean loss over all target tokens, per source, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unstuck.data import IGNORED

# Forward passes keep no activations, so a batch can be larger than in training; 4,096 tokens keep the logits of a 50k
# vocabulary at 0.8 GB. Assumption: they fill a CPU's matrix units.
TOKENS_PER_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one pass over the validation data.

    Attributes:
        loss: in the task's unit (nats per token), the mean over all targets of all sources.
        by_source: the same of each source.
        targets: what the loss is the mean over: target tokens, fields.
        bits_per_byte: bits per byte of UTF-8 text; None where the tokenizer does not know its bytes.
        further: other measures, by the name that they have behind `val/` in the rows.
    """

    loss: float
    by_source: dict[str, float]
    targets: int
    bits_per_byte: float | None = None
    further: dict[str, float] = field(default_factory=dict)

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows, in float64 from 709 on."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    batches: list[tuple[Tensor, Tensor]]  # inputs and targets, int64, each (b, T)
    targets: int
    target_bytes: int | None


class Validation:
    """The validation rows as batches, made once and kept.

    Args:
        rows_by_source: inputs and targets, int64, each (n, T); targets are shifted already, -100 is ignored.
        device: where the batches are kept.
        max_targets: target tokens at most, shared over the sources by their length; None: all.
        bytes_of_tokens: bytes of each token id, shape (vocabulary,), for bits per byte.
    """

    def __init__(
        self,
        rows_by_source: Mapping[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
        *,
        device: torch.device,
        max_targets: int | None = None,
        bytes_of_tokens: npt.NDArray[np.integer] | None = None,
    ) -> None:
        counts = {name: int(np.count_nonzero(targets != IGNORED)) for name, (_, targets) in rows_by_source.items()}
        total = sum(counts.values())
        share = 1.0 if max_targets is None or not total else min(1.0, max_targets / total)
        self._sources = []
        for name, (inputs, targets) in rows_by_source.items():
            wanted = math.ceil(counts[name] * share)
            if wanted < 1:
                continue
            inputs, targets = _first(inputs, targets, wanted)
            seen = targets[targets != IGNORED]
            size = None if bytes_of_tokens is None else int(bytes_of_tokens[seen].sum())
            self._sources.append(_Source(name, _batches(inputs, targets, device), len(seen), size))
        self.targets = sum(source.targets for source in self._sources)

    def measure(
        self, model: nn.Module, autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> Evaluation:
        """Evaluate the model, without dropout and without gradients; it is put back into its mode afterwards.

        Args:
            model: `model(inputs_BT, targets_BT, "sum")` gives the sum of the losses in nats.
            autocast: makes the context of the forward passes; default: full precision.
        """
        was_training = model.training
        model.eval()
        sums = {}
        with torch.no_grad():
            for source in self._sources:
                total = torch.zeros((), dtype=torch.float64)
                for inputs_BT, targets_BT in source.batches:
                    with autocast():
                        loss = model(inputs_BT, targets_BT, "sum")
                    total = total.to(loss.device) + loss.double()
                sums[source.name] = total
            measured = {name: float(total) for name, total in sums.items()}
        model.train(was_training)
        sizes = [source.target_bytes for source in self._sources]
        nats = sum(measured.values())
        known: list[int] = [size for size in sizes if size is not None]
        total_bytes = sum(known)
        return Evaluation(
            loss=nats / max(1, self.targets),
            by_source={source.name: measured[source.name] / source.targets for source in self._sources},
            targets=self.targets,
            bits_per_byte=nats / math.log(2) / total_bytes if len(known) == len(sizes) and total_bytes else None,
            further={
                f"bits_per_byte/{source.name}": measured[source.name] / math.log(2) / source.target_bytes
                for source in self._sources
                if source.target_bytes and len(self._sources) > 1
            },
        )


def _first(
    inputs: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], wanted: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first rows that hold `wanted` targets; what the last of them has beyond is ignored."""
    before = np.concatenate(([0], np.cumsum((targets != IGNORED).sum(axis=1))))
    rows = int(np.searchsorted(before, wanted))
    inputs, targets = inputs[:rows], targets[:rows].copy()
    surplus = int(before[rows]) - wanted
    if surplus:
        last = np.flatnonzero(targets[-1] != IGNORED)
        targets[-1, last[-surplus:]] = IGNORED
    return inputs, targets


def _batches(
    inputs: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    rows = max(1, TOKENS_PER_BATCH // inputs.shape[1])
    return list(
        zip(
            torch.split(torch.from_numpy(inputs).to(device), rows),
            torch.split(torch.from_numpy(targets).to(device), rows),
            strict=True,
        )
    )
