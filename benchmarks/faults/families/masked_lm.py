"""Characters of Python's documentation with some hidden, read in both directions: a small BERT."""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.char_gpt import CONTEXT, VALIDATION_WINDOWS
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.language import by_blanks
from benchmarks.faults.families.texts import CHARACTERS, windows
from benchmarks.faults.families.transformer import Block, body_and_head
from benchmarks.faults.problem import IGNORED, Pair, Problem
from benchmarks.faults.settings import Settings, Setup

MASK = len(CHARACTERS)
VOCABULARY = len(CHARACTERS) + 1


class MaskedLM:
    name = "masked-lm"
    kind = "tokens"
    trainers = {"loop": ("logging", "pipes"), "transformers": ("trainer",), "unstuck": ("run",)}  # noqa: RUF012
    faults = (*LANGUAGE_FAULTS, "warmup-missing", "warmup-cast")
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        if trainer == "unstuck":
            return self._recipe(rng)
        updates = 300
        drawn = draw_schedule(rng, style)
        post = rng.random() < 0.6
        settings = Settings(
            updates=updates, batch_size=24, learning_rate=(5e-3 if post else 4e-3) * rng.choice((0.8, 1.0, 1.2)),
            beta2=rng.choice((0.98, 0.999)), weight_decay=rng.choice((0.01, 0.1)), schedule=drawn.schedule,
            floor=drawn.floor, warmup=round((0.12 if post else 0.06) * updates),
            warmup_as_share=rng.random() < 0.5 and trainer == "loop",
            clip_norm=rng.choice((1.0, 5.0)), eval_every=updates // 10, log_every=rng.choice((5, 10)),
            model={"width": 48, "layers": 3 if post else 2, "heads": 4, "norm": "post" if post else "pre"},
            data={"few_samples": 24, "few_validation": 6, "mask_rate": rng.choice((0.15, 0.2))},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def _recipe(self, rng: Random) -> Setup:
        """The bundled recipe, smaller."""
        updates = rng.choice((200, 250))
        overrides = [
            f"data.context={CONTEXT}", "data.vocabulary=512", "model.width=48", "evaluation.max_tokens=6000",
            f"task.causal_share={rng.choice((0.0, 0.5, 0.75))}",
        ]  # fmt: skip
        settings = Settings(
            updates=updates, batch_size=24, learning_rate=4e-3 * rng.choice((0.7, 1.0, 1.4)), optimizer="muon",
            schedule=rng.choice(("wsd", "cosine")), warmup=8, decay_share=0.6, clip_norm=2.0,
            eval_every=updates // 10,
            model={
                "recipe": "ltg-bert:quick", "overrides": overrides, "muon_ratio": 6.25, "body": "^blocks",
                "few": ["data.max_characters=12000", "data.validation_share=0.5", "data.validation_split=pieces"],
                "few_validation": ["evaluation.max_tokens=128"],
            },
            data={"few_samples": 1, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, "unstuck", "run", settings)

    def problem(self, setup: Setup) -> Problem:
        settings, model, rate = setup.settings, setup.settings.model, setup.settings.data["mask_rate"]
        train = windows("library", 0, CONTEXT)

        def make_model() -> nn.Module:
            return Encoder(
                model["width"], model["layers"], model["heads"], settings.dropout, post=model["norm"] == "post"
            )

        def own(windows_NT: Tensor) -> Pair:
            return windows_NT, windows_NT

        return build(
            setup, self.kind, make_model, train=own(train),
            validation=own(windows("library", 1, CONTEXT)[:VALIDATION_WINDOWS]),
            shifted=own(windows("code", 1, CONTEXT)[:VALIDATION_WINDOWS]),
            clean=own(windows("library", 2, CONTEXT)[:VALIDATION_WINDOWS]),
            order=by_blanks(train), groups=body_and_head,
            vary=lambda x, y, generator: hide(x, y, rate, generator),
            facts={"task": "masked-lm", "vocabulary": VOCABULARY, "context": CONTEXT, "mask_rate": rate},
        )  # fmt: skip


def hide(x_BT: Tensor, y_BT: Tensor, rate: float, generator: torch.Generator) -> Pair:
    """BERT's masking without its random and kept tokens: hidden places are the targets."""
    hidden = torch.rand(x_BT.shape, generator=generator) < rate
    return x_BT.masked_fill(hidden, MASK), y_BT.masked_fill(~hidden, IGNORED)


class Encoder(nn.Module):
    """Tokens (B, T) to logits (B, T, V) in both directions; a convolution in front tells neighbours apart early."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float, *, post: bool) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(CONTEXT, width)
        self.mix = nn.Conv1d(width, width, 5, padding=2)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, causal=False, post=post) for _ in range(layers))
        self.norm = nn.Identity() if post else nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY)
        nn.init.normal_(self.tokens.weight, std=0.1)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens)
        x = x + self.mix(x.transpose(1, 2)).transpose(1, 2) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return torch.as_tensor(self.head(self.norm(x)))
