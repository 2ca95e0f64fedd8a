"""Sparse cortical columns: small MLPs side by side, of which each token is served by a few.

The router sees one token at a time (incident I1's gate was a softmax over all positions of the batch), no token is
ever dropped for another one's sake, and the load is balanced without a loss: a bias per column, moved after each update
against its share of the tokens, decides who is chosen but not how much the chosen say (Wang et al., arXiv 2408.15664).
The bias knows only past updates, so nothing leaks between tokens. Suffixes: E columns, K active, F units of a column.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck.models.cortex.homeostasis import Firing
from unstuck.models.functions import squared_relu


class Columns(nn.Module):
    """(B, T, W) to (B, T, W) by `active` of `count` columns.

    Args:
        width: W.
        count: columns E.
        active: columns K that serve one token; each has 4 W / K units, so the arithmetic is that of one MLP of 4 W.
        balance: step of the biases per update; 0: they stay 0.
    """

    bias_E: Tensor
    load_E: Tensor
    tokens_E: Tensor

    def __init__(self, width: int, count: int, active: int, balance: float) -> None:
        super().__init__()
        self.count, self.active, self.balance = count, active, balance
        units = units_of(width, active)
        self.router = nn.Linear(width, count, bias=False)
        self.up = nn.Linear(width, count * units, bias=False)
        self.down = nn.Linear(count * units, width, bias=False)
        self.up.weight.row_pieces = count  # type: ignore[attr-defined]  # Muon treats columns alone
        self.down.weight.column_pieces = count  # type: ignore[attr-defined]
        nn.init.normal_(self.router.weight, std=width**-0.5)  # affinities of normed states begin with deviation 1
        nn.init.uniform_(self.up.weight, -((3 / width) ** 0.5), (3 / width) ** 0.5)
        nn.init.zeros_(self.down.weight)
        self.register_buffer("bias_E", torch.zeros(count))
        self.register_buffer("load_E", torch.full((count,), 1 / count))  # of the last update
        self.register_buffer("tokens_E", torch.zeros(count), persistent=False)  # since the last update

    def forward(self, x_BTW: Tensor, firing: Firing | None = None) -> Tensor:
        """Args: the tokens' states; homeostasis of the E * F units, or None."""
        x_NW = x_BTW.flatten(0, 1)
        affinity_NE = torch.sigmoid(self.router(x_NW).float())
        chosen_NK = (affinity_NE.detach() + self.bias_E).topk(self.active, dim=-1).indices
        share_NK = affinity_NE.gather(1, chosen_NK)
        if self.active > 1:
            share_NK = share_NK / share_NK.sum(-1, keepdim=True)
        order = chosen_NK.flatten().argsort(stable=True)  # pairs (token, column), sorted by column
        count_E = torch.bincount(chosen_NK.flatten(), minlength=self.count)
        if self.training:
            self.tokens_E += count_E
        served = self._serve(x_NW[order // self.active], count_E.tolist(), firing)
        back_NKW = served[order.argsort()].view(*chosen_NK.shape, -1)
        return (back_NKW * share_NK[..., None].to(served.dtype)).sum(1).view_as(x_BTW)

    def _serve(self, x_PW: Tensor, counts: list[int], firing: Firing | None) -> Tensor:
        """Each column's MLP over its own consecutive rows of x."""
        up_EFW = self.up.weight.view(self.count, -1, x_PW.shape[-1])
        down_WEF = self.down.weight.view(x_PW.shape[-1], self.count, -1)
        F = up_EFW.shape[1]
        parts = []
        for column, rows in enumerate(torch.split(x_PW, counts)):
            if not len(rows):
                continue
            before = functional.linear(rows, up_EFW[column])
            if firing is not None:
                before = firing(before, first=column * F)
            parts.append(functional.linear(squared_relu(before), down_WEF[:, column]))
        return torch.cat(parts)

    @torch.no_grad()
    def settle(self) -> dict[str, float]:
        """After an update: move the biases. Returns the largest load over the mean load."""
        total = self.tokens_E.sum()
        if total > 0:
            self.load_E.copy_(self.tokens_E / total)
            self.bias_E -= self.balance * torch.sign(self.load_E - 1 / self.count)
            self.tokens_E.zero_()
        return {"columns/largest_load": float(self.load_E.max()) * self.count}


def units_of(width: int, active: int) -> int:
    """Units of one column."""
    return max(1, 4 * width // active)
