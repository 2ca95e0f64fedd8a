"""A complete recipe as commented YAML that loads back to the same `Config`."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from unstuck import __version__
from unstuck.config import keys
from unstuck.config.schema import Config
from unstuck.config.yaml_nodes import parse
from unstuck.errors import UserError

WIDTH = 116
DIGEST = re.compile(r"^# Digest of the values: ([0-9a-f]{12})", re.MULTILINE)
HEADER = (
    "# unstuck {version}: a complete recipe. '# from:' behind a value says where it came from; the rest are defaults.\n"
    "# Digest of the values: {digest} (once they are edited, each value comes from this file).\n"
)


def digest_of(config: Config) -> str:
    """12 hexadecimal digits that change with any value."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:12]


def render(config: Config, origins: Mapping[str, str], *, comments: bool) -> str:
    """The recipe as YAML, keys in the schema's order; see `Recipe.to_yaml`."""
    lines: list[str] = []
    if comments:
        lines += HEADER.format(version=__version__, digest=digest_of(config)).splitlines()
    for name, value in config:
        if isinstance(value, BaseModel):
            lines += [""] if comments else []
            lines += _section(name, value, "", origins, comments)
        else:
            after_section = bool(lines) and lines[-1].startswith("  ")
            lines += [""] if comments and after_section else []
            lines += _entry(keys.leaf_of(name), name, value, "", origins, comments)
    return "\n".join(lines) + "\n"


def _section(dotted: str, section: BaseModel, indent: str, origins: Mapping[str, str], comments: bool) -> list[str]:
    lines = [f"{indent}{dotted.rpartition('.')[2]}:"]
    leaves = keys.leaves_of(type(section), dotted + ".")
    for key, inner in section:
        if isinstance(inner, BaseModel):
            lines += _section(f"{dotted}.{key}", inner, indent + "  ", origins, comments)
        else:
            lines += _entry(leaves.get(f"{dotted}.{key}"), f"{dotted}.{key}", inner, indent + "  ", origins, comments)
    return lines


def _entry(
    leaf: keys.Leaf | None, dotted: str, value: Any, indent: str, origins: Mapping[str, str], comments: bool
) -> list[str]:
    lines: list[str] = []
    key = dotted.rpartition(".")[2]
    if comments and leaf is not None:
        text = leaf.description
        if not isinstance(value, tuple) and leaf.default != value and leaf.default is not None:
            text += f" (default {scalar(leaf.default)})"
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    if isinstance(value, tuple) and value and all(isinstance(item, BaseModel) for item in value):
        lines.append(f"{indent}{key}:")
        for index, item in enumerate(value):
            start = f"{indent}  - "
            for inner, setting in item:
                origin = _from(f"{dotted}.{getattr(item, 'name', index)}.{inner}", origins, comments)
                lines.append(f"{start}{inner}: {scalar(setting)}{origin}")
                start = f"{indent}    "
        return lines
    lines.append(f"{indent}{key}: {scalar(value)}{_from(dotted, origins, comments)}")
    return lines


def _from(dotted: str, origins: Mapping[str, str], comments: bool) -> str:
    origin = origins.get(dotted, "default")
    return f"  # from: {' '.join(origin.split())}" if comments and origin != "default" else ""


def scalar(value: Any) -> str:
    """A value in YAML that every YAML reader takes for the same value (`1.0e-05`: YAML 1.1 wants the point)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(scalar(v) for v in value) + "]"
    text = str(value)
    if re.fullmatch(r"[A-Za-z_~./][\w./~+-]*", text) and _reads_as_itself(text):
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=False, width=1_000_000)).rstrip("\n")


def _reads_as_itself(text: str) -> bool:
    try:
        # y, n, yes, no, on, off are booleans to readers of YAML 1.1.
        return parse(text, "").value == text and text.lower() not in {"y", "n", "yes", "no", "on", "off"}
    except UserError:
        return False
