"""Names of Unicode characters, predicted letter by letter by a GRU or a diagonal state-space model."""

from __future__ import annotations

import unicodedata
from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.language import next_tokens
from benchmarks.faults.families.transformer import body_and_head
from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Settings, Setup

ALPHABET = "\n -0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CONTEXT = 32
VALIDATION_WINDOWS = 160
LAST = 0x1F000  # ideographs beyond have numbers for names
RATES = {("gru", "adamw"): 1.2e-2, ("ssm", "adamw"): 1.2e-2, ("gru", "sgd"): 1.0, ("ssm", "sgd"): 0.5}


class RecurrentLM:
    name = "recurrent-lm"
    kind = "tokens"
    trainers = {"loop": ("blocks", "brackets", "bar"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = (*LANGUAGE_FAULTS, "targets-visible", "validation-trained")
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        updates = rng.choice((300, 400))
        shape, optimizer = rng.choice(("gru", "ssm")), rng.choice(("adamw", "adamw", "sgd"))
        settings = Settings(
            updates=updates, batch_size=16, optimizer=optimizer,
            learning_rate=RATES[shape, optimizer] * rng.choice((0.7, 1.0, 1.4)), beta2=rng.choice((0.98, 0.999)),
            weight_decay=0.0 if optimizer == "sgd" else rng.choice((0.0, 0.01)), schedule=drawn.schedule,
            floor=drawn.floor, warmup=round(drawn.warmup_share * updates), clip_norm=rng.choice((None, 5.0)),
            eval_every=updates // 10, log_every=rng.choice((5, 8)),
            model={"shape": shape, "width": 64, "layers": 1 if shape == "gru" else 2},
            data={"few_samples": 60, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        settings, bugs = setup.settings, setup.bugs
        model = settings.model
        train = next_tokens(names(0), bugs.targets)
        kind = GRU if model["shape"] == "gru" else StateSpace
        return build(
            setup, self.kind, lambda: kind(model["width"], model["layers"], settings.dropout), train=train,
            validation=next_tokens(names(1)[:VALIDATION_WINDOWS], bugs.targets),
            shifted=next_tokens(names(1, far=True)[:VALIDATION_WINDOWS], bugs.targets),
            clean=next_tokens(names(2)[:VALIDATION_WINDOWS]),
            order=train[0][:, 0].argsort(stable=True), groups=body_and_head,
            facts={"task": "language-model", "vocabulary": len(ALPHABET), "context": CONTEXT},
        )  # fmt: skip


@cache
def names(part: int, *, far: bool = False) -> Tensor:
    """Windows of names, shape (N, CONTEXT + 1); part 0 training, 1 validation, 2 clean. `far`: other scripts."""
    span = range(0x3400) if not far else range(0xA000, LAST)
    every = [name for code in span if (name := unicodedata.name(chr(code), ""))]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(3)).tolist()
    share = {
        0: order[: -len(order) // 5],
        1: order[-len(order) // 5 : -len(order) // 10],
        2: order[-len(order) // 10 :],
    }
    text = "\n".join(every[place] for place in share[part])
    ids = torch.tensor([ALPHABET.index(c) for c in text if c in ALPHABET])
    count = len(ids) // (CONTEXT + 1)
    return ids[: count * (CONTEXT + 1)].view(count, CONTEXT + 1)


class GRU(nn.Module):
    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(len(ALPHABET), width)
        self.cells = nn.GRU(width, width, layers, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, len(ALPHABET))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.drop(self.cells(self.tokens(tokens))[0])))


class StateSpace(nn.Module):
    """Layers of h[t] = a h[t-1] + b x[t] per channel, computed as a causal convolution, gated, with residuals."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(len(ALPHABET), width)
        self.decays = nn.ParameterList(nn.Parameter(torch.linspace(-1.0, 4.0, width)) for _ in range(layers))
        self.inputs = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(layers))
        self.outputs = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, len(ALPHABET))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        time = torch.arange(x.shape[1])
        since = (time[:, None] - time[None, :]).clamp(min=0)
        causal = (time[:, None] >= time[None, :]).float()
        for decay, into, out, norm in zip(self.decays, self.inputs, self.outputs, self.norms, strict=True):
            value, gate = into(norm(x)).chunk(2, dim=-1)
            kernel_CTS = torch.sigmoid(decay)[:, None, None] ** since * causal
            state = torch.einsum("cts,bsc->btc", kernel_CTS, value)
            x = x + self.drop(out(state * torch.nn.functional.silu(gate)))
        return torch.as_tensor(self.head(x))
