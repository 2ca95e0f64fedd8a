"""Python code of the standard library in word pieces, predicted from left to right: LSTM or dilated convolution."""

from __future__ import annotations

import re
import sysconfig
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.language import next_tokens
from benchmarks.faults.families.texts import CHARACTERS, split_text
from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Settings, Setup

CONTEXT = 40
PACKAGES = ("asyncio", "concurrent", "email", "http", "json", "logging", "multiprocessing", "unittest", "urllib", "xml")
WORDS = 500  # ours: pieces beside the single characters
TRAIN, EVALUATED = 4800, 192  # windows; 4800 are 300 batches of 16
PIECE = re.compile(r"\n *| +|[A-Z]?[a-z]+|[A-Z]+|\d|[^\w\s]+|.")
# By trials of 300 updates at width 48 (clean loss at the rates): lstm adamw 3.08, 2.86, 2.80 at 3e-3, 1e-2, 3e-2; conv
# adamw 3.20, 2.91, 2.86 at 2e-3, 6e-3, 2e-2; lstm sgd 3.01, 2.93, 3.23 at 0.3, 1, 3; conv sgd 3.00, 2.96 at 0.3, 1.
RATES = {("lstm", "adamw"): 2e-2, ("conv", "adamw"): 1.2e-2, ("lstm", "sgd"): 0.8, ("conv", "sgd"): 0.5}


class ByteLM:
    name = "bytelm"
    kind = "tokens"
    trainers = {"loop": ("meters-epoch", "bits-epoch"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = (*LANGUAGE_FAULTS, "targets-visible", "validation-trained")
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        updates = rng.choice((250, 300))
        drawn = draw_schedule(rng, style)
        kind, optimizer = rng.choice(("lstm", "conv")), rng.choice(("adamw", "adamw", "sgd"))
        accumulation = rng.choice((1, 1, 2))
        settings = Settings(
            updates=updates, batch_size=16 // accumulation, accumulation=accumulation, optimizer=optimizer,
            learning_rate=RATES[kind, optimizer] * rng.choice((0.7, 1.0, 1.4)), beta2=rng.choice((0.95, 0.99, 0.999)),
            weight_decay=0.0 if optimizer == "sgd" else rng.choice((0.0, 0.01, 0.1)), schedule=drawn.schedule,
            floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((1.0, 2.0) if optimizer == "sgd" else (0.5, 1.0, None)),
            dropout=rng.choice((0.0, 0.1)), eval_every=updates // 10,
            log_every=rng.choice((5, 10, 20)),
            model={"kind": kind, "width": rng.choice((48, 64)), "layers": 1 if kind == "lstm" else 4,
                   "tied": rng.random() < 0.5},
            data={"few_samples": 64, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model, bugs, dropout = setup.settings.model, setup.bugs, setup.settings.dropout
        train, validation, clean = (_windows(part) for part in range(3))
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(3))[:TRAIN]

        def make_model() -> nn.Module:
            return Net(len(vocabulary()), model["kind"], model["width"], model["layers"], dropout, tied=model["tied"])

        return build(
            setup, self.kind, make_model,
            train=next_tokens(train[order], bugs.targets),
            validation=next_tokens(validation[:EVALUATED], bugs.targets),
            shifted=next_tokens(_prose()[:EVALUATED], bugs.targets), clean=next_tokens(clean[:EVALUATED]),
            order=order.argsort(), groups=body_and_head,  # the files' own order: package after package
            facts={"task": "language-model", "vocabulary": len(vocabulary()), "context": CONTEXT},
        )  # fmt: skip


class Net(nn.Module):
    """Tokens (B, T) to logits (B, T, V) by an LSTM or by gated causal convolutions whose reach doubles each layer."""

    def __init__(self, size: int, kind: str, width: int, layers: int, dropout: float, *, tied: bool) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(size, width), nn.Linear(width, size)
        nn.init.normal_(self.embedding.weight, std=0.1 if tied else 1.0)  # tied: logits of about one at the start
        if tied:
            self.head.weight = self.embedding.weight
        self.drop = nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True) if kind == "lstm" else None
        convolutions = [nn.Conv1d(width, 2 * width, 2, dilation=2**n) for n in range(layers)] if kind == "conv" else []
        self.convolutions = nn.ModuleList(convolutions)
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x = self.drop(self.embedding(tokens_BT))
        if self.lstm is not None:
            x = self.lstm(x)[0]
        for depth, convolution in enumerate(self.convolutions):
            earlier = functional.pad(x.transpose(1, 2), (2**depth, 0))
            x = x + functional.glu(convolution(earlier), dim=1).transpose(1, 2)
        logits: Tensor = self.head(self.drop(self.norm(x)))
        return logits


def body_and_head(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """What stands between the tokens and the vocabulary, and the rest."""
    groups: dict[str, list[nn.Parameter]] = {"body": [], "head": []}
    for name, parameter in model.named_parameters():
        groups["body" if name.startswith(("lstm", "convolutions", "network.")) else "head"].append(parameter)
    return groups


@cache
def _texts() -> tuple[str, str, str]:
    """Training, validation and clean text: whole modules, a tenth each for the last two."""
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    root = Path(sysconfig.get_path("stdlib"))
    files = [file for package in PACKAGES for file in sorted((root / package).rglob("*.py")) if "test" not in file.name]
    for place, file in enumerate(files):
        text = file.read_text(encoding="utf-8", errors="ignore").expandtabs(4)
        parts[{3: 1, 7: 2}.get(place % 10, 0)].append("".join(c for c in text if c in CHARACTERS))
    return "\n".join(parts[0]), "\n".join(parts[1]), "\n".join(parts[2])


@cache
def vocabulary() -> dict[str, int]:
    """Piece -> id: every character, then the most frequent pieces of the training text."""
    counted = Counter(piece for piece in PIECE.findall(_texts()[0]) if len(piece) > 1)
    return {piece: at for at, piece in enumerate([*CHARACTERS, *(piece for piece, _ in counted.most_common(WORDS))])}


def _ids(text: str) -> Tensor:
    """Shape (T,); a piece that has no id is spelled."""
    known = vocabulary()
    return torch.tensor([
        at for piece in PIECE.findall(text)
        for at in ([known[piece]] if piece in known else [known[c] for c in piece])
    ])  # fmt: skip


@cache
def _windows(part: int) -> Tensor:
    """Windows (N, T + 1): of the training text in its order, of the others shuffled."""
    return _cut(_texts()[part], shuffled=part > 0)


@cache
def _prose() -> Tensor:
    """Windows of the documentation in the same pieces: not code."""
    return _cut(split_text("library")[1], shuffled=True)


def _cut(text: str, *, shuffled: bool) -> Tensor:
    ids = _ids(text)
    count = len(ids) // (CONTEXT + 1)
    cut = ids[: count * (CONTEXT + 1)].view(count, -1)
    return cut[torch.randperm(count, generator=torch.Generator().manual_seed(4))] if shuffled else cut
