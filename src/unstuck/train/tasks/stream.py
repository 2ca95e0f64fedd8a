"""Causal language modelling for a model that remembers (models/cortex): text in order, and updates asleep.

Each row of an update is a stream: it reads stretches of the text from front to back, row b of the next update going on
where row b of this one ended. Where the model sleeps, some updates take the hardest windows met instead of new text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unstuck.config.schema import Config
from unstuck.config.sections.cortex import CortexConfig, SleepConfig
from unstuck.data.order import StreamOrder
from unstuck.errors import UserError
from unstuck.evaluate.loss import Evaluation
from unstuck.evaluate.stream import StreamValidation
from unstuck.train.tasks.causal import Causal, TokenData
from unstuck.train.tasks.task import Autocast, Loss, MicroBatches, Share, on_device
from unstuck.wording import plural

# At least, for models with slots alone. Assumption: slots that keep 73 % over a window keep 1 % over 16.
STRETCH_WINDOWS = 16


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """Inputs and targets, int64 (B, T) each.

    Attributes:
        stream: that the first row continues; None: rows begin here.
        asleep: the model takes remembered windows instead.
        begins_B: bool: the streams that begin another stretch here and forget the one before; so a model also learns to
            read the beginning of a text, of which it remembers nothing.
    """

    inputs_BT: Tensor
    targets_BT: Tensor
    stream: int | None
    asleep: bool
    begins_B: Tensor | None = None


class Stream(Causal):
    """Implements `Task` for text and a cortex model.

    Args:
        config: of the run.
        data: the text.
        device: where batches go.
        share: of this process.

    Raises:
        UserError: several processes, too little text for so many streams, or a sleep longer than what it can replay.
    """

    def __init__(self, config: Config, data: TokenData, device: torch.device, share: Share) -> None:
        super().__init__(config, data, device, share)
        assert isinstance(config.model, CortexConfig)  # tasks.make chose this task for it
        self.model, self.sleep = config.model, config.model.sleep
        self.rows = self.batch_size * self.accumulation
        self.streams = self.rows if self.model.carries_state else 0
        _check(self.sleep, self.rows, share)
        if self.streams:
            if self.streams > data.examples:
                raise UserError(
                    f"The text has {plural(data.examples, 'window')} for {plural(self.streams, 'stream')} "
                    "(batch_size x accumulation); set "
                    f"training.batch_size={max(1, data.examples // self.accumulation // 8)} or give more text."
                )
            self.stream_order = StreamOrder(
                data.examples, self.streams, stretch_of(self.model, data.context), config.seed
            )
            self.stream_validation = StreamValidation(
                data.validation_rows(),
                warm=-(-self.model.memory.tokens // data.context) + 1,  # one more: its first token has no key before it
                device=device,
                max_targets=config.evaluation.max_tokens,
                bytes_of_tokens=data.tokenizer.bytes_of_tokens(),
            )
            self.validation_targets = self.stream_validation.targets
            self.notes = (
                *self.notes,
                f"The text is read in order, as {plural(self.streams, 'stream')}, because the model remembers.",
            )

    def model_arguments(self) -> dict[str, Any]:
        return super().model_arguments() | {
            "streams": self.streams,
            "end_of_text": self.data.tokenizer.end_of_text,
        }

    def micro_batches(self, position: int, update: int) -> MicroBatches:
        """The next windows of every stream; asleep, they only say how many are wanted and are not consumed."""
        asleep = is_asleep(self.sleep, update)
        if not (self.streams or asleep):
            found = super().micro_batches(position, update)
            batches = [StreamBatch(inputs, wanted, None, False) for inputs, wanted in found.batches]
            return MicroBatches(batches, found.targets, found.examples, found.tokens)
        batches, targets = [], 0
        step = position // self.rows
        for first in range(0, self.rows, self.batch_size):
            begins_B = None
            if self.streams:
                chosen = self.stream_order.batch(step, first, self.batch_size)
                begins = torch.from_numpy(self.stream_order.begins(step, first, self.batch_size))
                begins_B = on_device(begins, self.device)
            else:
                chosen = self.order.batch((position + first) // self.batch_size)
            inputs, wanted = (
                on_device(torch.from_numpy(np.ascontiguousarray(x)), self.device) for x in self.data.rows(chosen)
            )
            targets += wanted.numel()  # windows of a text are full
            stream = first if self.streams and not asleep else None
            batches.append(StreamBatch(inputs, wanted, stream, asleep, begins_B))
        return MicroBatches(batches, targets, 0 if asleep else self.rows, targets)

    def loss(self, model: nn.Module, batch: StreamBatch) -> Loss:
        return Loss(model(batch.inputs_BT, batch.targets_BT, "sum", batch.stream, batch.asleep, batch.begins_B))

    def validate(self, model: nn.Module, autocast: Autocast) -> Evaluation:
        return self.stream_validation.measure(model, autocast) if self.streams else super().validate(model, autocast)


def stretch_of(model: CortexConfig, context: int) -> int:
    """Windows that a stream reads in one go: four times what it remembers, so that memory is seldom of another place;
    but not more, so that the streams of an update come from all over the text. The recipe's 64
    windows cost 0.06 nats beside shuffled ones, eighths of the text 0.13 (docs/LOG.md); 4 itself is an assumption."""
    return max(STRETCH_WINDOWS, 4 * model.memory.tokens // context)


def is_asleep(sleep: SleepConfig, update: int) -> bool:
    """Whether the update after `update` updates is one of a sleep phase."""
    every = sleep.every_updates
    return every is not None and update % (every + sleep.updates) >= every


def _check(sleep: SleepConfig, rows: int, share: Share) -> None:
    if share.processes > 1:
        raise UserError(
            f"A cortex model keeps its memory, loads and firing rates in one process, and there are {share.processes}; "
            "start it without torchrun."
        )
    if sleep.every_updates is None:
        return
    if sleep.updates > sleep.every_updates:
        raise UserError(
            f"model.sleep.updates={sleep.updates} is longer than the {plural(sleep.every_updates, 'update')} awake "
            f"before it; set model.sleep.updates={sleep.every_updates} or less."
        )
    if sleep.windows < rows * sleep.updates:
        raise UserError(
            f"model.sleep.windows={sleep.windows} is less than the {rows * sleep.updates} that one sleep replays; "
            f"set model.sleep.windows={rows * sleep.updates}."
        )
