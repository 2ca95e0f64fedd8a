"""`model.architecture: fno`: the Fourier neural operator (arXiv 2010.08895)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class FnoConfig(Section):
    architecture: Literal["fno"] = Field("fno", description="Fourier neural operator of the library neuraloperator")
    modes: int = Field(
        16, ge=2, description="Fourier modes kept in each direction, negative ones included; at most the grid's points"
    )
    width: int = Field(24, ge=1, description="channels between the layers")
    layers: int = Field(4, ge=1, description="Fourier layers")
    positions: Literal["diagonal", "periodic", "grid", "none"] = Field(
        "diagonal",
        description="what each point is told of its place. grid: x and y (they jump at the edge of the torus); "
        "periodic: sine and cosine of both; diagonal: sine and cosine of x + y, the phase of the forcing of "
        "arXiv 2010.08895, so that the model treats shifts along the diagonal alike, as the equation does",
    )
    predict_change: bool = Field(
        True, description="the operator gives what is added to the input instead of the whole next field"
    )
