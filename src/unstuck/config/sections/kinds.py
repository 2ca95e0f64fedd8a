"""Sections that come in several kinds: one key (`data.kind`, `model.architecture`, `task.kind`) decides which."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import BaseModel, Discriminator, Tag

from unstuck.config.sections.answers import AnswersConfig
from unstuck.config.sections.base import Section
from unstuck.config.sections.cortex import CortexConfig
from unstuck.config.sections.fields import FieldsConfig
from unstuck.config.sections.fno import FnoConfig
from unstuck.config.sections.from_start import FromStartConfig
from unstuck.config.sections.gpt import GPTConfig
from unstuck.config.sections.ltg_bert import LtgBertConfig
from unstuck.config.sections.pretrained import PretrainedConfig
from unstuck.config.sections.tasks import CausalTask, MaskedTask, OperatorTask
from unstuck.config.sections.text import TextConfig

# Section -> (the key that says the kind, the kinds). Without the key it is the first kind.
KINDS: dict[str, tuple[str, tuple[type[Section], ...]]] = {
    "task": ("kind", (CausalTask, MaskedTask, OperatorTask)),
    "data": ("kind", (TextConfig, AnswersConfig, FieldsConfig)),
    "model": (
        "architecture",
        (GPTConfig, CortexConfig, LtgBertConfig, FnoConfig, PretrainedConfig, FromStartConfig),
    ),
}


def kinds_of(section: str, cls: type[BaseModel]) -> tuple[str, ...]:
    """The values of the deciding key that mean this class."""
    return tuple(map(str, get_args(cls.model_fields[KINDS[section][0]].annotation)))


def class_of(section: str, kind: Any) -> type[Section] | None:
    """The class for a value of the deciding key; the first one for None; None when there is no such kind."""
    classes = KINDS[section][1]
    if kind is None:
        return classes[0]
    return next((cls for cls in classes if kind in kinds_of(section, cls)), None)


def _decides(section: str) -> Discriminator:
    def tag(value: Any) -> str | None:
        if isinstance(value, BaseModel):
            return type(value).__name__
        found = class_of(section, value.get(KINDS[section][0]) if isinstance(value, dict) else None)
        return None if found is None else found.__name__

    return Discriminator(tag)


AnyTask = Annotated[
    Annotated[CausalTask, Tag("CausalTask")]
    | Annotated[MaskedTask, Tag("MaskedTask")]
    | Annotated[OperatorTask, Tag("OperatorTask")],
    _decides("task"),
]
AnyData = Annotated[
    Annotated[TextConfig, Tag("TextConfig")]
    | Annotated[AnswersConfig, Tag("AnswersConfig")]
    | Annotated[FieldsConfig, Tag("FieldsConfig")],
    _decides("data"),
]
AnyModel = Annotated[
    Annotated[GPTConfig, Tag("GPTConfig")]
    | Annotated[CortexConfig, Tag("CortexConfig")]
    | Annotated[LtgBertConfig, Tag("LtgBertConfig")]
    | Annotated[FnoConfig, Tag("FnoConfig")]
    | Annotated[PretrainedConfig, Tag("PretrainedConfig")]
    | Annotated[FromStartConfig, Tag("FromStartConfig")],
    _decides("model"),
]
