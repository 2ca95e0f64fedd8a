"""Hold out validation text, per source: whole documents or pieces of each, drawn by a hash, or the tail of the source.

The draw does not depend on the seed of the run. A run that starts from another run's weights, or resumes with a new
seed, would otherwise validate on text those weights were trained on; and losses of different seeds would be measured
on different text. Being a hash of each document's name, it also leaves the draw as it is when other documents come.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Literal

from unstuck.data.documents import Document
from unstuck.errors import UserError

Mode = Literal["document", "pieces", "tail"]

# Held-out pieces of a document: long enough that the text beside them, which is trained on, tells little of them, and
# several in a long book, so that its beginning, middle and end are all validated. Assumptions: 20,000 characters are a
# chapter, and 1,000 a page, below which a piece is mostly its borders. At a share of 0.1 a book needs 10,000 for one.
PIECE_CHARACTERS = 20_000
PIECE_SHORTEST = 1_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of one document; `ends` where the document ends with it (an end-of-text token follows)."""

    text: str
    ends: bool


@dataclass(slots=True)
class Split:
    """Training pieces in the order of the documents, validation pieces by source, and notes, one sentence each."""

    train: list[Piece] = field(default_factory=list)
    validation: dict[str, list[Piece]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def split(documents: list[Document], *, share: float, mode: Mode, seed: int = 0) -> Split:
    """Divide documents into training and validation.

    Args:
        documents: in their fixed order; those that carry a `part` are put there.
        share: of the characters of each source that validation gets; with whole documents the nearest possible.
        mode: `document` takes whole documents and cuts the tail only where a source has no document small enough
            (one document, or all larger than twice the share), which a note says; `pieces` takes pieces of every
            document that is long enough for one, and whole documents of the others; `tail` always cuts.
        seed: draws other documents; not the seed of the run, see above.

    Raises:
        UserError: one of the parts would be empty.
    """
    result = Split()
    if any(d.part for d in documents):
        for document in documents:
            piece = Piece(document.text, True)
            if document.part == "validation":
                result.validation.setdefault(document.source, []).append(piece)
            else:
                result.train.append(piece)
    else:
        by_source: dict[str, list[Document]] = {}
        for document in documents:
            by_source.setdefault(document.source, []).append(document)
        cut: list[str] = []
        for source, members in by_source.items():
            in_pieces = {d.name for d in members if mode == "pieces" and share * len(d.text) >= PIECE_SHORTEST}
            others = [d for d in members if d.name not in in_pieces]
            held_out = _draw(others, share, seed) if mode != "tail" else set()
            if not in_pieces and not held_out:
                _cut_tail(result, source, members, share)
                cut.append(source)
                continue
            result.validation[source] = []
            for document in members:
                if document.name in in_pieces:
                    _cut_pieces(result, document, share, seed)
                else:
                    part = result.validation[source] if document.name in held_out else result.train
                    part.append(Piece(document.text, True))
        if mode != "tail" and cut:
            result.notes.append(
                f"Validation is the last {share:.0%} of {', '.join(cut[:5])}{' and others' if len(cut) > 5 else ''} "
                "instead of whole documents: "
                + ("it is" if len(cut) == 1 else "each is")
                + " one document, or has none small enough."
            )
    result.validation = {source: pieces for source, pieces in result.validation.items() if pieces}
    if not result.train or not result.validation:
        empty = "training" if not result.train else "validation"
        raise UserError(
            f"The text is too short: nothing is left for {empty} with data.validation_share={share:g}; "
            "give more text or another share."
        )
    return result


def _draw(members: list[Document], share: float, seed: int) -> set[str]:
    """Names of the documents held out: taken in the order of their hashes while that comes nearer to the share."""
    target = share * sum(len(d.text) for d in members)
    taken = 0
    names: set[str] = set()
    for document in sorted(members, key=lambda d: _rank(d, seed)):
        after = taken + len(document.text)
        if abs(after - target) <= abs(taken - target) and len(names) + 1 < len(members):
            names.add(document.name)
            taken = after
    return names


def _cut_pieces(result: Split, document: Document, share: float, seed: int) -> None:
    """Hold out a piece of each n-th of a document, at a place drawn by its name, from one line end to another."""
    text, held_out = document.text, result.validation[document.source]
    count = max(1, round(share * len(text) / PIECE_CHARACTERS))
    stride = len(text) // count
    length = int(share * stride)
    draw = random.Random(_rank(document, seed))
    place = 0
    for index in range(count):
        drawn = index * stride + int(draw.random() * (stride - length))
        # The end of a paragraph is looked for within a quarter of the piece, an assumption.
        begin = _line_end(text, max(place, drawn), length // 4)
        end = _line_end(text, min(len(text), begin + length), length // 4)
        if begin > place:
            result.train.append(Piece(text[place:begin], False))
        if end > begin:
            held_out.append(Piece(text[begin:end], end == len(text)))
        place = end
    if place < len(text):
        result.train.append(Piece(text[place:], True))


def _line_end(text: str, place: int, reach: int) -> int:
    """The nearest end of a paragraph at or behind a place; else of a line; else the place."""
    for mark in ("\n\n", "\n"):
        found = text.find(mark, place, place + reach)
        if found >= 0:
            return found + len(mark)
    return place


def _rank(document: Document, seed: int) -> bytes:
    named = f"{seed}\0{document.source}\0{document.name}"
    return hashlib.blake2b(named.encode(errors="surrogateescape"), digest_size=8).digest()


def _cut_tail(result: Split, source: str, members: list[Document], share: float) -> None:
    """The last `share` of the source's characters goes to validation: int(n * (1 - share)) stay, as in nanoGPT's
    data/shakespeare_char/prepare.py."""
    left = int(sum(len(d.text) for d in members) * (1 - share))
    held_out = result.validation.setdefault(source, [])
    for document in members:
        head, tail = document.text[:left], document.text[left:]
        left -= len(head)
        if head:
            result.train.append(Piece(head, not tail))
        if tail:
            held_out.append(Piece(tail, True))


def shorten(documents: list[Document], characters: int, seed: int = 0) -> list[Document]:
    """At most so many characters: documents drawn by hash, so that every source keeps its share; the last one is cut.

    The order of the documents stays. A ready split loses training documents only.
    """
    kept: dict[tuple[str, str], Document] = {}
    left = characters
    for document in sorted(documents, key=lambda d: _rank(d, seed + 1)):
        if document.part == "validation":
            kept[document.source, document.name] = document
        elif left > 0:
            text = document.text[:left]
            left -= len(text)
            kept[document.source, document.name] = Document(document.source, document.name, text, document.part)
    return [kept[d.source, d.name] for d in documents if (d.source, d.name) in kept]
