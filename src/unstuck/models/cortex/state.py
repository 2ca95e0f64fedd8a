"""What streams of text carry from one window to the next, and where it is kept between micro-batches."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from unstuck.models.cortex.memory import Recalled, Store

PARTS = ("keys_BMW", "values_BMW", "tokens_BM", "held_BM", "next_B", "waiting_BW", "waits_B")


@dataclass(slots=True)
class State:
    """Of B streams: their long-term memory, written in place, and their slots, replaced."""

    store: Store | None
    slots_BSW: Tensor | None
    recalled: list[Recalled] = field(default_factory=list)  # of the windows read so far


class Streams(nn.Module):
    """The states of all streams of a training run, as buffers: they are saved and resumed with the weights.

    Args:
        state: of all streams, at their beginning.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        if state.store is not None:
            for name in PARTS:
                self.register_buffer(name, getattr(state.store, name))
        slots = state.slots_BSW
        self.register_buffer("slots_BSW", None if slots is None else slots.detach().clone())

    def rows(self, first: int, count: int) -> State:
        """The state of `count` streams from `first` on; its memory is a view, its slots carry no gradient."""
        part = slice(first, first + count)
        buffers = dict(self.named_buffers())
        store = Store(*(buffers[name][part] for name in PARTS)) if PARTS[0] in buffers else None
        slots = buffers.get("slots_BSW")
        return State(store, None if slots is None else slots[part].clone())

    @torch.no_grad()
    def put(self, first: int, state: State) -> None:
        """Keep what `rows` gave and a window changed; the memory was changed in place."""
        if state.slots_BSW is not None:
            slots = torch.nan_to_num(state.slots_BSW.detach().float(), 0.0, 0.0, 0.0)
            self.get_buffer("slots_BSW")[first : first + len(slots)] = slots
