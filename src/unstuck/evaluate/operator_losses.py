"""Relative errors of fields on a torus: of the values (L2), and of values and gradients together (H1).

Each field has its own relative error, so that strong fields count no more than weak ones; `.mean()` of what the
functions return is the loss. (Summed over a batch, as some libraries do by default, loss and gradient norm grow with
the batch: incident I2.) Shapes: B fields of X x Y points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A norm (sum over points) from which on a target counts as zero and its error is not divided by it. Assumption: far
# below the 1e-7 of float32's own rounding of fields of size 1, far above its smallest number.
SMALLEST = 1e-12


def relative_l2(predicted_BXY: Tensor, target_BXY: Tensor) -> Tensor:
    """||predicted - target|| / ||target|| of each field, (B,); 1.0 is what predicting zero gives (arXiv 2010.08895)."""
    return _norm(predicted_BXY - target_BXY) / _norm(target_BXY).clamp_min(SMALLEST)


def relative_h1(predicted_BXY: Tensor, target_BXY: Tensor) -> Tensor:
    """The same for ||.||_H1^2 = ||f||^2 + ||grad f||^2, (B,): small scales weigh more (Sobolev losses for
    neural operators: Li et al., arXiv 2106.06898).

    Gradients are those of the trigonometric polynomial through the points, on the unit torus, hence exact; the norm is
    summed over modes (Parseval).
    """
    weights = _h1_weights(target_BXY.shape[-2], target_BXY.shape[-1], target_BXY.device)
    error, size = (
        (torch.view_as_real(torch.fft.rfft2(field.float())).square().sum(-1) * weights).sum((-2, -1)).sqrt()
        for field in (predicted_BXY - target_BXY, target_BXY)
    )
    ratio: Tensor = error / size.clamp_min(SMALLEST)
    return ratio


def _norm(field_BXY: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(field_BXY.float(), dim=(-2, -1))
    return norm


def _h1_weights(x_points: int, y_points: int, device: torch.device) -> Tensor:
    """(X, Y // 2 + 1): 1 + 4 pi^2 |k|^2, twice where a mode stands for its conjugate as well."""
    kx = torch.fft.fftfreq(x_points, 1 / x_points, device=device)[:, None]
    ky = torch.fft.rfftfreq(y_points, 1 / y_points, device=device)[None, :]
    twice = torch.where((ky == 0) | (2 * ky == y_points), 1.0, 2.0)
    weights: Tensor = (1 + (2 * math.pi) ** 2 * (kx**2 + ky**2)) * twice
    return weights
