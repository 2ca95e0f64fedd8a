"""Working memory: a few vectors per stream, read by every token and rewritten at the end of each window.

Recurrent Memory Transformer (Bulatov et al., arXiv 2207.06881) carries its vectors as extra tokens through all blocks;
here they are read by cross-attention before the first block and written by attention after the last, at a few percent
of the cost instead of S / T. The gradient runs through the windows of one micro-batch and stops at its border, so
writing is learned only where data.context holds several of model.window. Suffix S: slots.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck.models.functions import normalise

# Bias of the gate at the start: sigmoid(1) = 73 % of a slot survives a window. The bias of an LSTM's forget gate
# (Jozefowicz et al., "An Empirical Exploration of Recurrent Network Architectures", ICML 2015); here an assumption.
KEPT = 1.0


class WorkingMemory(nn.Module):
    """Reads and writes slots (B, S, W)."""

    def __init__(self, width: int, heads: int, slots: int) -> None:
        super().__init__()
        self.heads = heads
        self.initial_SW = nn.Parameter(torch.randn(slots, width))
        self.query, self.key_value = (nn.Linear(width, n * width, bias=False) for n in (1, 2))
        self.output = nn.Linear(width, width, bias=False)
        self.write_query, self.write_key_value = (nn.Linear(width, n * width, bias=False) for n in (1, 2))
        self.gate = nn.Linear(2 * width, width)
        for linear in (self.query, self.key_value, self.write_query, self.write_key_value):
            nn.init.uniform_(linear.weight, -((3 / width) ** 0.5), (3 / width) ** 0.5)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, KEPT)

    def initial(self, streams: int) -> Tensor:
        """Slots of streams that have read nothing, (B, S, W)."""
        return normalise(self.initial_SW).expand(streams, -1, -1)

    def read(self, x_BTW: Tensor, slots_BSW: Tensor) -> Tensor:
        """What the slots tell each token, (B, T, W)."""
        return torch.as_tensor(self.output(self._attend(self.query(x_BTW), self.key_value(slots_BSW))))

    def write(self, slots_BSW: Tensor, hidden_BTW: Tensor) -> Tensor:
        """The slots after a window whose last hidden states are given."""
        found_BSW = self._attend(self.write_query(slots_BSW), self.write_key_value(hidden_BTW))
        keep_BSW = torch.sigmoid(self.gate(torch.cat([slots_BSW, found_BSW.to(slots_BSW.dtype)], dim=-1)))
        return normalise(keep_BSW * slots_BSW + (1 - keep_BSW) * found_BSW).float()

    def _attend(self, q: Tensor, k_v: Tensor) -> Tensor:
        k, v = k_v.chunk(2, dim=-1)
        q, k, v = (x.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for x in (q, k, v))
        mixed = functional.scaled_dot_product_attention(normalise(q), normalise(k), v)
        return mixed.transpose(1, 2).flatten(2)
