"""`model.architecture: fno`: the Fourier neural operator (arXiv 2010.08895)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class FnoConfig(Section):
    architecture: Literal["fno"] = Field("fno", description="Fourier neural operator of the library neuraloperator")
    modes: int = Field(12, ge=1, description="Fourier modes kept in each direction")
    width: int = Field(32, ge=1, description="channels between the layers")
    layers: int = Field(4, ge=1, description="Fourier layers")
