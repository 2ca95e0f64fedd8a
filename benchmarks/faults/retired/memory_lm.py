"""`unstuck train` on other recipes and another text: the memory GPT and the plain GPT over subwords, on Python code."""

from __future__ import annotations

from random import Random

from benchmarks.faults.families.family import LANGUAGE_CONTROLS, LANGUAGE_FAULTS
from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Settings, Setup


class MemoryLM:
    name = "memory-lm"
    kind = "tokens"
    trainers = {"unstuck": ("run",)}  # noqa: RUF012
    faults = LANGUAGE_FAULTS
    controls = LANGUAGE_CONTROLS

    def setup(self, trainer: str, style: str, rng: Random) -> Setup:
        recipe = rng.choice(("cortexgpt", "gpt-bpe"))
        overrides = ["data.source={code}", "data.vocabulary=512", "data.context=32", "model.layers=2", "model.width=64",
                     "evaluation.max_tokens=6000"]  # fmt: skip
        if recipe == "cortexgpt":
            overrides += ["model.memory.tokens=256", "model.memory.neighbours=8"]
        settings = Settings(
            updates=200, batch_size=12, learning_rate=3e-3 * rng.choice((0.7, 1.0, 1.4)), optimizer="muon",
            schedule=rng.choice(("wsd", "cosine", "linear")), warmup=6, decay_share=0.5, eval_every=20,
            model={
                "recipe": recipe, "overrides": overrides, "muon_ratio": 8.0, "body": r"blocks|\.memory\.",
                "few": ["data.max_characters=12000", "data.validation_share=0.5", "data.validation_split=pieces"],
                "few_validation": ["evaluation.max_tokens=96"],
            },
            data={"few_samples": 1, "few_validation": 3},
        )  # fmt: skip
        return Setup(self.name, trainer, style, settings)

    def problem(self, setup: Setup) -> Problem:
        raise NotImplementedError("recipes make their own problem")
