"""`model.architecture: modern | gpt2`: the two GPTs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unstuck.config.sections.base import Section, heads_divide_width


class GPTConfig(Section):
    architecture: Literal["modern", "gpt2"] = Field(
        "modern",
        description="modern: rotary, QK-norm, RMS norm, squared ReLU, zero-initialised projections; "
        "gpt2: learned positions, LayerNorm, GELU",
    )
    layers: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads per block; divides width")
    width: int = Field(128, ge=8, description="residual width")
    tied_head: bool = Field(False, description="the head shares the embedding's tensor")
    bias: bool = Field(False, description="biases in linear and norm layers (gpt2 only)")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout probability")
    value_embeddings: bool = Field(True, description="modern: a second embedding mixed into the attention values")
    input_skip: bool = Field(True, description="modern: each block sees the embedding again, by a learned weight")
    smear: bool = Field(True, description="modern: a learned share of the previous token's embedding is added")
    ngrams: int = Field(
        4,
        ge=0,
        le=5,
        description="modern: hashed tables of the last 1, 2 .. so many tokens are added to the "
        "attention's values; 0: none",
    )

    @model_validator(mode="after")
    def _heads_divide_width(self) -> GPTConfig:
        heads_divide_width(self.width, self.heads)
        return self
