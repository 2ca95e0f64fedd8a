"""What the language models share: how to call them and their causal attention.

Shape suffixes, here and in every model: B windows in the batch, T tokens in a window, W width, H heads, D width of a
head, V vocabulary, N = B*T, F width of the MLP.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

IGNORED = -100  # torch's own default ignore_index

# Up to here softmax over explicit scores beats the fused kernel on a CPU: at T=64 0.75 ms against 1.23 ms forward and
# backward; the scores' memory grows with T squared (docs/LOG.md).
LONGEST_EXPLICIT = 128


class LanguageModel(nn.Module):
    """Base of the models: subclasses give `hidden` and `logits`.

    Attributes:
        vocabulary: number of token ids V.
        context: longest window T.
        auxiliary: what the last training forward adds to the objective beside the loss (a load-balancing term), on the
            scale of a sum over targets; None: nothing.
    """

    vocabulary: int
    context: int
    auxiliary: Tensor | None = None

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Tokens (B, T) to the last hidden states (B, T, W)."""
        raise NotImplementedError

    def logits(self, hidden_BTW: Tensor) -> Tensor:
        """Hidden states (..., W) to float32 logits (..., V)."""
        raise NotImplementedError

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor | None = None, reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """Logits (B, T, V) in float32; with targets (B, T) the mean or sum of their cross-entropy in nats, float32.

        Targets are shifted already; -100 is ignored. Training takes sums, so that accumulation weighs all tokens alike.
        """
        logits_BTV = self.logits(self.hidden(tokens_BT))
        if targets_BT is None:
            return logits_BTV
        return functional.cross_entropy(
            logits_BTV.flatten(0, 1), targets_BT.flatten(), ignore_index=IGNORED, reduction=reduction
        )


class CausalAttention(nn.Module):
    """Softmax attention of every token over itself and earlier tokens of its window (arXiv 1706.03762)."""

    mask_TT: Tensor

    def __init__(self, heads: int, context: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        size = min(context, LONGEST_EXPLICIT)
        mask_TT = torch.full((size, size), float("-inf")).triu(1)
        self.register_buffer("mask_TT", mask_TT, persistent=False)

    def forward(self, q_BHTD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor) -> Tensor:
        """Returns (B, T, W): heads side by side."""
        B, H, T, D = q_BHTD.shape
        dropout = self.dropout if self.training else 0.0
        if q_BHTD.device.type == "cpu" and len(self.mask_TT) >= T and dropout == 0:
            q, k, v = (x.reshape(B * H, T, D) for x in (q_BHTD, k_BHTD, v_BHTD))
            scores = torch.baddbmm(self.mask_TT[:T, :T].to(q.dtype), q, k.mT, alpha=D**-0.5)
            mixed_BHTD = torch.bmm(scores.softmax(-1), v).view(B, H, T, D)
        else:
            mixed_BHTD = functional.scaled_dot_product_attention(
                q_BHTD, k_BHTD, v_BHTD, dropout_p=dropout, is_causal=True
            )
        return mixed_BHTD.transpose(1, 2).reshape(B, T, H * D)
