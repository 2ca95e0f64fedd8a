"""The gradient norm of every layer: where in a model the gradient vanishes or explodes. For any model.

Costs one pass over the gradients, and is asked for only at the updates that an evaluation follows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from unstuck.train.optimizers.clip import grad_norm


@torch.no_grad()
def layer_norms(named: Iterable[tuple[str, nn.Parameter]]) -> dict[str, float]:
    """`grad_norm/layer/<layer>` -> 2-norm of its gradients, before clipping, in the order of the model.

    A layer is what a tensor's name says up to its first number (`blocks.3.mlp.up.weight` belongs to `blocks.3`), or all
    but the last part where there is none (`head.weight` belongs to `head`). Tensors without a gradient are passed over.

    Args:
        named: as of `named_parameters()`; call it between backward and clipping, in all processes.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.grad is not None:
            layers.setdefault(layer_of(name), []).append(parameter)
    if not layers:
        return {}
    norms = torch.stack([grad_norm(parameters) for parameters in layers.values()])
    return {f"grad_norm/layer/{layer}": norm for layer, norm in zip(layers, norms.tolist(), strict=True)}


def layer_of(name: str) -> str:
    """The layer that a tensor of this name belongs to."""
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: place + 1])
    return ".".join(parts[:-1]) or name
