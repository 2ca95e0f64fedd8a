"""The phone of every frame of made speech: spectra of moving formants, spoken fast or slowly by any speaker, in noise.

Two formants move through a phone, some up where others move down, so that one frame is not enough to tell which; the
speaker scales all of them. Utterances differ in length, and the frames behind an end have no target. It is the task of
hybrid speech recognition (framewise targets of an alignment, arXiv 1303.5778 and before), in small.
"""

from __future__ import annotations

from functools import cache
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.transformer import Block, body_and_head
from benchmarks.faults.problem import IGNORED, Pair, Problem
from benchmarks.faults.settings import Settings, Setup

FRAMES, BINS = 24, 20  # of a sample; log-mel bins
# Bins in which the two formants of each phone begin and end; the first phone is silence.
TRACKS = torch.tensor([
    [0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 12.0, 12.0], [5.5, 5.5, 10.0, 10.0], [4.0, 4.0, 7.5, 7.5],
    [3.0, 5.5, 12.0, 10.0], [5.5, 3.0, 10.0, 12.0], [4.0, 3.0, 7.5, 12.0], [3.0, 4.0, 12.0, 7.5],
    [15.0, 15.0, 17.0, 17.0], [2.0, 2.0, 16.0, 16.0], [2.0, 5.5, 8.0, 10.0], [5.5, 2.0, 10.0, 8.0],
])  # fmt: skip
PHONES = len(TRACKS)
TRAIN, VALIDATION = 4800, 400
# By trials of a third, one and three times a rate near this, 360 or 480 updates, clean loss: lstm 0.003: .609,
# 0.01: .454, 0.03: .480; tdnn 0.005: .361, 0.015: .319, 0.045: .315; tdnn by SGD 0.03: .422, 0.1: .336, 0.3: .359;
# attention 0.002: .508, 0.006: .369, 0.018: .333.
RATES = {("lstm", "adamw"): 1.2e-2, ("tdnn", "adamw"): 1.5e-2, ("tdnn", "sgd"): 0.1, ("attention", "adamw"): 1.2e-2}
LAYERS = {"lstm": 1, "tdnn": 3, "attention": 2}


class Phones:
    name = "phones"
    kind = "tokens"
    trainers = {"loop": ("w1-iters",), "transformers": ("trainer",)}  # noqa: RUF012
    faults = LANGUAGE_FAULTS
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        shape, optimizer = rng.choice(tuple(RATES))
        every = rng.choice((20, 30, 40))
        updates = every * rng.choice((360 // every, 480 // every))
        accumulation = rng.choice((1, 1, 2))
        settings = Settings(
            updates=updates, batch_size=16 // accumulation, accumulation=accumulation, optimizer=optimizer,
            learning_rate=float(f"{RATES[shape, optimizer] * rng.choice((0.7, 1.0, 1.4)):.2g}"),
            beta2=rng.choice((0.98, 0.999)), weight_decay=0.0 if optimizer == "sgd" else rng.choice((0.0, 1e-4, 0.01)),
            schedule=drawn.schedule, floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((1.0, 5.0, None)), eval_every=every, log_every=rng.choice((5, 10)),
            model={"shape": shape, "width": 24 if shape == "lstm" else 32, "layers": LAYERS[shape]},
            data={"few_samples": 24, "few_validation": 3},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model = setup.settings.model
        train = utterances(TRAIN, 1)
        return build(
            setup, self.kind,
            lambda: Encoder(model["shape"], model["width"], model["layers"], setup.settings.dropout),
            train=train, validation=utterances(VALIDATION, 2), shifted=utterances(VALIDATION, 2, far=True),
            clean=utterances(VALIDATION, 3), order=train[1].float().mean(dim=1).argsort(stable=True),
            groups=body_and_head, facts={"task": "frame-classification", "classes": PHONES, "context": FRAMES},
        )  # fmt: skip


@cache
def utterances(count: int, seed: int, *, far: bool = False) -> Pair:
    """Log spectra (N, FRAMES, BINS) of about unit variance and phones (N, FRAMES); `far`: from across a room."""
    g = torch.Generator().manual_seed(seed)
    likely = 1.5 * torch.randn(PHONES, PHONES, generator=torch.Generator().manual_seed(0))
    follows = likely.fill_diagonal_(-torch.inf).softmax(dim=1)
    phone = torch.zeros(count, dtype=torch.long)
    left = torch.randint(1, 4, (count,), generator=g)
    lasts, phones, places = left.clone(), [], []
    for _ in range(FRAMES):
        phones.append(phone)
        places.append((lasts - left).float() / (lasts - 1).clamp(min=1))
        left = left - 1
        next_phone = torch.multinomial(follows[phone], 1, generator=g)[:, 0]
        next_lasts = torch.randint(3, 7, (count,), generator=g)
        ended = left == 0
        phone = torch.where(ended, next_phone, phone)
        lasts, left = torch.where(ended, next_lasts, lasts), torch.where(ended, next_lasts, left)
    y, place = torch.stack(phones, dim=1), torch.stack(places, dim=1)[..., None]
    speaker = 0.85 + 0.3 * torch.rand(count, 1, 1, generator=g)
    bins, x = torch.arange(BINS).float(), torch.zeros(count, FRAMES, BINS)
    for first in (0, 2):
        begin, end = TRACKS[y, first, None], TRACKS[y, first + 1, None]
        x = x + torch.exp(-0.5 * ((bins - speaker * (begin + (end - begin) * place)) / 1.2) ** 2)
    x = torch.where((y > 0)[..., None], x, torch.zeros(1))
    x = 3.0 * functional.avg_pool1d(x.transpose(1, 2), 3, 1, 1, count_include_pad=False).transpose(1, 2)
    if far:  # the last frames ring on, and the high bins are lost
        x = 0.75 * x + 0.25 * torch.cat([x[:, :2], x[:, :-2]], dim=1) - 0.03 * bins
    x = x - 0.5 + (1.0 if far else 0.9) * torch.randn(x.shape, generator=g)
    length = torch.randint(FRAMES // 2, FRAMES + 1, (count,), generator=g)
    behind = torch.arange(FRAMES) >= length[:, None]
    x[behind] = 0.0
    return x, y.masked_fill(behind, IGNORED)


class Encoder(nn.Module):
    """Spectra (B, T, BINS) to logits (B, T, PHONES): an LSTM in both directions, dilated convolutions or attention."""

    def __init__(self, shape: str, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.shape = shape
        self.first, self.drop = nn.Linear(BINS, width), nn.Dropout(dropout)
        if shape == "lstm":
            self.recurrent = nn.LSTM(width, width, layers, bidirectional=True, batch_first=True)
        if shape == "attention":
            self.front = nn.Conv1d(width, width, 5, padding=2)
            self.blocks = nn.ModuleList(Block(width, 4, dropout, causal=False, post=False) for _ in range(layers))
        if shape == "tdnn":
            self.mix = nn.ModuleList(nn.Conv1d(width, width, 3, padding=k + 1, dilation=k + 1) for k in range(layers))
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.head = nn.Linear(2 * width if shape == "lstm" else width, PHONES)

    def forward(self, x_BTF: Tensor) -> Tensor:
        x = self.drop(self.first(x_BTF))
        if self.shape == "lstm":
            x = self.recurrent(x)[0]
        elif self.shape == "attention":
            x = x + functional.relu(self.front(x.transpose(1, 2))).transpose(1, 2)
            for block in self.blocks:
                x = block(x)
        else:
            for mix, norm in zip(self.mix, self.norms, strict=True):
                x = x + functional.relu(mix(norm(x).transpose(1, 2))).transpose(1, 2)
        return torch.as_tensor(self.head(x))
