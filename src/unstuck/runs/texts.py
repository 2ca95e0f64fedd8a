"""Settings in the texts that programs log beside their scalars (`SummaryWriter.add_text`).

Seen in the sources: transformers writes its arguments and the model's configuration as JSON (`args`, `model_config`);
CleanRL a Markdown table (`hyperparameters`); fairseq the command line (`sys.argv`); MMEngine its configuration as
Python (`config`); Megatron one text per argument, the tag being its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unstuck.config.forms import reader
from unstuck.errors import UserError
from unstuck.runs.build import add_raw
from unstuck.runs.literal import literal_value
from unstuck.runs.logfile import parse_json
from unstuck.runs.run import Setting, Source
from unstuck.runs.tfsummary import Text

MAX_CHARS = 1 << 20  # ours: a configuration has kilobytes; more is generated text or data
MAX_SHORT = 100  # ours: characters of a text that is the value of one argument
MANY_SHORT = 10  # ours: so many texts of one word each are a list of arguments, not notes

_SUFFIX = "/text_summary"  # added to the tag by torch's and tensorboardX's writers
_FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.S)
_ROW = re.compile(r"^\s*\|\s*(?P<key>[^|]+?)\s*\|\s*(?P<value>.*?)\s*\|\s*$")
_RULE = re.compile(r"^[\s|:-]+$")
_OPTION = re.compile(r"(?:^|\s)--(?P<key>[A-Za-z][\w.-]*)(?:[=\s]+(?P<value>(?!--)\S+))?")
_NAME = re.compile(r"[A-Za-z_][\w.-]*")


def settings_of(texts: Iterable[Text], source: Source) -> dict[str, Setting]:
    """Untranslated settings, by key; those of the arguments win over those of the model's configuration."""
    found: dict[str, Setting] = {}
    single: dict[str, Setting] = {}
    for tag, text in texts:
        name, content = tag.removesuffix(_SUFFIX), text.strip()
        if len(content) > MAX_CHARS or not content:
            continue
        if fenced := _FENCE.match(content):
            content = fenced[1].strip()
        if values := _values(name, content):
            piece: dict[str, Setting] = {}
            add_raw(piece, values, source)
            found = {**found, **piece} if "model" not in name.lower() else {**piece, **found}
        elif len(content) <= MAX_SHORT and not re.search(r"\s", content) and _NAME.fullmatch(name):
            single.setdefault(name, Setting(_literal(content), name, source))
    words = sum(isinstance(setting.value, str) for setting in single.values())
    if len(single) >= MANY_SHORT or not words:
        found = {**single, **found}
    return found


def _values(name: str, content: str) -> dict[str, Any]:
    """The object that a text holds; empty where it holds none."""
    if content.startswith("{"):
        try:
            value = parse_json(content)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}
    lines = content.splitlines()
    rows = [row for line in lines if (row := _ROW.match(line)) and not _RULE.match(line)]
    if len(rows) >= 2 and len(rows) >= len(lines) - 1:
        return {row["key"]: _literal(row["value"]) for row in rows[1:]}
    if name == "sys.argv":
        return {m["key"]: True if m["value"] is None else _literal(m["value"]) for m in _OPTION.finditer(content)}
    if name == "config":
        try:
            return {key: found.value for key, found in reader(Path("config.py"))(content, name).items()}
        except UserError:
            return {}
    return {}


def _literal(written: str) -> Any:
    if written in ("true", "false"):
        return written == "true"
    try:
        return literal_value(written)
    except ValueError:
        return written
