"""Low-rank adapters (LoRA: Hu et al., arXiv 2106.09685) through the `peft` library.

Beside a frozen matrix W lie two thin ones, A drawn at random and B zero, so that the first output is the base model's.
Every linear layer of attention and MLP gets one by default: adapters on attention alone learn less for the same number
of parameters (arXiv 2305.14314, section 4). Adapters want about ten times the learning rate of full fine-tuning
(Schulman et al., "LoRA Without Regret", 2025: 15 in short runs; here 1e-2 against 3e-4, docs/systems/gpt2-qa.md).
"""

from __future__ import annotations

import re
import warnings

from torch import nn

from unstuck.config.sections.pretrained import AdapterConfig
from unstuck.errors import UserError

IN_A_BLOCK = re.compile(r"\.\d+\.")  # layers of a network are numbered: transformer.h.0.attn.c_attn
NAME = "default"  # peft's own name for the only adapter


def linear_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer inside the network's numbered blocks by its name: no embedding, no head, no pooler."""
    from transformers.pytorch_utils import Conv1D

    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and IN_A_BLOCK.search(name)
    }


def add_adapters(network: nn.Module, config: AdapterConfig, *, causal: bool) -> nn.Module:
    """The network with adapters in place; nothing else of it is trainable. A is drawn from the global torch seed.

    Args:
        network: of transformers; changed in place.
        config: rank, scale and layers.
        causal: what the saved adapter says of its task.

    Raises:
        UserError: a target names no linear layer.
    """
    import peft
    from transformers.pytorch_utils import Conv1D

    layers = linear_layers(network)
    if config.targets == "auto":
        chosen = layers
    else:
        chosen = {name: module for name, module in layers.items() if name.rpartition(".")[2] in config.targets}
        unknown = set(config.targets) - {name.rpartition(".")[2] for name in layers}
        if unknown:
            known = sorted({name.rpartition(".")[2] for name in layers})
            raise UserError(
                f"model.adapter.targets names {sorted(unknown)[0]!r}, which no linear layer of this model is called; "
                f"choose from {', '.join(known)}, or set model.adapter.targets=auto."
            )
    if not chosen:
        raise UserError("This model has no linear layer in numbered blocks; name some with model.adapter.targets.")
    settings = peft.LoraConfig(
        task_type="CAUSAL_LM" if causal else None,
        r=config.rank,
        # twice the rank: an assumption, the usual setting; it scales the learning rate, which was tuned with it
        lora_alpha=2 * config.rank if config.alpha is None else config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=shortest(list(chosen), list(dict(network.named_modules()))),
        # GPT-2's Conv1D keeps its matrix as (in, out)
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in chosen.values()),
        bias="none",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for a name that is going to be replaced
        adapted: nn.Module = peft.get_peft_model(network, settings)
    return adapted


def shortest(chosen: list[str], every: list[str]) -> list[str]:
    """The last parts of the names where they say the same (c_attn, c_proj), else the names: adapter_config.json stays
    readable, and the adapter fits the model under any prefix."""
    last = sorted({name.rpartition(".")[2] for name in chosen})
    meant = [name for name in every if name.rpartition(".")[2] in last]
    return last if sorted(meant) == sorted(chosen) else sorted(chosen)


def adapter_names(module: nn.Module) -> list[str]:
    """Names of the adapters' tensors within a module that has any."""
    return [name for name, _ in module.named_parameters() if ".lora_A." in name or ".lora_B." in name]
