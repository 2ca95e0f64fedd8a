"""The Fourier neural operator of Li et al., arXiv 2010.08895: `neuraloperator`'s FNO with what data it needs around it.

Normalisation is part of the model (buffers, so that every checkpoint has it): fields come in and go out in their own
units. Shapes: B fields of X x Y points, C channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.config.sections.fno import FnoConfig
from unstuck.errors import UserError

UNITS = {"input_mean": 0.0, "input_deviation": 1.0, "target_mean": 0.0, "target_deviation": 1.0}


class Fno(nn.Module):
    """Fields (B, X, Y) to the fields one step later (B, X, Y), float32 throughout.

    Args:
        config: the recipe's model section.
        points: grid points in each direction of the training fields; others may be given later (a Fourier layer does
            not know its grid).
        normalisation: mean and deviation of inputs and targets; see `data.fields.Normalisation`.
    """

    input_mean: Tensor
    input_deviation: Tensor
    target_mean: Tensor
    target_deviation: Tensor

    def __init__(
        self, config: FnoConfig, *, points: tuple[int, int], normalisation: dict[str, float] | None = None
    ) -> None:
        super().__init__()
        if config.modes > min(points):
            raise UserError(
                f"model.modes={config.modes} is more than the {min(points)} points of the grid; "
                f"set model.modes={min(points) // 4 * 2} or less."
            )
        self.config = config
        for name, value in (normalisation or UNITS).items():
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))
        channels = {"diagonal": 2, "periodic": 4}.get(config.positions, 0)
        self.operator = _library()(
            n_modes=(config.modes, config.modes),
            in_channels=1 + channels,
            out_channels=1,
            hidden_channels=config.width,
            n_layers=config.layers,
            positional_embedding="grid" if config.positions == "grid" else None,
        )

    def forward(self, fields_BXY: Tensor) -> Tensor:
        """Transforms exist in float32 only, so autocast is switched off."""
        with torch.autocast(fields_BXY.device.type, enabled=False):
            fields_BXY = fields_BXY.float()
            inputs_BCXY = ((fields_BXY - self.input_mean) / self.input_deviation)[:, None]
            if self.config.positions in ("diagonal", "periodic"):
                places = _waves(self.config.positions, fields_BXY)
                inputs_BCXY = torch.cat((inputs_BCXY, places.expand(len(fields_BXY), -1, -1, -1)), dim=1)
            found: Tensor = self.operator(inputs_BCXY)[:, 0]
            if self.config.predict_change:
                return fields_BXY + self.target_deviation * found
            return self.target_mean + self.target_deviation * found

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Tensors only: neuraloperator puts its own arguments, functions among them, under `_metadata` (its issue
        700), and safetensors rightly refuses them."""
        state: dict[str, Any] = super().state_dict(*args, **kwargs)
        state.pop("_metadata", None)
        return state


def _waves(kind: str, fields_BXY: Tensor) -> Tensor:
    """(1, C, X, Y): sine and cosine of the phase x + y, or of x and of y."""
    x, y = (torch.arange(n, device=fields_BXY.device) * (2 * math.pi / n) for n in fields_BXY.shape[-2:])
    x_XY, y_XY = torch.meshgrid(x, y, indexing="ij")
    phases = (x_XY + y_XY,) if kind == "diagonal" else (x_XY, y_XY)
    return torch.stack([wave for phase in phases for wave in (torch.sin(phase), torch.cos(phase))])[None]


def _library() -> Any:
    try:
        from neuralop.models import FNO
    except ImportError:
        raise UserError("model.architecture=fno needs the library neuraloperator: pip install neuraloperator") from None
    return FNO
