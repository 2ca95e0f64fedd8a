"""Two-dimensional Navier-Stokes on the unit torus, in vorticity form, by a pseudo-spectral method.

    dw/dt + u . grad w = nu lap w + f,    u = (dpsi/dy, -dpsi/dx),    -lap psi = w,    (x, y) in [0, 1)^2

The set-up of Li et al., arXiv 2010.08895, section 5.3 and appendix A.3.3: the same forcing, initial fields and form of
the equation, written anew. Viscosity by Crank-Nicolson; advection and forcing by Heun's method, of second order (their
solver takes an explicit Euler step there, hence their dt of 1e-4); products without aliasing by the 2/3 rule.

Shapes: B fields, N x N points; the first axis is x. Transforms are real: (B, N, N // 2 + 1) complex.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Of the Gaussian random field, N(0, tau^3 (-lap + tau^2)^-2.5): `random_fields.py` beside the published data. The paper
# prints tau^(3/2) for the variance; its program, which made the data, uses tau^3.
TAU, ALPHA = 7.0, 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Wave numbers of a grid, each (N, N // 2 + 1).

    Attributes:
        minus_laplacian: 4 pi^2 |k|^2.
        kept: which modes survive the 2/3 rule, as 0 and 1.
        derived: (4, 1, N, N // 2 + 1), what gives u, v, dw/dx and dw/dy from w.
    """

    points: int
    minus_laplacian: Tensor
    kept: Tensor
    derived: Tensor

    @classmethod
    def of(cls, points: int, dtype: torch.dtype = torch.float32) -> Spectrum:
        """For a grid of `points` x `points`."""
        kx = torch.fft.fftfreq(points, 1 / points, dtype=torch.float64)[:, None]
        ky = torch.fft.rfftfreq(points, 1 / points, dtype=torch.float64)[None, :]
        kept = (kx.abs() < points / 3) & (ky < points / 3)
        laplacian = (2 * math.pi) ** 2 * (kx**2 + ky**2)
        inverse = torch.where(laplacian > 0, 1 / laplacian, 0.0)  # the stream function's mean is free
        by_x, by_y = 2j * math.pi * kx, 2j * math.pi * ky
        derived = torch.stack((by_y * inverse, -by_x * inverse, by_x + 0 * ky, by_y + 0 * kx))[:, None] * kept
        return cls(points, laplacian.to(dtype), kept.to(dtype), derived.to(dtype.to_complex()))


def forcing(points: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """f = 0.1 (sin 2 pi (x + y) + cos 2 pi (x + y)), (N, N)."""
    x = torch.arange(points, dtype=torch.float64) / points
    phase = 2 * math.pi * (x[:, None] + x[None, :])
    return (0.1 * (torch.sin(phase) + torch.cos(phase))).to(dtype)


def random_fields(count: int, points: int, generator: torch.Generator) -> Tensor:
    """Initial vorticities, float32 (count, N, N): Gaussian, mean zero, within the modes that the solver keeps."""
    spectrum = Spectrum.of(points, torch.float64)
    deviation = TAU ** (ALPHA - 1) * (spectrum.minus_laplacian + TAU**2) ** (-ALPHA / 2) * spectrum.kept
    deviation[0, 0] = 0.0
    noise = torch.randn(count, points, points, dtype=torch.float64, generator=generator)
    # White noise has variance 1 at each point; its transform, times N, has variance 1 in each mode of the field.
    fields: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * deviation * points, s=(points, points))
    return fields.float()


def simulate(
    start_BNN: Tensor, *, viscosity: float, forcing_NN: Tensor | None, times: list[float], dt: float
) -> Tensor:
    """Solve from t = 0 and record.

    Args:
        start_BNN: vorticity at t = 0, float32 or float64: the precision of the whole computation.
        viscosity: nu.
        forcing_NN: f; None: no forcing.
        times: when to record, increasing; each span between two is cut into equal steps of at most `dt`.
        dt: longest time step.

    Returns:
        (B, len(times), N, N).
    """
    points = start_BNN.shape[-1]
    grid = Spectrum.of(points, start_BNN.dtype)
    force = None if forcing_NN is None else torch.fft.rfft2(forcing_NN.to(start_BNN.dtype)) * grid.kept
    w = torch.fft.rfft2(start_BNN) * grid.kept
    recorded, now = [], 0.0
    for time in times:
        steps = max(0, math.ceil((time - now) / dt - 1e-9))  # 1 / 0.05 is 20 steps, however it rounds
        for _ in range(steps):
            w = _step(w, grid, viscosity, force, (time - now) / steps)
        now = time
        recorded.append(torch.fft.irfft2(w, s=(points, points)))
    return torch.stack(recorded, dim=1)


def _step(w: Tensor, grid: Spectrum, viscosity: float, force: Tensor | None, dt: float) -> Tensor:
    """One step of the transform (B, N, N // 2 + 1): Crank-Nicolson for viscosity, Heun for the rest."""
    half = 0.5 * dt * viscosity * grid.minus_laplacian
    damped, divisor = (1 - half) * w, 1 / (1 + half)
    first = _change(w, grid, force)
    guess = (damped + dt * first) * divisor
    second = _change(guess, grid, force)
    return (damped + 0.5 * dt * (first + second)) * divisor


def _change(w: Tensor, grid: Spectrum, force: Tensor | None) -> Tensor:
    """Transform of f - u . grad w."""
    u, v, w_x, w_y = torch.fft.irfft2(grid.derived * w, s=(grid.points, grid.points))
    advected: Tensor = torch.fft.rfft2(u * w_x + v * w_y) * grid.kept
    return -advected if force is None else force - advected


def enstrophy(w_BNN: Tensor) -> Tensor:
    """Half the mean square of the vorticity, (B,)."""
    return 0.5 * w_BNN.square().mean(dim=(-2, -1))


def resample(w_BNN: Tensor, points: int) -> Tensor:
    """The same trigonometric polynomial on a grid of `points` x `points`; modes that do not fit are cut off."""
    old = w_BNN.shape[-1]
    keep = (min(old, points) - 1) // 2  # without the Nyquist frequency
    transform = torch.fft.rfft2(w_BNN)
    new = torch.zeros(*w_BNN.shape[:-2], points, points // 2 + 1, dtype=transform.dtype)
    new[..., : keep + 1, : keep + 1] = transform[..., : keep + 1, : keep + 1]
    new[..., -keep:, : keep + 1] = transform[..., -keep:, : keep + 1]
    resampled: Tensor = torch.fft.irfft2(new, s=(points, points))
    return resampled * (points / old) ** 2
