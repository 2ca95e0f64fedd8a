"""Attention with disentangled relative positions (DeBERTa, arXiv 2006.03654, as in LTG-BERT, arXiv 2303.09859).

The score of query i and key j is (q_i k_j + q_i K[i-j] + k_j Q[i-j]) / sqrt(3 D): content to content, content to
position, position to content. K and Q hold one vector for each bucket of distances; near distances have a bucket each,
far ones share buckets of growing width.

Shape suffixes: B windows, T tokens, H heads, D width of a head, R = 2T - 1 distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

FARTHEST = 512  # distances from here on share the last bucket; ltgoslo/ltg-bert, configs: max_position_embeddings


def buckets(distances: Tensor, count: int) -> Tensor:
    """The bucket of each signed distance, in 0 .. 2 * count - 2; distance 0 is bucket count - 1.

    Up to count // 2 each distance has its own bucket; beyond, buckets grow with the logarithm of the distance.

    Args:
        distances: integers, query minus key, any shape.
        count: buckets of one direction, zero included.
    """
    near = count // 2
    size = distances.abs().clamp(max=FARTHEST - 1)
    share = torch.log(size.clamp(min=near).float() / near) / math.log((FARTHEST - 1) / near)
    far = near + torch.ceil(share * (near - 1)).long()
    return count - 1 + torch.where(size <= near, size, far) * distances.sign()


def attend(
    q_HBTD: Tensor,
    k_HBTD: Tensor,
    v_HBTD: Tensor,
    key_position_HRD: Tensor,
    query_position_HRD: Tensor,
    hidden_BTT: Tensor | None,
    dropout: float = 0.0,
) -> Tensor:
    """Mixed values, (H, B, T, D).

    Args:
        q_HBTD, k_HBTD, v_HBTD: of the tokens.
        key_position_HRD: K by distance, from T - 1 (the query far behind the key) down to -(T - 1).
        query_position_HRD: Q by distance, from -(T - 1) up to T - 1.
        hidden_BTT: 0 where query i may look at key j, -inf where not; None: everywhere. B may be 1.
        dropout: of the attention's weights.
    """
    if dropout == 0 and q_HBTD.device.type == "cpu":
        return _attend(q_HBTD, k_HBTD, v_HBTD, key_position_HRD, query_position_HRD, hidden_BTT)
    H, B, T, D = q_HBTD.shape
    bias_HBTT = _skewed(torch.bmm(q_HBTD.reshape(H, B * T, D), key_position_HRD.mT), B, T)
    bias_HBTT = bias_HBTT + _skewed(torch.bmm(k_HBTD.reshape(H, B * T, D), query_position_HRD.mT), B, T).mT
    bias_HBTT = bias_HBTT * _scale(D)
    if hidden_BTT is not None:
        bias_HBTT = bias_HBTT + hidden_BTT.to(bias_HBTT.dtype)
    return functional.scaled_dot_product_attention(
        q_HBTD, k_HBTD, v_HBTD, attn_mask=bias_HBTT, dropout_p=dropout, scale=_scale(D)
    )


def attend_reference(
    q_HBTD: Tensor,
    k_HBTD: Tensor,
    v_HBTD: Tensor,
    key_position_HRD: Tensor,
    query_position_HRD: Tensor,
    hidden_BTT: Tensor | None,
) -> Tensor:
    """`attend`, plain and slow: one vector for each pair of positions. The tests hold `attend` to it."""
    T, D = q_HBTD.shape[-2:]
    distance_TT = torch.arange(T)[:, None] - torch.arange(T)
    key_HTTD = key_position_HRD[:, T - 1 - distance_TT]
    query_HTTD = query_position_HRD[:, T - 1 + distance_TT]
    scores = torch.einsum("hbid,hbjd->hbij", q_HBTD, k_HBTD)
    scores = scores + torch.einsum("hbid,hijd->hbij", q_HBTD, key_HTTD)
    scores = scores + torch.einsum("hbjd,hijd->hbij", k_HBTD, query_HTTD)
    scores = scores / math.sqrt(3 * D)
    if hidden_BTT is not None:
        scores = scores + hidden_BTT
    return torch.einsum("hbij,hbjd->hbid", scores.softmax(-1), v_HBTD)


class _Attend(torch.autograd.Function):
    """`attend` with its derivative written out: on a CPU half of the composed operations' time goes into copies."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, key_position: Tensor, query_position: Tensor, hidden: Tensor | None
    ) -> Tensor:
        H, B, T, D = q.shape
        scale = _scale(D)
        with torch.autocast(q.device.type, enabled=False):
            flat_q, flat_k = q.reshape(H, B * T, D), k.reshape(H, B * T, D)
            scores = torch.bmm(q.reshape(H * B, T, D), k.reshape(H * B, T, D).mT).view(H, B, T, T)
            scores += _skewed(torch.bmm(flat_q, key_position.mT), B, T)
            scores.mT.add_(_skewed(torch.bmm(flat_k, query_position.mT), B, T))
            scores *= scale
            if hidden is not None:
                scores += hidden.to(scores.dtype)
            weights = torch.softmax(scores, -1)
            mixed = torch.bmm(weights.view(H * B, T, T), v.reshape(H * B, T, D)).view(H, B, T, D)
        ctx.save_for_backward(q, k, v, key_position, query_position, weights)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, key_position, query_position, weights = ctx.saved_tensors
        H, B, T, D = q.shape
        gradient = gradients[0].reshape(H * B, T, D)
        flat_weights = weights.view(H * B, T, T)
        for_v = torch.bmm(flat_weights.mT, gradient)
        for_weights = torch.bmm(gradient, v.reshape(H * B, T, D).mT)
        scores = torch._softmax_backward_data(for_weights, flat_weights, -1, weights.dtype).mul_(_scale(D))
        flat_q, flat_k = q.reshape(H, B * T, D), k.reshape(H, B * T, D)
        for_q = torch.bmm(scores, k.reshape(H * B, T, D)).view(H, B * T, D)
        for_k = torch.bmm(scores.mT, q.reshape(H * B, T, D)).view(H, B * T, D)
        spread = _unskewed(scores.view(H, B, T, T))
        for_q.baddbmm_(spread, key_position)
        for_key_position = torch.bmm(spread.mT, flat_q)
        spread = _unskewed(scores.view(H, B, T, T).mT)
        for_k.baddbmm_(spread, query_position)
        for_query_position = torch.bmm(spread.mT, flat_k)
        shape = (H, B, T, D)
        return for_q.view(shape), for_k.view(shape), for_v.view(shape), for_key_position, for_query_position, None


_attend: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None], Tensor] = _Attend.apply


def _scale(head_width: int) -> float:
    return 1 / math.sqrt(3 * head_width)  # three terms make up the score: DeBERTa, section 3.1


def _skewed(by_distance: Tensor, B: int, T: int) -> Tensor:
    """(H, B*T, R) to (H, B, T, T): element (i, j) is the one of row i at distance index j - i + T - 1. A view."""
    H, _, R = by_distance.shape
    return by_distance.contiguous().as_strided((H, B, T, T), (B * T * R, T * R, R - 1, 1), T - 1)


def _unskewed(x_HBTT: Tensor) -> Tensor:
    """The transpose of `_skewed`: (H, B, T, T) to (H, B*T, R), zero where no pair of positions has the distance."""
    H, B, T, _ = x_HBTT.shape
    spread = x_HBTT.new_zeros(H, B * T, 2 * T - 1)
    _skewed(spread, B, T).copy_(x_HBTT)
    return spread
