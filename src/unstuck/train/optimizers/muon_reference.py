"""Muon, plain and slow: one matrix at a time, in the order of the paper. The tests hold muon.py to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def orthogonalise(matrix: Tensor, coefficients: Sequence[tuple[float, float, float]], margin: float) -> Tensor:
    """About U V' where matrix = U S V': X <- a X + b (X X') X + c (X X')^2 X for each (a, b, c) in turn.

    Args:
        matrix: (rows, columns).
        coefficients: of the odd polynomials.
        margin: the Frobenius norm is brought to 1 / margin first, so that no singular value exceeds 1.
    """
    x: Tensor = matrix / (matrix.norm() * margin + 1e-7)
    for a, b, c in coefficients:
        gram = x @ x.T
        x = a * x + b * gram @ x + c * gram @ gram @ x
    return x


def muon_step(
    parameter: Tensor,
    gradient: Tensor,
    momentum: Tensor,
    *,
    lr: float,
    beta: float,
    weight_decay: float,
    coefficients: Sequence[tuple[float, float, float]],
    margin: float,
    row_pieces: int = 1,
    column_pieces: int = 1,
) -> tuple[Tensor, Tensor]:
    """One update of one matrix; returns the new parameter and the new momentum.

    momentum <- beta momentum + (1 - beta) gradient; the update is the orthogonalised mean of both (Nesterov), each of
    the matrix's pieces by itself.
    """
    momentum = beta * momentum + (1 - beta) * gradient
    direction = (1 - beta) * gradient + beta * momentum
    rows = []
    for part in direction.chunk(row_pieces, dim=0):
        pieces = [orthogonalise(piece, coefficients, margin) for piece in part.chunk(column_pieces, dim=1)]
        rows.append(torch.cat([piece * max(1.0, piece.shape[0] / piece.shape[1]) ** 0.5 for piece in pieces], dim=1))
    return parameter * (1 - lr * weight_decay) - lr * torch.cat(rows, dim=0), momentum
