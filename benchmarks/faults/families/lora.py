"""Low-rank adapters (peft) on a small GPT-2 that was trained on documentation, fine-tuned to Python code."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.faults.families.build import build
from benchmarks.faults.families.char_gpt import CONTEXT, LogitsOf, gpt2
from benchmarks.faults.families.family import draw_schedule
from benchmarks.faults.families.language import by_blanks, capitals, next_tokens
from benchmarks.faults.families.texts import CHARACTERS, windows
from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Settings, Setup
from unstuck.data.cache import cache_folder, store

WIDTH, LAYERS, HEADS = 64, 3, 4
BASE_UPDATES, BASE_BATCH, BASE_RATE = 1500, 32, 3e-3  # once per machine, about half a minute
BASE_NAME = f"gpt-char-{WIDTH}x{LAYERS}-{BASE_UPDATES}"
VALIDATION_WINDOWS = 160


class Lora:
    name = "lora"
    kind = "tokens"
    trainers = {"loop": ("pipes", "logging"), "transformers": ("trainer",), "unstuck": ("run",)}  # noqa: RUF012
    faults = (
        "lr-too-high", "lora-rate-like-full", "lora-rank-low", "targets-shifted", "warmup-too-long",
        "horizon-in-micro-batches", "stepped-per-micro-batch", "schedule-constant", "restarts-unplanned",
        "lr-jump-at-resume", "stale-rate-at-resume", "bad-samples", "half-overflow", "zero-by-filter",
        "validation-shifted", "validation-small", "smoothing", "loss-summed", "loss-divided", "overfitting",
        "undertrained", "batch-small", "data-bound", "slows-down", "out-of-memory",
    )  # fmt: skip
    controls = ("resume-planned", "constant-rate", "dropout-gap", "clip-small", "adam", "rate-aside", "converged")

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        if trainer == "unstuck":
            return self._recipe(rng)
        updates = 200
        drawn = draw_schedule(rng, style, ("cosine", "linear"))
        rank = rng.choice((8, 16))
        settings = Settings(
            updates=updates, batch_size=16, learning_rate=4e-3 * rng.choice((0.7, 1.0, 1.4)),
            weight_decay=rng.choice((0.0, 0.01)), schedule=drawn.schedule, floor=0.0,
            warmup=round(drawn.warmup_share * updates), clip_norm=rng.choice((1.0, None)),
            eval_every=updates // 10, log_every=5,
            model={"width": WIDTH, "layers": LAYERS, "heads": HEADS, "lora_rank": rank},
            data={"few_samples": 32, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def _recipe(self, rng: Random) -> Setup:
        """The bundled recipe on a base model of our own."""
        overrides = ["model.path={base}", "data.context=96", "evaluation.max_tokens=3000"]
        settings = Settings(
            updates=120, batch_size=8, learning_rate=1e-2 * rng.choice((0.5, 0.7, 1.0)), schedule="linear", warmup=6,
            eval_every=12, beta2=0.95,
            model={
                "recipe": "gpt2-qa-lora", "overrides": overrides, "lora_rank": rng.choice((8, 16)),
                "few": ["data.max_examples=60", "data.validation_share=0.5"],
                "few_validation": ["evaluation.max_tokens=64"],
            },
            data={"few_samples": 1, "few_validation": 4},
        )  # fmt: skip
        return Setup(self.name, "unstuck", "run", settings)

    def problem(self, setup: Setup) -> Problem:
        settings, bugs = setup.settings, setup.bugs
        rank = settings.model["lora_rank"]
        train = next_tokens(windows("code", 0, CONTEXT + 1), bugs.targets)
        return build(
            setup, self.kind, lambda: adapted(rank, settings.dropout), train=train,
            validation=next_tokens(windows("code", 1, CONTEXT + 1)[:VALIDATION_WINDOWS], bugs.targets),
            shifted=next_tokens(capitals(windows("code", 1, CONTEXT + 1)[:VALIDATION_WINDOWS]), bugs.targets),
            clean=next_tokens(windows("code", 2, CONTEXT + 1)[:VALIDATION_WINDOWS]),
            order=by_blanks(train[0]),
            facts={
                "task": "causal-lm", "vocabulary": len(CHARACTERS), "context": CONTEXT, "base": f"models/{BASE_NAME}",
                "lora_rank": rank, "lora_alpha": 2 * rank,
            },
        )  # fmt: skip


def adapted(rank: int, dropout: float) -> nn.Module:
    """The base model with fresh adapters on every linear layer of its blocks."""
    from peft import LoraConfig, get_peft_model

    base = gpt2(WIDTH, LAYERS, HEADS, 0.0)
    base.load_state_dict(base_weights())
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=dropout, fan_in_fan_out=True, task_type="CAUSAL_LM",
        target_modules=["c_attn", "c_fc", "c_proj"],
    )  # fmt: skip
    return LogitsOf(get_peft_model(base.model, config))  # type: ignore[arg-type]


@cache
def base_weights() -> dict[str, Any]:
    """Weights of the base model: made once on this machine, then read from the cache."""
    folder = cache_folder("faults")
    path = None if folder is None else folder / BASE_NAME / "weights.pt"
    if path is not None and path.is_file():
        state: dict[str, Any] = torch.load(path, weights_only=True)
        return state
    made = _pretrained()

    def write(target: Path) -> None:
        torch.save(made, target / "weights.pt")

    store(folder, BASE_NAME, write)
    return made


def _pretrained() -> dict[str, Any]:
    """A short pretraining with a straight decay, apart from any run's own random numbers."""
    inputs, targets = next_tokens(windows("library", 0, CONTEXT + 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = gpt2(WIDTH, LAYERS, HEADS, 0.0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=BASE_RATE)
        for update in range(BASE_UPDATES):
            optimizer.param_groups[0]["lr"] = BASE_RATE * min(1.0, (update + 1) / 50) * (1 - update / BASE_UPDATES)
            chosen = torch.randint(len(inputs), (BASE_BATCH,))
            loss = functional.cross_entropy(model(inputs[chosen]).flatten(0, 1), targets[chosen].flatten())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return dict(model.state_dict())
