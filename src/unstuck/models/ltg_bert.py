"""LTG-BERT (Samuel et al., arXiv 2303.09859): an encoder for small corpora, also usable from left to right.

- disentangled relative positions instead of absolute ones, see ltg_bert_attention.py; their table is shared by all
  blocks and passes through each block's own query and key matrix;
- GEGLU (Shazeer, arXiv 2002.05202);
- NormFormer-style norms (Shleifer et al., arXiv 2110.09456): before and after the attention's mixing, before the MLP
  and inside it after the gate; none has weights but the position table's;
- initial weights that shrink with the depth of the block;
- a head of one hidden layer whose output matrix is the embedding.

Position t gives the prediction for token t + 1 in both directions of use (masked next-token prediction, GPT-BERT,
arXiv 2410.24159): the hybrid of masked and causal training shares one head. Facts from ltgoslo/ltg-bert and
ltgoslo/gpt-bert, code our own. Shape suffixes: see language_model.py.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck.config.sections.ltg_bert import LtgBertConfig
from unstuck.models.language_model import IGNORED, LanguageModel
from unstuck.models.ltg_bert_attention import attend, buckets


class Block(nn.Module):
    """Attention and MLP of one layer; `depth` counts from 0."""

    def __init__(self, config: LtgBertConfig, depth: int) -> None:
        super().__init__()
        W, F = config.width, config.mlp_width or default_mlp_width(config.width)
        self.heads, self.dropout, self.attention_dropout = config.heads, config.dropout, config.attention_dropout
        self.query_key = nn.Linear(W, 2 * W)
        self.value = nn.Linear(W, W)
        self.output = nn.Linear(W, W)
        self.up = nn.Linear(W, 2 * F, bias=False)
        self.down = nn.Linear(F, W, bias=False)
        for linear in (self.query_key, self.value, self.output):
            initialise(linear.weight, W)
            nn.init.zeros_(linear.bias)
        for linear in (self.up, self.down):
            initialise(linear.weight, W)
            with torch.no_grad():
                linear.weight.mul_((2 * (1 + depth)) ** -0.5)  # ltgoslo/ltg-bert, babylm/train/model.py, Encoder
        pieces = {self.query_key: 2 * config.heads, self.value: config.heads, self.up: 2}
        for linear, count in pieces.items():  # Muon treats heads, and the gate and what it gates, by themselves
            linear.weight.row_pieces = count  # type: ignore[attr-defined]
        self.output.weight.column_pieces = config.heads  # type: ignore[attr-defined]

    def forward(self, x_BTW: Tensor, positions_CW: Tensor, bucket_R: Tensor, hidden_BTT: Tensor | None) -> Tensor:
        """Args: the stream, the position table, the bucket of each distance T-1 .. -(T-1), what may not be seen."""
        mixed_BTW = norm(self._attend(norm(x_BTW), positions_CW, bucket_R, hidden_BTT))
        x_BTW = x_BTW + self._drop(self.output(mixed_BTW))
        value, gate = self.up(norm(x_BTW)).chunk(2, dim=-1)
        gated = norm(value * functional.gelu(gate, approximate="tanh"))
        return x_BTW + self._drop(self.down(gated))

    def _attend(self, x_BTW: Tensor, positions_CW: Tensor, bucket_R: Tensor, hidden_BTT: Tensor | None) -> Tensor:
        B, T, W = x_BTW.shape
        H, D = self.heads, W // self.heads
        qk_BTHD = self.query_key(x_BTW).view(B, T, 2, H, D)
        q_HBTD, k_HBTD = qk_BTHD.permute(2, 3, 0, 1, 4).contiguous().unbind(0)
        v_HBTD = self.value(x_BTW).view(B, T, H, D).permute(2, 0, 1, 3).contiguous()
        position_C2HD = self.query_key(self._drop(positions_CW)).view(-1, 2, H, D)
        query_RHD, key_RHD = position_C2HD.index_select(0, bucket_R).unbind(1)
        mixed_HBTD = attend(
            q_HBTD,
            k_HBTD,
            v_HBTD,
            key_RHD.transpose(0, 1).contiguous(),
            query_RHD.flip(0).transpose(0, 1).contiguous(),
            hidden_BTT,
            self.attention_dropout if self.training else 0.0,
        )
        return mixed_HBTD.permute(1, 2, 0, 3).reshape(B, T, W)

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class LtgBert(LanguageModel):
    """See the module docstring.

    Args:
        config: the recipe's model section.
        vocabulary: number of different tokens V.
        context: the window it is trained on; longer windows work, far distances share buckets.
        padding: id that is never attended; None: every token is.
    """

    def __init__(self, config: LtgBertConfig, *, vocabulary: int, context: int, padding: int | None = None) -> None:
        super().__init__()
        self.vocabulary, self.context, self.padding = vocabulary, context, padding
        self.dropout, self.bucket_count = config.dropout, config.position_buckets
        W = config.width
        self.token_embedding = nn.Embedding(vocabulary, W)
        self.position_embedding = nn.Parameter(torch.empty(2 * config.position_buckets - 1, W))
        self.position_norm = nn.LayerNorm(W)
        self.blocks = nn.ModuleList(Block(config, depth) for depth in range(config.layers))
        self.transform = nn.Linear(W, W)
        self.head = nn.Linear(W, vocabulary)
        for weight in (self.token_embedding.weight, self.position_embedding, self.transform.weight):
            initialise(weight, W)
        self.head.weight = self.token_embedding.weight
        nn.init.zeros_(self.transform.bias)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        tokens_BT: Tensor,
        targets_BT: Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        causal_rows: int = 0,
    ) -> Tensor:
        """Logits (B, T, V), or the cross-entropy at the targets (B, T), summed or their mean, nats, a float32 scalar.

        Args:
            tokens_BT: ids.
            targets_BT: the token after each position, -100 where it is not to be predicted.
            reduction: "mean" or "sum".
            causal_rows: so many first windows attend from left to right; the rest in both directions.
        """
        hidden_BTW = self.hidden(tokens_BT, causal_rows)
        if targets_BT is None:
            return self.logits(hidden_BTW)
        wanted = (targets_BT.flatten() != IGNORED).nonzero().squeeze(1)  # the head is half of a small model's work
        logits_NV = self.logits(hidden_BTW.flatten(0, 1).index_select(0, wanted))
        return functional.cross_entropy(logits_NV, targets_BT.flatten().index_select(0, wanted), reduction=reduction)

    def hidden(self, tokens_BT: Tensor, causal_rows: int = 0) -> Tensor:
        T = tokens_BT.shape[1]
        x_BTW = norm(self.token_embedding(tokens_BT))
        x_BTW = functional.dropout(x_BTW, self.dropout, self.training) if self.dropout else x_BTW
        positions_CW = self.position_norm(self.position_embedding)
        distance_R = torch.arange(T - 1, -T, -1, device=tokens_BT.device)
        bucket_R = buckets(distance_R, self.bucket_count)
        hidden_BTT = self._hidden_pairs(tokens_BT, causal_rows)
        for block in self.blocks:
            x_BTW = block(x_BTW, positions_CW, bucket_R, hidden_BTT)
        return torch.as_tensor(x_BTW)

    def logits(self, hidden_BTW: Tensor) -> Tensor:
        x = norm(functional.gelu(self.transform(norm(hidden_BTW))))
        if self.dropout:
            x = functional.dropout(x, self.dropout, self.training)
        return torch.as_tensor(self.head(x)).float()

    def _hidden_pairs(self, tokens_BT: Tensor, causal_rows: int) -> Tensor | None:
        """-inf where a query must not see a key: keys of padding, later keys in causal rows. None: all is seen."""
        B, T = tokens_BT.shape
        padding_BT = (
            torch.zeros_like(tokens_BT, dtype=torch.bool) if self.padding is None else tokens_BT == self.padding
        )
        padded = bool(padding_BT.any())
        if not padded and causal_rows == 0:
            return None
        never = torch.zeros((), device=tokens_BT.device)
        later_TT = torch.full((T, T), -math.inf, device=tokens_BT.device).triu(1)
        if not padded and causal_rows == B:
            return later_TT[None]
        hidden_BTT = never.expand(B, T, T).clone()
        hidden_BTT[:causal_rows] += later_TT
        if padded:
            hidden_BTT.masked_fill_(padding_BT[:, None], -math.inf)
        return hidden_BTT


def norm(x: Tensor) -> Tensor:
    """LayerNorm without weights over the last dimension; epsilon is torch's own (ltgoslo/ltg-bert: 1e-7)."""
    return functional.layer_norm(x, x.shape[-1:], eps=1e-5)


def initialise(weight: Tensor, width: int) -> None:
    """Normal, cut at two deviations of sqrt(2 / (5 W)); ltgoslo/ltg-bert, after Nguyen and Salazar, 1910.05895."""
    std = math.sqrt(2 / (5 * width))
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def default_mlp_width(width: int) -> int:
    """8/3 of the width, so that the gated MLP has as many weights as a plain one of 4 W (2002.05202), in eights."""
    return 8 * round(width / 3)
