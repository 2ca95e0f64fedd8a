"""The built-in corpus: the documentation that ships with Python itself, made at run time, nothing downloaded.

Two sources: `topics` (the language reference that `help()` shows, `pydoc_data.topics`) and `library` (docstrings of
the standard library). Everything is read from source text through `ast`; no module is imported or run. About 1.8 MB
with Python 3.11.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

from unstuck.data.cache import cache_folder, store, touch
from unstuck.data.documents import Corpus, Document
from unstuck.errors import UserError

# Raise when the text made from the same Python changes, so that cached corpora are not taken for the new one.
FORM = 1
# Files with less documentation than this share of their bytes are not parsed: on Python 3.11 that halves the time
# (0.98 s to 0.52 s of CPU) and keeps 1.40 of 1.72 MB of docstrings.
MIN_DOCUMENTATION_SHARE = 0.15
MIN_DOCUMENT_CHARACTERS = 200
SKIPPED_FOLDERS = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__", "pydoc_data"}
)
TRIPLE_QUOTED = re.compile(rb'"""[\s\S]*?"""')
TYPOGRAPHIC = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\xa0": " "})
NOT_PLAIN = re.compile(r"[^\n\x20-\x7e]")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def builtin_identity() -> str:
    """What the built-in corpus depends on: the Python that runs and the form of the extraction."""
    text = f"{FORM}\0{sys.version}\0{sysconfig.get_path('stdlib')}"
    return (
        f"{sys.version_info.major}.{sys.version_info.minor}-"
        + hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    )


def builtin_corpus() -> Corpus:
    """The built-in corpus in a fixed order; cached by Python version.

    Raises:
        UserError: this Python comes without the sources of its standard library.
    """
    folder = cache_folder("corpus")
    name = f"builtin-{builtin_identity()}"
    if folder is not None:
        try:
            rows = json.loads((folder / name / "documents.json").read_text(encoding="utf-8"))
            touch(folder / name)
            return Corpus([Document(*row) for row in rows])
        except (OSError, ValueError, TypeError):
            pass
    documents = _make(Path(sysconfig.get_path("stdlib")))

    def write(target: Path) -> None:
        rows = [(d.source, d.name, d.text) for d in documents]
        (target / "documents.json").write_text(json.dumps(rows), encoding="utf-8")

    store(folder, name, write)
    return Corpus(documents)


def _make(stdlib: Path) -> list[Document]:
    documents = _topics(stdlib / "pydoc_data" / "topics.py") + _library(stdlib)
    if not documents:
        raise UserError(
            f"This Python comes without the sources of its standard library ({stdlib}), so there is no built-in "
            "corpus; name a text file or folder with data.source=PATH."
        )
    return documents


def _topics(path: Path) -> list[Document]:
    """The language topics: the one dictionary of strings in `pydoc_data/topics.py`."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found[str(key.value)] = value.value
    documents = []
    seen: set[str] = set()
    for name in sorted(found):
        text = _plain(found[name])
        if text is not None and len(text) >= MIN_DOCUMENT_CHARACTERS and text not in seen:
            seen.add(text)
            documents.append(Document("topics", name, text))
    return documents


def _library(stdlib: Path) -> list[Document]:
    """One document for each module: its docstring and those of its classes and functions, each below its name."""
    documents = []
    for module, entries in documented_modules(stdlib):
        text = "\n".join(f"{name}\n\n{doc}\n" for name, doc in entries)
        if len(text) >= MIN_DOCUMENT_CHARACTERS:
            documents.append(Document("library", module, text))
    return documents


def documented_modules(stdlib: Path) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each module of the standard library with its docstrings: (qualified name, plain text), its own first.

    A docstring that was met before is left out, so that copies do not stand on both sides of a split.
    """
    seen: set[str] = set()
    for path in _source_files(stdlib):
        try:
            raw = path.read_bytes()
            if sum(map(len, TRIPLE_QUOTED.findall(raw))) < MIN_DOCUMENTATION_SHARE * len(raw):
                continue
            tree = ast.parse(raw)
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        parts = list(path.relative_to(stdlib).with_suffix("").parts)
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        entries = []
        for name, doc in _docstrings(tree, module):
            text = _plain(doc)
            if text and text not in seen:
                seen.add(text)
                entries.append((name, text))
        yield module, entries


def _source_files(stdlib: Path) -> list[Path]:
    files = []
    for folder, subfolders, names in os.walk(stdlib):
        subfolders[:] = sorted(s for s in subfolders if s not in SKIPPED_FOLDERS and not s.startswith((".", "config-")))
        files += [Path(folder, name) for name in sorted(names) if name.endswith(".py")]
    return files


def _docstrings(node: Documented, name: str) -> list[tuple[str, str]]:
    """(qualified name, docstring) of a module, class or function and, but for functions, what it contains."""
    doc = ast.get_docstring(node, clean=False)
    found = [] if doc is None else [(name, cleandoc(doc))]
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found += _docstrings(child, f"{name}.{child.name}")
    return found


def _plain(text: str) -> str | None:
    """Printable ASCII with trailing blanks removed; None for a text that needs other characters.

    The few such texts are dropped so that the character vocabulary stays at the 96 characters that can be learned.
    """
    text = text.translate(TYPOGRAPHIC).expandtabs(8)
    text = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
    return None if NOT_PLAIN.search(text) else text
