"""Validation: the mean loss over all target tokens, per source, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unstuck.models.language_model import LanguageModel

# Forward passes keep no activations, so a batch can be larger than in training; 4,096 tokens fill a CPU's matrix
# units and keep the logits of a 50k vocabulary below 1 GB.
TOKENS_PER_BATCH = 4096
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one pass over the validation tokens.

    Attributes:
        loss: nats per token, the mean over all target tokens of all sources.
        by_source: nats per token of each source.
        tokens: target tokens.
        bits_per_byte: bits per byte of UTF-8 text; None where the tokenizer does not know its bytes.
    """

    loss: float
    by_source: dict[str, float]
    tokens: int
    bits_per_byte: float | None

    @property
    def perplexity(self) -> float:
        """exp(loss); infinite where that overflows."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    batches: list[tuple[Tensor, Tensor]]  # inputs and targets, int64, each (b, context)
    tokens: int
    target_bytes: int | None


class Validation:
    """The validation tokens as batches, made once and kept.

    Every token but a source's first is a target exactly once. The last window of a source may be short; it is filled
    with ignored targets, which a causal model never looks back from.

    Args:
        tokens_by_source: int arrays of shape (n,).
        context: tokens in a window.
        device: where the batches are kept.
        max_tokens: target tokens at most, shared over the sources by their length; None: all.
        bytes_of_tokens: bytes of each token id, shape (vocabulary,), for bits per byte.
    """

    def __init__(
        self,
        tokens_by_source: Mapping[str, npt.NDArray[np.integer]],
        *,
        context: int,
        device: torch.device,
        max_tokens: int | None = None,
        bytes_of_tokens: npt.NDArray[np.integer] | None = None,
    ) -> None:
        total = sum(max(0, len(tokens) - 1) for tokens in tokens_by_source.values())
        share = 1.0 if max_tokens is None or not total else min(1.0, max_tokens / total)
        self._sources = []
        for name, tokens in tokens_by_source.items():
            targets = math.ceil((len(tokens) - 1) * share)
            if targets < 1:
                continue
            ids = np.asarray(tokens[: targets + 1], dtype=np.int64)
            size = None if bytes_of_tokens is None else int(bytes_of_tokens[ids[1:]].sum())
            self._sources.append(_Source(name, _batches(ids, context, device), targets, size))
        self.tokens = sum(source.tokens for source in self._sources)

    def measure(
        self, model: LanguageModel, autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> Evaluation:
        """Evaluate the model, without dropout and without gradients; it is put back into its mode afterwards.

        Args:
            model: has `loss_sum(tokens_BT, targets_BT) -> (sum of losses, count)`.
            autocast: makes the context of the forward passes; default: full precision.
        """
        was_training = model.training
        model.eval()
        sums = {}
        with torch.no_grad():
            for source in self._sources:
                total = torch.zeros((), dtype=torch.float64)
                for tokens_BT, targets_BT in source.batches:
                    with autocast():
                        loss, _ = model.loss_sum(tokens_BT, targets_BT)
                    total = total.to(loss.device) + loss.double()
                sums[source.name] = total
            measured = {name: float(total) for name, total in sums.items()}
        model.train(was_training)
        sizes = [source.target_bytes for source in self._sources]
        nats = sum(measured.values())
        known: list[int] = [size for size in sizes if size is not None]
        total_bytes = sum(known)
        return Evaluation(
            loss=nats / max(1, self.tokens),
            by_source={source.name: measured[source.name] / source.tokens for source in self._sources},
            tokens=self.tokens,
            bits_per_byte=nats / math.log(2) / total_bytes if len(known) == len(sizes) and total_bytes else None,
        )


def _batches(ids: npt.NDArray[np.int64], context: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Non-overlapping windows, the last one filled up; `ids` has shape (n,), n - 1 targets."""
    targets = len(ids) - 1
    windows = -(-targets // context)
    inputs_WT = np.zeros(windows * context, dtype=np.int64)
    targets_WT = np.full(windows * context, IGNORED, dtype=np.int64)
    inputs_WT[:targets], targets_WT[:targets] = ids[:-1], ids[1:]
    inputs = torch.from_numpy(inputs_WT.reshape(windows, context)).to(device)
    wanted = torch.from_numpy(targets_WT.reshape(windows, context)).to(device)
    rows = max(1, TOKENS_PER_BATCH // context)
    return list(zip(torch.split(inputs, rows), torch.split(wanted, rows), strict=True))
