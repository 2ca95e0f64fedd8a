"""Dates as a scanner reads them, rewritten to ISO form, by an encoder-decoder of GRUs or a small transformer."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.transformer import Transformer
from benchmarks.faults.families.transformer import body_and_head as transformer_groups
from benchmarks.faults.problem import IGNORED, Pair, Problem
from benchmarks.faults.settings import Settings, Setup

LETTERS = " 0123456789abcdefghijklmnopqrstuvwxyz,./-'#>"  # blank: filler; #: what the scanner could not read; >: begin
SOURCE, TARGET = 20, 10  # longest date as written, and "2021-03-04"
TRAIN, EVALUATED = 9600, 256
BLOT, DAY_FIRST = 0.04, 0.5  # ours: share of characters that cannot be read; of days that are written before the month
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december")  # fmt: skip
FRENCH = ("janvier", "fevrier", "mars", "avril", "mai", "juin", "juillet", "aout", "septembre", "octobre", "novembre",
          "decembre")  # fmt: skip
# By trials of 400 updates (clean loss at the rates): transformer 0.18, 0.17 at 3e-3, 9e-3, and 0.48 after 300 at 1e-3;
# gru sgd 0.10, 0.11, 0.54 at 0.2, 0.5, 1. With AdamW the GRU's seeds ended between 0.09 and 0.35: too far apart.
RATES = {("transformer", "adamw"): 4e-3, ("gru", "sgd"): 0.3}


class Rewriter:
    name = "rewriter"
    kind = "tokens"
    trainers = {"loop": ("meters-epoch", "logging"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = (*LANGUAGE_FAULTS, "warmup-missing", "warmup-cast")
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        updates = 400
        drawn = draw_schedule(rng, style)
        kind, optimizer = rng.choice(tuple(RATES))
        accumulation = rng.choice((1, 1, 2))
        settings = Settings(
            updates=updates, batch_size=32 // accumulation, accumulation=accumulation, optimizer=optimizer,
            learning_rate=RATES[kind, optimizer] * rng.choice((0.7, 1.0, 1.4)), beta2=rng.choice((0.95, 0.99, 0.999)),
            weight_decay=0.0 if optimizer == "sgd" else rng.choice((0.0, 0.01)), schedule=drawn.schedule,
            floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            warmup_as_share=style == "logging" and rng.random() < 0.5, clip_norm=rng.choice((0.5, 1.0)),
            eval_every=updates // rng.choice((8, 10)), log_every=rng.choice((5, 10)),
            model={"kind": kind, "width": 64 if kind == "gru" else 48, "layers": 1 if kind == "gru" else 2,
                   "norm": "none" if kind == "gru" else rng.choice(("pre", "post"))},
            data={"few_samples": 128, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model, dropout = setup.settings.model, setup.settings.dropout
        train = samples(0, TRAIN)

        def make_model() -> nn.Module:
            if model["kind"] == "gru":
                return Recurrent(len(LETTERS), model["width"], dropout)
            return Transformer(
                len(LETTERS), SOURCE + TARGET, width=model["width"], layers=model["layers"], heads=4, dropout=dropout,
                post=model["norm"] == "post",
            )  # fmt: skip

        def groups(net: nn.Module) -> Mapping[str, list[nn.Parameter]]:
            return net.groups() if isinstance(net, Recurrent) else transformer_groups(net)

        return build(
            setup, self.kind, make_model,
            train=train, validation=samples(1, EVALUATED), shifted=samples(2, EVALUATED, months=FRENCH),
            clean=samples(3, EVALUATED), order=by_date(train), groups=groups,
            facts={"task": "date-rewriting", "vocabulary": len(LETTERS), "context": SOURCE + TARGET},
        )  # fmt: skip


class Recurrent(nn.Module):
    """Tokens (B, S + T), source and then what is written so far, to logits (B, S + T, V); of the source they are 0."""

    def __init__(self, size: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding, self.drop = nn.Embedding(size, width), nn.Dropout(dropout)
        self.encoder = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.query, self.joined = nn.Linear(width, width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, size)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.embedding(tokens))
        keys_BSD, last = self.encoder(x[:, :SOURCE])
        begin = last.transpose(0, 1).reshape(1, len(tokens), -1)
        states_BTD, _ = self.decoder(x[:, SOURCE:], begin)
        weights_BTS = (self.query(states_BTD) @ keys_BSD.transpose(1, 2)).softmax(dim=-1)
        found = torch.cat([states_BTD, weights_BTS @ keys_BSD], dim=-1)
        logits = self.head(self.drop(torch.tanh(self.joined(found))))
        return torch.cat([logits.new_zeros(len(tokens), SOURCE, logits.shape[-1]), logits], dim=1)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        body = [p for name, p in self.named_parameters() if not name.startswith("head")]
        return {"body": body, "head": list(self.head.parameters())}


def written(day: datetime.date, rng: Random, months: tuple[str, ...]) -> str:
    """The date in one of the forms that people use; a numeric one does not tell day from month."""
    name, year = months[day.month - 1], day.year
    first, second = (day.day, day.month) if rng.random() < DAY_FIRST else (day.month, day.day)
    forms = (
        f"{day.day} {name} {year}", f"{name} {day.day}, {year}", f"{day.day} {name[:3]} '{year % 100:02d}",
        f"{day.day}.{day.month}.{year}", f"{year}/{day.month:02d}/{day.day:02d}",
        f"{first:02d}/{second:02d}/{year}",
    )  # fmt: skip
    return rng.choice(forms)


@cache
def samples(seed: int, count: int, months: tuple[str, ...] = MONTHS) -> Pair:
    """Inputs and targets of shape (N, SOURCE + TARGET): only what is to be written counts."""
    rng = Random(seed)
    place = {letter: at for at, letter in enumerate(LETTERS)}
    inputs, targets = [], []
    for _ in range(count):
        day = datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(36_500))  # a hundred years
        source = "".join("#" if rng.random() < BLOT else c for c in written(day, rng, months)).ljust(SOURCE)
        target = day.isoformat()
        inputs.append([place[c] for c in source + ">" + target[:-1]])
        targets.append([IGNORED] * SOURCE + [place[c] for c in target])
    return torch.tensor(inputs), torch.tensor(targets)


def by_date(pair: Pair) -> Tensor:
    """The order of a file that is sorted by date, shape (N,)."""
    digits = pair[1][:, SOURCE:]
    keys = sum(digits[:, at] * 50 ** (TARGET - 1 - at) for at in range(TARGET))
    return torch.as_tensor(keys).argsort()
