"""`task.kind: masked`: predict hidden tokens, and in a share of windows the next token from left to right.

The hybrid of GPT-BERT (arXiv 2410.24159): in both kinds of window position t predicts token t + 1, so targets are
shifted once, here, and one head serves both. What a window hides and which way it is read follow from the seed and the
window's position in the run alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unstuck.config.schema import Config
from unstuck.config.sections.tasks import MaskedTask
from unstuck.config.sections.text import TextConfig
from unstuck.data import IGNORED
from unstuck.data.masking import Masking, rate_at
from unstuck.data.order import DataOrder
from unstuck.data.prepare import TextData
from unstuck.data.sentence_windows import CLOSING, SENTENCE_ENDS, window_starts, windows
from unstuck.data.tokenizer import TextTokenizer
from unstuck.errors import UserError
from unstuck.evaluate.loss import TOKENS_PER_BATCH, Evaluation
from unstuck.train.tasks import token_data
from unstuck.train.tasks.task import Autocast, Loss, MicroBatches, Share, on_device
from unstuck.wording import plural

Ids = npt.NDArray[np.int64]

# Of the run's seed: validation masks are the same in every run, so that runs can be compared.
VALIDATION_SEED = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows (B, T), int64; the first `causal_rows` are read from left to right."""

    inputs_BT: Tensor
    targets_BT: Tensor
    causal_rows: int


@dataclass(frozen=True, slots=True)
class Special:
    """Ids of the special tokens that masked training needs."""

    begin: int
    mask: int
    padding: int
    all: tuple[int, ...]

    @staticmethod
    def of(tokenizer: TextTokenizer) -> Special:
        """BERT's or RoBERTa's names.

        Raises:
            UserError: one is missing.
        """
        named = {name: _first_id(tokenizer, name, other) for name, other in NAMES.items()}
        missing = [name for name in ("[CLS]", "[MASK]", "[PAD]") if named[name] is None]
        if missing:
            raise UserError(f"The tokenizer has no {missing[0]}, which masked training needs; data.tokenizer=wordpiece")
        known = tuple(index for index in (*named.values(), tokenizer.end_of_text) if index is not None)
        begin, mask, padding = (named[name] or 0 for name in ("[CLS]", "[MASK]", "[PAD]"))
        return Special(begin, mask, padding, tuple(sorted(set(known))))


NAMES = {"[CLS]": "<s>", "[MASK]": "<mask>", "[PAD]": "<pad>", "[SEP]": "</s>", "[UNK]": "<unk>"}


def _first_id(tokenizer: TextTokenizer, *names: str) -> int | None:
    return next((i for name in names if (i := tokenizer.token_id(name)) is not None), None)


@dataclass(slots=True)
class _Stage:
    """A part of the run with one length of window."""

    context: int
    batch_size: int  # windows of a micro-batch of one process
    first_update: int
    first_example: int
    starts: Ids
    lengths: Ids
    order: DataOrder


class Masked:
    """Implements `Task` for masked and hybrid language modelling.

    Args:
        config: of the run.
        device: where batches go.
        share: of this process.
    """

    unit = "nats/token"
    example = "window"

    def __init__(self, config: Config, device: torch.device, share: Share) -> None:
        assert isinstance(config.data, TextConfig)  # `tasks.make` has checked the kinds
        assert isinstance(config.task, MaskedTask)
        self.task, self.training, self.seed = config.task, config.training, config.seed
        self.device, self.share = device, share
        # A model of transformers reads the hidden token's own place; ours the place before it, as a causal model does.
        self.in_place = config.model.architecture == "pretrained"
        if self.in_place and config.task.causal_share:
            raise UserError("A pretrained masked model cannot be trained from left to right; set task.causal_share=0.")
        data = token_data(config)
        assert isinstance(data, TextData)  # as the config's
        self.data = data
        self.tokenizer: TextTokenizer | None = self.data.tokenizer
        self.special = Special.of(self.data.tokenizer)
        self.masking = Masking(
            self.special.mask,
            self.special.all,
            self.data.vocabulary,
            config.task.longest_span,
            config.task.random_share,
            config.task.kept_share,
        )
        self.ends, self.closing = (
            [i for text in texts if (i := self.data.tokenizer.token_id(text)) is not None]
            for texts in (SENTENCE_ENDS, CLOSING)
        )
        context = config.data.context
        table = self._windows(self.data.train_tokens, context)
        self.examples = len(table[0])
        self.tokens_per_example: int | None = None  # masked windows have fewer targets than causal ones
        whole = config.training.batch_size * config.training.accumulation * share.processes
        self.updates = config.training.updates or max(1, round((config.training.epochs or 0) * self.examples / whole))
        self.stages = [self._stage(0, context, config.training.batch_size, 0, 0, table)]
        if config.task.long_context is not None:
            self.stages.append(self._long_stage(config.task.long_context, config.task.long_after))
        self.fingerprint = self.data.fingerprint
        self.notes = self.data.notes + self._schedules()
        self.validation = _validation_windows(self, config.evaluation.max_tokens)
        self.validation_targets = sum(count for _, parts in self.validation.items() for _, count in parts)

    def model_arguments(self) -> dict[str, Any]:
        longest = max(stage.context for stage in self.stages)
        if self.in_place:
            return {"vocabulary": self.data.vocabulary, "context": longest + 1}
        return {"vocabulary": self.data.vocabulary, "context": longest, "padding": self.special.padding}

    def micro_batches(self, position: int, update: int) -> MicroBatches:
        """`Batch`es; all processes hide all windows, so that each knows the number of targets."""
        stage = next(stage for stage in reversed(self.stages) if update >= stage.first_update)
        together = stage.batch_size * self.share.processes
        # A resume with other settings may reach a stage before the place where they would have begun it.
        first = max(0, position - stage.first_example) // together
        count = self._micro_steps(update)
        rate = rate_at(self.task.rate_start, self.task.rate_end, update / self.updates)
        mine = slice(self.share.rank * stage.batch_size, (self.share.rank + 1) * stage.batch_size)
        batches, targets = [], 0
        for micro_step in range(first, first + count):
            positions = stage.first_example + np.arange(micro_step * together, (micro_step + 1) * together)
            chosen = stage.order.batch(micro_step)
            tokens = self._take(self.data.train_tokens, stage.starts[chosen], stage.lengths[chosen], stage.context)
            inputs, wanted, causal = self.hybrid(tokens, rate, self.seed, positions)
            targets += int(np.count_nonzero(wanted != IGNORED))
            batches.append(self._batch(inputs[mine], wanted[mine], causal[mine]))
        return MicroBatches(batches, targets, together * count, targets)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        if self.in_place:
            return Loss(model(batch.inputs_BT, batch.targets_BT, "sum"))
        return Loss(model(batch.inputs_BT, batch.targets_BT, "sum", batch.causal_rows))

    def validate(self, model: nn.Module, autocast: Autocast) -> Evaluation:
        """The loss of the run's own mixture of windows, and besides of the masked and of the causal ones."""
        was_training = model.training
        model.eval()
        by_source, kinds = {}, {"masked": [0.0, 0], "causal": [0.0, 0]}
        with torch.no_grad():
            for source, parts in self.validation.items():
                nats, total = 0.0, 0
                for batch, count in parts:
                    with autocast():
                        loss = float(self.loss(model, batch).summed)
                    kind = kinds["causal" if batch.causal_rows else "masked"]
                    kind[0], kind[1] = kind[0] + loss, kind[1] + count
                    nats, total = nats + loss, total + count
                by_source[source] = nats / total
        model.train(was_training)
        nats = sum(kind[0] for kind in kinds.values())
        measured = {name: nats / count for name, (nats, count) in kinds.items() if count}
        further = measured if len(measured) > 1 else {}
        return Evaluation(nats / max(1, self.validation_targets), by_source, self.validation_targets, None, further)

    def after_update(self, model: nn.Module, update: int) -> Mapping[str, float]:
        return {}

    def start_row(self) -> dict[str, Any]:
        return self.data.start_row() | {"validation_tokens": self.validation_targets}

    def save(self, folder: Path) -> None:
        self.data.tokenizer.save(folder)

    def hybrid(self, tokens: Ids, rate: float, seed: int, positions: Ids) -> tuple[Ids, Ids, npt.NDArray[np.bool_]]:
        """Inputs and targets of windows (b, T + 1), and which windows are causal. Shifted once they are (b, T).

        Window p is causal where p times the causal share passes a whole number, so any run of windows has its share.
        """
        share = self.task.causal_share
        causal = np.floor((positions + 1) * share) > np.floor(positions * share)
        seen, chosen = self.masking.hide(tokens, rate, seed, positions)
        inputs = np.where(causal[:, None], tokens, seen)
        predicted = (chosen | causal[:, None]) & (tokens != self.special.padding)
        targets = np.where(predicted, tokens, IGNORED)
        return (inputs, targets, causal) if self.in_place else (inputs[:, :-1], targets[:, 1:], causal)

    def _schedules(self) -> tuple[str, ...]:
        """What changes during the run, for the notes at its start."""
        notes = []
        steps = self._micro_steps(0), self._micro_steps(self.updates)
        if steps[0] < steps[1]:
            first = plural(steps[0], "micro-batch", "micro-batches")
            notes.append(f"Updates begin with {first} and end with {steps[1]} (task.start_batch_share).")
        for stage in self.stages[1:]:
            notes.append(
                f"From update {stage.first_update:,} on, windows have {stage.context} tokens and micro-batches "
                f"{plural(stage.batch_size, 'window')} (task.long_context)."
            )
        return tuple(notes)

    def _micro_steps(self, update: int) -> int:
        """Micro-batches of the update that comes after `update` updates."""
        share = self.task.start_batch_share
        grown = share + (1 - share) * update / max(1, self.updates - 1)
        return max(1, round(self.training.accumulation * min(1.0, grown)))

    def _stage(
        self, number: int, context: int, batch_size: int, update: int, example: int, table: tuple[Ids, Ids]
    ) -> _Stage:
        order = DataOrder(len(table[0]), batch_size * self.share.processes, self.seed + number)
        return _Stage(context, batch_size, update, example, *table, order)

    def _long_stage(self, context: int, after: float) -> _Stage:
        """Windows of another length, and so many fewer that an update keeps its tokens."""
        first = self.stages[0]
        switch = math.ceil(after * self.updates)
        steps = sum(map(self._micro_steps, range(switch)))
        batch_size = max(1, round(first.batch_size * first.context / context))
        table = self._windows(self.data.train_tokens, context)
        return self._stage(1, context, batch_size, switch, steps * first.batch_size * self.share.processes, table)

    def _windows(self, tokens: npt.NDArray[np.integer], context: int) -> tuple[Ids, Ids]:
        separator = -1 if self.data.tokenizer.end_of_text is None else self.data.tokenizer.end_of_text
        return window_starts(tokens, context, separator=separator, ends=self.ends, closing=self.closing)

    def _take(self, tokens: npt.NDArray[np.integer], starts: Ids, lengths: Ids, context: int) -> Ids:
        begin, padding = self.special.begin, self.special.padding
        return windows(tokens, starts, lengths, context=context, begin=begin, padding=padding)

    def _batch(self, inputs: Ids, targets: Ids, causal: npt.NDArray[np.bool_]) -> Batch:
        order = np.argsort(~causal, kind="stable")
        return Batch(
            on_device(torch.from_numpy(inputs[order]), self.device),
            on_device(torch.from_numpy(targets[order]), self.device),
            int(causal.sum()),
        )


def _validation_windows(task: Masked, max_tokens: int | None) -> dict[str, list[tuple[Batch, int]]]:
    """Batches of one kind with their number of targets, by source; hidden at the final rate, the same in every run."""
    context = task.stages[0].context
    total = sum(map(len, task.data.validation.values()))
    share = 1.0 if max_tokens is None else min(1.0, max_tokens / total)
    rows = max(1, TOKENS_PER_BATCH // context)
    found: dict[str, list[tuple[Batch, int]]] = {}
    for source, tokens in task.data.validation.items():
        starts, lengths = task._windows(tokens, context)
        kept = np.unique(np.linspace(0, len(starts) - 1, max(1, math.ceil(share * len(starts)))).astype(np.int64))
        windows_bT = task._take(tokens, starts[kept], lengths[kept], context)
        inputs, targets, causal = task.hybrid(windows_bT, task.task.rate_end, VALIDATION_SEED, np.arange(len(kept)))
        parts = []
        for kind in (True, False):
            of_kind = np.flatnonzero(causal == kind)
            for some in np.split(of_kind, range(rows, len(of_kind), rows)):
                count = int(np.count_nonzero(targets[some] != IGNORED))
                if count:
                    parts.append((task._batch(inputs[some], targets[some], causal[some]), count))
        if parts:
            found[source] = parts
    return found
