"""Language models. `build` makes the one a recipe asks for; torch is imported only when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unstuck.config.sections.gpt import GPTConfig

if TYPE_CHECKING:
    from unstuck.models.language_model import LanguageModel

__all__ = ["build"]


def build(config: GPTConfig, *, vocabulary: int, context: int) -> LanguageModel:
    """The model of a recipe, in float32 on the CPU, its weights drawn from the global torch seed.

    `forward(tokens_BT)` returns `logits_BTV` in float32; `forward(tokens_BT, targets_BT)` the mean cross-entropy in
    nats per target; `loss_sum(tokens_BT, targets_BT)` the sum and the number of targets, for accumulation that weighs
    every token alike. Targets are already shifted by the caller; -100 is ignored.

    Args:
        config: the recipe's model section.
        vocabulary: number of different tokens V.
        context: the longest window T it will be trained on.
    """
    from unstuck.models.cpu import tune_cpu
    from unstuck.models.gpt import GPT
    from unstuck.models.gpt2 import GPT2

    tune_cpu()
    kind = {"modern": GPT, "gpt2": GPT2}[config.architecture]
    return kind(config, vocabulary=vocabulary, context=context)
