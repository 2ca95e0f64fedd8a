"""A small transformer for the language families of the plain loop, pre-norm or post-norm, causal or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, *, causal: bool, post: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.post = heads, causal, post
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def attention(self, x_BTD: Tensor) -> Tensor:
        batch, length, width = x_BTD.shape
        q, k, v = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(x_BTD).chunk(3, dim=-1)
        )
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor) -> Tensor:
        if self.post:
            x = self.norm1(x + self.drop(self.attention(x)))
            return self.norm2(x + self.drop(self.mlp(x)))
        x = x + self.drop(self.attention(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """Tokens (B, T) to logits (B, T, V). `post`: the original transformer's norms, which need a warm-up."""

    def __init__(
        self, vocabulary: int, context: int, *, width: int, layers: int, heads: int, dropout: float = 0.0,
        causal: bool = True, post: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, causal=causal, post=post) for _ in range(layers))
        self.norm = nn.Identity() if post else nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.02 if not post else width**-0.5)
        nn.init.normal_(self.head.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.tokens(tokens) + self.positions(places))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def body_and_head(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Parameter groups as scripts make them: everything, and the head; of a GPT-2, whose head is tied, its blocks."""
    tied = not any(name.startswith("head") for name, _ in model.named_parameters())
    body, head = [], []
    for name, parameter in model.named_parameters():
        (body if (".h." in name if tied else not name.startswith("head")) else head).append(parameter)
    return {"body": body, "head": head}
