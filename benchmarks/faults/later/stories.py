"""Questions about made stories, after bAbI's tasks 1 and 10 (arXiv 1502.05698): people move, the answer is a place.

A statement may leave two places open ("either the kitchen or the garden"), so that no reader is always right. Each
sentence is a bag of words, as memory networks (arXiv 1503.08895) take it.
"""

from __future__ import annotations

from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.classifier import activation_of
from benchmarks.faults.families.family import CLASS_FAULTS, LANGUAGE_CONTROLS, draw_schedule
from benchmarks.faults.families.transformer import Block, body_and_head
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

PEOPLE = ("mary", "john", "sandra", "daniel", "fred")
PLACES = ("kitchen", "garden", "office", "bedroom", "hallway", "bathroom", "school", "park")
VERBS = ("went", "moved", "travelled", "journeyed")
OTHER = ("where", "is", "to", "the", "either", "or")
WORDS = (*PEOPLE, *PLACES, *VERBS, *OTHER)
SENTENCES, OPEN = 6, 0.4  # statements of a story; ours: share of them that leave two places open
TRAIN, EVALUATED = 12800, 960
# Clean loss after 600 updates of 32 at a third, one and three times these (attention a little beside them): memory adam
# 0.29, 0.28, 0.47; memory sgd 0.36 at half, 0.32, 0.34 at 1.7 times, 1.02; attention 0.40, 0.33, 1.57.
RATES = {("memory", "adam"): 1e-2, ("memory", "sgd"): 0.06, ("attention", "adamw"): 5e-3}


class Stories:
    name = "stories"
    kind = "classes"
    trainers = {"loop": ("w3-parleys", "pipes", "logging"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = CLASS_FAULTS
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        known = [key for key in RATES if trainer == "loop" or key[1] != "adam"]  # transformers' has no plain Adam
        shape, optimizer = rng.choice(known)
        batch = rng.choice((32, 64))
        updates = 600
        settings = Settings(
            updates=updates, batch_size=batch, optimizer=optimizer,
            learning_rate=float(f"{RATES[shape, optimizer] * rng.choice((0.7, 1.0, 1.4)):.2g}"),
            beta2=rng.choice((0.98, 0.999)), weight_decay=0.01 if optimizer == "adamw" else 0.0,
            schedule=drawn.schedule, floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((1.0, 5.0, 40.0)), eval_every=60, log_every=rng.choice((5, 15)),
            model={"shape": shape, "width": 32 if shape == "attention" else 48, "layers": rng.choice((1, 2)),
                   "activation": "relu"},
            data={"few_samples": 150, "few_validation": 24},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model = setup.settings.model
        train = stories(TRAIN, 1)

        def make_model() -> nn.Module:
            return Reader(model["shape"], model["width"], model["layers"], model["activation"], setup.settings.dropout)

        return build(
            setup, self.kind, make_model, train=train, validation=stories(EVALUATED, 2),
            shifted=backwards(stories(EVALUATED, 2)), clean=stories(EVALUATED, 3),
            order=train[1].argsort(stable=True), groups=body_and_head,
            facts={"task": "babi:made:1", "classes": len(PLACES), "class_names": PLACES, "vocabulary": len(WORDS)},
        )  # fmt: skip


@cache
def stories(count: int, seed: int) -> Pair:
    """Word counts of each sentence, the question last, and the place asked for; (N, SENTENCES + 1, words), (N,)."""
    rng = Random(seed)
    at = {word: place for place, word in enumerate(WORDS)}
    x, y = torch.zeros(count, SENTENCES + 1, len(WORDS)), []
    for story in range(count):
        where: dict[str, str] = {}
        for sentence in range(SENTENCES):
            who, place = rng.choice(PEOPLE), rng.choice(PLACES)
            words = [who, rng.choice(VERBS), "to", "the", place]
            if rng.random() < OPEN:
                words = [who, "is", "either", "the", place, "or", "the", rng.choice(PLACES)]
            where[who] = place
            for word in words:
                x[story, sentence, at[word]] += 1
        asked = rng.choice(sorted(where))
        for word in ("where", "is", asked):
            x[story, SENTENCES, at[word]] += 1
        y.append(PLACES.index(where[asked]))
    return x, torch.tensor(y)


def backwards(pair: Pair) -> Pair:
    """The same stories from a file that has the newest statement first."""
    return torch.cat([pair[0][:, :SENTENCES].flip(1), pair[0][:, SENTENCES:]], dim=1), pair[1]


class Reader(nn.Module):
    """Stories (B, S + 1, words) to logits (B, places): sentences, what the question finds, `layers` dense layers."""

    def __init__(self, shape: str, width: int, layers: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.shape, self.drop = shape, nn.Dropout(dropout)
        self.sentence = nn.Linear(len(WORDS), width)
        self.places = nn.Parameter(0.1 * torch.randn(SENTENCES + 1, width))
        nn.init.normal_(self.sentence.weight, std=0.5)
        if shape == "attention":
            blocks = [Block(width, 4, dropout, causal=False, post=False) for _ in range(2)]
            self.reader: nn.Module = nn.Sequential(*blocks)
        else:
            self.reader = nn.Linear(len(WORDS), width)
            self.times = nn.Parameter(0.1 * torch.randn(SENTENCES, width))
        self.dense = nn.ModuleList(nn.Linear(2 * width if at == 0 else width, width) for at in range(layers))
        self.activation = activation_of(activation)
        self.head = nn.Linear(width, len(PLACES))

    def forward(self, x: Tensor) -> Tensor:
        h_BSD = self.sentence(x) + self.places
        asked_BD = h_BSD[:, -1]
        if self.shape == "memory":
            weights_BS = (h_BSD[:, :-1] @ asked_BD[:, :, None])[:, :, 0].softmax(dim=-1)
            found_BD = (weights_BS[:, :, None] * (self.reader(x[:, :-1]) + self.times)).sum(dim=1)
        else:
            found_BD = self.reader(h_BSD)[:, -1]
        y = torch.cat([found_BD, asked_BD], dim=-1)
        for layer in self.dense:
            y = self.activation(layer(y))
        return torch.as_tensor(self.head(self.drop(y)))
