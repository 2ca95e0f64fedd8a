"""Long-term memory: what each stream of text has read is kept, and retrieved by nearest neighbour.

Memorizing Transformers (Wu et al., arXiv 2203.08913): one block keeps keys and values of past windows, without
gradient, and every token attends over the few whose keys are nearest to its query; an exact search, bounded in size,
the oldest forgotten first. Where this differs, and why (docs/systems/cortexgpt.md has the measurements):

- A key is kept with the value of the token that came *next* (kNN-LM, arXiv 1911.00172). Alike contexts have alike keys
  from the first update on, and what followed is what a prediction needs.
- Query and key are one function of the token's state and embedding, without position, so the store can be searched
  before anything is learned.
- A null neighbour with score 0 takes the weight when nothing alike is remembered; then memory adds nothing, as when it
  is empty. The gate per head, learned, is on top of that.
- The tokens that followed the neighbours also get a higher logit, by their weights (pointer to the past: TRIME,
  arXiv 2205.12674): what to look for is then learned from the first update on, not only once values can be decoded.

Every stream (row) has a store of its own and no operation leaves its row. Shape suffixes: see language_model.py, and
M remembered tokens, K neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck.models.functions import normalise

# Where these begin; all are learned, per head.
SHARPNESS = 20.0  # of the softmax over cosines: attn_scale_init of lucidrains/memorizing-transformers-pytorch
COPY = 2.0  # logit by which a token is raised that followed all neighbours; assumption: 7 times as likely, no certainty
THRESHOLD = 0.5  # cosine at which a neighbour weighs as much as the null; assumption: half way between alike and not


@dataclass(slots=True)
class Store:
    """The memory of B streams: views, written in place."""

    keys_BMW: Tensor
    values_BMW: Tensor
    tokens_BM: Tensor  # int64: the token that the value is of
    held_BM: Tensor  # bool: whether the place is taken
    next_B: Tensor  # int64: place that is written next
    waiting_BW: Tensor  # the last key, whose next token is not known yet
    waits_B: Tensor  # bool: whether there is one

    @classmethod
    def empty(cls, streams: int, tokens: int, width: int, device: torch.device | None = None) -> Store:
        """Nothing remembered."""
        return cls(
            torch.zeros(streams, tokens, width, device=device),
            torch.zeros(streams, tokens, width, device=device),
            torch.zeros(streams, tokens, dtype=torch.int64, device=device),
            torch.zeros(streams, tokens, dtype=torch.bool, device=device),
            torch.zeros(streams, dtype=torch.int64, device=device),
            torch.zeros(streams, width, device=device),
            torch.zeros(streams, dtype=torch.bool, device=device),
        )

    @torch.no_grad()
    def write(self, keys_BTW: Tensor, values_BTW: Tensor, tokens_BT: Tensor) -> None:
        """Remember a window: each key with the next token's value, over the oldest ones.

        Numbers that are not finite are kept as 0, so that a run stopped by them can go on from its checkpoint.
        """
        T, M = keys_BTW.shape[1], self.keys_BMW.shape[1]
        keys_BTW, values_BTW = (torch.nan_to_num(x.float(), 0.0, 0.0, 0.0) for x in (keys_BTW, values_BTW))
        paired_BTW = torch.cat([self.waiting_BW[:, None], keys_BTW[:, :-1]], dim=1)
        known_BT = torch.ones(keys_BTW.shape[:2], dtype=torch.bool, device=keys_BTW.device)
        known_BT[:, 0] = self.waits_B
        rows_B1 = torch.arange(len(keys_BTW), device=keys_BTW.device)[:, None]
        places_BT = (self.next_B[:, None] + torch.arange(T, device=keys_BTW.device)) % M
        self.keys_BMW[rows_B1, places_BT] = paired_BTW
        self.values_BMW[rows_B1, places_BT] = values_BTW
        self.tokens_BM[rows_B1, places_BT] = tokens_BT
        self.held_BM[rows_B1, places_BT] = known_BT
        self.next_B.add_(T).remainder_(M)
        self.waiting_BW.copy_(keys_BTW[:, -1])
        self.waits_B.fill_(True)

    @torch.no_grad()
    def keep_newest(self, kept_B: Tensor) -> None:
        """Forget all but the newest `kept_B` tokens of each row (int64); with 0, the key that waits too."""
        M = self.held_BM.shape[1]
        age_BM = (self.next_B[:, None] - 1 - torch.arange(M, device=kept_B.device)) % M
        self.held_BM &= age_BM < kept_B[:, None]
        self.waits_B &= kept_B > 0


@dataclass(slots=True)
class Recalled:
    """What followed contexts like each token's, and by how much that raises its logit."""

    tokens_BTK: Tensor
    bonus_BTK: Tensor

    @classmethod
    def joined(cls, windows: list[Recalled]) -> Recalled:
        """Of windows that follow each other."""
        return cls(torch.cat([w.tokens_BTK for w in windows], 1), torch.cat([w.bonus_BTK for w in windows], 1))

    def added_to(self, logits_BTV: Tensor) -> Tensor:
        """The logits of the same tokens with the bonus."""
        return logits_BTV.scatter_add(2, self.tokens_BTK, self.bonus_BTK.to(logits_BTV.dtype))


class LongTermMemory(nn.Module):
    """Reads a store. Its parameters: one key function, and sharpness, threshold and gate per head."""

    def __init__(self, width: int, heads: int, neighbours: int) -> None:
        super().__init__()
        self.heads, self.neighbours = heads, neighbours
        self.key = nn.Linear(2 * width, width, bias=False)
        nn.init.uniform_(self.key.weight, -((3 / width) ** 0.5), (3 / width) ** 0.5)
        self.log_sharpness_H = nn.Parameter(torch.full((heads,), math.log(SHARPNESS)))
        self.threshold_H = nn.Parameter(torch.full((heads,), THRESHOLD))
        self.gate_H = nn.Parameter(torch.zeros(heads))
        self.copy_H = nn.Parameter(torch.full((heads,), COPY / heads))

    def keys(self, x_BTW: Tensor, embedded_BTW: Tensor) -> Tensor:
        """Float32 keys (B, T, W), the features of each head of length 1: products of heads are cosines.

        Args: the block's input, and the embedding that the stream began with.
        """
        both_BT2W = torch.cat([x_BTW, embedded_BTW.to(x_BTW.dtype)], dim=-1)
        keys_BTHD = self.key(both_BT2W).float().unflatten(-1, (self.heads, -1))
        unit_BTW: Tensor = (normalise(keys_BTHD) * keys_BTHD.shape[-1] ** -0.5).flatten(2)
        return unit_BTW

    def read(self, keys_BTW: Tensor, store: Store) -> tuple[Tensor, Recalled]:
        """What is remembered of contexts like each token's: values, (B, T, W) in float32, and the tokens themselves.

        The neighbours are those with the largest sum of cosines over the heads; each head then weighs them itself.
        Only the weights carry a gradient: the store is constant.
        """
        B, T, W = keys_BTW.shape
        places_NK = self._nearest(keys_BTW, store)
        near_NKW, values_NKW = (
            functional.embedding(places_NK, x.reshape(-1, W)) for x in (store.keys_BMW, store.values_BMW)
        )
        held_NK, tokens_NK = (x.reshape(-1)[places_NK] for x in (store.held_BM, store.tokens_BM))
        heads, K = self.heads, places_NK.shape[1]
        near, values = (x.view(B * T, K, heads, W // heads) for x in (near_NKW, values_NKW))
        cosine_NKH = (near * keys_BTW.view(B * T, 1, heads, W // heads)).sum(-1)
        score_NKH = (cosine_NKH - self.threshold_H) * self.log_sharpness_H.exp()
        score_NKH = score_NKH.masked_fill(~held_NK[..., None], -torch.inf)
        weight_NKH = functional.pad(score_NKH, (0, 0, 1, 0)).softmax(1)[:, 1:]  # the null has score 0
        read_NHD = (weight_NKH[..., None] * values).sum(1) * torch.sigmoid(self.gate_H)[:, None]
        return read_NHD.view(B, T, W), Recalled(tokens_NK.view(B, T, K), (weight_NKH @ self.copy_H).view(B, T, K))

    @torch.no_grad()
    def _nearest(self, keys_BTW: Tensor, store: Store) -> Tensor:
        """Places of each token's neighbours, (N, K), in the stores of all rows one after the other."""
        B, M = store.held_BM.shape
        absent_BM = torch.zeros(B, M, device=keys_BTW.device).masked_fill_(~store.held_BM, -torch.inf)
        similar_BTM = torch.baddbmm(absent_BM[:, None], keys_BTW, store.keys_BMW.mT)
        places_BTK = similar_BTM.topk(min(self.neighbours, M), dim=-1, sorted=False).indices
        places_NK: Tensor = (places_BTK + M * torch.arange(B, device=keys_BTW.device)[:, None, None]).flatten(0, 1)
        return places_NK
