"""`task`: what is learned from the data, and the loss that measures it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unstuck.config.sections.base import Section


class CausalTask(Section):
    kind: Literal["causal"] = Field("causal", description="predict the next token")


class MaskedTask(Section):
    kind: Literal["masked"] = Field("masked", description="predict tokens that were hidden")
    causal_share: float = Field(
        0.0, ge=0, le=1, description="share of windows trained from left to right instead (the hybrid of GPT-BERT)"
    )
    rate_start: float = Field(0.3, gt=0, le=1, description="share of a masked window's tokens hidden, at the start")
    rate_end: float = Field(0.15, gt=0, le=1, description="the same at the end; in between a straight line")
    longest_span: int = Field(3, ge=1, description="tokens are hidden in spans of 1 to so many")
    random_share: float = Field(0.1, ge=0, le=1, description="share of hidden spans replaced by random tokens")
    kept_share: float = Field(0.1, ge=0, le=1, description="share of hidden spans left as they are, yet predicted")
    start_batch_share: float = Field(
        1.0, gt=0, le=1, description="accumulation begins at this share and grows in a straight line to all of it"
    )
    long_context: int | None = Field(
        None, ge=2, description="tokens in a window at the end of the run; null: no change"
    )
    long_after: float = Field(
        0.9, ge=0, le=1, description="share of the updates after which windows are long_context, and fewer to match"
    )

    @model_validator(mode="after")
    def _shares_leave_masks(self) -> MaskedTask:
        if self.random_share + self.kept_share > 1:
            raise ValueError("random_share and kept_share add up to more than 1; lower one of them")
        return self


class OperatorTask(Section):
    kind: Literal["operator"] = Field("operator", description="predict the next field")
    loss: Literal["l2", "h1"] = Field(
        "l2",
        description="relative error that is minimised, the mean over fields. l2: of the values; h1: of values and "
        "gradients. Both are measured at every evaluation, on the validation fields",
    )


def loss_unit(task: Section) -> str:
    """The unit of the task's loss."""
    if isinstance(task, OperatorTask):
        return {"l2": "relative L2", "h1": "relative H1"}[task.loss]
    return "nats/token"
