"""What the training loop needs to know of what is trained: data, loss, validation. One task a file in this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unstuck.data.tokenizer import TextTokenizer
from unstuck.evaluate.loss import Evaluation

Autocast = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Share:
    """The part of every update that this process computes: one of `processes` equal parts."""

    rank: int = 0
    processes: int = 1


@dataclass(frozen=True, slots=True)
class MicroBatches:
    """The data of one optimizer update.

    Attributes:
        batches: what `Task.loss` takes, on the device: the micro-batches of this process.
        targets: number that the update's loss is the mean over, of all processes together.
        examples: windows or fields consumed, of all processes together.
        tokens: target tokens trained on, of all processes together; None where there are none.
    """

    batches: list[Any]
    targets: int
    examples: int
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of one micro-batch.

    Attributes:
        summed: sum over its targets, a scalar; the update's `train/loss` is the sum of these / `MicroBatches.targets`.
        auxiliary: further terms of what is minimised, on the same scale; rows then hold `train/objective` as well.
    """

    summed: Tensor
    auxiliary: Tensor | None = None


class Task(Protocol):
    """Data, loss and validation of one kind of training.

    Attributes:
        unit: of the loss: "nats/token", "relative L2".
        example: what an epoch is counted in: "window", "field".
        examples: examples in one epoch.
        tokens_per_example: target tokens of one example; None where there are none, or where they differ.
        fingerprint: the same value means the same data, on any machine.
        notes: what was left out or decided, one sentence each.
        tokenizer: of the text; None where there is none.
        validation_targets: what the validation loss is the mean over.
    """

    unit: str
    example: str
    examples: int
    tokens_per_example: int | None
    fingerprint: str
    notes: tuple[str, ...]
    tokenizer: TextTokenizer | None
    validation_targets: int

    def model_arguments(self) -> dict[str, Any]:
        """What `models.build` must know of the data, JSON-ready: vocabulary and context, or channels."""
        ...

    def micro_batches(self, position: int, update: int) -> MicroBatches:
        """The data of the next update: a function of its arguments alone, so that a resume is exact.

        Args:
            position: examples consumed so far, of all processes together.
            update: optimizer updates made so far.
        """
        ...

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        """The loss of one micro-batch; called under autocast, with the model in training mode.

        Args:
            model: the model or what wraps it (compiled, DDP); must be called, not reached into.
        """
        ...

    def validate(self, model: nn.Module, autocast: Autocast) -> Evaluation:
        """Measure the model on the validation data; its mode and its memory are put back afterwards."""
        ...

    def after_update(self, model: nn.Module, update: int) -> Mapping[str, float]:
        """What the task or the model does between updates (homeostasis, sleep); returns further values of the row."""
        ...

    def start_row(self) -> dict[str, Any]:
        """Sizes that a diagnosis needs, for the `start` event."""
        ...

    def save(self, folder: Path) -> None:
        """Write what has to lie beside the weights into the run folder: the tokenizer, for one."""
        ...


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; does not wait for the copy, which a GPU makes by itself from pinned memory only."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
