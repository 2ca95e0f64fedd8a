"""Values in JSON's types: one form for metrics, findings, proofs and the ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def json_ready(value: Any) -> Any:
    """The value in JSON's types, at any depth.

    Numbers that JSON cannot hold become the strings "nan", "inf" and "-inf", which `float` reads back; numpy's and
    torch's numbers and arrays become Python's; what JSON has no type for becomes its text.
    """
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_ready(item) for item in value]
    if hasattr(value, "tolist"):
        return json_ready(value.tolist())
    return str(value)


def number(value: Any) -> float:
    """Reads back a number that `json_ready` wrote; None (JSON's null) is nan."""
    return math.nan if value is None else float(value)
