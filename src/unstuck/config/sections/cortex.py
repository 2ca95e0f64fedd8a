"""`model.architecture: cortex`: a GPT over a short window, with memory. Each part is off unless switched on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unstuck.config.sections.base import Section, heads_divide_width

# Defaults: layers, heads and width are gpt-char's. `neighbours` is half of Memorizing Transformers' 32, `balance` ten
# times what arXiv 2408.15664 uses in runs of many more updates, `active`, `target` and sleep's numbers are free: all
# assumptions, none was tuned. `memory` alone is on in the recipe, by measurement (docs/systems/cortexgpt.md).


class MemoryConfig(Section):
    """Long-term memory: keys and values of past windows, found again by nearest neighbour (arXiv 2203.08913)."""

    tokens: int = Field(0, ge=0, description="past tokens that each stream remembers; 0: no long-term memory")
    neighbours: int = Field(16, ge=1, description="remembered tokens that one token retrieves, by exact search")
    layer: int | None = Field(None, ge=0, description="block that reads it, counted from 0; null: the last but one")
    clear_at_end_of_text: bool = Field(
        False, description="true: a document is forgotten in the window after the one it ends in"
    )


class ColumnsConfig(Section):
    """Sparse cortical columns in place of the MLP: each token is served by a few of them."""

    count: int = Field(0, ge=0, description="columns per block; 0: the plain MLP")
    active: int = Field(2, ge=1, description="columns that serve one token; each is 4 * width / active units wide")
    balance: float = Field(
        0.01,
        ge=0,
        description="step by which a column's bias moves against its load after each update "
        "(arXiv 2408.15664); 0: loads are left alone",
    )

    @model_validator(mode="after")
    def _enough(self) -> ColumnsConfig:
        if self.count and self.active > self.count:
            raise ValueError(f"{self.active} active columns of {self.count}; set model.columns.active to {self.count}")
        return self


class HomeostasisConfig(Section):
    """Keeps the share of tokens at which each unit of the MLPs fires near a target, by moving its threshold."""

    speed: float = Field(0.0, ge=0, description="step of the threshold per update and unit of error; 0: off")
    target: float = Field(0.2, gt=0, lt=1, description="share of tokens at which a unit fires")


class SlotsConfig(Section):
    """Working memory: vectors that a stream carries from window to window (arXiv 2207.06881)."""

    count: int = Field(0, ge=0, description="slots per stream; 0: no working memory")


class SleepConfig(Section):
    """Consolidation: after some updates awake, some updates on the hardest windows met, without any memory."""

    every_updates: int | None = Field(None, ge=1, description="updates awake before each sleep; null: never sleeps")
    updates: int = Field(5, ge=1, description="updates of one sleep")
    windows: int = Field(256, ge=1, description="hardest windows kept for replay; a replayed one is forgotten")


class CortexConfig(Section):
    architecture: Literal["cortex"] = Field("cortex", description="a GPT over a short window, with memory")
    layers: int = Field(4, ge=1, description="number of blocks")
    heads: int = Field(4, ge=1, description="attention heads per block; divides width")
    width: int = Field(128, ge=8, description="residual width")
    window: int | None = Field(
        None,
        ge=2,
        description="tokens that attention spans (short-term memory); divides data.context; null: data.context. "
        "Smaller: memory and slots pass from window to window within one stretch of data.context too",
    )
    tied_head: bool = Field(False, description="the head shares the embedding's tensor")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout probability")
    value_embeddings: bool = Field(True, description="a second embedding mixed into the attention values")
    input_skip: bool = Field(True, description="each block sees the embedding again, by a learned weight")
    smear: bool = Field(True, description="a learned share of the previous token's embedding is added")
    ngrams: int = Field(
        4, ge=0, le=5, description="hashed tables of the last 1, 2 .. so many tokens, added to the attention's values"
    )
    memory: MemoryConfig = MemoryConfig()
    columns: ColumnsConfig = ColumnsConfig()
    homeostasis: HomeostasisConfig = HomeostasisConfig()
    slots: SlotsConfig = SlotsConfig()
    sleep: SleepConfig = SleepConfig()

    @model_validator(mode="after")
    def _fits(self) -> CortexConfig:
        heads_divide_width(self.width, self.heads)
        if self.memory.layer is not None and self.memory.layer >= self.layers:
            raise ValueError(f"memory.layer {self.memory.layer} of {self.layers} blocks; use {self.layers - 1} or less")
        return self

    @property
    def carries_state(self) -> bool:
        """Whether a window depends on the windows before it, so that the data must come as streams."""
        return bool(self.memory.tokens or self.slots.count)
