"""GPT-2: the plain block, the same function as nanoGPT's and transformers' GPT2LMHeadModel with exact GELU.

Learned positions, LayerNorm before each half of the block, GELU; with `tied_head` embedding and head are one tensor.
Radford et al. 2019, "Language Models are Unsupervised Multitask Learners". Shape suffixes: see language_model.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck.config.sections.gpt import GPTConfig
from unstuck.models.language_model import CausalAttention, LanguageModel

INITIAL_STD = 0.02  # GPT-2's released code (openai/gpt-2, src/model.py)


class Block(nn.Module):
    def __init__(self, config: GPTConfig, context: int) -> None:
        super().__init__()
        width, bias = config.width, config.bias
        self.norm1 = nn.LayerNorm(width, bias=bias)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.attention = CausalAttention(config.heads, context, config.dropout)
        self.output = nn.Linear(width, width, bias=bias)
        self.norm2 = nn.LayerNorm(width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)
        self.heads, self.dropout = config.heads, config.dropout

    def forward(self, x_BTW: Tensor) -> Tensor:
        B, T, W = x_BTW.shape
        qkv_BTW3 = self.qkv(self.norm1(x_BTW))
        q, k, v = qkv_BTW3.view(B, T, 3, self.heads, W // self.heads).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        x_BTW = x_BTW + self._drop(self.output(self.attention(q, k, v)))
        return x_BTW + self._drop(self.down(functional.gelu(self.up(self.norm2(x_BTW)))))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class GPT2(LanguageModel):
    """See the module docstring.

    Args:
        config: the recipe's model section; what only the modern model knows is ignored.
        vocabulary: number of different tokens V.
        context: the longest window; longer input raises an IndexError of the position table.
    """

    def __init__(self, config: GPTConfig, *, vocabulary: int, context: int) -> None:
        super().__init__()
        self.vocabulary, self.context = vocabulary, context
        self.token_embedding = nn.Embedding(vocabulary, config.width)
        self.position_embedding = nn.Embedding(context, config.width)
        self.blocks = nn.ModuleList(Block(config, context) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=config.bias)
        self.head = nn.Linear(config.width, vocabulary, bias=False)
        if config.tied_head:
            self.head.weight = self.token_embedding.weight
        self.dropout = config.dropout
        self._initialise(config)

    def _initialise(self, config: GPTConfig) -> None:
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                # Projections into the residual stream are smaller by the root of their number: GPT-2, section 2.3.
                into_residual = name.endswith(("output.weight", "down.weight"))
                std = INITIAL_STD * (2 * config.layers) ** -0.5 if into_residual else INITIAL_STD
                nn.init.normal_(parameter, std=std)
        for block in self.blocks:
            split_by_head(block, config.heads)

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        x_BTW = self.token_embedding(tokens_BT) + self.position_embedding.weight[: tokens_BT.shape[1]]
        if self.dropout:
            x_BTW = functional.dropout(x_BTW, self.dropout, self.training)
        for block in self.blocks:
            x_BTW = block(x_BTW)
        return torch.as_tensor(self.norm(x_BTW))

    def logits(self, hidden_BTW: Tensor) -> Tensor:
        return functional.linear(hidden_BTW, self.head.weight).float()


def split_by_head(block: nn.Module, heads: int) -> None:
    """Marks the attention's matrices as made of one piece per head, for optimizers that treat pieces alone (Muon)."""
    block.qkv.weight.row_pieces = 3 * heads  # type: ignore[union-attr]
    block.output.weight.column_pieces = heads  # type: ignore[union-attr]
