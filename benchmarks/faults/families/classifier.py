"""Ten classes of made features or images, by an MLP, a residual MLP or a convolutional network."""

from __future__ import annotations

from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import CLASS_FAULTS, FEATURE_CONTROLS, draw_schedule
from benchmarks.faults.families.transformer import body_and_head
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

CLASSES, FEATURES, SIDE = 10, 16, 12
TRAIN, VALIDATION = 6400, 800
RATES = {"adamw": 3e-3, "sgd": 0.05}


class Classifier:
    name = "classifier"
    kind = "classes"
    trainers = {"loop": ("epochs", "logging", "pipes"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = CLASS_FAULTS
    controls = FEATURE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        shape = rng.choice(("mlp", "residual", "cnn"))
        optimizer = rng.choice(("adamw", "sgd", "sgd") if trainer == "loop" else ("adamw", "sgd"))
        batch = rng.choice((64, 128))
        per_epoch = TRAIN // batch
        updates = per_epoch * (8 if batch == 64 else 16)
        settings = Settings(
            updates=updates, batch_size=batch, optimizer=optimizer,
            learning_rate=RATES[optimizer] * rng.choice((0.7, 1.0, 1.4)), weight_decay=rng.choice((0.0, 1e-4, 5e-4)),
            schedule=drawn.schedule, floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((None, 5.0)),
            eval_every=per_epoch if style == "epochs" else updates // 16, log_every=rng.choice((10, 20)),
            model={
                "shape": shape, "width": 16 if shape == "cnn" else 64, "layers": rng.choice((2, 3)),
                "activation": "relu",
            },
            data={"few_samples": 120, "few_validation": 20},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model = setup.settings.model
        make = images if model["shape"] == "cnn" else features
        train = make(TRAIN, 1, shifted=False)

        def make_model() -> nn.Module:
            if model["shape"] == "cnn":
                return ConvNet(model["width"], model["layers"], model["activation"])
            return Dense(
                FEATURES, CLASSES, model["width"], model["layers"], model["activation"],
                residual=model["shape"] == "residual",
            )  # fmt: skip

        return build(
            setup, self.kind, make_model, train=train, validation=make(VALIDATION, 2, shifted=False),
            shifted=make(VALIDATION, 2, shifted=True), clean=make(VALIDATION, 3, shifted=False),
            order=train[1].argsort(stable=True), groups=body_and_head,
            facts={"task": "classification", "classes": CLASSES},
        )  # fmt: skip


@cache
def features(count: int, seed: int, *, shifted: bool) -> Pair:
    """Three Gaussian clouds for each class, overlapping, so that no classifier is always right."""
    centres = torch.randn(CLASSES, 3, FEATURES, generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=g)
    which = torch.randint(3, (count,), generator=g)
    x = centres[y, which] + 1.0 * torch.randn(count, FEATURES, generator=g)
    return (x * 0.7 + 0.6 if shifted else x), y


@cache
def images(count: int, seed: int, *, shifted: bool) -> Pair:
    """Stripes of five directions and two widths at any place, in noise; shape (N, 1, SIDE, SIDE)."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=g)
    angle, wave = (y % 5) * (torch.pi / 5), torch.where(y < 5, 1.2, 2.0)
    phase = 2 * torch.pi * torch.rand(count, generator=g)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    along = torch.cos(angle)[:, None, None] * rows + torch.sin(angle)[:, None, None] * columns
    x = torch.sin(wave[:, None, None] * along + phase[:, None, None])
    x = x + 1.4 * torch.randn(x.shape, generator=g)
    return ((0.5 * x + 0.4 if shifted else x)[:, None], y)


def activation_of(name: str) -> nn.Module:
    return {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "gelu": nn.GELU}[name]()


class Dense(nn.Module):
    """Features (B, F) to outputs (B, C) through `layers` hidden layers."""

    def __init__(
        self, inputs: int, outputs: int, width: int, layers: int, activation: str, *, residual: bool = False
    ) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.activation, self.residual = activation_of(activation), residual
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.first(x))
        for layer in self.hidden:
            y = self.activation(layer(x))
            x = x + y if self.residual else y
        return torch.as_tensor(self.head(x))


class ConvNet(nn.Module):
    """Images (B, 1, X, Y) to logits (B, C); every layer after the first halves the image until it is 3 x 3."""

    def __init__(self, width: int, layers: int, activation: str) -> None:
        super().__init__()
        steps: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), activation_of(activation)]
        for place in range(layers - 1):
            steps += [nn.Conv2d(width, width, 3, padding=1, stride=2 if place < 2 else 1), activation_of(activation)]
        self.body = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(3), nn.Flatten())
        self.head = nn.Linear(9 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.body(x)))
