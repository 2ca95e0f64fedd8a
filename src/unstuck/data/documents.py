"""Documents from a text file or a folder of text files, each with the source it belongs to."""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from unstuck.errors import UserError
from unstuck.wording import plural

TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".markdown", ".rst", ".org", ".tex", ".asc", ".adoc", ""})
# A NUL in the first bytes marks a binary file, as in git (buffer_is_binary in xdiff-interface.c looks at 8000 bytes).
BINARY_PROBE_BYTES = 8000
# Each source has its own row in every evaluation: more files than this stay one source for each folder. Assumption: the
# 29 books of FactLM can be read one by one, and a shelf twice as long just so.
FILES_AS_SOURCES = 64
TRAIN_NAMES = frozenset({"train", "training"})
VALIDATION_NAMES = frozenset({"val", "valid", "validation", "dev"})
TEST_NAMES = frozenset({"test", "heldout", "held-out"})

Part = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class Document:
    """One text that belongs together and is never divided between training and validation without saying so.

    Attributes:
        source: label that validation losses are reported by.
        name: unique within the source.
        text: the text, with line ends as \\n.
        part: set where the folder itself says which split the document is in.
    """

    source: str
    name: str
    text: str
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents in a fixed order, and what a reader of the result should know about them, one sentence each."""

    documents: list[Document]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that will become one document."""

    path: Path
    source: str
    name: str
    part: Part | None = None


def find_files(where: Path, sources: Literal["folders", "files"] = "folders") -> tuple[list[TextFile], list[str]]:
    """The text files of a folder, or the one file named, in a fixed order, with notes.

    The source is the top-level subfolder; files directly in the folder belong to a source with the folder's name. With
    `sources="files"` each file is a source, as long as there are no more than `FILES_AS_SOURCES`.
    A folder whose subfolders are a ready split (train beside val, valid, validation or dev) is taken as that split.

    Raises:
        UserError: nothing is there, it cannot be read, or it has no text file.
    """
    if not where.exists():
        raise UserError(
            f"There is no text at {where}: data.source is builtin, a text file or a folder of text files; "
            "try data.source=builtin."
        )
    if not where.is_dir() and not where.is_file():
        raise UserError(f"{where} is neither a file nor a folder; name a text file or folder with data.source=PATH.")
    if where.is_file():
        return [TextFile(where, where.stem or where.name, where.name)], []
    files: list[TextFile] = []
    skipped = 0
    unreadable: list[str] = []
    for folder, subfolders, names in os.walk(where, onerror=lambda e: unreadable.append(str(e.filename))):
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            if path.suffix.lower() not in TEXT_SUFFIXES:
                skipped += 1
                continue
            inside = path.relative_to(where).parts
            source = inside[0] if len(inside) > 1 else where.resolve().name or "text"
            files.append(TextFile(path, source, "/".join(inside)))
    if not files:
        raise UserError(
            f"The folder {where} has no text file ({', '.join(sorted(TEXT_SUFFIXES - {''}))})"
            + (f" among its {plural(skipped, 'file')}" if skipped else "")
            + "; name a folder or file with text, or try data.source=builtin."
        )
    notes = []
    if skipped:
        notes.append(f"{_files(skipped)} left out because the name does not end like a text file's.")
    if unreadable:
        left = plural(len(unreadable), "folder that could not be read was", "folders that could not be read were")
        notes.append(f"{left} left out, first {unreadable[0]}.")
    files = _ready_split(sorted(files, key=lambda f: (f.source, f.name)), notes)
    return (_each_a_source(files, notes) if sources == "files" else files), notes


def _each_a_source(files: list[TextFile], notes: list[str]) -> list[TextFile]:
    """Name each file's source after the file; where two would share a name, after its path."""
    if len(files) > FILES_AS_SOURCES:
        notes.append(
            f"There are {len(files)} files, more than the {FILES_AS_SOURCES} that data.sources=files reports one by "
            "one: each folder is a source."
        )
        return files
    stems = [Path(f.name).stem for f in files]
    return [
        replace(file, source=stem if stems.count(stem) == 1 else file.name)
        for file, stem in zip(files, stems, strict=True)
    ]


def _ready_split(files: list[TextFile], notes: list[str]) -> list[TextFile]:
    """Mark the part of each file where the top-level folders are train and validation (and test, which is left out)."""
    tops = {f.source for f in files if "/" in f.name}
    low = {top.lower() for top in tops}
    known = TRAIN_NAMES | VALIDATION_NAMES | TEST_NAMES
    if not (low & TRAIN_NAMES and low & VALIDATION_NAMES and low <= known) or any("/" not in f.name for f in files):
        return files
    marked: list[TextFile] = []
    for file in files:
        top, *rest = file.name.split("/")
        if top.lower() in TEST_NAMES:
            continue
        part: Part = "train" if top.lower() in TRAIN_NAMES else "validation"
        source = rest[0] if len(rest) > 1 else file.path.parent.resolve().parent.name or "text"
        marked.append(TextFile(file.path, source, file.name, part))
    notes.append(
        f"The folder comes with its own split ({', '.join(sorted(tops))}), which is used as it is: "
        "data.validation_share and data.validation_split have no effect."
    )
    return marked


def read_documents(files: list[TextFile]) -> Corpus:
    """Decode the files: UTF-8 (UTF-16 by its byte order mark), wrong bytes replaced and noted, binary files left out.

    Raises:
        UserError: no file could be read as text, or all are empty.
    """
    documents: list[Document] = []
    binary: list[str] = []
    unreadable: list[str] = []
    replaced: list[str] = []
    for file in files:
        try:
            raw = file.path.read_bytes()
        except OSError as error:
            unreadable.append(f"{file.path} ({error.strerror})")
            continue
        text, wrong = decode(raw)
        if text is None:
            binary.append(str(file.path))
            continue
        if wrong:
            replaced.append(str(file.path))
        if text.strip():
            documents.append(Document(file.source, file.name, text, file.part))
    notes = []
    if binary:
        notes.append(f"{_files(len(binary))} left out as binary, first {binary[0]}.")
    if unreadable:
        notes.append(f"{_files(len(unreadable))} could not be read, first {unreadable[0]}.")
    if replaced:
        notes.append(
            f"{_files(len(replaced))} not valid UTF-8: wrong bytes were replaced by the character U+FFFD, "
            f"first {replaced[0]}."
        )
    if not documents:
        first = files[0].path
        if unreadable:
            why = f"{unreadable[0]} could not be read"
        elif binary:
            why = f"{binary[0]} is a binary file"
        else:
            why = f"{first} is empty" if len(files) == 1 else "all files are empty"
        raise UserError(f"There is no text to train on: {why}; name a text file or folder with data.source=PATH.")
    return Corpus(documents, notes)


def decode(raw: bytes) -> tuple[str | None, bool]:
    """Bytes to text with line ends as \\n, and whether bytes had to be replaced; text None for a binary file."""
    wrong = False
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = raw.decode("utf-16", errors="replace")
        wrong = "\ufffd" in text
    elif b"\0" in raw[:BINARY_PROBE_BYTES]:
        return None, False
    else:
        raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            text = raw.decode("utf-8", errors="replace")
            wrong = True
    return (text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text), wrong


def content_hash(files: list[TextFile]) -> str:
    """A hash of names and contents, read in pieces so that a large corpus is not held in memory."""
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(f"{file.source}\0{file.name}\0{file.part}\0".encode(errors="surrogateescape"))
        for block in _blocks(file.path):
            digest.update(block)
        digest.update(b"\0\0")
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                yield block
    except OSError:
        return  # read_documents notes it


def _files(count: int) -> str:
    return plural(count, "file was", "files were")
