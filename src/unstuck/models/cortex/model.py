"""CortexGPT: the GPT of gpt.py over a short window, with what incident I1 wanted around it, each part by a switch.

- long-term memory of past keys and values, by nearest neighbour: memory.py
- sparse cortical columns with balanced load in place of the MLPs: columns.py
- homeostasis of the units' firing rates: homeostasis.py
- working-memory slots: slots.py
- episodes for consolidation in sleep: sleep.py

With every part off it is that GPT, weight for weight. Called on tokens alone it is a pure function of each row's
tokens: memory begins empty with the row and passes from window to window within it. A training run that reads its text
as streams says which, and goes on from what each remembers. Nothing ever passes between rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unstuck.config.sections.cortex import CortexConfig
from unstuck.config.sections.gpt import GPTConfig
from unstuck.errors import UserError
from unstuck.models.cortex.columns import Columns, units_of
from unstuck.models.cortex.homeostasis import Firing
from unstuck.models.cortex.memory import LongTermMemory, Recalled, Store
from unstuck.models.cortex.sleep import Episodes
from unstuck.models.cortex.slots import WorkingMemory
from unstuck.models.cortex.state import State, Streams
from unstuck.models.functions import normalise, scaled_sum, squared_relu
from unstuck.models.gpt import GPT, Block
from unstuck.models.language_model import IGNORED

FOREVER = 1 << 62  # more tokens than any memory holds


class CortexBlock(Block):
    """The GPT's block, with memory beside attention and columns in place of the MLP where the recipe says so."""

    def __init__(self, config: CortexConfig, layer: int, vocabulary: int, context: int) -> None:
        super().__init__(config, vocabulary, context)
        columns, homeostasis = config.columns, config.homeostasis
        units = 4 * config.width if not columns.count else columns.count * units_of(config.width, columns.active)
        self.firing = Firing(units, homeostasis.target, homeostasis.speed) if homeostasis.speed else None
        self.columns: Columns | None = None
        if columns.count:
            del self.up, self.down
            self.columns = Columns(config.width, columns.count, columns.active, columns.balance)
        self.memory: LongTermMemory | None = None
        if config.memory.tokens and layer == memory_layer(config):
            self.memory = LongTermMemory(config.width, config.heads, config.memory.neighbours)

    def forward(
        self,
        x_BTW: Tensor,
        embedded_BTW: Tensor,
        tokens_BT: Tensor,
        extra_BTW: Tensor | None,
        rotation_TD: Tensor,
        state: State | None = None,
    ) -> Tensor:
        if self.memory is None or state is None or state.store is None:
            return super().forward(x_BTW, embedded_BTW, tokens_BT, extra_BTW, rotation_TD)
        if self.input_shares is not None:
            x_BTW = scaled_sum(x_BTW, embedded_BTW, self.input_shares)
        inside_BTW = normalise(x_BTW)
        q_k_BT2W, values_BTW = self._project(inside_BTW, tokens_BT, extra_BTW)
        mixed_BTW = self._mix(q_k_BT2W, values_BTW, rotation_TD)
        keys_BTW = self.memory.keys(inside_BTW, embedded_BTW)
        read_BTW, recalled = self.memory.read(keys_BTW, state.store)
        mixed_BTW = mixed_BTW + read_BTW.to(mixed_BTW.dtype)
        state.recalled.append(recalled)
        state.store.write(keys_BTW, values_BTW, tokens_BT)
        x_BTW = x_BTW + self._drop(self.output(mixed_BTW))
        return x_BTW + self._drop(self._mlp(normalise(x_BTW)))

    def _mlp(self, x_BTW: Tensor) -> Tensor:
        if self.columns is not None:
            return torch.as_tensor(self.columns(x_BTW, self.firing))
        before_BTF = self.up(x_BTW)
        if self.firing is not None:
            before_BTF = self.firing(before_BTF)
        return torch.as_tensor(self.down(squared_relu(before_BTF)))


class Cortex(GPT):
    """See the module docstring.

    Args:
        config: the recipe's model section.
        vocabulary: number of different tokens V.
        context: tokens of a row in training, one window or several.
        streams: rows of one optimizer update (batch_size * accumulation), each of which reads its own stretch of the
            text; 0: the model will only be called on rows that begin anew.
        end_of_text: token after which memory begins anew, where the recipe asks for that.

    Raises:
        UserError: windows do not divide the context, or memory is shorter than a window.
    """

    def __init__(
        self,
        config: CortexConfig,
        *,
        vocabulary: int,
        context: int,
        streams: int = 0,
        end_of_text: int | None = None,
    ) -> None:
        self.window = config.window or context
        _check(config, context, self.window)
        super().__init__(config, vocabulary=vocabulary, context=self.window)
        self.context, self.config = context, config
        self.clears_at = end_of_text if config.memory.clear_at_end_of_text else None
        self.slots = WorkingMemory(config.width, config.heads, config.slots.count) if config.slots.count else None
        carries = config.carries_state and streams > 0
        self.streams = Streams(self.beginning(streams)) if carries else None
        self.episodes = Episodes(config.sleep.windows, context) if config.sleep.every_updates else None

    def _block(self, config: GPTConfig | CortexConfig, layer: int) -> Block:
        assert isinstance(config, CortexConfig)  # __init__ takes nothing else
        return CortexBlock(config, layer, self.vocabulary, self.context)

    def beginning(self, streams: int, tokens: int | None = None) -> State:
        """The state of streams that have read nothing; memory for the last `tokens` tokens, None: the recipe's size."""
        memory, device = self.config.memory, self.token_embedding.weight.device
        size = memory.tokens if tokens is None else min(tokens, memory.tokens)
        store = Store.empty(streams, size, self.config.width, device) if memory.tokens else None
        return State(store, None if self.slots is None else self.slots.initial(streams))

    def hidden(self, tokens_BT: Tensor, state: State | None = None) -> Tensor:
        """Last hidden states (B, T, W) of rows that go on from `state`, which is changed; None: that begin here."""
        windows = torch.split(tokens_BT, self.window, dim=1)
        state = self._state_for(tokens_BT) if state is None else state
        return torch.cat([self._read(window_BT, state) for window_BT in windows], dim=1)

    def _state_for(self, tokens_BT: Tensor) -> State | None:
        """The state of rows that begin here, as large as they can fill; None where it would stay empty."""
        windows = -(-tokens_BT.shape[1] // self.window)
        if not self.config.carries_state or (windows == 1 and self.slots is None):
            return None
        return self.beginning(len(tokens_BT), windows * self.window)

    def _read(self, tokens_BT: Tensor, state: State | None) -> Tensor:
        """One window, (B, t) to (B, t, W), and what it leaves in the state."""
        rotation_TD = self._rotations(tokens_BT)
        extra_BTW = None if self.ngrams is None else self.ngrams(tokens_BT)
        x_BTW = embedded_BTW = self._embed(tokens_BT)
        if self.slots is not None and state is not None and state.slots_BSW is not None:
            x_BTW = x_BTW + self.slots.read(x_BTW, state.slots_BSW)
        for block in self.blocks:
            x_BTW = block(x_BTW, embedded_BTW, tokens_BT, extra_BTW, rotation_TD, state)
        hidden_BTW = normalise(x_BTW)
        if self.slots is not None and state is not None and state.slots_BSW is not None:
            state.slots_BSW = self.slots.write(state.slots_BSW, hidden_BTW)
        if self.clears_at is not None and state is not None:
            self._forget(state, _since(tokens_BT == self.clears_at))
        return hidden_BTW

    def _forget(self, state: State, kept_B: Tensor) -> None:
        """Let rows begin anew, but for the newest `kept_B` tokens of their memory; their slots begin anew too."""
        if state.store is not None:
            state.store.keep_newest(kept_B)
        if self.slots is not None and state.slots_BSW is not None:
            ended_B11 = (kept_B < self.window)[:, None, None]
            state.slots_BSW = torch.where(ended_B11, self.slots.initial(len(kept_B)), state.slots_BSW)

    def forward(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        stream: int | None = None,
        asleep: bool = False,
        begins_B: Tensor | None = None,
    ) -> Tensor:
        """See `LanguageModel.forward`.

        Args:
            stream: the rows continue the streams `stream`, `stream` + 1, ..., which remember them; None: they begin.
            begins_B: bool; where true, the stream forgets first what it has read.
            asleep: as many of the hardest windows met are taken in the place of the rows given, without memory.
        """
        if asleep:
            assert self.episodes is not None  # the recipe asks for sleep
            tokens_BT, targets_BT = self.episodes.replay(len(tokens_BT))
        streams = None if stream is None else self.streams
        state = self._state_for(tokens_BT) if streams is None else streams.rows(stream or 0, len(tokens_BT))
        if streams is not None and state is not None and begins_B is not None:
            self._forget(state, torch.where(begins_B, 0, FOREVER))
        logits_BTV = self.logits(self.hidden(tokens_BT, state))
        if state is not None and state.recalled:
            logits_BTV = Recalled.joined(state.recalled).added_to(logits_BTV)
        if streams is not None and state is not None:
            streams.put(stream or 0, state)
        if targets_BT is None:
            return logits_BTV
        flat = logits_BTV.flatten(0, 1), targets_BT.flatten()
        if self.episodes is None or not self.training or asleep:
            return functional.cross_entropy(*flat, ignore_index=IGNORED, reduction=reduction)
        losses_BT = functional.cross_entropy(*flat, ignore_index=IGNORED, reduction="none").view_as(targets_BT)
        counts_B = (targets_BT != IGNORED).sum(1)
        self.episodes.remember(tokens_BT, targets_BT, losses_BT.detach().sum(1) / counts_B.clamp_min(1))
        return losses_BT.sum() / (1 if reduction == "sum" else counts_B.sum())

    @property
    def remembers(self) -> bool:
        """Whether `next_logits` sees more of a long text than its last window."""
        return self.config.carries_state

    def next_logits(self, tokens_NT: Tensor, lengths_N: Tensor) -> Tensor:
        """Logits (N, V) of the token behind each row, which may be far longer than the context: it is read from its
        beginning. Rows are filled up on the right to T."""
        rows_N = torch.arange(len(tokens_NT), device=tokens_NT.device)
        return torch.as_tensor(self(tokens_NT[:, : int(lengths_N.max())])[rows_N, lengths_N - 1])

    @torch.no_grad()
    def forget(self, rows_B: Tensor) -> None:
        """Let the streams where `rows_B` (bool, one for each stream) is true begin anew."""
        assert self.streams is not None  # the caller made the model with streams
        state = self.streams.rows(0, len(rows_B))
        self._forget(state, torch.where(rows_B, 0, FOREVER))
        self.streams.put(0, state)

    def fitted(self, tensors: Mapping[str, Tensor], begins: bool) -> dict[str, Tensor]:
        """The tensors of a checkpoint, with this model's own empty streams where those were others (another batch size,
        no memory). Where a run `begins`, its data are new: streams and episodes are empty, whatever the old ones hold.
        """
        found = dict(tensors)
        for part in ("streams.", "episodes."):
            own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith(part)}
            old = {name: tensor for name, tensor in tensors.items() if name.startswith(part)}
            if begins or {n: t.shape for n, t in old.items()} != {n: t.shape for n, t in own.items()}:
                found = {name: tensor for name, tensor in found.items() if name not in old} | own
                slots, initial_SW = own.get("streams.slots_BSW"), tensors.get("slots.initial_SW")
                if slots is not None and initial_SW is not None and initial_SW.shape == slots.shape[1:]:
                    found["streams.slots_BSW"] = normalise(initial_SW).expand_as(slots)  # as learned, not as drawn
        return found

    @contextmanager
    def other_streams(self, count: int) -> Iterator[None]:
        """Read other text (validation): `count` streams that begin here; afterwards the old ones go on."""
        old, self.streams = self.streams, Streams(self.beginning(count))
        try:
            yield
        finally:
            self.streams = old

    def after_update(self, update: int) -> dict[str, float]:
        """Homeostasis of columns and units, after an optimizer update. Returns means over the blocks, by name."""
        found: dict[str, list[float]] = {}
        for module in self.modules():
            if isinstance(module, Columns | Firing):
                for name, value in module.settle().items():
                    found.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}


def memory_layer(config: CortexConfig) -> int:
    """The block that reads long-term memory: the last but one, as in the paper it is late (arXiv 2203.08913: the 9th of
    12). Before the pointer 4.814 nats were measured there and 4.825 in block 1 of 4 (docs/LOG.md): no evidence."""
    return max(0, config.layers - 2) if config.memory.layer is None else config.memory.layer


def _since(ends_BT: Tensor) -> Tensor:
    """Tokens of a window after its last end of text, and after the token next to that, whose value belongs to the end's
    key; FOREVER in rows without an end. (B,) int64."""
    T = ends_BT.shape[1]
    last_B = (ends_BT * torch.arange(1, T + 1, device=ends_BT.device)).amax(1)
    return torch.where(last_B > 0, (T - last_B - 1).clamp_min(0), FOREVER)


def _check(config: CortexConfig, context: int, window: int) -> None:
    if context % window:
        raise UserError(f"model.window={window} does not divide data.context={context}; set model.window={context}.")
    if 0 < config.memory.tokens < window:
        raise UserError(
            f"model.memory.tokens={config.memory.tokens} is less than one window of {window} tokens; "
            f"set model.memory.tokens={16 * window}."
        )
