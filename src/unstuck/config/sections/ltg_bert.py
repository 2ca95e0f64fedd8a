"""`model.architecture: ltg-bert`: the masked language model of LTG (arXiv 2303.09859)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class LtgBertConfig(Section):
    architecture: Literal["ltg-bert"] = Field("ltg-bert", description="encoder with disentangled relative positions")
    layers: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads per block; divides width")
    width: int = Field(128, ge=8, description="residual width")
