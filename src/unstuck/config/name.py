"""One setting across frameworks: its canonical name, its unit, and what each dialect calls it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Name:
    """A canonical setting.

    Attributes:
        canonical: the name rules and remedies use.
        unit: what the value counts.
        spellings: dialect -> the names that dialect uses, the one to print first.
    """

    canonical: str
    unit: str
    spellings: dict[str, tuple[str, ...]] = field(default_factory=dict)


def name(
    canonical: str, unit: str, unstuck: str = "", huggingface: str = "", nanogpt: str = "", plain: str = ""
) -> Name:
    columns = {"unstuck": unstuck, "huggingface": huggingface, "nanogpt": nanogpt, "plain": plain}
    return Name(canonical, unit, {dialect: tuple(words.split()) for dialect, words in columns.items() if words})


def in_section(sections: str, keys: str) -> str:
    """Every key in every section: `optim.name`, `scheduler._target_` ..."""
    return " ".join(f"{section}.{key}" for section in sections.split() for key in keys.split())
