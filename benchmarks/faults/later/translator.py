"""Sentences of a made grammar in two made languages: words, their order and their endings differ.

The target puts the verb last and adjectives behind their noun; its articles and adjective endings agree with the
noun's gender and number; many words have two translations, so that no model is always right.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.transformer import Block
from benchmarks.faults.problem import IGNORED, Pair, Problem
from benchmarks.faults.settings import Settings, Setup

NOUNS, VERBS, ADJECTIVES, ADVERBS = 12, 6, 6, 3
SOURCE, TARGET = 10, 12  # longest sentences of the two languages
SYNONYM = 0.3  # ours: how often the second translation of a word is written
TRAIN, EVALUATED = 8000, 192
# By trials of a third, one and three times a rate near this, 360 updates of 32, clean loss: transformer pre-norm 0.325,
# 0.288, 0.465 at 0.002, 0.006, 0.018, post-norm 0.361, 0.288, 0.285; conv adamw 0.331, 0.296, 0.297 at 0.002, 0.006,
# 0.018; conv sgd 0.299, 0.296, 0.292 at 0.1, 0.3, 0.9.
RATES = {("transformer", "adamw"): 6e-3, ("conv", "adamw"): 6e-3, ("conv", "sgd"): 0.4}

SPECIAL = ("<blank>", "<s>", "</s>")
SOURCE_WORDS = (
    "the", "a", "s", *(f"noun{i}" for i in range(NOUNS)), *(f"verb{i}" for i in range(VERBS)),
    *(f"adj{i}" for i in range(ADJECTIVES)), *(f"adv{i}" for i in range(ADVERBS)),
)  # fmt: skip
TARGET_WORDS = (
    *(f"art{gender}{number}{given}" for gender in range(3) for number in range(2) for given in range(2)),
    *(f"end{gender}{number}" for gender in range(3) for number in range(2)), "sings", "sing",
    *(f"{word}'{which}" for word in SOURCE_WORDS[3:] for which in range(2)),
)  # fmt: skip
VOCABULARY = {word: place for place, word in enumerate((*SPECIAL, *SOURCE_WORDS, *TARGET_WORDS))}


class Translator:
    name = "translator"
    kind = "tokens"
    trainers = {"loop": ("w2-nmt",), "transformers": ("trainer",)}  # noqa: RUF012
    faults = (*LANGUAGE_FAULTS, "warmup-missing", "warmup-cast")
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        updates = rng.choice((240, 300))
        drawn = draw_schedule(rng, style, ("cosine", "linear"))
        shape, optimizer = rng.choice(tuple(RATES))
        accumulation = rng.choice((1, 1, 2))
        settings = Settings(
            updates=updates, batch_size=32 // accumulation, accumulation=accumulation, optimizer=optimizer,
            learning_rate=float(f"{RATES[shape, optimizer] * rng.choice((0.7, 1.0, 1.4)):.2g}"),
            beta2=rng.choice((0.98, 0.999)), weight_decay=0.0 if optimizer == "sgd" else rng.choice((0.0, 0.01)),
            schedule=drawn.schedule, floor=drawn.floor, warmup=round(drawn.warmup_share * updates),
            clip_norm=rng.choice((1.0, 5.0)), eval_every=updates // rng.choice((8, 10)), log_every=rng.choice((5, 10)),
            model={"shape": shape, "width": 48, "layers": 2 if shape == "conv" else 1,
                   "norm": "pre" if shape == "conv" else rng.choice(("pre", "post"))},
            data={"few_samples": 96, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        model, dropout = setup.settings.model, setup.settings.dropout
        train = sentences(0, TRAIN)

        def make_model() -> nn.Module:
            if model["shape"] == "conv":
                return Convolutions(model["width"], model["layers"], dropout)
            return Attention(model["width"], model["layers"], dropout, post=model["norm"] == "post")

        return build(
            setup, self.kind, make_model,
            train=train, validation=sentences(1, EVALUATED), shifted=sentences(2, EVALUATED, dialect=True),
            clean=sentences(3, EVALUATED), order=train[0][:, 1].argsort(stable=True), groups=body_and_head,
            facts={
                "task": "translation", "vocabulary": len(VOCABULARY), "context": SOURCE + TARGET,
                "words_of_source": float((train[0][:, :SOURCE] > 0).sum()) / TRAIN,
                "words_of_target": float((train[1] != IGNORED).sum()) / TRAIN,
            },
        )  # fmt: skip


class Convolutions(nn.Module):
    """Tokens (B, S + T), a sentence and what is written of its translation, to logits (B, S + T, V): by convolutions.

    The decoder sees what is written and looks into the encoder's output (arXiv 1705.03122). The logits of the source's
    places are 0; their targets are ignored.
    """

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(len(VOCABULARY), width), nn.Embedding(SOURCE + TARGET, width)
        for embedding in (self.embedding, self.positions):
            nn.init.normal_(embedding.weight, std=0.3)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(nn.Conv1d(width, 2 * width, 5, padding=2) for _ in range(layers))
        self.decoder = nn.ModuleList(nn.Conv1d(width, 2 * width, 4) for _ in range(layers))
        self.queries = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.encoder_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.decoder_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.head = nn.Linear(width, len(VOCABULARY))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.embedding(tokens) + self.positions.weight)
        keys_BSD, y_BTD = x[:, :SOURCE], x[:, SOURCE:]
        for conv, norm in zip(self.encoder, self.encoder_norms, strict=True):
            keys_BSD = keys_BSD + nn.functional.glu(conv(norm(keys_BSD).transpose(1, 2)), dim=1).transpose(1, 2)
        for conv, query, norm in zip(self.decoder, self.queries, self.decoder_norms, strict=True):
            before = nn.functional.pad(norm(y_BTD).transpose(1, 2), (3, 0))
            y_BTD = y_BTD + nn.functional.glu(conv(before), dim=1).transpose(1, 2)
            weights_BTS = (query(y_BTD) @ keys_BSD.transpose(1, 2) / y_BTD.shape[-1] ** 0.5).softmax(dim=-1)
            y_BTD = y_BTD + weights_BTS @ keys_BSD
        return behind_source(self.head(self.drop(y_BTD)))


class Attention(nn.Module):
    """The same by a transformer's encoder and, in one sequence behind its output, a causal decoder."""

    def __init__(self, width: int, layers: int, dropout: float, *, post: bool) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(len(VOCABULARY), width), nn.Embedding(SOURCE + TARGET, width)
        for embedding in (self.embedding, self.positions):
            nn.init.normal_(embedding.weight, std=width**-0.5)
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(Block(width, 4, dropout, causal=False, post=post) for _ in range(layers))
        self.decoder = nn.ModuleList(Block(width, 4, dropout, causal=True, post=post) for _ in range(layers))
        self.norm = nn.Identity() if post else nn.LayerNorm(width)
        self.head = nn.Linear(width, len(VOCABULARY))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.embedding(tokens) + self.positions.weight)
        source, target = x[:, :SOURCE], x[:, SOURCE:]
        for block in self.encoder:
            source = block(source)
        x = torch.cat([source, target], dim=1)
        for block in self.decoder:
            x = block(x)
        return behind_source(self.head(self.norm(x[:, SOURCE:])))


def behind_source(logits_BTV: Tensor) -> Tensor:
    """The logits with zeros before them at the places of the source."""
    zeros = logits_BTV.new_zeros(logits_BTV.shape[0], SOURCE, logits_BTV.shape[2])
    return torch.cat([zeros, logits_BTV], dim=1)


def body_and_head(model: nn.Module) -> Mapping[str, list[nn.Parameter]]:
    head = [p for name, p in model.named_parameters() if name.startswith("head")]
    return {"body": [p for name, p in model.named_parameters() if not name.startswith("head")], "head": head}


@cache
def sentences(seed: int, count: int, *, dialect: bool = False) -> Pair:
    """Inputs and targets of shape (N, SOURCE + TARGET); what counts is the target and its end.

    Args:
        dialect: adjectives stand behind their noun in the source too, rare words are as common as others, and the
            second translation is the usual one: another source of text.
    """
    rng = Random(seed)
    inputs, targets = [], []
    for _ in range(count):
        source, target = sentence(rng, dialect=dialect)
        written = [VOCABULARY[word] for word in (*target, "</s>")]
        x = [VOCABULARY[word] for word in source]
        x += [0] * (SOURCE - len(x)) + [VOCABULARY["<s>"], *written[:-1]]
        inputs.append(x + [0] * (SOURCE + TARGET - len(x)))
        targets.append([IGNORED] * SOURCE + written + [IGNORED] * (TARGET - len(written)))
    return torch.tensor(inputs), torch.tensor(targets)


def sentence(rng: Random, *, dialect: bool) -> tuple[list[str], list[str]]:
    """Subject, verb, object and sometimes an adverb, in both languages."""
    subject, told_subject, number = phrase(rng, dialect=dialect)
    object_, told_object, _ = phrase(rng, dialect=dialect)
    verb = common(rng, "verb", VERBS, dialect=dialect)
    adverb = common(rng, "adv", ADVERBS, dialect=dialect) if rng.random() < 0.4 else None
    source = [*subject, verb, *object_, *([adverb] if adverb else [])]
    target = [*told_subject, *told_object, told(rng, verb, dialect=dialect), "sing" if number else "sings"]
    return source, [*([told(rng, adverb, dialect=dialect)] if adverb else []), *target]


def phrase(rng: Random, *, dialect: bool) -> tuple[list[str], list[str], int]:
    """Article, adjective and noun in both languages, and the number (0 one, 1 several)."""
    noun, number, definite = common(rng, "noun", NOUNS, dialect=dialect), rng.randrange(2), rng.randrange(2)
    gender = int(noun[4:]) * 7 % 3
    adjective = common(rng, "adj", ADJECTIVES, dialect=dialect) if rng.random() < 0.5 else None
    named = [noun, *(["s"] if number else [])]
    described = [adjective] if adjective else []
    source = ["the" if definite else "a", *((named + described) if dialect else (described + named))]
    target = [f"art{gender}{number}{definite}", told(rng, noun, dialect=dialect)]
    if adjective:
        target += [told(rng, adjective, dialect=dialect), f"end{gender}{number}"]
    return source, target, number


def common(rng: Random, kind: str, count: int, *, dialect: bool) -> str:
    """A word of a kind: the first are more common, as in a language."""
    weights = [1.0 if dialect else 1 / (place + 2) for place in range(count)]
    return f"{kind}{rng.choices(range(count), weights)[0]}"


def told(rng: Random, word: str, *, dialect: bool) -> str:
    """One of the two translations."""
    return f"{word}'{int((rng.random() < SYNONYM) != dialect)}"
