"""Words that depend on numbers."""

from __future__ import annotations


def plural(count: float, one: str, many: str | None = None) -> str:
    """`1 finding`, `2,000 findings`; `plural(n, "core is", "cores are")` where more than the noun changes."""
    number = f"{count:,g}" if isinstance(count, float) else f"{count:,}"
    return f"{number} {one if count == 1 else many or one + 's'}"
