"""The forms of settings files: JSON, YAML, TOML, INI, Python assignments and KEY=value lines, each with its place.

Nothing is executed: a nanoGPT `config.py` is parsed, and only names set to literals (or arithmetic of literals, such as
`5 * 8`) are read.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
import tomllib
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.config import yaml_nodes
from unstuck.errors import UserError

MAX_LINES = 5000  # ours: an environment has hundreds of KEY=value lines
MAX_PYTHON = 256 << 10  # ours: a config.py has kilobytes; its syntax tree takes some 500 times its text (measured)
SUFFIXES = (".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".py", ".env", ".gin")
# What programs call files of options that hold one of the forms above: ParlAI's .opt is JSON, pix2pix's opt.txt lines.
OPTIONS = (".opt", ".opts", ".args", ".hparams", ".params", ".options", ".settings", ".config", ".conf", ".txt")
_SNIFFED = 4096  # ours: bytes looked at for the form of such a file


@dataclass(frozen=True, slots=True)
class Located:
    """A value with its line (counted from 1) and its place in the text, text[start:end]."""

    value: Any
    line: int
    start: int
    end: int


def form_of(path: Path) -> str:
    """The form of a settings file, by its name: `.json`, `.yaml`, `.toml`, `.ini`, `.py`, `.env` or another suffix."""
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix in (".yml", ".cfg"):
        return {".yml": ".yaml", ".cfg": ".ini"}[suffix]
    if suffix in OPTIONS:
        return _form_inside(path) or suffix
    return ".env" if name == ".env" or name.startswith(".env.") else suffix


def _form_inside(path: Path) -> str | None:
    """The form of a file of options by its first lines: JSON, `key: value` or `key = value`; None for another."""
    try:
        with path.open("rb") as file:
            text = file.read(_SNIFFED).decode("utf-8", errors="replace")
    except OSError:
        return None
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        return ".json"
    lines = [line for line in text.splitlines()[:-1] or text.splitlines() if line.strip() and line[:1] not in "#;"]
    for form, pattern in ((".yaml", r"\s*(?:- )?[\w.-]+ ?:(?: |$)"), (".ini", r"\s*[\w.-]+ *=|\[[\w.-]+\]$")):
        if lines and all(re.match(pattern, line) for line in lines):
            return form
    return None


def reader(path: Path) -> Callable[[str, str], dict[str, Located]]:
    """The function (text, file name) -> values by dotted key for this file; it raises UserError on a syntax error.

    Raises:
        UserError: not a form that is read here.
    """
    readers = {".json": _json, ".yaml": _yaml, ".toml": _toml, ".ini": _ini, ".py": _python, ".env": _env, ".gin": _gin}
    form = form_of(path)
    if form not in readers:
        raise UserError(f"{path} is not a configuration file that unstuck reads; name a {', '.join(SUFFIXES)} file.")
    return readers[form]


def _line_of(text: str) -> Callable[[int], int]:
    """The function character offset -> line, counted from 1."""
    ends = [found.start() for found in re.finditer("\n", text)]
    return lambda at: bisect_left(ends, at) + 1


def _json(text: str, file: str) -> dict[str, Located]:
    found: dict[str, Located] = {}
    line_of = _line_of(text)
    decoder = json.JSONDecoder()
    blank = re.compile(r"[ \t\r\n]*")

    def skip(at: int) -> int:
        match = blank.match(text, at)
        return match.end() if match else at

    def mapping(at: int, prefix: str) -> int:
        at = skip(at + 1)
        while text[at : at + 1] != "}":
            if text[at : at + 1] != '"':
                raise json.JSONDecodeError("a key in double quotes is expected", text, at)
            key, at = decoder.raw_decode(text, at)
            at = skip(at)
            if text[at : at + 1] != ":":
                raise json.JSONDecodeError("':' is expected", text, at)
            at = skip(at + 1)
            if text[at : at + 1] == "{" and text[skip(at + 1) : skip(at + 1) + 1] != "}":
                at = mapping(at, f"{prefix}{key}.")
            else:
                value, end = decoder.raw_decode(text, at)
                found[prefix + key] = Located(value, line_of(at), at, end)
                at = end
            at = skip(at)
            if text[at : at + 1] == ",":
                at = skip(at + 1)
            elif text[at : at + 1] != "}":
                raise json.JSONDecodeError("',' or '}' is expected", text, at)
        return at + 1

    try:
        start = skip(1 if text.startswith("\ufeff") else 0)
        if text[start : start + 1] != "{":
            raise json.JSONDecodeError("an object '{...}' is expected", text, start)
        mapping(start, "")
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: this is not valid JSON ({error.msg}); mend the file.") from None
    except RecursionError:
        raise UserError(f"{file} is nested too deeply for a configuration; mend the file.") from None
    except ValueError:  # Python refuses integers of more than 4300 digits
        raise UserError(f"{file} holds a number that is too long; mend the file.") from None
    return found


def _yaml(text: str, file: str) -> dict[str, Located]:
    document = yaml_nodes.parse(text, file, tolerant=True)
    if not isinstance(document.value, dict):
        raise UserError(f"{file} holds no 'key: value' lines; name the file with the settings.")
    found: dict[str, Located] = {}

    def walk(value: Any, path: yaml_nodes.Path, dotted: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, (*path, key), f"{dotted}.{key}" if dotted else key)
        elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):  # our parameter groups, by name
                walk(item, (*path, index), f"{dotted}.{item.get('name', index)}")
        else:
            found[dotted] = Located(value, document.key_lines[path], *document.spans[path])

    walk(document.value, (), "")
    return found


def _toml(text: str, file: str) -> dict[str, Located]:
    values: dict[str, Any] = {}

    def walk(value: Any, dotted: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{dotted}.{key}" if dotted else key)
        else:
            values[dotted] = value

    try:
        walk(tomllib.loads(text), "")
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file}: this is not valid TOML ({error}); mend the file.") from None
    except RecursionError:
        raise UserError(f"{file} is nested too deeply for a configuration; mend the file.") from None
    except ValueError:  # Python refuses integers of more than 4300 digits
        raise UserError(f"{file} holds a number that is too long; mend the file.") from None
    places: dict[str, tuple[int, int, int]] = {}
    table, at = "", 0
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?$", line):
            table = header[1].strip().replace('"', "") + "."
        elif entry := re.match(r"""\s*([\w."-]+)\s*=\s*("[^"]*"|'[^']*'|[^#\n]*?)\s*(?:#.*)?$""", line):
            places[table + entry[1].replace('"', "")] = (number, at + entry.start(2), at + entry.end(2))
        at += len(line)
    # A value written in a way that the patterns miss (several lines, inline tables) is read but cannot be edited.
    return {key: Located(value, *places.get(key, (1, 0, 0))) for key, value in values.items()}


def _python(text: str, file: str) -> dict[str, Located]:
    if len(text) > MAX_PYTHON:
        raise UserError(f"{file} is too large for a configuration file; name the file with the settings.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of odd text; nothing is run
            tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise UserError(
            f"{file}:{line}: this is not valid Python ({getattr(error, 'msg', error)}); mend the file."
        ) from None
    except (RecursionError, MemoryError):  # CPython's parser calls its own stack memory
        raise UserError(f"{file} is nested too deeply for a configuration; mend the file.") from None
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    begins = (np.frombuffer(text.encode(), dtype=np.uint8) & 0xC0) != 0x80  # bytes that begin a character in UTF-8
    characters = np.append(0, np.cumsum(begins))

    def offset(line: int, column: int) -> int:  # ast counts columns in UTF-8 bytes
        return int(characters[starts[line - 1] + column])

    found: dict[str, Located] = {}
    known: dict[str, Any] = {}
    for name, node in (leaf for assigned in _assignments(tree) for leaf in _leaves(*assigned)):
        try:
            value = _literal(node, known)
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            known.pop(name, None)  # set to something that only running the file would tell
            found.pop(name, None)
            continue
        known[name] = value
        start = offset(node.lineno, node.col_offset)
        end = offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
        found[name] = Located(value, node.lineno, start, end)
    return found


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """`name = value` and `name: type = value` at the top level."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            yield statement.target.id, statement.value


def _leaves(name: str, node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """The values of `optimizer = dict(type="AdamW", lr=1e-3)` and of `{"lr": 1e-3}` by dotted key, else the value."""
    inner: list[tuple[str | None, ast.expr]] = []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        inner = [(keyword.arg, keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        inner = [
            (key.value if isinstance(key, ast.Constant) and isinstance(key.value, str) else None, value)
            for key, value in zip(node.keys, node.values, strict=True)
        ]
    if not inner or any(key is None for key, _ in inner):
        yield name, node
        return
    for key, value in inner:
        yield from _leaves(f"{name}.{key}", value)


MAX_POWER = 64  # 10**6 and 2**20 are settings; anything larger is not
MAX_BITS = MAX_POWER * MAX_POWER  # the largest power that is taken; a file that squares line after line ends here
ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: lambda a, b: a**b if abs(b) <= MAX_POWER and abs(a) <= 1 << MAX_POWER else _too_large(),
}


def _too_large() -> Any:
    raise ValueError("too large for a setting")


def _literal(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """The value of a literal, of arithmetic on numbers, or of a name set above; ValueError for anything else."""
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        left, right = _literal(node.left, known), _literal(node.right, known)
        if not all(isinstance(v, (int, float)) for v in (left, right)):
            raise ValueError("arithmetic on something else than numbers")
        value = ARITHMETIC[type(node.op)](left, right)
        return value if not isinstance(value, int) or value.bit_length() <= MAX_BITS else _too_large()
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        inner = _literal(node.operand, known)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Name):
        if node.id not in known:
            raise ValueError("a name that is not set above")
        return known[node.id]
    return ast.literal_eval(node)


INI_LINE = re.compile(
    r"^(?:[ \t]*\[(?P<section>[^\]\n]+)\]|(?P<key>[A-Za-z_][^=:\n]{0,80}?)[ \t]*[=:][ \t]*+(?P<value>.*))",
    re.MULTILINE,
)


def _ini(text: str, file: str) -> dict[str, Located]:
    """`[section]` and `key = value` or `key: value`; lines that begin with `#` or `;` are comments (configparser)."""
    found: dict[str, Located] = {}
    line_of = _line_of(text)
    section = ""
    for match in INI_LINE.finditer(text):
        if match["section"] is not None:
            section = match["section"].strip()
            continue
        written, start = match["value"].rstrip(), match.start("value")
        value: Any = written or None
        with contextlib.suppress(UserError):  # text that is not YAML stays text
            value = yaml_nodes.parse(written, file).value if written else None
        key = match["key"].strip()
        found[f"{section}.{key}" if section else key] = Located(value, line_of(start), start, start + len(written))
        if len(found) > MAX_LINES:
            raise UserError(f"{file} holds more than {MAX_LINES:,} settings; name the file with the settings.")
    if not found:
        raise UserError(f"{file} holds no 'key = value' lines; name the file with the settings.")
    return found


ENV_LINE = re.compile(r"^[ \t]*(?:export[ \t]+|set[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*+(.*)$", re.MULTILINE)


def _env(text: str, file: str) -> dict[str, Located]:
    found: dict[str, Located] = {}
    line_of = _line_of(text)
    for match in ENV_LINE.finditer(text.replace("\r", " ")):
        written, start = match[2].rstrip(" \t"), match.start(2)
        if written[:1] in ("'", '"') and written.find(written[0], 1) > 0:
            end = written.find(written[0], 1) + 1
            value: Any = written[1 : end - 1]
        else:
            comment = re.search(r"(?:^|(?<=\s))#", written)
            value = written if comment is None else written[: comment.start()].rstrip()
            end = len(value)
            with contextlib.suppress(UserError):  # text that is not YAML stays text
                value = yaml_nodes.parse(value, file).value if value else None
        found[match[1]] = Located(value, line_of(start), start, start + end)
        if len(found) > MAX_LINES:
            raise UserError(f"{file} holds more than {MAX_LINES:,} settings; name the file with the settings.")
    if not found:
        raise UserError(f"{file} holds no KEY=value lines; name the file with the settings.")
    return found


_GIN_LINE = re.compile(
    r"^(?:(?P<block>[\w./]+):|(?P<indent>[ \t]*)(?P<key>[\w./]+)[ \t]*=[ \t]*(?P<value>[^\r\n]*?))[ \t]*(?:#.*)?\r?$",
    re.MULTILINE,
)


def _gin(text: str, file: str) -> dict[str, Located]:
    """`Name.parameter = literal`, blocks of `Name:`, macros `NAME = literal` and `%NAME` (google/gin-config, the user
    guide); a reference `@Name()` is its name. Values over several lines are left out."""
    from unstuck.runs.literal import parsed_expression  # that package imports this one

    found: dict[str, Located] = {}
    line_of = _line_of(text)
    block = ""
    for match in _GIN_LINE.finditer(text):
        if match["block"] is not None:
            block = f"{match['block']}."
            continue
        block = block if match["indent"] else ""
        written, start = match["value"], match.start("value")
        if written[:1] == "%":  # a macro is another line's value: it is changed there
            macro = found.get(written[1:])
            value, start, end = (None if macro is None else macro.value), 0, 0
        elif written[:1] == "@":
            value, end = written[1:].removesuffix("()").rpartition(".")[2], 0
        else:
            try:
                short = len(written) <= _SNIFFED
                value, end = ast.literal_eval(parsed_expression(written)) if short else None, start + len(written)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                continue
        found[f"{block}{match['key']}".replace("/", ".")] = Located(value, line_of(match.start()), start, end)
        if len(found) > MAX_LINES:
            raise UserError(f"{file} holds more than {MAX_LINES:,} settings; name the file with the settings.")
    if not found:
        raise UserError(f"{file} holds no 'name = value' lines; name the file with the settings.")
    return found
