"""Episodes: the hardest windows met while awake, kept for replay in a sleep phase.

The store is part of the model's state, so a run that is killed and resumed replays the same windows. R: episodes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EMPTY = -1.0  # surprise of a place that holds no window; losses are not negative


class Episodes(nn.Module):
    """Windows (inputs and targets) with the loss they had, nats per target.

    Args:
        windows: R kept.
        context: tokens T in one.
    """

    inputs_RT: Tensor
    targets_RT: Tensor
    surprise_R: Tensor

    def __init__(self, windows: int, context: int) -> None:
        super().__init__()
        self.register_buffer("inputs_RT", torch.zeros(windows, context, dtype=torch.int64))
        self.register_buffer("targets_RT", torch.zeros(windows, context, dtype=torch.int64))
        self.register_buffer("surprise_R", torch.full((windows,), EMPTY))

    @torch.no_grad()
    def remember(self, inputs_BT: Tensor, targets_BT: Tensor, surprise_B: Tensor) -> None:
        """Keep the hardest of what is kept and what is given."""
        surprise = torch.cat([self.surprise_R, torch.nan_to_num(surprise_B.float(), EMPTY)])
        kept_R = surprise.topk(len(self.surprise_R)).indices
        self.inputs_RT.copy_(torch.cat([self.inputs_RT, inputs_BT])[kept_R])
        self.targets_RT.copy_(torch.cat([self.targets_RT, targets_BT])[kept_R])
        self.surprise_R.copy_(surprise[kept_R])

    @torch.no_grad()
    def replay(self, count: int) -> tuple[Tensor, Tensor]:
        """The `count` hardest windows, inputs and targets (count, T); they are forgotten. Places that hold none give
        targets that are ignored."""
        found = self.surprise_R.topk(min(count, len(self.surprise_R)))
        targets_BT = self.targets_RT[found.indices].masked_fill((found.values == EMPTY)[:, None], -100)
        self.surprise_R[found.indices] = EMPTY
        return self.inputs_RT[found.indices], targets_BT
