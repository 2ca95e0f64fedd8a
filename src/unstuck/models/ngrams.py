"""Values that depend on the last few tokens: one table per length, its rows found by hashing the tokens.

A block's attention then need not learn frequent short strings from examples: it looks them up. Pairs added to the
embedding are from modded-nanogpt; longer ones, by hash, from Engram (arXiv 2601.07372). Added to the
values of attention, up to four tokens long, they stand for half of the tokens a small model needs (docs/LOG.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

ROWS = 8192  # least rows of a table; 1,024 to 16,384 rows were within 0.01 nats of each other, docs/LOG.md
ROWS_PER_TOKEN = 5  # of the vocabulary; modded-nanogpt
SPREAD = 2654435761  # multiplicative hashing: Knuth, TAOCP volume 3, section 6.4


class NGrams(nn.Module):
    """Sum of the rows of each token's last 1, 2 .. `longest` tokens: (B, T) to (B, T, W).

    A table with room for every string gives each its own row; else strings share rows. The gradient is sparse: only the
    rows of a batch are touched by its update.
    """

    offset_L: Tensor

    def __init__(self, longest: int, vocabulary: int, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        wanted = max(ROWS, ROWS_PER_TOKEN * vocabulary)
        self.rows = [min(vocabulary**length, wanted) for length in range(1, longest + 1)]
        self.embedding = nn.Embedding(sum(self.rows), width)
        nn.init.zeros_(self.embedding.weight)
        self.embedding.weight.sparse_gradient = True  # type: ignore[attr-defined] # for `train.distributed`

    def forward(self, tokens_BT: Tensor) -> Tensor:
        rows_NL = self.rows_of(tokens_BT).flatten(0, 1)
        values_NW = functional.embedding_bag(rows_NL, self.embedding.weight, mode="sum", sparse=True)
        return values_NW.view(*tokens_BT.shape, -1)

    def rows_of(self, tokens_BT: Tensor) -> Tensor:
        """The row of each token's strings in the common table, (B, T, L); what precedes a window counts as token 0."""
        key_BT, previous_BT = torch.zeros_like(tokens_BT), tokens_BT
        place, first, found = 1, 0, []
        for length, rows in enumerate(self.rows, start=1):
            key_BT = key_BT + previous_BT * (place % 2**62)  # int64 wraps around for large vocabularies: still a hash
            previous_BT = functional.pad(previous_BT[:, :-1], (1, 0))
            place *= self.vocabulary
            exact = self.vocabulary**length <= rows
            found.append(first + (key_BT if exact else (key_BT * SPREAD >> 8) % rows))
            first += rows
        return torch.stack(found, dim=-1)
