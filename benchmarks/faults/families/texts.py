"""Character text for the language families: Python's own documentation, in windows."""

from __future__ import annotations

import sysconfig
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from unstuck.data.cache import cache_folder, store
from unstuck.data.corpus import builtin_corpus

CODE_NAME, CODE_FILES = "code-text-1", 60
# printable ASCII and newline: what the built-in corpus is made of
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))


@cache
def split_text(source: str) -> tuple[str, str, str]:
    """Training, validation and clean text of a source: whole documents, a tenth each for the last two.

    Args:
        source: "library" or "topics" of the built-in corpus, or "code": modules of the standard library.
    """
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    texts = code_texts() if source == "code" else [d.text for d in builtin_corpus().documents if d.source == source]
    for place, text in enumerate(texts):
        parts[{3: 1, 7: 2}.get(place % 10, 0)].append(text)
    return "\n\n".join(parts[0]), "\n\n".join(parts[1]), "\n\n".join(parts[2])


def code_texts() -> list[str]:
    """The sources of the standard library's top-level modules, in plain characters."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [file.read_text(encoding="utf-8", errors="ignore").expandtabs(4) for file in files]
    return ["".join(c for c in text if c in CHARACTERS) for text in texts]


def encode(text: str) -> Tensor:
    """Ids of shape (len,): the place of each character in CHARACTERS."""
    table = torch.zeros(128, dtype=torch.long)
    for place, character in enumerate(CHARACTERS):
        table[ord(character)] = place
    return table[torch.frombuffer(bytearray(text.encode("ascii")), dtype=torch.uint8).long()]


@cache
def windows(source: str, part: int, length: int) -> Tensor:
    """Windows of shape (N, length) that do not overlap, in an order of their own (always the same)."""
    ids = encode(split_text(source)[part])
    count = len(ids) // length
    order = torch.randperm(count, generator=torch.Generator().manual_seed(part))
    return ids[: count * length].view(count, length)[order]


def code_folder() -> str:
    """Some of the code as text files, made once on this machine.

    Raises:
        OSError: there is no cache folder that can be written.
    """
    folder = cache_folder("faults")
    if folder is None:
        raise OSError("this family needs a cache folder that can be written; name one with UNSTUCK_CACHE")

    def write(target: Path) -> None:
        for place, text in enumerate(code_texts()[:CODE_FILES]):
            (target / f"{place:03d}.txt").write_text(text, encoding="utf-8")

    if not (folder / CODE_NAME).is_dir():
        store(folder, CODE_NAME, write)
    return str(folder / CODE_NAME)
