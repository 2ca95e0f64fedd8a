"""Spoken commands: which of nine words, or none of them, a made log-mel patch holds.

A word is two or three sounds in an order, and several words are made of the same sounds; it begins anywhere, lasts as
long as its speaker takes, and lies in noise of two colours. What is none of the words is other orders of these sounds.
In the manner of the Speech Commands task (arXiv 1804.03209), in small.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.classifier import activation_of
from benchmarks.faults.families.family import CLASS_FAULTS, FEATURE_CONTROLS, draw_schedule
from benchmarks.faults.families.transformer import body_and_head
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

FRAMES, BINS = 20, 16
WORDS = ((0, 1, 2), (2, 1, 0), (0, 3, 3), (3, 0, 4), (1, 4, 1), (4, 2, 2), (2, 3, 1), (3, 3, 5), (5, 0, 1))
CLASSES = len(WORDS) + 1
SOUNDS = torch.tensor([[2.0, 9.0], [4.5, 7.0], [2.0, 12.0], [11.0, 14.0], [6.0, 10.0], [3.0, 5.0]])  # two peaks, bins
TRAIN, VALIDATION = 12800, 640
# By trials of a third, one and three times a rate, 400 or 500 updates, clean loss: tcn 0.002: .257, 0.006: .157,
# 0.018: .199; tcn by SGD 0.017: .250, 0.05: .152, 0.15: .217; dnn 0.001: .418, 0.003: .314, 0.009: .284; dnn by SGD
# 0.017: .449, 0.05: .326, 0.15: .400; gru 0.005: .338, 0.015: .219, 0.045: .269.
RATES = {
    ("tcn", "adamw"): 6e-3, ("tcn", "sgd"): 0.05, ("dnn", "adamw"): 4e-3, ("dnn", "sgd"): 0.05,
    ("gru", "adamw"): 1.5e-2,
}  # fmt: skip


class Keywords:
    name = "keywords"
    kind = "classes"
    trainers = {"loop": ("w1-steps",), "transformers": ("trainer",)}  # noqa: RUF012
    faults = CLASS_FAULTS
    controls = FEATURE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        shape, optimizer = rng.choice(tuple(RATES))
        batch, every = rng.choice((32, 64)), rng.choice((25, 50))
        updates = rng.choice((400, 500))
        settings = Settings(
            updates=updates, batch_size=batch, optimizer=optimizer,
            learning_rate=float(f"{RATES[shape, optimizer] * rng.choice((0.7, 1.0, 1.4)):.2g}"),
            weight_decay=rng.choice((0.0, 1e-4)), schedule=drawn.schedule, floor=drawn.floor,
            warmup=round(drawn.warmup_share * updates), clip_norm=rng.choice((None, 5.0)),
            eval_every=every, log_every=rng.choice((5, 10)),
            model={
                "shape": shape, "width": {"tcn": 32, "dnn": 64, "gru": 32}[shape],
                "layers": 1 if shape == "gru" else rng.choice((2, 3)), "activation": "relu",
            },
            data={"few_samples": 120, "few_validation": 16},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model = setup.settings.model
        train = commands(TRAIN, 1)
        return build(
            setup, self.kind, lambda: Spotter(model["shape"], model["width"], model["layers"], model["activation"]),
            train=train, validation=commands(VALIDATION, 2), shifted=commands(VALIDATION, 2, outdoors=True),
            clean=commands(VALIDATION, 3), order=train[1].argsort(stable=True), groups=body_and_head,
            facts={"task": "keyword-spotting", "classes": CLASSES, "context": FRAMES},
        )  # fmt: skip


@cache
def commands(count: int, seed: int, *, outdoors: bool = False) -> Pair:
    """Patches (N, FRAMES, BINS) of about unit variance and classes (N,), the last of them no word."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (count,), generator=g)
    others = torch.tensor([
        (a, b, c) for a in range(6) for b in range(6) for c in range(6) if a != b and (a, b, c) not in WORDS
    ])  # fmt: skip
    other = others[torch.randint(len(others), (count,), generator=g)]
    spoken = torch.where((y == CLASSES - 1)[:, None], other, torch.tensor([*WORDS, (0, 0, 0)])[y])
    lasts = 3.0 + 2.5 * torch.rand(count, 1, generator=g)  # frames of a sound
    starts = (FRAMES - 3 * lasts) * torch.rand(count, 1, generator=g)
    at = torch.floor((torch.arange(FRAMES) - starts) / lasts).long()
    voiced = (at >= 0) & (at < 3)
    sounds = SOUNDS[spoken.gather(1, at.clamp(0, 2))]
    speaker = 0.9 + 0.2 * torch.rand(count, 1, 1, generator=g)
    bins, x = torch.arange(BINS).float(), torch.zeros(count, FRAMES, BINS)
    for peak in (0, 1):
        x = x + torch.exp(-0.5 * ((bins - speaker * sounds[..., peak, None]) / 1.3) ** 2)
    x = x * voiced[..., None] * (1.5 + 1.0 * torch.rand(count, 1, 1, generator=g))
    hum = (1.5 if outdoors else 0.8) * torch.randn(count, FRAMES, 1, generator=g) * torch.linspace(1.5, 0.2, BINS)
    x = x + hum + (1.55 if outdoors else 1.25) * torch.randn(x.shape, generator=g)
    return (x - 0.25) / 1.5, y


class Spotter(nn.Module):
    """Patches (B, T, BINS) to logits (B, CLASSES): convolutions in time, dense layers, or dense ones behind a GRU."""

    def __init__(self, shape: str, width: int, layers: int, activation: str) -> None:
        super().__init__()
        self.shape, self.activation = shape, activation_of(activation)
        if shape == "gru":
            self.recurrent = nn.GRU(BINS, width, batch_first=True)
        inputs = {"tcn": BINS, "dnn": FRAMES * BINS, "gru": width}[shape]
        sizes = [inputs] + [width] * layers
        self.body = nn.ModuleList(
            nn.Conv1d(a, b, 5, padding=2) if shape == "tcn" else nn.Linear(a, b) for a, b in pairwise(sizes)
        )
        self.head = nn.Linear(width * (4 if shape == "tcn" else 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if self.shape == "gru":
            x = self.recurrent(x)[0].mean(dim=1)
        else:
            x = x.transpose(1, 2) if self.shape == "tcn" else x.flatten(1)
        for layer in self.body:
            x = self.activation(layer(x))
        if self.shape == "tcn":
            x = nn.functional.adaptive_max_pool1d(x, 4).flatten(1)
        return torch.as_tensor(self.head(x))
