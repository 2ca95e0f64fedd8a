"""Regression on normalised targets: a smooth function of eight numbers, and a neural operator on fields."""

from __future__ import annotations

from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.classifier import Dense, activation_of
from benchmarks.faults.families.family import FEATURE_CONTROLS, FIELD_FAULTS, draw_schedule
from benchmarks.faults.families.transformer import body_and_head
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

INPUTS, POINTS, MODES = 8, 48, 12
TRAIN, VALIDATION = 1280, 300
RATES = {"dense": 6e-3, "operator": 1.2e-2}


class Regression:
    name = "regression"
    kind = "fields"
    trainers = {"loop": ("pipes", "epochs", "logging"), "transformers": ("trainer",), "unstuck": ("run",)}  # noqa: RUF012
    faults = FIELD_FAULTS
    controls = FEATURE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        if trainer == "unstuck":
            return self._recipe(rng)
        drawn = draw_schedule(rng, style)
        shape = rng.choice(("dense", "operator"))
        per_epoch = TRAIN // 32
        updates = 12 * per_epoch
        settings = Settings(
            updates=updates, batch_size=32, learning_rate=RATES[shape] * rng.choice((0.7, 1.0, 1.4)),
            weight_decay=rng.choice((0.0, 1e-4)), schedule=drawn.schedule, floor=drawn.floor,
            warmup=round(drawn.warmup_share * updates), clip_norm=rng.choice((None, 1.0, 5.0)),
            eval_every=per_epoch if style == "epochs" else updates // 10, log_every=10,
            model={
                "shape": shape, "width": 16 if shape == "operator" else 64, "layers": rng.choice((2, 3)),
                "activation": "gelu",
            },
            data={"few_samples": 40, "few_validation": 8},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def _recipe(self, rng: Random) -> Setup:
        """The bundled recipe on a coarse grid."""
        overrides = [
            "data.points=16", "model.modes=8", "model.width=12", "model.layers=2", "data.train_trajectories=30",
            "data.validation_trajectories=8", "data.test_trajectories=1",
        ]  # fmt: skip
        settings = Settings(
            updates=250, batch_size=8, learning_rate=8e-3 * rng.choice((0.7, 1.0, 1.4)),
            schedule=rng.choice(("cosine", "linear")), warmup=rng.choice((15, 25)), eval_every=25, beta2=0.95,
            model={
                "recipe": "navier-stokes", "overrides": overrides, "body": "convs",
                "few": ["data.train_trajectories=1", "data.symmetries=false"],
                "few_validation": ["data.validation_trajectories=1", "data.pairs_per_trajectory=2"],
            },
            data={"few_samples": 1, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, "unstuck", "run", settings)

    def problem(self, setup: Setup) -> Problem:
        model = setup.settings.model
        make = fields if model["shape"] == "operator" else functions
        train = make(TRAIN, 1, shifted=False)

        def make_model() -> nn.Module:
            if model["shape"] == "operator":
                return Operator(model["width"], model["layers"], model["activation"])
            return Dense(INPUTS, 1, model["width"], model["layers"], model["activation"])

        return build(
            setup, self.kind, make_model, train=train, validation=make(VALIDATION, 2, shifted=False),
            shifted=make(VALIDATION, 2, shifted=True), clean=make(VALIDATION, 3, shifted=False),
            order=train[1].flatten(1).mean(dim=1).argsort(), groups=body_and_head, facts={"task": "regression"},
        )  # fmt: skip


@cache
def functions(count: int, seed: int, *, shifted: bool) -> Pair:
    """A sum of waves of eight numbers, scaled to unit variance, with a little noise; shapes (N, 8), (N, 1)."""
    g0 = torch.Generator().manual_seed(0)
    waves, phases = 0.5 * torch.randn(INPUTS, 6, generator=g0), 6.28 * torch.rand(6, generator=g0)
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(count, INPUTS, generator=g) * (1.5 if shifted else 1.0)
    y = torch.sin(x @ waves + phases).sum(dim=1, keepdim=True) / 3**0.5
    return x, y + 0.1 * torch.randn(y.shape, generator=g)


@cache
def fields(count: int, seed: int, *, shifted: bool) -> Pair:
    """Periodic fields (N, POINTS) and what Burgers' equation makes of them, each of unit variance."""
    g = torch.Generator().manual_seed(seed)
    places = torch.arange(POINTS) * (2 * torch.pi / POINTS)
    u = torch.zeros(count, POINTS)
    for wave in range(1, 5):
        a, b = torch.randn(2, count, 1, generator=g) / wave
        u = u + a * torch.sin(wave * places) + b * torch.cos(wave * places)
    u = u / 1.2 * (1.5 if shifted else 1.0)
    x, numbers = u.clone(), 1j * torch.fft.rfftfreq(POINTS, 1 / POINTS)
    for _ in range(60):  # explicit steps: advection in space, diffusion (viscosity 0.1) in Fourier space
        slope = torch.fft.irfft(numbers * torch.fft.rfft(u), n=POINTS)
        u = torch.fft.irfft(torch.fft.rfft(u - 0.01 * u * slope) * torch.exp(0.01 * 0.1 * (numbers**2).real), n=POINTS)
    return x, u / 0.95


class Spectral(nn.Module):
    """A linear map of the lowest MODES Fourier coefficients of each channel; (B, C, X) to (B, C, X)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(MODES, width, width, 2) / width)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)[..., :MODES]
        mixed = torch.einsum("bcm,mcd->bdm", spectrum, torch.view_as_complex(self.weight))
        return torch.fft.irfft(mixed, n=x.shape[-1])


class Operator(nn.Module):
    """A one-dimensional Fourier neural operator (arXiv 2010.08895); fields (B, X) to fields (B, X)."""

    def __init__(self, width: int, layers: int, activation: str) -> None:
        super().__init__()
        self.lift = nn.Conv1d(1, width, 1)
        self.spectral = nn.ModuleList(Spectral(width) for _ in range(layers))
        self.pointwise = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(layers))
        self.activation = activation_of(activation)
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lift(x[:, None])
        for spectral, pointwise in zip(self.spectral, self.pointwise, strict=True):
            h = self.activation(spectral(h) + pointwise(h))
        return torch.as_tensor(self.head(h)[:, 0])
