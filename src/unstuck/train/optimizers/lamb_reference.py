"""LAMB, plain and slow: one tensor at a time, in the order of the paper (arXiv 1904.00962, algorithm 2)."""

from __future__ import annotations

from torch import Tensor


def lamb_step(
    parameter: Tensor,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """One update of one tensor; returns the new parameter, mean and square.

    r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + decay x; x <- x - lr |x| / |r| r, the ratio of norms only
    for tensors of two dimensions and more, and 1 where either norm is zero.

    Args:
        step: counts from 1.
    """
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    update = mean / (1 - beta1**step) / ((square / (1 - beta2**step)) ** 0.5 + eps) + weight_decay * parameter
    trust = 1.0
    if parameter.ndim > 1 and float(parameter.norm()) > 0 and float(update.norm()) > 0:
        trust = float(parameter.norm() / update.norm())
    return parameter - lr * trust * update, mean, square
