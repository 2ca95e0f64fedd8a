"""A modern GPT: what replaced each part of GPT-2 and is known to need fewer tokens for the same loss.

- rotary positions (Su et al., arXiv 2104.09864) with normalised queries and keys (Henry et al., arXiv 2010.04245);
- RMS norm without weights (Zhang and Sennrich, arXiv 1910.07467);
- squared ReLU (So et al., arXiv 2109.08668);
- projections into the residual stream start at zero, so every block starts as the identity (2203.03466, D.2);
- logits bounded by a tanh (Gemma 2, arXiv 2408.00118);
and, each by its own key of the recipe, from the modded-nanogpt records (github.com/KellerJordan/modded-nanogpt):
- value_embeddings: every block has a second embedding of the token, mixed into the attention's values (2410.17897);
- input_skip: every block sees the embedding again;
- smear: a gated share of the previous token's embedding is added;
- ngrams: tables of the last 1, 2 .. n tokens are added to the attention's values of all blocks, see ngrams.py.

Shape suffixes: see language_model.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck.config.sections.cortex import CortexConfig
from unstuck.config.sections.gpt import GPTConfig
from unstuck.models.functions import normalise, scaled_sum, squared_relu
from unstuck.models.gpt2 import split_by_head
from unstuck.models.language_model import CausalAttention, LanguageModel
from unstuck.models.ngrams import NGrams

ROTARY_BASE = 10_000.0  # arXiv 2104.09864, section 3.2.2
LOGIT_BOUND = 15.0  # modded-nanogpt; tuned here against 30 and none, docs/LOG.md
EMBEDDING_STD = 0.02  # GPT-2; it is normalised right away, so only its ratio to the other tables counts
SMEAR_INPUTS = 12  # features that the smear's gate reads; modded-nanogpt


class Block(nn.Module):
    def __init__(self, config: GPTConfig | CortexConfig, vocabulary: int, context: int) -> None:
        super().__init__()
        width = config.width
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention = CausalAttention(config.heads, context, config.dropout)
        self.output = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        for into, gain in ((self.qkv, 1.0), (self.up, 1.0), (self.output, 0.0), (self.down, 0.0)):
            nn.init.uniform_(into.weight, -gain * (3 / width) ** 0.5, gain * (3 / width) ** 0.5)  # variance 1 / width
        self.heads, self.dropout = config.heads, config.dropout
        # Shares of (stream, embedding) in the block's input and of (own value, value embedding) in the values.
        self.input_shares = nn.Parameter(torch.tensor([1.0, 0.0])) if config.input_skip else None
        self.value_shares = nn.Parameter(torch.tensor([1.0, 0.5])) if config.value_embeddings else None
        self.value_embedding = nn.Embedding(vocabulary, width) if config.value_embeddings else None
        if self.value_embedding is not None:
            nn.init.zeros_(self.value_embedding.weight)
        split_by_head(self, config.heads)

    def forward(
        self,
        x_BTW: Tensor,
        embedded_BTW: Tensor,
        tokens_BT: Tensor,
        extra_BTW: Tensor | None,
        rotation_TD: Tensor,
    ) -> Tensor:
        """Args: the stream, the embedding it began with, the tokens, what is added to the values, `rotations`."""
        if self.input_shares is not None:
            x_BTW = scaled_sum(x_BTW, embedded_BTW, self.input_shares)
        x_BTW = x_BTW + self._drop(self.output(self._attend(normalise(x_BTW), tokens_BT, extra_BTW, rotation_TD)))
        return x_BTW + self._drop(self._mlp(normalise(x_BTW)))

    def _mlp(self, x_BTW: Tensor) -> Tensor:
        return torch.as_tensor(self.down(squared_relu(self.up(x_BTW))))

    def _attend(self, x_BTW: Tensor, tokens_BT: Tensor, extra_BTW: Tensor | None, rotation_TD: Tensor) -> Tensor:
        q_k_BT2W, v_BTW = self._project(x_BTW, tokens_BT, extra_BTW)
        return self._mix(q_k_BT2W, v_BTW, rotation_TD)

    def _project(self, x_BTW: Tensor, tokens_BT: Tensor, extra_BTW: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries beside keys, (B, T, 2W), and values, (B, T, W)."""
        W = x_BTW.shape[-1]
        q_k, v = self.qkv(x_BTW).split((2 * W, W), dim=-1)
        if self.value_embedding is not None and self.value_shares is not None:
            v = scaled_sum(v, self.value_embedding(tokens_BT), self.value_shares)
        if extra_BTW is not None:
            v = v + extra_BTW
        return q_k, v

    def _mix(self, q_k: Tensor, v: Tensor, rotation_TD: Tensor) -> Tensor:
        """What attention within the window gives, (B, T, W)."""
        B, T, W = v.shape
        heads, D = self.heads, W // self.heads
        q_k = rotate(normalise(q_k.reshape(B, T, 2 * heads, D)), rotation_TD)
        q_BHTD, k_BHTD = q_k.view(B, T, 2, heads, D).permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        return torch.as_tensor(self.attention(q_BHTD, k_BHTD, v.view(B, T, heads, D).transpose(1, 2)))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class GPT(LanguageModel):
    """See the module docstring.

    Args:
        config: the recipe's model section.
        vocabulary: number of different tokens V.
        context: the window it is trained on; longer windows work, with positions it has never seen.
    """

    rotation_TD: Tensor

    def __init__(self, config: GPTConfig | CortexConfig, *, vocabulary: int, context: int) -> None:
        super().__init__()
        self.vocabulary, self.context = vocabulary, context
        width = config.width
        self.token_embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.token_embedding.weight, std=EMBEDDING_STD)
        self.ngrams = NGrams(config.ngrams, vocabulary, width) if config.ngrams else None
        self.smear_gate = nn.Linear(min(SMEAR_INPUTS, width), 1, bias=False) if config.smear else None
        if self.smear_gate is not None:
            nn.init.zeros_(self.smear_gate.weight)
            self.smear_share = nn.Parameter(torch.zeros(1))
        self.blocks = nn.ModuleList(self._block(config, layer) for layer in range(config.layers))
        self.head = nn.Linear(width, vocabulary, bias=False)
        if config.tied_head:
            self.head.weight = self.token_embedding.weight
        else:
            nn.init.zeros_(self.head.weight)  # the first loss is exactly ln V
        self.dropout = config.dropout
        self.register_buffer("rotation_TD", rotations(context, width // config.heads), persistent=False)

    def _block(self, config: GPTConfig | CortexConfig, layer: int) -> Block:
        """One block; models that are GPTs with other blocks override it (cortex)."""
        return Block(config, self.vocabulary, self.context)

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        rotation_TD = self._rotations(tokens_BT)
        extra_BTW = None if self.ngrams is None else self.ngrams(tokens_BT)
        x_BTW = embedded_BTW = self._embed(tokens_BT)
        for block in self.blocks:
            x_BTW = block(x_BTW, embedded_BTW, tokens_BT, extra_BTW, rotation_TD)
        return normalise(x_BTW)

    def _rotations(self, tokens_BT: Tensor) -> Tensor:
        T = tokens_BT.shape[1]
        if len(self.rotation_TD) < T:
            return rotations(T, self.rotation_TD.shape[-1]).to(tokens_BT.device)
        return self.rotation_TD[:T]

    def logits(self, hidden_BTW: Tensor) -> Tensor:
        logits = functional.linear(hidden_BTW, self.head.weight).float()
        return torch.tanh(logits / LOGIT_BOUND) * LOGIT_BOUND

    def _embed(self, tokens_BT: Tensor) -> Tensor:
        x_BTW = self.token_embedding(tokens_BT)
        if self.smear_gate is not None:
            gate_BT1 = torch.sigmoid(self.smear_gate(x_BTW[:, 1:, : self.smear_gate.in_features])) * self.smear_share
            x_BTW = torch.cat([x_BTW[:, :1], x_BTW[:, 1:] + gate_BT1 * x_BTW[:, :-1]], dim=1)
        return normalise(x_BTW)


def rotations(length: int, head_width: int) -> Tensor:
    """Unit complex numbers as pairs of floats, (T, D): (t, 2i), (t, 2i+1) turns feature pair i at position t."""
    angle_TD = torch.arange(length)[:, None] * ROTARY_BASE ** (-torch.arange(0, head_width, 2) / head_width)
    return torch.stack([angle_TD.cos(), angle_TD.sin()], dim=-1).flatten(1).float()


def rotate(x_BTHD: Tensor, rotation_TD: Tensor) -> Tensor:
    """Turns each feature pair by its position's angle."""
    pairs = torch.view_as_complex(x_BTHD.float().reshape(*x_BTHD.shape[:-1], -1, 2))
    turn = torch.view_as_complex(rotation_TD.reshape(len(rotation_TD), -1, 2))[:, None]
    return torch.view_as_real(pairs * turn).flatten(-2).to(x_BTHD.dtype)
