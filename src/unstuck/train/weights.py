"""A model's weights as flat tensors, out of it and into it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from unstuck.errors import UserError
from unstuck.train import checkpoint


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds of a model: its state dict, or what its `checkpoint_state()` says (adapters alone).

    Not copies: store or copy them before the next update.
    """
    own = getattr(model, "checkpoint_state", model.state_dict)
    return dict(own())


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], shown: str, *, begins: bool = False) -> None:
    """Put saved weights into the model; a shared tensor was saved once, under its first name.

    A model's own `fitted(tensors, begins)` may first replace what is not learned (what streams of text remember).

    Args:
        shown: where they are from, for the message.
        begins: a new run takes them (start_from), and only what is learned; else it is their own run.

    Raises:
        UserError: a tensor is missing, is too many or has another shape.
    """
    fitted = getattr(model, "fitted", None)
    tensors = tensors if fitted is None else fitted(tensors, begins)
    expected = checkpoint.unshared(weights_of(model))
    wrong = sorted(set(expected) ^ set(tensors)) or [
        name for name, tensor in expected.items() if tensor.shape != tensors[name].shape
    ]
    if wrong:
        raise UserError(
            f"The weights of {shown} do not fit this model ({wrong[0]} differs); use the model section of its "
            f"config.yaml, or train a new run without them."
        )
    model.load_state_dict(dict(tensors), strict=False)
