"""Signals freed of noise by an autoencoder or a small convolutional network: regression on the clean signal."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.classifier import activation_of
from benchmarks.faults.families.family import FEATURE_CONTROLS, FIELD_FAULTS, draw_schedule
from benchmarks.faults.families.transformer import body_and_head
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

POINTS = 40
TRAIN, VALIDATION = 2000, 400
RATES = {("dense", "adamw"): 3e-3, ("conv", "adamw"): 5e-3, ("dense", "sgd"): 0.3, ("conv", "sgd"): 0.1}


class Denoiser:
    name = "denoiser"
    kind = "fields"
    trainers = {"loop": ("brackets", "table", "blocks"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = FIELD_FAULTS
    controls = FEATURE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        shape, optimizer = rng.choice(("dense", "conv")), rng.choice(("adamw", "adamw", "sgd"))
        per_epoch = TRAIN // 40
        updates = 12 * per_epoch
        settings = Settings(
            updates=updates, batch_size=40, optimizer=optimizer,
            learning_rate=RATES[shape, optimizer] * rng.choice((0.7, 1.0, 1.4)), weight_decay=rng.choice((0.0, 1e-4)),
            schedule=drawn.schedule, floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((None, 1.0)), eval_every=per_epoch if style == "table" else updates // 12,
            log_every=rng.choice((6, 10)),
            model={"shape": shape, "width": 64 if shape == "dense" else 12, "layers": rng.choice((2, 3)),
                   "activation": "tanh"},
            data={"few_samples": 48, "few_validation": 8},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model = setup.settings.model
        train = signals(TRAIN, 21, shifted=False)
        kind = Bottleneck if model["shape"] == "dense" else Smooth
        return build(
            setup, self.kind, lambda: kind(model["width"], model["layers"], model["activation"]), train=train,
            validation=signals(VALIDATION, 22, shifted=False), shifted=signals(VALIDATION, 22, shifted=True),
            clean=signals(VALIDATION, 23, shifted=False), order=train[1].abs().mean(dim=1).argsort(),
            groups=body_and_head, facts={"task": "regression"},
        )  # fmt: skip


@cache
def signals(count: int, seed: int, *, shifted: bool) -> Pair:
    """Sums of two sines and a step, of unit variance, with noise of half that; shapes (N, POINTS)."""
    g = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, POINTS)

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, generator=g)

    y = torch.sin(6.28 * (draw(0.5, 2.0) * time + draw(0, 1))) + 0.6 * torch.sin(
        6.28 * (draw(2.0, 5.0) * time + draw(0, 1))
    )
    y = y + draw(-0.8, 0.8) * (time > draw(0.2, 0.8))
    y = y / y.std()
    return y + (1.0 if shifted else 0.5) * torch.randn(y.shape, generator=g), y


class Bottleneck(nn.Module):
    """Dense autoencoder with a narrow middle."""

    def __init__(self, width: int, layers: int, activation: str) -> None:
        super().__init__()
        sizes = [POINTS, *[width] * (layers - 1), 16, *[width] * (layers - 1)]
        steps: list[nn.Module] = []
        for inner, outer in pairwise(sizes):
            steps += [nn.Linear(inner, outer), activation_of(activation)]
        self.body = nn.Sequential(*steps)
        self.head = nn.Linear(sizes[-1], POINTS)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.body(x)))


class Smooth(nn.Module):
    """Convolutions over the signal."""

    def __init__(self, width: int, layers: int, activation: str) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for place in range(layers):
            steps += [nn.Conv1d(width if place else 1, width, 9, padding=4), activation_of(activation)]
        self.body = nn.Sequential(*steps)
        self.head = nn.Conv1d(width, 1, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.body(x[:, None]))[:, 0])
