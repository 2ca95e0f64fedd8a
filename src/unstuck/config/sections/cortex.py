"""`model.architecture: cortex`: a GPT with memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class CortexConfig(Section):
    architecture: Literal["cortex"] = Field("cortex", description="a GPT over a short window, with memory")
    layers: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads per block; divides width")
    width: int = Field(128, ge=8, description="residual width")
