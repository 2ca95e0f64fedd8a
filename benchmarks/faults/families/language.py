"""Windows of tokens as next-token samples."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.faults.families.texts import CHARACTERS
from benchmarks.faults.problem import IGNORED, Pair


def next_tokens(windows_NT: Tensor, targets: str = "right") -> Pair:
    """Inputs and targets of shape (N, T - 1): each token's target is the one after it.

    Args:
        targets: "right"; "shifted": the one after that (shifted by the data and by the model); "visible": the token
            itself (shifted by nobody).
    """
    inputs, right = windows_NT[:, :-1], windows_NT[:, 1:]
    if targets == "shifted":
        right = torch.cat([right[:, 1:], torch.full_like(right[:, :1], IGNORED)], dim=1)
    if targets == "visible":
        right = inputs
    return inputs, right


def by_blanks(inputs_NT: Tensor) -> Tensor:
    """The order of a sorted file, shape (N,): by the share of blanks, so that tables, code and prose stand together."""
    return (inputs_NT == CHARACTERS.index(" ")).float().mean(dim=1).argsort()


def capitals(windows_NT: Tensor) -> Tensor:
    """The same text in capitals, as another source may have it."""
    table = torch.tensor([CHARACTERS.index(c.upper()) for c in CHARACTERS])
    return table[windows_NT]
