"""`model.architecture: pretrained`: a model in Hugging Face form."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class PretrainedConfig(Section):
    architecture: Literal["pretrained"] = Field("pretrained", description="a model in Hugging Face form")
    path: str = Field("gpt2", description="name on the Hugging Face hub, or a folder with config.json and weights")
