"""In which of eight tissues a made enhancer is active, from its bases: two motifs in an order, in noise."""

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

LENGTH, MOTIF, TISSUES = 48, 8, 8
# The motifs of a tissue from left to right; most tissues share their motifs with another one that has the other order.
GRAMMAR = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 3), (3, 1), (2, 3), (4, 4))
MISLABELLED = 0.08  # as peaks called by mistake; no classifier is always right
TRAIN, VALIDATION = 6400, 384
# By trials of a third, one and three times this, 480 updates of 64: errors at the end of plain ones 0.524, 0.488,
# 0.505, of dilated ones 0.517, 0.483, 0.487, by SGD 0.499, 0.471, 0.471; guessing has 2.08
RATES = {("plain", "adam"): 1.5e-2, ("dilated", "adam"): 1.5e-2, ("dilated", "sgd"): 0.1}


class Enhancers:
    name = "enhancers"
    kind = "classes"
    trainers = {"loop": ("w4-curve",), "transformers": ("trainer",)}  # noqa: RUF012
    faults = CLASS_FAULTS
    controls = FEATURE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        shape, kind = rng.choice(tuple(RATES))
        optimizer = kind if kind == "sgd" or (trainer == "loop" and rng.random() < 0.5) else "adamw"
        batch = rng.choice((32, 64))
        updates = 480
        settings = Settings(
            updates=updates, batch_size=batch, optimizer=optimizer,
            learning_rate=RATES[shape, kind] * rng.choice((0.8, 1.0, 1.3)),
            weight_decay=rng.choice((1e-4, 1e-2)) if optimizer == "adamw" else 0.0,
            schedule=drawn.schedule, floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((None, 2.0, 5.0)), eval_every=updates // rng.choice((16, 20)),
            log_every=rng.choice((10, 20)),
            model={
                "shape": shape, "width": rng.choice((20, 24)), "layers": 1 if shape == "plain" else rng.choice((2, 3)),
                "activation": "relu",
            },
            data={"few_samples": 120, "few_validation": 16},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model = setup.settings.model
        train = sequences(TRAIN, 1, shifted=False)

        def make_model() -> nn.Module:
            return Convolutions(
                model["width"], model["layers"], model["activation"], dilated=model["shape"] == "dilated"
            )

        return build(
            setup, self.kind, make_model, train=train, validation=sequences(VALIDATION, 2, shifted=False),
            shifted=sequences(VALIDATION, 2, shifted=True), clean=sequences(VALIDATION, 3, shifted=False),
            order=train[1].argsort(stable=True), groups=body_and_head,
            facts={"task": "classification", "classes": TISSUES},
        )  # fmt: skip


@cache
def sequences(count: int, seed: int, *, shifted: bool) -> Pair:
    """Bases one-hot (N, 4, LENGTH) and tissues (N,); the shifted ones are of a species that has drifted away."""
    motifs = torch.randint(4, (5, MOTIF), generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(seed)
    shares = torch.tensor([0.2, 0.3, 0.3, 0.2] if shifted else [0.3, 0.2, 0.2, 0.3])
    bases = torch.multinomial(shares.expand(count, -1), LENGTH, replacement=True, generator=g)
    tissue = torch.randint(TISSUES, (count,), generator=g)
    half = LENGTH // 2
    offsets = torch.arange(MOTIF)
    for side in range(2):
        motif = motifs[torch.tensor(GRAMMAR)[tissue, side]]
        mutated = torch.rand(count, MOTIF, generator=g) < (0.25 if shifted else 0.08)
        motif = torch.where(mutated, torch.randint(4, (count, MOTIF), generator=g), motif)
        start = side * half + torch.randint(half - MOTIF + 1, (count, 1), generator=g)
        bases.scatter_(1, start + offsets, motif)
    wrong = torch.rand(count, generator=g) < MISLABELLED
    tissue = torch.where(wrong, torch.randint(TISSUES, (count,), generator=g), tissue)
    return functional.one_hot(bases, 4).transpose(1, 2).float().contiguous(), tissue


class Convolutions(nn.Module):
    """Bases (B, 4, LENGTH) to logits (B, TISSUES): motif filters, then layers over their pooled hits.

    As Basset (doi 10.1101/gr.200535.115) has them one after another, or dilated and added up as in Basenji
    (doi 10.1101/gr.227819.117).
    """

    def __init__(self, width: int, layers: int, activation: str, *, dilated: bool) -> None:
        super().__init__()
        self.filters = nn.Conv1d(4, width, MOTIF + 1, padding=MOTIF // 2)
        self.layers = nn.ModuleList(
            nn.Conv1d(width, width, 3, padding=2**k if dilated else 1, dilation=2**k if dilated else 1)
            for k in (place % 3 for place in range(layers))
        )
        self.activation, self.dilated = activation_of(activation), dilated
        self.out = nn.Linear(4 * width, 2 * width)
        self.head = nn.Linear(2 * width, TISSUES)

    def forward(self, x: Tensor) -> Tensor:
        h = functional.max_pool1d(self.activation(self.filters(x)), 4)
        for layer in self.layers:
            further = self.activation(layer(h))
            h = h + further if self.dilated else further
        h = functional.max_pool1d(h, 3).flatten(1)
        return torch.as_tensor(self.head(self.activation(self.out(h))))
