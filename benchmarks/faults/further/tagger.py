"""A tag for every character: where blanks were in a text without them, and the token classes of source code.

Few tags, most places have the commonest one, and rows are padded with ignored targets: the loss begins at the
logarithm of the tags, not of the characters, and the loss of a constant answer is lower still.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from keyword import iskeyword
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.language import capitals
from benchmarks.faults.families.texts import CHARACTERS, code_texts, encode, split_text
from benchmarks.faults.families.transformer import Block, body_and_head
from benchmarks.faults.problem import IGNORED, Pair, Problem
from benchmarks.faults.settings import Settings, Setup

LENGTH = 32  # characters of a sample
MOST_CHARACTERS, MOST_FILES = 400_000, 24  # read of a source
PAD = len(CHARACTERS)
TRAIN, VALIDATION = 4800, 600
TAGS = {"blanks": 3, "classes": 6}  # nothing, blank or end of line; name, keyword, number, operator, string, comment
# By trials of a third, one and three times a rate near this, 300 updates, clean loss with blanks / classes as the task:
# gru 0.003: .363/.352, 0.01: .278/.238, 0.03: .235/.218; conv 0.0017: .249/.605, 0.005: .231/.576, 0.015: .226/.579;
# conv by SGD 0.03: .273/.638, 0.1: .234/.609, 0.3: .229/.603; attention 0.0013: .257/.301, 0.004: .237/.236,
# 0.012: .226/.281.
RATES = {("gru", "adamw"): 2e-2, ("conv", "adamw"): 7e-3, ("conv", "sgd"): 0.15, ("attention", "adamw"): 6e-3}


class Tagger:
    name = "tagger"
    kind = "tokens"
    trainers = {"loop": ("arg-blocks", "logging"), "transformers": ("trainer",)}  # noqa: RUF012
    faults = LANGUAGE_FAULTS
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        drawn = draw_schedule(rng, style)
        updates = rng.choice((240, 300))
        task, shape = rng.choice(("blanks", "classes")), rng.choice(("gru", "conv", "attention"))
        optimizer = "sgd" if shape == "conv" and rng.random() < 0.5 else "adamw"
        settings = Settings(
            updates=updates, batch_size=16, optimizer=optimizer,
            learning_rate=float(f"{RATES[shape, optimizer] * rng.choice((0.7, 1.0, 1.4)):.2g}"),
            weight_decay=0.0 if optimizer == "sgd" else rng.choice((0.0, 0.01, 0.1)), schedule=drawn.schedule,
            floor=drawn.floor, warmup=round(drawn.warmup_share * updates), clip_norm=rng.choice((1.0, 5.0, None)),
            eval_every=updates // rng.choice((10, 20)), log_every=rng.choice((5, 10)),
            model={"shape": shape, "width": 24 if shape == "gru" else 32, "layers": 1 if shape == "gru" else 2},
            data={"few_samples": 24, "few_validation": 4, "task": task},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        settings, model, task = setup.settings, setup.settings.model, setup.settings.data["task"]
        train = samples(task, 0)
        other = blanked("code", 1) if task == "blanks" else (capitals_padded(samples(task, 1)[0]), samples(task, 1)[1])
        return build(
            setup, self.kind,
            lambda: Encoder(model["shape"], TAGS[task], model["width"], model["layers"], settings.dropout),
            train=train, validation=samples(task, 1), shifted=other, clean=samples(task, 2),
            order=(train[1] > 0).float().mean(dim=1).argsort(stable=True), groups=body_and_head,
            facts={"task": "token-classification", "classes": TAGS[task], "vocabulary": PAD + 1, "context": LENGTH},
        )  # fmt: skip


def samples(task: str, part: int) -> Pair:
    return blanked("library", part) if task == "blanks" else tagged(part)


@cache
def blanked(source: str, part: int) -> Pair:
    """Text without its blanks; the tag of a character: 0 nothing follows it, 1 a blank, 2 the end of the line."""
    text = re.sub(r" +", " ", re.sub(r"\s*\n\s*", "\n", split_text(source)[part][:MOST_CHARACTERS]))
    marks = [(c, {" ": 1, "\n": 2}.get(after, 0)) for c, after in zip(text, text[1:] + " ", strict=True)]
    kept = [(c, tag) for c, tag in marks if c not in " \n"]
    g = torch.Generator().manual_seed(part)
    starts = torch.randint(len(kept) - LENGTH, (TRAIN if part == 0 else VALIDATION,), generator=g).tolist()
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (len(starts),), generator=g).tolist()
    return padded([kept[start : start + length] for start, length in zip(starts, lengths, strict=True)])


@cache
def tagged(part: int) -> Pair:
    """Lines of the standard library, the class of the token of each character; blanks have no tag.

    The parts are lines of the same files: whole files differ so much that none stands for the others.
    """
    lines = [line for text in code_texts()[:MOST_FILES] for line in tags_of(text) if len(line) >= LENGTH // 4]
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(0)).tolist()
    start, end = ((0, TRAIN), (TRAIN, TRAIN + VALIDATION), (TRAIN + VALIDATION, TRAIN + 2 * VALIDATION))[part]
    return padded([lines[place] for place in order[start:end]])


def tags_of(text: str) -> Iterator[list[tuple[str, int]]]:
    """(character, tag) of each line, without its indentation and cut at LENGTH characters."""
    lines = text.split("\n")
    tags = [[IGNORED] * len(line) for line in lines]
    classes = {tokenize.NAME: 0, tokenize.NUMBER: 2, tokenize.OP: 3, tokenize.STRING: 4, tokenize.COMMENT: 5}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type not in classes:
                continue
            tag = 1 if iskeyword(token.string) else classes[token.type]
            for row in range(token.start[0] - 1, min(token.end[0], len(lines))):
                first = token.start[1] if row == token.start[0] - 1 else 0
                last = token.end[1] if row == token.end[0] - 1 else len(lines[row])
                for column in range(first, last):
                    tags[row][column] = IGNORED if lines[row][column] == " " else tag
    except (tokenize.TokenError, SyntaxError):
        return
    for line, row_tags in zip(lines, tags, strict=True):
        indent = len(line) - len(line.lstrip())
        yield list(zip(line, row_tags, strict=True))[indent : indent + LENGTH]


def padded(rows: list[list[tuple[str, int]]]) -> Pair:
    """Ids and tags of shape (N, LENGTH); behind the end of a row are PAD and IGNORED."""
    x, y = torch.full((len(rows), LENGTH), PAD), torch.full((len(rows), LENGTH), IGNORED)
    for place, row in enumerate(rows):
        x[place, : len(row)] = encode("".join(c for c, _ in row))
        y[place, : len(row)] = torch.tensor([tag for _, tag in row])
    return x, y


def capitals_padded(x_NT: Tensor) -> Tensor:
    """The same characters in capitals, as other languages are written."""
    return torch.where(x_NT == PAD, x_NT, capitals(x_NT.clamp(max=PAD - 1)))


class Encoder(nn.Module):
    """Characters (B, T) to logits (B, T, K): a GRU in both directions, convolutions, or attention."""

    def __init__(self, shape: str, tags: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.shape = shape
        self.tokens, self.drop = nn.Embedding(PAD + 1, width), nn.Dropout(dropout)
        nn.init.normal_(self.tokens.weight, std=0.3)
        if shape == "gru":
            self.recurrent = nn.GRU(width, width, layers, bidirectional=True, batch_first=True)
        else:
            self.mix = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(layers + (shape == "conv")))
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.mix)
        self.blocks = nn.ModuleList(
            Block(width, 4, dropout, causal=False, post=False) for _ in range(layers if shape == "attention" else 0)
        )
        self.head = nn.Linear(2 * width if shape == "gru" else width, tags)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.tokens(tokens))
        if self.shape == "gru":
            x = self.recurrent(x)[0]
        else:
            for mix, norm in zip(self.mix, self.norms, strict=True):
                x = x + nn.functional.gelu(mix(norm(x).transpose(1, 2))).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return torch.as_tensor(self.head(x))
