"""YAML in which every value remembers its line, numbers are numbers and nothing is dropped in silence.

PyYAML reads YAML 1.1, where `1e-4` is a string, `no` is False and `1:30` is ninety. Here scalars resolve as in the
core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), which is what people expect in a recipe.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from unstuck.errors import UserError

Path = tuple[str | int, ...]

TAG = "tag:yaml.org,2002:"
# A recipe has below 100 values; this stops what is no configuration, and aliases without end ("billion laughs").
MAX_NODES = 20_000
MAX_DEPTH = 100  # a recipe has four levels; the parser recurses


class _TooDeep(Exception):
    """Nested deeper than MAX_DEPTH; holds the line."""


class _TooMany(Exception):
    """More values than MAX_NODES; holds the line."""


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the core schema's resolvers instead of YAML 1.1's. Only composes nodes; constructs nothing."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own form)
    depth = 0
    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > MAX_DEPTH:
            raise _TooDeep(self.line + 1)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise _TooMany(self.line + 1)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_CoreLoader.add_implicit_resolver(TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_CoreLoader.add_implicit_resolver(TAG + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_CoreLoader.add_implicit_resolver(
    TAG + "int", re.compile(r"^[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+)$"), list("-+0123456789")
)
_CoreLoader.add_implicit_resolver(
    TAG + "float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


@dataclass(slots=True)
class Document:
    """A parsed YAML document.

    Attributes:
        file: as the user named it, for messages.
        value: dicts, lists and scalars.
        lines: path of keys and indices -> line of the value, counted from 1.
        key_lines: the same for the line of the key (or list item).
        tails: path of a scalar -> what stands behind it on its line (a comment).
        spans: path -> (start, end) of the value in the text.
    """

    file: str
    value: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    key_lines: dict[Path, int] = field(default_factory=dict)
    tails: dict[Path, str] = field(default_factory=dict)
    spans: dict[Path, tuple[int, int]] = field(default_factory=dict)


def parse(text: str, file: str, *, tolerant: bool = False) -> Document:
    """Parse one YAML document.

    Args:
        tolerant: a foreign file: values with a tag (`!!python/tuple`) are read as the plain value behind it.

    Raises:
        UserError: a tab, a syntax error, a duplicate key, a tag or an endless alias, with file and line.
    """
    document = Document(file)
    try:
        loader = _CoreLoader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except _TooDeep as error:
        raise UserError(_depth_sentence(file, error.args[0])) from None
    except _TooMany as error:
        raise UserError(
            f"{file}:{error.args[0]}: more than {MAX_NODES:,} values stand above; name the file with the settings."
        ) from None
    except yaml.MarkedYAMLError as error:
        raise UserError(_syntax_sentence(error, text, file)) from None
    except yaml.YAMLError:  # the reader: a character that YAML does not allow
        raise UserError(
            f"{file} is not a text that YAML allows (control characters); save it as plain UTF-8."
        ) from None
    if root is not None:
        _Walk(document, text.splitlines(), tolerant).node(root, (), ())
    return document


def parse_value(text: str, what: str) -> Any:
    """The value of a `key=value` override: a YAML scalar, list or mapping on one line.

    Raises:
        UserError: not YAML; names `what`.
    """
    try:
        return parse(text, what).value
    except UserError:
        raise UserError(f"{what}: '{text}' is not a value; put text with special characters in quotes.") from None


class _Walk:
    def __init__(self, document: Document, text_lines: list[str], tolerant: bool) -> None:
        self.document = document
        self.tolerant = tolerant
        self.text_lines = text_lines
        self.nodes = 0

    def node(self, node: yaml.Node, path: Path, above: tuple[int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.nodes += 1
        if id(node) in above or self.nodes > MAX_NODES:
            raise UserError(f"{self.document.file}:{line}: this alias repeats without end; write the values out.")
        if len(above) > MAX_DEPTH:  # aliases put what is nested below what is nested
            raise UserError(_depth_sentence(self.document.file, line))
        above = (*above, id(node))
        self.document.lines[path] = line
        self.document.spans[path] = (node.start_mark.index, node.end_mark.index)
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = {}
            first_line: dict[str, int] = {}
            for key_node, value_node in node.value:
                key, key_line = self.key(key_node)
                if key in first_line:
                    raise UserError(
                        f"{self.document.file}:{key_line}: the key '{key}' is given twice (first on line "
                        f"{first_line[key]}); keep one of them."
                    )
                first_line[key] = key_line
                self.document.key_lines[(*path, key)] = key_line
                value[key] = self.node(value_node, (*path, key), above)
        elif isinstance(node, yaml.SequenceNode):
            value = []
            for index, item in enumerate(node.value):
                self.document.key_lines[(*path, index)] = item.start_mark.line + 1
                value.append(self.node(item, (*path, index), above))
        else:
            value = self.scalar(node)
            end = node.end_mark
            if end.line < len(self.text_lines):
                self.document.tails[path] = self.text_lines[end.line][end.column :].strip()
        if path == ():
            self.document.value = value
        return value

    def key(self, node: yaml.Node) -> tuple[str, int]:
        line = node.start_mark.line + 1
        if not isinstance(node, yaml.ScalarNode):
            raise UserError(f"{self.document.file}:{line}: a key must be a plain word; put values behind 'key:'.")
        return str(node.value), line

    def scalar(self, node: yaml.Node) -> Any:
        tag, text = node.tag, node.value
        if tag == TAG + "str":
            return text
        if tag == TAG + "null":
            return None
        if tag == TAG + "bool":
            return text.lower() == "true"
        try:
            if tag == TAG + "int":
                return int(text.replace("_", ""), 10 if text.lstrip("+-").isdecimal() or "_" in text else 0)
            if tag == TAG + "float":
                return _float(text)
        except ValueError:
            pass
        if self.tolerant:
            return text
        line = node.start_mark.line + 1
        raise UserError(f"{self.document.file}:{line}: '{tag} {text}' is not understood; write a plain value.")


def _float(text: str) -> float:
    plain = text.lower().replace("_", "")
    if plain.lstrip("+-") == ".inf":
        return -math.inf if plain.startswith("-") else math.inf
    return math.nan if plain == ".nan" else float(plain)


def _depth_sentence(file: str, line: int) -> str:
    return f"{file}:{line}: this is nested too deeply (over {MAX_DEPTH} levels); close the brackets that are open here."


def _syntax_sentence(error: yaml.MarkedYAMLError, text: str, file: str) -> str:
    mark = error.problem_mark or error.context_mark
    line = 1 if mark is None else mark.line + 1
    lines = text.splitlines()
    shown = lines[line - 1] if line <= len(lines) else ""
    if "\\t" in (error.problem or "") or "\t" in shown[: len(shown) - len(shown.lstrip())]:
        return f"{file}:{line}: there is a tab; YAML is indented with spaces, so replace it by spaces."
    if "expected a single document" in (error.context or "") + (error.problem or ""):
        return f"{file}:{line}: a second document starts here; keep one recipe per file (remove '---')."
    problem = (error.problem or "syntax error").replace("\n", " ")
    return f"{file}:{line}: this is not valid YAML ({problem}); check the colon, the indentation and the quotes here."
