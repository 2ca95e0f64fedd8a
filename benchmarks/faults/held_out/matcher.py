"""Questions and the passages that answer them, by a model of two towers: the right one of some candidates.

Questions and passages are counts of words, of two vocabularies that share their topics and not their words. The loss is
the cross-entropy of the candidates' scores; the other candidates are passages of other questions, some on its topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.classifier import Dense
from benchmarks.faults.families.family import CLASS_FAULTS, FEATURE_CONTROLS, draw_schedule
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

WORDS, TOPICS = 48, 6
QUESTION_LENGTH, PASSAGE_LENGTH = 12, 40  # words, on average
HARD = 0.3  # ours: share of the other candidates that are about the same topic
TRAIN, EVALUATED = 7200, 800
# By trials of a third, one and three times a rate near this, 600 updates of 64 of 4800 samples, temperature 1/8, clean
# loss: adamw 0.847, 0.830, 0.828 at 0.001, 0.003, 0.009; sgd 0.820, 0.810, 0.823 at 0.02, 0.06, 0.18.
RATES = {"adamw": 4e-3, "sgd": 0.06}


class Matcher:
    name = "matcher"
    kind = "classes"
    trainers = {"loop": ("w2-paddle",), "transformers": ("trainer",)}  # noqa: RUF012
    faults = CLASS_FAULTS
    controls = FEATURE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style, ("cosine", "linear"))
        optimizer = rng.choice(tuple(RATES))
        batch, epochs = rng.choice(((48, 5), (72, 6), (96, 8)))
        per_epoch = TRAIN // batch
        updates = epochs * per_epoch
        settings = Settings(
            updates=updates, batch_size=batch, optimizer=optimizer,
            learning_rate=float(f"{RATES[optimizer] * rng.choice((0.7, 1.0, 1.4)):.2g}"),
            weight_decay=rng.choice((0.0, 1e-4, 5e-4)), schedule=drawn.schedule, floor=drawn.floor,
            warmup=round(drawn.warmup_share * updates), clip_norm=rng.choice((None, 5.0)),
            eval_every=per_epoch, log_every=10,
            model={
                "temperature": rng.choice((0.1, 0.15)), "width": rng.choice((48, 64)), "layers": 2,
                "activation": rng.choice(("gelu", "tanh")),
            },
            data={"few_samples": 80, "few_validation": 16, "candidates": rng.choice((6, 8))},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model, count = setup.settings.model, setup.settings.data["candidates"]
        train, topics = questions(0, TRAIN, count)
        return build(
            setup, self.kind,
            lambda: Towers(model["temperature"], model["width"], model["layers"], model["activation"]),
            train=train, validation=questions(1, EVALUATED, count)[0],
            shifted=questions(2, EVALUATED, count, hurried=True)[0], clean=questions(3, EVALUATED, count)[0],
            order=topics.argsort(stable=True), groups=body_and_head,
            facts={"task": "retrieval", "classes": count},
        )  # fmt: skip


class Towers(nn.Module):
    """Counts of words (B, 1 + C, WORDS), the question's and the candidates', to scores (B, C)."""

    def __init__(self, temperature: float, width: int, layers: int, activation: str) -> None:
        super().__init__()
        self.question = Dense(WORDS, width, width, layers, activation)
        self.passage = Dense(WORDS, width, width, layers, activation)
        self.temperature = temperature

    def forward(self, x_BNW: Tensor) -> Tensor:
        words = torch.log1p(x_BNW)
        asked, found = self.question(words[:, 0]), self.passage(words[:, 1:])
        asked, found = nn.functional.normalize(asked, dim=-1), nn.functional.normalize(found, dim=-1)
        return torch.einsum("bd,bcd->bc", asked, found) / self.temperature


def body_and_head(model: nn.Module) -> Mapping[str, list[nn.Parameter]]:
    """The towers, and the projections that end them."""
    head = [p for name, p in model.named_parameters() if ".head." in name]
    return {"body": [p for name, p in model.named_parameters() if ".head." not in name], "head": head}


@cache
def questions(seed: int, count: int, candidates: int, *, hurried: bool = False) -> tuple[Pair, Tensor]:
    """Counts (N, 1 + C, WORDS), the place of the right candidate (N,); and the questions' main topics (N,).

    Args:
        hurried: questions of another source: half as long, and a third of their words of any kind.
    """
    world = torch.Generator().manual_seed(0)
    asked_TW, told_TW = (2.0 * torch.randn(2, TOPICS, WORDS, generator=world)).unbind()
    g = torch.Generator().manual_seed(seed)
    about = torch.randn(count, 1 + candidates, TOPICS, generator=g)
    place = torch.randint(candidates, (count,), generator=g)
    near = (torch.rand(count, candidates, 1, generator=g) < HARD).float()
    about[:, 1:] = near * (0.7 * about[:, :1] + 0.7 * about[:, 1:]) + (1 - near) * about[:, 1:]
    about[torch.arange(count), 1 + place] = about[:, 0]
    asked = (about[:, 0] @ asked_TW / TOPICS**0.5).softmax(dim=-1)
    if hurried:
        asked = (2 * asked + 1 / WORDS) / 3
    told = (about[:, 1:] @ told_TW / TOPICS**0.5).softmax(dim=-1)
    asked = QUESTION_LENGTH / (2 if hurried else 1) * asked[:, None]
    words = torch.poisson(torch.cat([asked, PASSAGE_LENGTH * told], dim=1), generator=g)
    return (words, place), about[:, 0].argmax(dim=-1)
