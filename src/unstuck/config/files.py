"""Read the configuration file beside a log, in whatever form it is, and edit single values in it in place.

Nothing is executed: a nanoGPT `config.py` is parsed, and only names set to literals (or arithmetic of literals, such as
`5 * 8`) are read. Every value is remembered with its line and with where in the text it stands, so that `unstuck fix`
can change that value and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unstuck.config.dialects import guess_dialect
from unstuck.config.forms import Located, form_of, reader
from unstuck.config.values import read_value
from unstuck.errors import UserError
from unstuck.runs import Setting, Source

MAX_BYTES = 1 << 20  # ours: configuration files have kilobytes


def read_settings_file(path: Path) -> tuple[str, dict[str, Setting]]:
    """The dialect and every setting of a .json, .yaml, .toml, .py or .env file; nested keys are dotted.

    Raises:
        UserError: another kind of file, not text, or a syntax error, with its line.
    """
    settings = {key: Setting(found.value, key, Source(str(path), found.line)) for key, found in locate(path).items()}
    return guess_dialect(settings), settings


def locate(path: Path) -> dict[str, Located]:
    """Every value of a settings file by dotted key, with its place in the text."""
    return reader(path)(read_text(path), str(path))


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
        raise UserError(f"{path} is not a text file; name a .json, .yaml, .toml, .py or .env file.") from None


def edited(path: Path, changes: Mapping[str, Any]) -> str:
    """The file's text with some values changed or added, everything else as it was.

    Args:
        changes: dotted key as in the file -> new value.

    Raises:
        UserError: as `read_settings_file`, or a key that this form of file cannot take.
    """
    from unstuck.config.render import scalar as yaml_scalar  # needs pydantic, which reading does without

    text = read_text(path)
    places = reader(path)(text, str(path))
    form = form_of(path)
    writers: dict[str, Callable[[Any], str]] = {".json": json.dumps, ".py": repr, ".gin": repr, ".env": _env_value}
    write = writers.get(form, yaml_scalar)
    if unplaced := [key for key in changes if key in places and places[key].end == 0]:
        raise UserError(f"{path}: {unplaced[0]} cannot be changed by a program here; change it by hand.")
    for key, place in sorted(places.items(), key=lambda item: -item[1].start):
        if key in changes and not _same(place.value, changes[key]):
            text = text[: place.start] + write(changes[key]) + text[place.end :]
    for key, value in changes.items():
        if key not in places:
            text = _added(text, form, key, write(value), str(path))
    after = reader(path)(text, str(path))  # what we write must read back as what was meant
    for key, value in changes.items():
        if key not in after or not _same(after[key].value, value):
            raise UserError(f"{path}: {key} cannot be changed by a program here; set {key} to {write(value)} by hand.")
    return text


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
    if isinstance(b, str) and isinstance(a, (int, float)):  # KEY=value lines hold no types
        return str(a) == b or float(a) == read_value("learning_rate", b)
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return float(a) == float(b)
    return bool(a == b) or (a in ("", None) and b is None)
