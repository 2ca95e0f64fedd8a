"""What a family hands to a trainer: a model, training and validation tensors, a loss, and the facts a script prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Pair = tuple[Tensor, Tensor]  # inputs of shape (N, ...), targets of shape (N, ...)
IGNORED = -100  # torch's ignore_index
EVALUATION_BATCH = 64


@dataclass(slots=True)
class Problem:
    """A learning problem with one model.

    Attributes:
        kind: "tokens" (cross-entropy over a vocabulary), "classes" (cross-entropy) or "fields" (squared error).
        make_model: a new model, drawn from torch's global generator.
        train: the training samples.
        validation: the samples that the run validates on, as it reports them.
        validation_draw: each evaluation draws so many of them anew, as nanoGPT does; None: all, the same every time.
        clean: samples of the right distribution that no fault touches, to measure what was learned.
        vary: inputs and targets of a batch as they are used (masking, noise), drawn from the generator.
        groups: parameter groups of a model by name, the body first.
        facts: what a script knows of itself (`vocab_size`, `num_classes`, `task`), canonical names.
        sorted_order: the order of the training samples that is sorted by class or source.
    """

    kind: str
    make_model: Callable[[], nn.Module]
    train: Pair
    validation: Pair
    clean: Pair
    validation_draw: int | None = None
    vary: Callable[[Tensor, Tensor, torch.Generator], Pair] | None = None
    groups: Callable[[nn.Module], Mapping[str, list[nn.Parameter]]] | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    sorted_order: Tensor | None = None

    def batches(self, size: int, generator: torch.Generator, *, shuffle: bool = True) -> Iterator[tuple[int, Pair]]:
        """(epoch, batch) without end; an epoch drops its last part where that is no whole batch."""
        inputs, targets = self.train
        count = len(inputs)
        size = min(size, count)
        epoch = 0
        while True:
            if shuffle:
                order = torch.randperm(count, generator=generator)
            else:
                order = torch.arange(count) if self.sorted_order is None else self.sorted_order
            for start in range(0, count - size + 1, size):
                chosen = order[start : start + size]
                x, y = inputs[chosen], targets[chosen]
                yield epoch, (self.vary(x, y, generator) if self.vary else (x, y))
            epoch += 1

    def validation_samples(self, generator: torch.Generator) -> Pair:
        """The samples of one evaluation."""
        if self.validation_draw is None:
            return self.validation
        chosen = torch.randperm(len(self.validation[0]), generator=generator)[: self.validation_draw]
        return self.validation[0][chosen], self.validation[1][chosen]

    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
        """The training loss.

        Args:
            reduction: "mean" over targets, "sum" over them, or "samples": the mean of each sample's own mean by a mask,
                as hand-written losses have it, where a sample without any target is 0 / 0 in value and gradient.
        """
        if reduction == "samples" and self.kind == "tokens":
            mask_BT = (targets != IGNORED).float()
            each_BT = functional.cross_entropy(
                outputs.transpose(1, 2), targets.clamp(min=0), label_smoothing=smoothing, reduction="none"
            )
            return ((each_BT * mask_BT).sum(dim=1) / mask_BT.sum(dim=1)).mean()
        reduction = "mean" if reduction == "samples" else reduction
        if self.kind == "fields":
            return functional.mse_loss(outputs, targets, reduction=reduction)
        if self.kind == "classes":
            return functional.cross_entropy(outputs, targets, label_smoothing=smoothing, reduction=reduction)
        return functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing,
            reduction=reduction,
        )  # fmt: skip

    @torch.no_grad()
    def evaluate(self, model: nn.Module, pair: Pair, *, smoothing: float = 0.0, reduction: str = "mean") -> Measured:
        """Loss and accuracy over all samples of the pair, in evaluation mode; masking is the same every time."""
        was_training = model.training
        model.eval()
        generator = torch.Generator().manual_seed(0)
        total = weight = right = seen = 0.0
        for start in range(0, len(pair[0]), EVALUATION_BATCH):
            x, y = pair[0][start : start + EVALUATION_BATCH], pair[1][start : start + EVALUATION_BATCH]
            if self.vary:
                x, y = self.vary(x, y, generator)
            outputs = model(x)
            counted = float((y != IGNORED).sum()) if self.kind != "fields" else float(len(y))
            part = float(self.loss(outputs, y, smoothing=smoothing, reduction=reduction))
            # a sum is reported as the mean over batches of the batch's sum, as a loop that divides by len(loader) does
            share = 1.0 if reduction == "sum" else counted
            total, weight = total + part * share, weight + share
            if self.kind == "classes":
                right, seen = right + float((outputs.argmax(-1) == y).sum()), seen + len(y)
        model.train(was_training)
        return Measured(total / max(1.0, weight), right / seen if seen else None)


@dataclass(frozen=True, slots=True)
class Measured:
    """Loss of an evaluation, and accuracy where there are classes."""

    loss: float
    accuracy: float | None = None


def subset(pair: Pair, count: int | None) -> Pair:
    """The first `count` samples; all of them for None."""
    return pair if count is None else (pair[0][:count], pair[1][:count])


def joined(first: Pair, second: Pair) -> Pair:
    return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])


def parameter_count(model: nn.Module, *, trainable: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
