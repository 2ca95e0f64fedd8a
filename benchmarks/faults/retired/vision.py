"""Eight textures told apart by a convolutional network with batch normalisation or an MLP-mixer, mostly with SGD."""

from __future__ import annotations

from functools import cache
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.faults.families.build import build
from benchmarks.faults.families.classifier import activation_of
from benchmarks.faults.families.family import CLASS_FAULTS, FEATURE_CONTROLS, draw_schedule
from benchmarks.faults.families.transformer import body_and_head
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

CLASSES, SIDE, PATCH = 8, 12, 3
TRAIN, VALIDATION = 4000, 600
RATES = {("conv", "sgd"): 0.05, ("mixer", "sgd"): 0.03, ("conv", "adamw"): 3e-3, ("mixer", "adamw"): 3e-3}


class Vision:
    name = "vision"
    kind = "classes"
    trainers = {"loop": ("table", "brackets", "blocks", "bar"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = CLASS_FAULTS
    controls = FEATURE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        shape = rng.choice(("conv", "mixer"))
        optimizer = rng.choice(("sgd", "sgd", "adamw"))
        per_epoch = TRAIN // 100
        updates = 16 * per_epoch
        settings = Settings(
            updates=updates, batch_size=100, optimizer=optimizer,
            learning_rate=RATES[shape, optimizer] * rng.choice((0.7, 1.0, 1.4)),
            weight_decay=rng.choice((1e-4, 5e-4)), schedule=drawn.schedule, floor=drawn.floor,
            warmup=round(drawn.warmup_share * updates), clip_norm=rng.choice((None, 5.0)),
            eval_every=per_epoch if style == "table" else updates // 16, log_every=rng.choice((8, 10)),
            model={"shape": shape, "width": 16 if shape == "conv" else 32, "layers": 2, "activation": "relu"},
            data={"few_samples": 100, "few_validation": 16},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model = setup.settings.model
        train = textures(TRAIN, 11, shifted=False)
        kind = Conv if model["shape"] == "conv" else Mixer
        return build(
            setup, self.kind, lambda: kind(model["width"], model["layers"], model["activation"]), train=train,
            validation=textures(VALIDATION, 12, shifted=False), shifted=textures(VALIDATION, 12, shifted=True),
            clean=textures(VALIDATION, 13, shifted=False), order=train[1].argsort(stable=True), groups=body_and_head,
            facts={"task": "image-classification", "classes": CLASSES},
        )  # fmt: skip


@cache
def textures(count: int, seed: int, *, shifted: bool) -> Pair:
    """Noise through one of eight filters, with more noise; shape (N, 1, SIDE, SIDE)."""
    kernels = torch.randn(CLASSES, 1, 5, 5, generator=torch.Generator().manual_seed(5))
    kernels = kernels / kernels.flatten(1).norm(dim=1)[:, None, None, None]
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=g)
    noise = torch.randn(count, SIDE + 4, SIDE + 4, generator=g)
    x = functional.conv2d(noise[None], kernels[y], groups=count)[0]
    x = x + 0.4 * torch.randn(x.shape, generator=g)
    return ((0.6 * x + 0.5 if shifted else x)[:, None], y)


class Conv(nn.Module):
    def __init__(self, width: int, layers: int, activation: str) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        for place in range(layers):
            norm: nn.Module = nn.BatchNorm2d(width) if layers < 5 else nn.Identity()
            steps += [nn.Conv2d(width if place else 1, width, 3, padding=1, stride=2 if 0 < place < 3 else 1), norm]
            steps += [activation_of(activation)]
        self.body = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(4 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.body(x)))


class Mixer(nn.Module):
    """MLP-mixer (arXiv 2105.01601) over patches; without its residuals where the network is deep and plain."""

    def __init__(self, width: int, layers: int, activation: str) -> None:
        super().__init__()
        places = (SIDE // PATCH) ** 2
        self.patches = nn.Conv2d(1, width, PATCH, stride=PATCH)
        self.residual = layers < 5
        self.across = nn.ModuleList(
            nn.Sequential(nn.Linear(places, places), activation_of(activation)) for _ in range(layers)
        )
        self.within = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), activation_of(activation), nn.Linear(2 * width, width))
            for _ in range(layers)
        )
        self.head = nn.Linear(places * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2)
        for across, within in zip(self.across, self.within, strict=True):
            a = across(h)
            h = h + a if self.residual else a
            b = within(h.transpose(1, 2)).transpose(1, 2)
            h = h + b if self.residual else b
        return torch.as_tensor(self.head(h.flatten(1)))
