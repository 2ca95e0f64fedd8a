"""`model.architecture: pretrained`: a model in Hugging Face form, trained as a whole or through adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class AdapterConfig(Section):
    kind: Literal["none", "lora"] = Field(
        "none",
        description="none: every weight is trained; lora: the weights stay as they are and low-rank adapters beside "
        "them are trained (arXiv 2106.09685)",
    )
    rank: int = Field(16, ge=1, description="lora: rank of an adapter")
    alpha: float | None = Field(
        None, gt=0, description="lora: an adapter's output is scaled by alpha / rank; null: twice the rank"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="lora: dropout before an adapter")
    targets: Literal["auto"] | tuple[str, ...] = Field(
        "auto",
        description="lora: names of the layers that get an adapter, as in [c_attn, c_proj]; auto: every linear layer "
        "of attention and MLP",
    )


class PretrainedConfig(Section):
    architecture: Literal["pretrained"] = Field("pretrained", description="a model in Hugging Face form")
    path: str = Field(
        "gpt2",
        description="a folder with config.json and model.safetensors, a run folder of architecture gpt2, or a name on "
        "the Hugging Face hub",
    )
    adapter: AdapterConfig = AdapterConfig()
    dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout probability everywhere in the model; null: what its config.json says"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations twice instead of keeping them: less memory, about a third slower"
    )
    start_check: Literal["stop", "report"] = Field(
        "stop",
        description="when the loss before the first update is not a pretrained model's (labels shifted wrong, random "
        "weights, another tokenizer); stop: train nothing; report: say so and go on",
    )
