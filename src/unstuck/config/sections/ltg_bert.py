"""`model.architecture: ltg-bert`: the masked language model of LTG (arXiv 2303.09859)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unstuck.config.sections.base import Section, heads_divide_width


class LtgBertConfig(Section):
    architecture: Literal["ltg-bert"] = Field("ltg-bert", description="encoder with disentangled relative positions")
    layers: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads per block; divides width")
    width: int = Field(128, ge=8, description="residual width")
    mlp_width: int | None = Field(None, ge=8, description="width inside the gated MLP; null: 8/3 of the width")
    position_buckets: int = Field(
        32, ge=4, description="buckets of relative distances in each direction; half of them hold one distance each"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of embeddings and of what blocks add; LTG-BERT: 0.1")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="dropout of attention weights; LTG-BERT: 0.1")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LtgBertConfig:
        heads_divide_width(self.width, self.heads)
        return self
