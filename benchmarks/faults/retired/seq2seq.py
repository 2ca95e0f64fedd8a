"""Sequence to sequence: words in cipher, with slips of the pen, by a small encoder-decoder transformer."""

from __future__ import annotations

from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.transformer import body_and_head
from benchmarks.faults.problem import Pair, Problem
from benchmarks.faults.settings import Settings, Setup

LETTERS, SYMBOLS, START = 24, 25, 24
SOURCE = TARGET = 8
SLIPS = 0.1  # share of target letters that are anything at all: the loss has a floor above zero
TRAIN, VALIDATION = 20000, 400


class Seq2Seq:
    name = "seq2seq"
    kind = "tokens"
    trainers = {"loop": ("bar", "brackets", "blocks"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = (*LANGUAGE_FAULTS, "warmup-missing", "warmup-cast")
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        updates = 320
        post = rng.random() < 0.6
        settings = Settings(
            updates=updates, batch_size=32, learning_rate=(7e-3 if post else 3e-3) * rng.choice((0.8, 1.0, 1.2)),
            beta2=rng.choice((0.98, 0.999)), weight_decay=rng.choice((0.0, 0.01)), schedule=drawn.schedule,
            floor=drawn.floor, warmup=round(0.1 * updates), warmup_as_share=rng.random() < 0.5,
            clip_norm=rng.choice((1.0, None)), eval_every=updates // 10, log_every=rng.choice((5, 10)),
            model={"width": 48, "layers": 3 if post else 2, "heads": 4, "norm": "post" if post else "pre"},
            data={"few_samples": 128, "few_validation": 10},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        settings, model = setup.settings, setup.settings.model
        train = words(TRAIN, 31, shifted=False)

        def make_model() -> nn.Module:
            post = model["norm"] == "post"
            return EncoderDecoder(model["width"], model["layers"], model["heads"], settings.dropout, post=post)

        return build(
            setup, self.kind, make_model, train=train, validation=words(VALIDATION, 32, shifted=False),
            shifted=words(VALIDATION, 32, shifted=True), clean=words(VALIDATION, 33, shifted=False),
            order=train[0][:, 0].argsort(stable=True), groups=body_and_head,
            facts={"task": "seq2seq", "vocabulary": SYMBOLS, "context": TARGET},
        )  # fmt: skip


@cache
def words(count: int, seed: int, *, shifted: bool) -> Pair:
    """Source and what the decoder reads, joined (N, SOURCE + TARGET); each letter in cipher, with slips (N, TARGET)."""
    cipher = torch.randperm(LETTERS, generator=torch.Generator().manual_seed(9))
    g = torch.Generator().manual_seed(seed)
    frequency = 1 / torch.arange(1, LETTERS + 1).float()
    source = torch.multinomial(frequency if not shifted else frequency.flip(0), count * SOURCE, True, generator=g)
    source = source.view(count, SOURCE)
    slips = torch.rand(source.shape, generator=g) < SLIPS
    target = torch.where(slips, torch.randint(LETTERS, source.shape, generator=g), cipher[source])
    reads = torch.cat([torch.full((count, 1), START), target[:, :-1]], dim=1)
    return torch.cat([source, reads], dim=1), target


class EncoderDecoder(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, dropout: float, *, post: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(SYMBOLS, width)
        self.places = nn.Embedding(SOURCE + TARGET, width)
        self.body = nn.Transformer(
            width, heads, layers, layers, 2 * width, dropout, "gelu", batch_first=True, norm_first=not post
        )
        self.head = nn.Linear(width, SYMBOLS)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1]))
        ahead = torch.triu(torch.ones(TARGET, TARGET, dtype=torch.bool), diagonal=1)
        return torch.as_tensor(self.head(self.body(x[:, :SOURCE], x[:, SOURCE:], tgt_mask=ahead, tgt_is_causal=True)))
