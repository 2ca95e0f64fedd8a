"""A bounded change of configuration: canonical keys, old and new value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """One setting's old and new value.

    `key` is canonical (see `unstuck.config.dialects`); translate with `dialects.in_dialect` before showing it.
    """

    key: str
    old: Any
    new: Any


ConfigPatch = tuple[Change, ...]
