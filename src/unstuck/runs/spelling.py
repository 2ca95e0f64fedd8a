"""How a key is spelt: one form for all ways to write the same words."""

from __future__ import annotations

import re
from functools import cache

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORDS = re.compile(r"[a-z0-9]+")
_HELD_OUT = re.compile(r"\b(held|hold)[-_ ]out(?![a-z])")
# Units in brackets that change nothing: without any, nats, a norm. Of times and of bits the name keeps them.
_UNIT = re.compile(r"\s*[\[(](?:-|1|nats?(?:/\w{1,12})?|1/(?:step|update|iter)|a\.?u\.?|L_?2|unitless)[\])]\s*\Z", re.I)
GRADIENT_NORM = re.compile(r"(\|{1,2}|‖)(?:g|grad|gradient|∇)\1(?=[ :=]|\Z)")  # as it is written: |g|


@cache
def normalise(key: str) -> str:
    """`trainLoss`, `train/loss`, `Train Loss` -> `train_loss`."""
    lower = GRADIENT_NORM.sub("grad_norm", _CAMEL.sub("_", _UNIT.sub("", key)).lower())
    return "_".join(_WORDS.findall(_HELD_OUT.sub("heldout", lower)))


def words(text: str) -> tuple[str, ...]:
    """The words of a text, as a list of spellings is written down."""
    return tuple(text.split())
