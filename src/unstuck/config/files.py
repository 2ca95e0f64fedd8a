"""Read the configuration file beside a log, in whatever form it is, and edit single values in it in place.

Nothing is executed: a nanoGPT `config.py` is parsed, and only names set to literals (or arithmetic of literals, such as
`5 * 8`) are read. Every value is remembered with its line and with where in the text it stands, so that `unstuck fix`
can change that value and nothing else.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unstuck.config import yaml_nodes
from unstuck.config.dialects import guess_dialect
from unstuck.config.render import scalar as yaml_scalar
from unstuck.errors import UserError
from unstuck.runs import Setting, Source

MAX_BYTES = 4 << 20  # configuration files have kilobytes
SUFFIXES = (".json", ".yaml", ".yml", ".py", ".env")


@dataclass(frozen=True, slots=True)
class Located:
    """A value with its line (counted from 1) and its place in the text, text[start:end]."""

    value: Any
    line: int
    start: int
    end: int


def read_settings_file(path: Path) -> tuple[str, dict[str, Setting]]:
    """The dialect and every setting of a `.json`, `.yaml`/`.yml`, `.py` or `.env` file; nested keys are dotted.

    Raises:
        UserError: another kind of file, not text, or a syntax error, with its line.
    """
    settings = {key: Setting(found.value, key, Source(str(path), found.line)) for key, found in locate(path).items()}
    return guess_dialect(settings), settings


def locate(path: Path) -> dict[str, Located]:
    """Every value of a settings file by dotted key, with its place in the text."""
    return _reader(path)(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The file's text with its line ends as they are.

    Raises:
        UserError: too large or not text.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is too large for a configuration file; name the file with the settings.")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; name a .json, .yaml, .py or .env file.") from None


def edited(path: Path, changes: Mapping[str, Any]) -> str:
    """The file's text with some values changed or added, everything else as it was.

    Args:
        changes: dotted key as in the file -> new value.

    Raises:
        UserError: as `read_settings_file`, or a key that this form of file cannot take.
    """
    text = read_text(path)
    places = _reader(path)(text, str(path))
    form = _form(path)
    writers: dict[str, Callable[[Any], str]] = {".json": json.dumps, ".py": repr, ".env": _env_value}
    write = writers.get(form, yaml_scalar)
    for key, place in sorted(places.items(), key=lambda item: -item[1].start):
        if key in changes:
            text = text[: place.start] + write(changes[key]) + text[place.end :]
    for key, value in changes.items():
        if key not in places:
            text = _added(text, form, key, write(value), str(path))
    after = _reader(path)(text, str(path))  # what we write must read back as what was meant
    for key, value in changes.items():
        if key not in after or not _same(after[key].value, value):
            raise UserError(f"{path}: {key} cannot be changed by a program here; set {key} to {write(value)} by hand.")
    return text


def _form(path: Path) -> str:
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix == ".yml":
        return ".yaml"
    return ".env" if name == ".env" or name.startswith(".env.") else suffix


def _reader(path: Path) -> Callable[[str, str], dict[str, Located]]:
    readers = {".json": _json, ".yaml": _yaml, ".py": _python, ".env": _env}
    form = _form(path)
    if form not in readers:
        raise UserError(f"{path} is not a configuration file that unstuck reads; name a {', '.join(SUFFIXES)} file.")
    return readers[form]


def _json(text: str, file: str) -> dict[str, Located]:
    found: dict[str, Located] = {}
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
                found[prefix + key] = Located(value, text.count("\n", 0, at) + 1, at, end)
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


def _python(text: str, file: str) -> dict[str, Located]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise UserError(
            f"{file}:{line}: this is not valid Python ({getattr(error, 'msg', error)}); mend the file."
        ) from None
    except RecursionError:
        raise UserError(f"{file} is nested too deeply for a configuration; mend the file.") from None
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    data = text.encode()

    def offset(line: int, column: int) -> int:  # ast counts columns in UTF-8 bytes
        return len(data[: starts[line - 1] + column].decode())

    found: dict[str, Located] = {}
    known: dict[str, Any] = {}
    for name, node in _assignments(tree):
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


MAX_POWER = 64  # 10**6 and 2**20 are settings; anything larger is not
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
        return ARITHMETIC[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        inner = _literal(node.operand, known)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.Name):
        if node.id not in known:
            raise ValueError("a name that is not set above")
        return known[node.id]
    return ast.literal_eval(node)


ENV_LINE = re.compile(
    r"^[ \t]*(?:export[ \t]+|set[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*(.*?)[ \t]*$", re.MULTILINE
)


def _env(text: str, file: str) -> dict[str, Located]:
    found: dict[str, Located] = {}
    for match in ENV_LINE.finditer(text.replace("\r", " ")):
        written, start = match[2], match.start(2)
        if written[:1] in ("'", '"') and written.find(written[0], 1) > 0:
            end = written.find(written[0], 1) + 1
            value: Any = written[1 : end - 1]
        else:
            end = len(written) if "#" not in written else len(re.split(r"(?:^|\s+)#", written)[0])
            value = written[:end]
        with contextlib.suppress(UserError):  # text that is not YAML stays text
            value = yaml_nodes.parse(value, file).value if value else None
        found[match[1]] = Located(value, text.count("\n", 0, start) + 1, start, start + end)
    if not found:
        raise UserError(f"{file} holds no KEY=value lines; name the file with the settings.")
    return found


def _env_value(value: Any) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if re.fullmatch(r"[\w./:+-]*", text) else json.dumps(text)


def _added(text: str, form: str, key: str, written: str, file: str) -> str:
    """The text with a setting that it did not have."""
    end = "" if not text or text.endswith("\n") else "\n"
    top, _, rest = key.rpartition(".")
    if form in (".py", ".env") and not top:
        return f"{text}{end}{key}={written}\n" if form == ".env" else f"{text}{end}{key} = {written}\n"
    if form == ".json" and not top and "}" in text:
        at = text.rindex("}")
        before = text[:at].rstrip()
        comma = "" if before.endswith("{") else ","
        return f"{before}{comma}\n {json.dumps(key)}: {written}\n" + text[at:]
    if form == ".yaml" and not top:
        return f"{text}{end}{key}: {written}\n"
    if form == ".yaml":
        section = re.search(
            rf"^{re.escape(top)}:[ \t]*(?:#.*)?\r?$\n(?P<indent>[ \t]*(?=\S))?", text, flags=re.MULTILINE
        )
        if section:
            at = section.start("indent") if section["indent"] else section.end()
            return f"{text[:at]}{section['indent'] or '  '}{rest}: {written}\n{text[at:]}"
        if "." not in top:
            return f"{text}{end}{top}:\n  {rest}: {written}\n"
    raise UserError(f"{file} has no {key} and it cannot be added by a program; set {key} to {written} by hand.")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return float(a) == float(b)
    return bool(a == b) or (a in ("", None) and b is None)
