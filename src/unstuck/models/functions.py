"""The modern model's elementwise functions with their derivatives written out.

PyTorch composes these from many small operations on a CPU; written out they take half the time forward and backward
(docs/LOG.md). Each is checked against automatic differentiation in tests/models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SMALLEST_SCALE = 1e-6  # keeps a row of zeros finite; float32 epsilon is 1e-7


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
        scale = scale.mul_(x.shape[-1] ** -0.5).clamp_min_(SMALLEST_SCALE).reciprocal_()
        y: Tensor = x * scale.to(x.dtype)
        ctx.save_for_backward(y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        y, scale = ctx.saved_tensors
        along = (gradient * y).mean(-1, keepdim=True)
        return torch.addcmul(gradient, y, along, value=-1).mul_(scale.to(y.dtype))


class _SquaredRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return torch.mul(gradients[0], positive).mul_(2)


class _ScaledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, shares: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, shares)
        return torch.addcmul(x * shares[0], y, shares[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (gradient,) = gradients
        x, y, shares = ctx.saved_tensors
        flat = gradient.flatten()
        gradient_shares = torch.stack([torch.dot(flat, z.flatten().to(flat.dtype)) for z in (x, y)])
        return gradient * shares[0], gradient * shares[1], gradient_shares


_normalise: Callable[[Tensor], Tensor] = _Normalise.apply
_squared_relu: Callable[[Tensor], Tensor] = _SquaredRelu.apply
_scaled_sum: Callable[[Tensor, Tensor, Tensor], Tensor] = _ScaledSum.apply


def normalise(x: Tensor) -> Tensor:
    """RMS norm over the last dimension, without weights: x / sqrt(mean(x^2)). Any shape."""
    return _normalise(x)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2, any shape."""
    return _squared_relu(x)


def scaled_sum(x: Tensor, y: Tensor, shares: Tensor) -> Tensor:
    """shares[0] x + shares[1] y for two tensors of one shape and two learned shares."""
    return _scaled_sum(x, y, shares)
