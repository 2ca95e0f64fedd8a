"""What every section of a recipe has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def heads_divide_width(width: int, heads: int) -> None:
    """For validators of models with attention.

    Raises:
        ValueError: the width is not a multiple of the heads; names the nearest number of heads that divides it.
    """
    if width % heads:
        nearest = min((h for h in range(1, width + 1) if width % h == 0), key=lambda h: abs(h - heads))
        raise ValueError(f"width {width} is not a multiple of heads {heads}; set model.heads={nearest}")
