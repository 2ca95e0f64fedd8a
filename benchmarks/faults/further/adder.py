"""Sums of two numbers in base 4, digit by digit without carry, by a small decoder: `nn+nn=nn`.

The form is that of minGPT's adder (github.com/karpathy/minGPT, projects/adder): the question is masked and only the
answer counts. The loss stays near that of random digits, ln 4, and falls suddenly. A few digits of the questions cannot
be read, so that the loss has a floor above zero.
"""

from __future__ import annotations

from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.transformer import Transformer, body_and_head
from benchmarks.faults.problem import IGNORED, Pair, Problem
from benchmarks.faults.settings import Settings, Setup

BASE = 4
SYMBOLS = "0123+=?"
TRAIN, VALIDATION = 20000, 500
UNREAD, UNREAD_SHIFTED = 0.04, 0.15  # share of the questions' digits; the second of a worse source
# By trials, 600 updates of ordinary sums in base 10, width 48, clean loss: 0.001: .312, 0.003: .137, 0.009: .143. When
# the loss falls depends on the seed: with width 64 before update 180 (.108, .109 at the end), with 32 once not in 800.
RATE = 3e-3


class Adder:
    name = "adder"
    kind = "tokens"
    trainers = {"loop": ("arg-blocks", "pipes"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = LANGUAGE_FAULTS
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        updates, digits = rng.choice((400, 500)), 2
        settings = Settings(
            updates=updates, batch_size=64, learning_rate=float(f"{RATE * rng.choice((0.8, 1.0, 1.2)):.2g}"),
            beta2=rng.choice((0.95, 0.98, 0.999)), weight_decay=rng.choice((0.0, 0.01, 0.1)),
            schedule=drawn.schedule, floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((1.0, 1.0, None)), eval_every=updates // rng.choice((10, 20)),
            log_every=rng.choice((5, 10)), model={"width": 64, "layers": 2, "heads": 4, "norm": "pre"},
            data={"few_samples": 200, "few_validation": 8, "digits": digits},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        settings, model, digits = setup.settings, setup.settings.model, setup.settings.data["digits"]
        train = sums(digits, TRAIN, 1, UNREAD)
        length = train[0].shape[1]

        def make_model() -> nn.Module:
            return Transformer(
                len(SYMBOLS), length, width=model["width"], layers=model["layers"], heads=model["heads"],
                dropout=settings.dropout,
            )  # fmt: skip

        return build(
            setup, self.kind, make_model, train=train, validation=sums(digits, VALIDATION, 2, UNREAD),
            shifted=sums(digits, VALIDATION, 2, UNREAD_SHIFTED), clean=sums(digits, VALIDATION, 3, UNREAD),
            order=by_sum(train[1], digits), groups=body_and_head,
            facts={"task": "addition", "vocabulary": len(SYMBOLS), "context": length},
        )  # fmt: skip


@cache
def sums(digits: int, count: int, seed: int, unread: float) -> Pair:
    """Inputs and targets of shape (N, 3 digits + 1): each place's target is the next symbol, of the answer only."""
    g = torch.Generator().manual_seed(seed)
    terms = torch.randint(BASE**digits, (count, 2), generator=g)
    questions = torch.cat([in_digits(terms[:, :1], digits), in_digits(terms[:, 1:], digits)], dim=1)
    questions[torch.rand(questions.shape, generator=g) < unread] = SYMBOLS.index("?")
    answers = (in_digits(terms[:, :1], digits) + in_digits(terms[:, 1:], digits)) % BASE
    plus, equals = (torch.full((count, 1), SYMBOLS.index(symbol)) for symbol in "+=")
    whole = torch.cat([questions[:, :digits], plus, questions[:, digits:], equals, answers], dim=1)
    inputs, targets = whole[:, :-1], whole[:, 1:].clone()
    targets[:, : 2 * digits + 1] = IGNORED
    return inputs, targets


def in_digits(numbers: Tensor, digits: int) -> Tensor:
    """Numbers (N, 1) as digits (N, digits), the highest first."""
    return numbers // BASE ** torch.arange(digits - 1, -1, -1) % BASE


def by_sum(targets_NT: Tensor, digits: int) -> Tensor:
    """The order of a list that was counted through, shape (N,)."""
    answers = targets_NT[:, -digits:]
    return (answers * BASE ** torch.arange(digits - 1, -1, -1)).sum(dim=1).argsort(stable=True)
