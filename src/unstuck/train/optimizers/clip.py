"""The norm of all gradients together, and its limit (Pascanu et al., arXiv 1211.5063)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    """Scales all gradients so that their common 2-norm is at most `limit`.

    Args:
        parameters: those without a gradient are passed over.
        limit: None measures only.

    Returns:
        The norm before clipping, a float32 scalar; not finite if any gradient is not, and then nothing is scaled.
    """
    gradients = [_values(p) for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float())
    if limit is None:
        return norm
    if norm.device.type == "cpu":
        if limit < norm.item() < float("inf"):
            torch._foreach_mul_(gradients, limit / norm.item())
    else:  # no wait for the device; a norm that is not finite leaves the gradients alone, as on the CPU
        torch._foreach_mul_(gradients, torch.where(norm.isfinite(), (limit / norm).clamp(max=1.0), 1.0))
    return norm


def _values(parameter: Tensor) -> Tensor:
    """The numbers of a gradient; of a sparse one, after adding up what belongs to the same row."""
    gradient = parameter.grad
    assert gradient is not None  # the caller's own condition
    if not gradient.is_sparse:
        return gradient
    parameter.grad = gradient = gradient.coalesce()
    return gradient.values()
