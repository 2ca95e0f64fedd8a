"""`data.kind: answers`: prompts and responses, of which only the responses are learned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class AnswersConfig(Section):
    kind: Literal["answers"] = Field("answers", description="prompts and responses; only the responses are learned")
    source: str = Field(
        "builtin",
        description="builtin (questions on Python's own documentation), a JSON lines file, a folder of them, or "
        "hub:OWNER/NAME (a data set of the Hugging Face hub, or of a folder in its form)",
    )
    tokenizer: str = Field(
        "from-start",
        description="from-start (of the run that start_from names), from-model (of a pretrained model) or a path of "
        "a tokenizer.json",
    )
    template: Literal["auto", "chat", "plain"] = Field(
        "auto",
        description="chat: speakers marked by tokens of their own; plain: by the words Question and Answer; auto: chat "
        "where the tokenizer has its tokens",
    )
    context: int = Field(256, ge=8, description="tokens of the longest example; examples are padded to each other")
    too_long: Literal["shorten", "drop"] = Field(
        "shorten",
        description="what becomes of longer examples; shorten: from the front of the prompt, never of the answer",
    )
    validation_share: float = Field(0.1, gt=0, lt=1, description="share of the examples held out for validation")
    max_examples: int | None = Field(None, ge=2, description="use at most so many examples; null: all")
