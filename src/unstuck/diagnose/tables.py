"""The data files of `diagnose/data`: published learning rates and reference losses, each row with its source."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "data"  # not importlib.resources, whose import takes longer than reading both files


@cache
def table(name: str) -> dict[str, Any]:
    """One data file by its name without `.json`; read once, when first asked for."""
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found
