"""`data.kind: answers`: prompts and responses, of which only the responses are learned."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class AnswersConfig(Section):
    kind: Literal["answers"] = Field("answers", description="prompts and responses; only the responses are learned")
    source: str = Field(
        "builtin", description="builtin (questions on Python's own documentation), or a JSON lines file"
    )
    tokenizer: str = Field(
        "from-start",
        description="from-start (of the run that start_from names), from-model (of a pretrained model) or a path of "
        "a tokenizer.json",
    )
    context: int = Field(256, ge=8, description="tokens of the longest example")
