"""Small images through a bottleneck, as they are or from noise: scikit-learn's handwritten digits, or made spots.

The targets are shades from 0 to 1, so that the squared error of the mean image is 0.07 to 0.09 and not 1.
"""

from __future__ import annotations

from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.classifier import activation_of
from benchmarks.faults.families.family import FEATURE_CONTROLS, FIELD_FAULTS, draw_schedule
from benchmarks.faults.families.transformer import body_and_head
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

SIDE = 8
TRAIN, VALIDATION, CLEAN = 1280, 256, 261  # all 1797 digits
# By trials of 1.3, 4 and 12e-3, 640 updates: errors at the end 0.031, 0.025, 0.026 of the digits, 0.013, 0.009, 0.008
# of the spots; the mean image has 0.074 and 0.086
RATE = 6e-3


class Autoencoder:
    name = "autoencoder"
    kind = "fields"
    trainers = {"loop": ("bars", "epochs"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = FIELD_FAULTS
    controls = FEATURE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        optimizer = rng.choice(("adamw", "adam") if trainer == "loop" else ("adamw",))
        batch = rng.choice((16, 32))
        per_epoch = TRAIN // batch
        updates = per_epoch * (8 if batch == 16 else 16)
        settings = Settings(
            updates=updates, batch_size=batch, optimizer=optimizer,
            learning_rate=RATE * rng.choice((0.7, 1.0, 1.4)),
            weight_decay=0.0 if optimizer == "adam" else rng.choice((0.0, 1e-4)),
            schedule=drawn.schedule, floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((None, 1.0)),
            eval_every=per_epoch if style in ("bars", "epochs") else updates // 16, log_every=rng.choice((5, 10)),
            model={
                "width": rng.choice((48, 64)), "layers": rng.choice((1, 2)), "bottleneck": rng.choice((8, 12)),
                "activation": rng.choice(("relu", "gelu")),
            },
            data={
                "images": rng.choice(tuple(IMAGES)), "noise": rng.choice((0.0, 0.2)), "few_samples": 20,
                "few_validation": 4,
            },
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model, noise = setup.settings.model, setup.settings.data["noise"]
        images, kinds = IMAGES[setup.settings.data["images"]]()
        train, validation, clean = (pair_of(part) for part in images.split((TRAIN, VALIDATION, CLEAN)))

        def make_model() -> nn.Module:
            return Dense(model["width"], model["layers"], model["bottleneck"], model["activation"])

        def noisy(x: Tensor, y: Tensor, g: torch.Generator) -> Pair:
            return x + noise * torch.randn(x.shape, generator=g), y

        return build(
            setup, self.kind, make_model, train=train, validation=validation, shifted=pair_of(moved(validation[0])),
            clean=clean, order=kinds[:TRAIN].argsort(stable=True), groups=body_and_head,
            vary=noisy if noise else None, facts={"task": "reconstruction"},
        )  # fmt: skip


def pair_of(images: Tensor) -> Pair:
    return images, images


def moved(images: Tensor) -> Tensor:
    """Another crop: everything stands one point further to the right, as another loader may cut it."""
    return images.roll(1, dims=2)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Handwritten digits (N, SIDE, SIDE) in an order without meaning, and which digit each is (N,)."""
    from sklearn.datasets import load_digits

    given = load_digits()
    order = torch.randperm(len(given.target), generator=torch.Generator().manual_seed(0))
    return torch.tensor(given.images, dtype=torch.float32)[order] / 16, torch.tensor(given.target)[order]


@cache
def spots() -> tuple[Tensor, Tensor]:
    """Two spots of one size at places of their own (N, SIDE, SIDE), in noise, and the first one's row (N,)."""
    g = torch.Generator().manual_seed(0)
    count = TRAIN + VALIDATION + CLEAN
    places = (SIDE - 1) * torch.rand(count, 2, 2, generator=g)
    grid = torch.arange(SIDE)
    apart = (grid - places[..., :1]).square()[..., None] + (grid - places[..., 1:]).square()[..., None, :]
    images = torch.exp(-apart / 3.0).sum(dim=1) + 0.05 * torch.randn(count, SIDE, SIDE, generator=g)
    return images.clamp(0, 1), places[:, 0, 0].round().long()


IMAGES = {"digits": digits, "spots": spots}


class Dense(nn.Module):
    """Images (B, SIDE, SIDE) to themselves through `layers` hidden layers on either side of the bottleneck."""

    def __init__(self, width: int, layers: int, bottleneck: int, activation: str) -> None:
        super().__init__()
        steps: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in ((SIDE * SIDE, bottleneck), (bottleneck, None)):
            for place in range(layers):
                steps += [nn.Linear(inputs if place == 0 else width, width), activation_of(activation)]
            if outputs is not None:
                steps.append(nn.Linear(width, outputs))
        self.body = nn.Sequential(*steps)
        self.head = nn.Linear(width, SIDE * SIDE)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.body(x)).view_as(x))
