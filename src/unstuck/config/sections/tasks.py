"""`task`: what is learned from the data, and the loss that measures it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class CausalTask(Section):
    kind: Literal["causal"] = Field("causal", description="predict the next token")


class MaskedTask(Section):
    kind: Literal["masked"] = Field("masked", description="predict tokens that were hidden")


class OperatorTask(Section):
    kind: Literal["operator"] = Field("operator", description="predict the next field")
    loss: Literal["l2", "h1"] = Field(
        "l2",
        description="relative error that is minimised, the mean over fields. l2: of the values; h1: of values and "
        "gradients. Both are measured at every evaluation, on the validation fields",
    )
