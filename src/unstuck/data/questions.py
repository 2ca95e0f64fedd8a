"""The built-in questions and answers: made at run time from the documentation that ships with Python itself.

Three kinds, each in several wordings: what a function, class or module is for (the first sentence of its docstring),
what does what such a sentence says (the name), and where a name is defined (its module). The last can be answered from
the question alone, which tells a model that understood the question from one that learned to sound like an answer.
"""

from __future__ import annotations

import hashlib
import json
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from unstuck.data.cache import cache_folder, store, touch
from unstuck.data.chat import Turn
from unstuck.data.conversations import Conversation
from unstuck.data.corpus import builtin_identity, documented_modules
from unstuck.errors import UserError

# Raise when the questions made from the same Python change.
FORM = 2
# Characters of an answer. Assumption: shorter first sentences say nothing ("Helper."), and longer ones do not fit the
# recipe's window beside their question; the longest answer left has 53 tokens (docs/systems/factlm.md).
SHORTEST, LONGEST = 20, 160
SENTENCE = re.compile(r"[A-Z][^.]*(?:\.(?=[\w'`\"(])[^.]*)*\.(?=\s|$)")  # a dot inside a name ends no sentence

PURPOSE = ("What does {name} do?", "What is {name} for?", "Explain {name}.", "Tell me what {name} does.")
FINDING = ("Which part of {module} does this: {purpose}", "What in {module} fits this description: {purpose}")
PLACE = ("Which module defines {name}?", "Where is {name} defined?", "In which module do I find {name}?")


def builtin_questions() -> list[Conversation]:
    """The built-in set in a fixed order, about 6,000 questions with Python 3.11; cached by Python version.

    Raises:
        UserError: this Python comes without the sources of its standard library.
    """
    folder, name = cache_folder("questions"), f"builtin-{FORM}-{builtin_identity()}"
    rows: list[list[str]] = []
    if folder is not None:
        try:
            rows = json.loads((folder / name / "questions.json").read_text(encoding="utf-8"))
            touch(folder / name)
        except (OSError, ValueError):
            rows = []
    if not rows:
        stdlib = Path(sysconfig.get_path("stdlib"))
        rows = [list(row) for module, entries in documented_modules(stdlib) for row in _questions(module, entries)]
        if not rows:
            raise UserError(
                f"This Python comes without the sources of its standard library ({stdlib}), so there are no built-in "
                "questions; name a JSON lines file with data.source=PATH."
            )

        def write(target: Path) -> None:
            (target / "questions.json").write_text(json.dumps(rows), encoding="utf-8")

        store(folder, name, write)
    return [
        Conversation(kind, (Turn("user", asked), Turn("assistant", answer)), topic=topic)
        for kind, topic, asked, answer in rows
    ]


def _questions(module: str, entries: list[tuple[str, str]]) -> Iterator[tuple[str, str, str, str]]:
    """(kind, topic, question, answer) about one module.

    Questions of one topic tell each other's answers: those on one name, and on names with the same description.
    """
    for name, text in entries:
        if any(part.startswith("_") for part in name.split(".")):
            continue
        purpose = first_sentence(text)
        topic = purpose or name
        if purpose:
            yield "purpose", topic, _worded(PURPOSE, name, module, purpose), purpose
            # Of names a half, of modules a third: assumption, so that answers that are sentences outnumber the others.
            if name != module and _drawn(name, "finding") % 2:
                yield "finding", topic, _worded(FINDING, name, module, purpose), f"{name}."
        if name != module and _drawn(name, "place") % 3 == 0:
            yield "place", topic, _worded(PLACE, name, module, ""), f"It is defined in {module}."


def first_sentence(text: str) -> str | None:
    """The first sentence of a docstring on one line; None where there is none of a fair length."""
    paragraph = " ".join(text.split("\n\n", 1)[0].split())
    found = SENTENCE.match(paragraph)
    sentence = found.group() if found else ""
    return sentence if SHORTEST <= len(sentence) <= LONGEST else None


def _worded(wordings: tuple[str, ...], name: str, module: str, purpose: str) -> str:
    return wordings[_drawn(name, wordings[0]) % len(wordings)].format(name=name, module=module, purpose=purpose)


def _drawn(name: str, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{name}\0{purpose}".encode(), digest_size=4).digest())
