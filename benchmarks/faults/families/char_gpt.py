"""Characters of Python's documentation, predicted from left to right by a small GPT."""

from __future__ import annotations

from random import Random

from torch import Tensor, nn

from benchmarks.faults.families.build import build
from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS, draw_schedule
from benchmarks.faults.families.language import by_blanks, next_tokens
from benchmarks.faults.families.texts import CHARACTERS, windows
from benchmarks.faults.families.transformer import Transformer, body_and_head
from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Settings, Setup

CONTEXT = 32
VALIDATION_WINDOWS = 160
RATE = 3e-3  # by trials of a third, one and three times this


class CharGPT:
    name = "char-gpt"
    kind = "tokens"
    trainers = {  # noqa: RUF012
        "loop": ("pipes", "logging", "nano"), "transformers": ("trainer",), "unstuck": ("run",),
    }  # fmt: skip
    faults = (*LANGUAGE_FAULTS, "targets-visible", "validation-trained")
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        if trainer == "unstuck":
            return self._recipe(rng)
        updates = 300
        drawn = draw_schedule(rng, style)
        norm = "gpt2" if trainer == "transformers" else "pre"
        accumulation = rng.choice((1, 1, 2))
        settings = Settings(
            updates=updates, batch_size=16 // accumulation, accumulation=accumulation,
            learning_rate=RATE * rng.choice((0.7, 1.0, 1.4)), beta2=rng.choice((0.95, 0.99, 0.999)),
            weight_decay=rng.choice((0.0, 0.01, 0.1)), schedule=drawn.schedule, floor=drawn.floor,
            warmup=round(drawn.warmup_share * updates),
            warmup_as_share=style in ("pipes", "logging") and rng.random() < 0.5,
            clip_norm=rng.choice((1.0, 1.0, None)), eval_every=updates // 10, log_every=rng.choice((5, 10)),
            model={"width": 48, "layers": 2, "heads": 4, "norm": norm},
            data={"few_samples": 64, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def _recipe(self, rng: Random) -> Setup:
        """The bundled recipe, smaller."""
        updates = rng.choice((200, 250))
        muon = rng.random() < 0.5
        overrides = [f"data.context={CONTEXT}", "model.layers=2", "model.width=48", "evaluation.max_tokens=8192"]
        settings = Settings(
            updates=updates, batch_size=16, learning_rate=(1e-2 if muon else 6e-3) * rng.choice((0.7, 1.0, 1.4)),
            optimizer="muon" if muon else "adamw", schedule=rng.choice(("wsd", "cosine")),
            warmup=rng.choice((0, 10)) if muon else 10, decay_share=0.5, eval_every=updates // 10,
            model={
                "recipe": "gpt-char", "overrides": overrides, "muon_ratio": 2.0 if muon else None, "body": "^blocks",
                "few": ["data.max_characters=8000", "data.validation_share=0.5", "data.validation_split=pieces"],
                "few_validation": ["evaluation.max_tokens=128"],
            },
            data={"few_samples": 1, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, "unstuck", "run", settings)

    def problem(self, setup: Setup) -> Problem:
        settings, bugs = setup.settings, setup.bugs
        model = settings.model
        train = next_tokens(windows("library", 0, CONTEXT + 1), bugs.targets)

        def make_model() -> nn.Module:
            if model["norm"] == "gpt2":
                return gpt2(model["width"], model["layers"], model["heads"], settings.dropout)
            return Transformer(
                len(CHARACTERS), CONTEXT, width=model["width"], layers=model["layers"], heads=model["heads"],
                dropout=settings.dropout,
            )  # fmt: skip

        return build(
            setup, self.kind, make_model,
            train=train,
            validation=next_tokens(windows("library", 1, CONTEXT + 1)[:VALIDATION_WINDOWS], bugs.targets),
            shifted=next_tokens(windows("code", 1, CONTEXT + 1)[:VALIDATION_WINDOWS], bugs.targets),
            clean=next_tokens(windows("library", 2, CONTEXT + 1)[:VALIDATION_WINDOWS]),
            order=by_blanks(train[0]), groups=body_and_head,
            facts={"task": "language-model", "vocabulary": len(CHARACTERS), "context": CONTEXT},
        )  # fmt: skip


class LogitsOf(nn.Module):
    """A model of transformers as a function from tokens (B, T) to logits (B, T, V)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=tokens).logits
        return logits


def gpt2(width: int, layers: int, heads: int, dropout: float) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(CHARACTERS), n_positions=CONTEXT, n_embd=width, n_layer=layers, n_head=heads, bos_token_id=0,
        eos_token_id=0, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, use_cache=False,
    )  # fmt: skip
    return LogitsOf(GPT2LMHeadModel(config))
