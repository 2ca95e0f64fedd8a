"""Questions and answers from JSON lines, the hub or the built-in set, in any of the usual forms.

{"prompt": "...", "response": "..."}            also completion, or question / answer
{"instruction": "...", "input": "...", "output": "..."}
{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unstuck.data.chat import Role, Turn
from unstuck.data.documents import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES, Part
from unstuck.data.hub import PREFIX, load_splits, parse_hub, rows_by_part
from unstuck.errors import UserError
from unstuck.wording import plural

SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})
# First form whose keys are there: what is said before the answer (joined by a blank line), and the answer.
FORMS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("prompt",), "response"),
    (("prompt",), "completion"),
    (("question",), "answer"),
    (("instruction", "input"), "output"),
    (("instruction", "input"), "response"),
)
ROLES: dict[str, Role] = {
    "user": "user", "human": "user", "prompter": "user", "system": "system",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns that belong together, the last one an answer.

    Attributes:
        source: label that validation losses are reported by.
        turns: at least one that asks and, last, one that answers.
        part: set where the data itself says which split it is in.
        topic: what it asks about, where the data say so: whatever tells of one topic is held out together.
    """

    source: str
    turns: tuple[Turn, ...]
    part: Part | None = None
    topic: str | None = None


def read_conversations(source: str) -> tuple[list[Conversation], list[str]]:
    """What `data.source` names, in a fixed order, and notes, one sentence each.

    Raises:
        UserError: nothing is there, or it holds no questions and answers.
    """
    if source == "builtin":
        from unstuck.data.questions import builtin_questions

        return builtin_questions(), []
    if source.startswith(PREFIX):
        name = parse_hub(source)
        used, notes = rows_by_part(load_splits(name))
        found: list[Conversation] = []
        empty = 0
        for part, split, rows in used:
            read, without = _read(rows, f"{name.where}, split {split}, row ", name.shown, part)
            found, empty = found + read, empty + without
    else:
        found, notes, empty = _read_files(Path(source).expanduser())
    if empty:
        notes.append(f"{plural(empty, 'example has', 'examples have')} no question or no answer: left out.")
    if len(found) < 2:
        too_few = plural(len(found), "question with an answer", "questions with answers")
        raise UserError(f"{source} holds {too_few}, too few to learn from; give more.")
    return found, notes


def _read_files(where: Path) -> tuple[list[Conversation], list[str], int]:
    if not where.exists():
        raise UserError(
            f"There are no questions at {where}: data.source is builtin, a JSON lines file or a folder of them; "
            "try data.source=builtin."
        )
    files = sorted(p for p in where.rglob("*") if p.suffix.lower() in SUFFIXES) if where.is_dir() else [where]
    if not files:
        raise UserError(
            f"The folder {where} has no file that ends in {', '.join(sorted(SUFFIXES))}; name a folder or file with "
            "questions and answers, or try data.source=builtin."
        )
    stems = {path.stem.lower() for path in files}
    ready = bool(stems & TRAIN_NAMES) and bool(stems & VALIDATION_NAMES)
    notes = ["The folder comes with its own split: data.validation_share has no effect."] if ready else []
    found: list[Conversation] = []
    empty = 0
    for path in files:
        stem, label = path.stem.lower(), path.stem
        part: Part | None = None
        if ready:
            if stem in TEST_NAMES:
                continue
            part = "validation" if stem in VALIDATION_NAMES else "train"
            label = where.resolve().name
        read, without = _read(_lines(path), f"{path}, line ", label, part)
        found, empty = found + read, empty + without
    return found, notes, empty


def _lines(path: Path) -> Iterator[Any]:
    """The objects of a JSON lines file, or of a file that is one JSON list."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); name another file with data.source=PATH.") from None
    if text.lstrip().startswith("["):
        try:
            yield from json.loads(text)
        except ValueError as error:
            raise UserError(f"{path} is not JSON ({error}); write one object a line.") from None
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}, line {number} is not JSON ({error}); write one object a line.") from None


def _read(rows: Iterable[Any], where: str, source: str, part: Part | None) -> tuple[list[Conversation], int]:
    """The conversations of rows, and how many rows had nothing to ask or to answer."""
    found, empty = [], 0
    for number, row in enumerate(rows, start=1):
        turns = turns_of(row, f"{where}{number}")
        asked = any(turn.role != "assistant" and turn.text.strip() for turn in turns)
        if asked and turns[-1].role == "assistant" and turns[-1].text.strip():
            found.append(Conversation(source, turns, part))
        else:
            empty += 1
    return found, empty


def turns_of(row: Any, where: str) -> tuple[Turn, ...]:
    """The turns of one row in any of the forms of the module docstring; what follows the last answer is left out.

    Raises:
        UserError: it is in none of them.
    """
    if isinstance(row, Mapping):
        said = row.get("messages") or row.get("conversations")
        if isinstance(said, list):
            return _messages(said, where)
        for asked, answer in FORMS:
            if asked[0] in row and answer in row:
                parts = [part for key in asked if (part := _text(row.get(key), where))]
                return (Turn("user", "\n\n".join(parts)), Turn("assistant", _text(row[answer], where)))
    keys = f"the keys {', '.join(map(str, row))}" if isinstance(row, Mapping) else "no object"
    raise UserError(
        f"{where} has {keys}; a question and its answer are prompt and response, question and answer, instruction and "
        "output, or messages."
    )


def _messages(said: list[Any], where: str) -> tuple[Turn, ...]:
    turns = []
    for message in said:
        role = ROLES.get(str(message.get("role", message.get("from")))) if isinstance(message, Mapping) else None
        if role is None:
            raise UserError(f"{where} has a message without a role user, assistant or system; give it one.")
        turns.append(Turn(role, _text(message.get("content", message.get("value")), where)))
    answers = [index for index, turn in enumerate(turns) if turn.role == "assistant"]
    return tuple(turns[: answers[-1] + 1]) if answers else tuple(turns)


def _text(said: Any, where: str) -> str:
    """What is said as text: numbers are written out (0 is an answer), nothing is empty, parts of text are joined."""
    if isinstance(said, list) and all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in said):
        said = "\n".join(part["text"] for part in said)
    if isinstance(said, list | Mapping):
        raise UserError(f"{where} has a question or an answer that is no text; write it as one string.")
    return "" if said is None else str(said).strip()
