"""`task.kind: causal`: predict the next token. For windows of text and for answers to prompts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from unstuck.config.schema import Config
from unstuck.data import IGNORED
from unstuck.data.order import DataOrder, Indices
from unstuck.data.tokenizer import TextTokenizer
from unstuck.evaluate.loss import Evaluation, Validation
from unstuck.train.tasks.task import Autocast, Loss, MicroBatches, Share, on_device

Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


class TokenData(Protocol):
    """Rows of token ids to train and validate on: `TextData`, `AnswerData`.

    Attributes:
        tokenizer: of the ids.
        context: longest row.
        examples: training rows in one epoch.
        fingerprint, notes: see `Task`.
    """

    @property
    def tokenizer(self) -> TextTokenizer: ...
    @property
    def context(self) -> int: ...
    @property
    def examples(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def rows(self, indices: Indices) -> Rows:
        """Inputs and targets of training rows, int64, each (b, T) with T <= context; targets are shifted once."""
        ...

    def validation_rows(self) -> Mapping[str, Rows]:
        """Inputs and targets of all validation rows by source."""
        ...

    def start_row(self) -> dict[str, Any]:
        """Sizes for the `start` event."""
        ...


class Causal:
    """Implements `Task` for token rows whose targets the data has shifted already.

    Args:
        config: of the run.
        data: the rows.
        device: where batches go.
        share: of this process.
    """

    unit = "nats/token"
    example = "window"

    def __init__(self, config: Config, data: TokenData, device: torch.device, share: Share) -> None:
        self.data = data
        self.device = device
        self.share = share
        self.batch_size = config.training.batch_size
        self.accumulation = config.training.accumulation
        self.examples = data.examples
        self.tokens_per_example = data.context if config.data.kind == "text" else None
        self.fingerprint = data.fingerprint
        self.notes = data.notes
        self.tokenizer: TextTokenizer | None = data.tokenizer
        self.order = DataOrder(data.examples, self.batch_size * share.processes, config.seed)
        self.validation = Validation(
            data.validation_rows(),
            device=device,
            max_targets=config.evaluation.max_tokens,
            bytes_of_tokens=data.tokenizer.bytes_of_tokens(),
        )
        self.validation_targets = self.validation.targets

    def model_arguments(self) -> dict[str, Any]:
        return {"vocabulary": self.data.tokenizer.vocabulary, "context": self.data.context}

    def micro_batches(self, position: int, update: int) -> MicroBatches:
        """Inputs and targets, int64 (B, T) each; all processes look all rows up, so that each knows the targets."""
        together = self.batch_size * self.share.processes
        first = position // together
        mine = slice(self.share.rank * self.batch_size, (self.share.rank + 1) * self.batch_size)
        batches, targets = [], 0
        for micro_step in range(first, first + self.accumulation):
            inputs, wanted = self.data.rows(self.order.batch(micro_step))
            targets += int(np.count_nonzero(wanted != IGNORED))
            batches.append(
                (
                    on_device(torch.from_numpy(np.ascontiguousarray(inputs[mine])), self.device),
                    on_device(torch.from_numpy(np.ascontiguousarray(wanted[mine])), self.device),
                )
            )
        return MicroBatches(batches, targets, together * self.accumulation, targets)

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        inputs_BT, targets_BT = batch
        summed = model(inputs_BT, targets_BT, "sum")
        inner: Any = getattr(model, "module", model)  # DDP keeps the model in there
        return Loss(summed, inner.auxiliary)

    def validate(self, model: nn.Module, autocast: Autocast) -> Evaluation:
        return self.validation.measure(model, autocast)

    def after_update(self, model: nn.Module, update: int) -> Mapping[str, float]:
        between = getattr(model, "after_update", None)
        return {} if between is None else between(update)

    def start_row(self) -> dict[str, Any]:
        return self.data.start_row() | {"validation_tokens": self.validation_targets}

    def save(self, folder: Path) -> None:
        self.data.tokenizer.save(folder)
