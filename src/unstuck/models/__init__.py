"""Models. `build` makes the one a recipe asks for; torch is imported only when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unstuck.config.sections.base import Section

if TYPE_CHECKING:
    from torch import nn

__all__ = ["build"]

# `model.architecture` -> module and class.
ARCHITECTURES = {
    "modern": ("unstuck.models.gpt", "GPT"),
    "gpt2": ("unstuck.models.gpt2", "GPT2"),
    "cortex": ("unstuck.models.cortex", "Cortex"),
    "ltg-bert": ("unstuck.models.ltg_bert", "LtgBert"),
    "fno": ("unstuck.models.fno", "Fno"),
    "pretrained": ("unstuck.models.pretrained", "Pretrained"),
}


def build(config: Section, **arguments: Any) -> nn.Module:
    """The model of a recipe, in float32 on the CPU, its weights drawn from the global torch seed.

    How language models are called: see `unstuck.models.language_model.LanguageModel`.

    Args:
        config: the recipe's model section.
        arguments: what the model must know of the data (`Task.model_arguments`): for language models `vocabulary`, the
            number of token ids V, and `context`, the longest window T.
    """
    from unstuck.models.cpu import tune_cpu

    tune_cpu()
    module, name = ARCHITECTURES[config.architecture]  # type: ignore[attr-defined]
    built: nn.Module = getattr(import_module(module), name)(config, **arguments)
    return built
