"""Keys and values of tokens that were read, so that each new token of a GPT costs one token and not a window.

Exact, up to rounding, while the text fits the model's context; `next_logits` is the plain reference, and what is used
for other models and once the window slides. Shape suffixes: N rows, T new tokens, W width, H heads, D width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck.models.functions import normalise, scaled_sum
from unstuck.models.gpt import GPT, Block, rotate


class CachedGPT:
    """Reads rows of equal length in order.

    Args:
        model: a GPT itself, in evaluation mode; what is built upon it may attend otherwise.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.read = 0
        self._caches = [_Cache() for _ in model.blocks]

    @staticmethod
    def fits(model: nn.Module) -> bool:
        """Whether this model can be read this way."""
        return type(model) is GPT

    def next_logits(self, tokens_NT: Tensor, rows: Tensor | None = None) -> Tensor:
        """Logits of the token behind each row, (N, V) float32 on the CPU.

        Args:
            tokens_NT: all tokens so far; those behind the ones read before are read now, either all of a first call or
                one more token.
            rows: int64; the rows of the call before that are still there; None: all.
        """
        model, first = self.model, self.read
        tokens_NT = tokens_NT.to(model.token_embedding.weight.device)
        if rows is not None:
            for cache in self._caches:
                cache.keep(rows)
        new_NT, count = tokens_NT[:, first:], tokens_NT.shape[1] - first
        rotation_TD = model._rotations(tokens_NT)[first:]
        extra = None
        if model.ngrams is not None:  # looks back by its longest string
            extra = model.ngrams(tokens_NT[:, max(0, first - len(model.ngrams.rows)) :])[:, -count:]
        x_NTW = embedded_NTW = model._embed(tokens_NT[:, max(0, first - 1) :])[:, -count:]  # smear looks back by one
        for block, cache in zip(model.blocks, self._caches, strict=True):
            assert isinstance(block, Block)
            if block.input_shares is not None:
                x_NTW = scaled_sum(x_NTW, embedded_NTW, block.input_shares)
            q_k, v_NTW = block._project(normalise(x_NTW), new_NT, extra)
            x_NTW = x_NTW + block.output(cache.attend(q_k, v_NTW, rotation_TD, block.heads))
            x_NTW = x_NTW + block._mlp(normalise(x_NTW))
        self.read = tokens_NT.shape[1]
        return model.logits(normalise(x_NTW[:, -1])).float().cpu()


class _Cache:
    """Keys and values of one block, each (N, H, tokens, D)."""

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def keep(self, rows: Tensor) -> None:
        if self.k is not None and self.v is not None:
            self.k, self.v = self.k[rows.to(self.k.device)], self.v[rows.to(self.v.device)]

    def attend(self, q_k: Tensor, v_NTW: Tensor, rotation_TD: Tensor, heads: int) -> Tensor:
        """Attention of the new tokens over all tokens up to each, (N, T, W)."""
        N, T, W = v_NTW.shape
        D = W // heads
        q_k = rotate(normalise(q_k.reshape(N, T, 2 * heads, D)), rotation_TD)
        q, k = q_k.view(N, T, 2, heads, D).permute(2, 0, 3, 1, 4).unbind(0)
        v = v_NTW.view(N, T, heads, D).transpose(1, 2)
        first = self.k is None
        self.k = k if self.k is None else torch.cat([self.k, k], dim=2)
        self.v = v if self.v is None else torch.cat([self.v, v], dim=2)
        mixed = functional.scaled_dot_product_attention(q, self.k, self.v, is_causal=first and T > 1)
        return mixed.transpose(1, 2).reshape(N, T, W)
