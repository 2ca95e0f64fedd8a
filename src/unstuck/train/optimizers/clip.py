"""The norm of all gradients together, and its limit (Pascanu et al., arXiv 1211.5063)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from unstuck.train.distributed import counted_here, is_sharded, local, total_of_shards


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], limit: float | None) -> Tensor:
    """Scales all gradients so that their common 2-norm is at most `limit`.

    Args:
        parameters: those without a gradient are passed over.
        limit: None measures only.

    Returns:
        The norm before clipping, a float32 scalar, over all rows of sharded gradients (so all processes must call it);
        not finite if any gradient is not, and then nothing is scaled.
    """
    trained = [p for p in parameters if p.grad is not None]
    if not trained:
        return torch.zeros(())
    gradients = [_values(p) for p in trained]
    norm = _norm(gradients, trained)
    if limit is None:
        return norm
    if norm.device.type == "cpu":
        if limit < norm.item() < float("inf"):
            torch._foreach_mul_(gradients, limit / norm.item())
    else:  # no wait for the device; a norm that is not finite leaves the gradients alone, as on the CPU
        torch._foreach_mul_(gradients, torch.where(norm.isfinite(), (limit / norm).clamp(max=1.0), 1.0))
    return norm


@torch.no_grad()
def grad_norm(parameters: Sequence[Tensor]) -> Tensor:
    """The common 2-norm of the gradients of parameters that have one, as `clip_grad_norm` measures it."""
    return _norm([_values(p) for p in parameters], parameters) if parameters else torch.zeros(())


def _norm(gradients: list[Tensor], parameters: Sequence[Tensor]) -> Tensor:
    norms = torch.stack(torch._foreach_norm(gradients)).float()
    if not any(map(is_sharded, parameters)):
        return torch.as_tensor(torch.linalg.vector_norm(norms))
    norms *= torch.tensor([counted_here(p) for p in parameters], device=norms.device)
    return total_of_shards(norms.square().sum()).sqrt()


def _values(parameter: Tensor) -> Tensor:
    """The numbers of a gradient that this process holds; of a sparse one, after adding up what is of the same row."""
    gradient = parameter.grad
    assert gradient is not None  # the caller's own condition
    if not gradient.is_sparse:
        # The norm of complex numbers is that of their parts, which torch's kernel takes 8.0 ms for and this 0.1 ms
        # (1.3M numbers).
        return torch.view_as_real(local(gradient)) if gradient.is_complex() else local(gradient)
    parameter.grad = gradient = gradient.coalesce()
    return gradient.values()
