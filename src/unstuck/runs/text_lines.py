"""A text log as rows, and a row as its shape: the text with its numbers taken out.

A row is what a terminal showed at one time: a line, or one state of a line that a carriage return began anew (a
progress bar). Two rows that differ in nothing but numbers, clock times and the drawing of a bar have the same shape.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from unstuck.runs.run import Ints

HOLE, CLOCK, BAR, RATE = "\0", "\1", "\2", "\3"  # what stands in a shape for a number, a time, a bar, tqdm's brackets
WORD = "\5"  # and for a word that differs from row to row
MAX_ROW = 4000  # ours: characters; a longer row is data or source code, not a line of numbers that somebody reads

_RESERVED = str.maketrans({HOLE: " ", CLOCK: " ", BAR: " ", RATE: " "})
# ECMA-48 control sequences (colours, cursor movements) and operating system commands (window titles).
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_BACKSPACES = re.compile("\b+")
_RETURNS = re.compile("\r{2,}")  # the cursor is back already
# tqdm leaves the cursor behind its bar, so that what the program prints next stands in the same line.
_BEHIND_BAR = re.compile(r"(\d%\|[^|\n]{0,400}+\|[^\]\n]{0,400}+\])(?=[^\s\],|:])")

# A decimal number as programs print it; "1,234" is one number, "0,123" and "1,23" are two.
_DECIMAL = r"(?>[1-9]\d{0,2}(?:,\d{3})+(?![\d])(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_SPECIAL = (
    r"(?:[nN][aA][nN]|[iI][nN][fF](?:inity)?)(?:(?![A-Za-z_])|(?=(?:ms|us|s|z|x|k|it)\b))"
    r"(?! (?:iterations?|values?|checks?|gradients?|grads?|detected|found|encountered|or|in|and)\b)"
)
_VALUE = rf"(?:{_DECIMAL}|{_SPECIAL})"
_WORDLY = "[A-Za-z0-9_\u00c0-\u024f"  # not of a Chinese word, which has no blanks around its numbers
# A number is no part of a word or a version ("gpt2", "acc@1", "2.10.0", "top-1"); "Epoch1" is a number all the same.
# ESPnet counts "1-50batch", NumPyro "[1-50]:"; a name may begin with digits ("16_h1=0.3", an error at a resolution).
_NUMBER = re.compile(
    rf"((?!(?<=[(\[])1e-?\d{{1,2}}[)\]] ?[:=])"  # but "lr(1e-4): 3.0" has one, and its unit
    rf"(?:(?<!{_WORDLY}.@)\]])[-+]|(?<!{_WORDLY}.@])(?<!{_WORDLY})][-+])|(?<=poch)|(?<=\d-)(?=\d{{1,9}}(?:batch|\]:)))(?!\d{{1,9}}_[A-Za-z])"
    rf"{_VALUE})"
)

# "0,2719" behind a blank or a sign is no list, and "2,719" would be a count.
_COMMA_DECIMAL = re.compile(r"((?:^|[\s=:])[-+]?(?:\d{1,4}(?=,(?!\d{3}(?!\d)))|0)),(\d++)(?=[\s;|%)\]]|\Z)", re.M)
_POINT_DECIMAL = re.compile(r"\d\.\d")

_TIME = r"\d{1,3}:\d\d(?::\d\d)?(?:[.,]\d+)?(?![\d:])"
_DATE = r"\d{4}[-/.]\d\d?[-/.]\d\d?"
_CLOCK = (
    rf"(?<![\w.])(?:\d\d/\d\d/\d{{2,4}},? {_TIME}(?:\s?[AP]M)?"
    rf"|\d\d-\d\d-\d\d {_TIME}|{_DATE}(?:(?:T|[ ,]\s*){_TIME})?(?:Z|[-+]\d\d:?\d\d)?(?!\w)"
    rf"|(?:\d+ ?d(?:ays?)?,? ?)?{_TIME}"
    r"(?:\s?[AP]M)?(?!\w)|\d+ days?|(?:\d+d ?)?\d+h ?\d+m(?: ?\d+(?:\.\d+)?s)?\b(?: \d{1,3}ms\b)?"
    r"|\d+m ?\d+(?:\.\d+)?s\b(?: \d{1,3}ms\b)?)"
)
_CLOCKS = re.compile(_CLOCK)
_BAR = r"(?:(?<!\d)\d{1,9}(?:\.\d{1,9})?%\|[^|\n]*\||\[[=>.#-][=>.#\- ]{4,}\]|(?:[━╸╺╶─█▏▎▍▌▋▊▉░▒▓]\s?){2,})"
_BARS = re.compile(_BAR)
# tqdm: "[00:01<00:09, 30.1it/s", then its postfix; before a postfix the rate of iterations is a number of the row.
_RATE = r"\[(?:\d+:)?\d+:\d\d(?:<[^,\]\n]*)?,\s*(?:(?=\d[\d.]{0,12}(?:it/s|s/it), ?[A-Za-z])|[^,\]\n]*)"
_RATES = re.compile(_RATE)
_DRAWN = re.compile("[━╸█░▓▌▏]|%\\||\\[[=>.#-]{2}")

_SPACES = re.compile(" {2,}|[ ]*\t[ \t]*")
_BEFORE_HOLE = re.compile(r"(?<=[\[(/<]) (?=\0)")
_AFTER_HOLE = re.compile(r"(?<=\0) (?=[/\])])")


class Rows(NamedTuple):
    """Rows of a piece of a log: their texts, and the line of each, int64, shape (n,), counted from 1."""

    texts: list[str]
    lines: Ints


class Shape(NamedTuple):
    """A row without its numbers: its text with a mark where each number was, and the numbers as written."""

    text: str
    numbers: list[str]


def rows_of(piece: str, first: int) -> Rows:
    """The rows of a piece of whole lines; `first` is the line of its first row."""
    if "\x1b" in piece:
        piece = _ANSI.sub("", piece)
    if any(mark in piece for mark in (HOLE, CLOCK, BAR, RATE)):
        piece = piece.translate(_RESERVED)
    if "\b" in piece:
        piece = _BACKSPACES.sub("\r", piece)
    if "%|" in piece:
        piece = _BEHIND_BAR.sub("\\1\r", piece)
    if "\r\r" in piece:
        piece = _RETURNS.sub("\r", piece)
    piece = _pointed(piece)
    if piece.endswith("\n"):
        piece = piece[:-1]
    if "\r" not in piece:
        texts = piece.split("\n")
        return Rows(texts, np.arange(first, first + len(texts), dtype=np.int64))
    piece = piece.replace("\r\n", "\n")
    states = np.array([line.count("\r") + 1 for line in piece.split("\n")])
    lines = np.repeat(np.arange(first, first + len(states), dtype=np.int64), states)
    return Rows(piece.replace("\r", "\n").split("\n"), lines)


def _pointed(piece: str) -> str:
    """A piece with a point for the comma of its decimals, where it has such numbers and none with a point."""
    if _POINT_DECIMAL.search(piece) is not None or _COMMA_DECIMAL.search(piece) is None:
        return piece
    return _COMMA_DECIMAL.sub(r"\1.\2", piece)


# What stands for a number, a clock, a bar or a rate in a shape must not stand in the text itself.
_MARKS = dict.fromkeys(range(9))


def shape_of(row: str) -> Shape:
    """The shape of a row and its numbers."""
    row = row.translate(_MARKS)
    if _DRAWN.search(row):
        row = _RATES.sub(RATE, _BARS.sub(BAR, row))
    if row.find(":") >= 0 or row.find("-") >= 0 or row.find("m") >= 0 or row.find("day") >= 0:
        row = _CLOCKS.sub(CLOCK, row)
    parts = _NUMBER.split(row.strip())
    text = HOLE.join(parts[::2])
    text = _SPACES.sub(lambda gap: "\t" if "\t" in gap[0] else " ", text)
    if HOLE in text:
        text = _AFTER_HOLE.sub("", _BEFORE_HOLE.sub("", text))
    return Shape(text, parts[1::2])


def pattern_of(shape: str, wanted: list[bool]) -> re.Pattern[str]:
    """A pattern that fully matches the rows of a shape; group k is the k-th number that is wanted."""
    marks = {CLOCK: f"(?>{_CLOCK})", BAR: f"(?>{_BAR})", RATE: f"(?>{_RATE})", " ": " ++", "\t": " *+\t[ \t]*+",
             WORD: r"\S++"}  # fmt: skip
    written = ["[ \t]*+"]
    place = 0
    for at, letter in enumerate(shape):
        if letter == HOLE:
            spaced = at > 0 and shape[at - 1] in "[(/<"
            value = _letters_of_number(shape[at + 1 : at + 2])
            written.append((" *+" if spaced else "") + (f"({value})" if wanted[place] else value))
            written.append(" *+" if shape[at + 1 : at + 2] in ("/", "]", ")") else "")
            place += 1
        else:
            written.append(marks.get(letter) or re.escape(letter))
    return re.compile("".join(written) + r"\s*\Z")


def alike(shapes: list[str]) -> str | None:
    """One shape for rows that differ in some words without numbers only; None where they differ otherwise."""
    rows = [shape.split(" ") for shape in shapes]
    if len({len(row) for row in rows}) > 1:
        return None
    words = []
    for places in zip(*rows, strict=True):
        if len(set(places)) == 1:
            words.append(places[0])
        elif any(HOLE in word or not word for word in places):
            return None
        else:
            words.append(WORD)
    return " ".join(words)


def _letters_of_number(following: str) -> str:
    """What a number, nan and inf included, is written with, where a number is known to stand: no check of its form,
    which is twice as fast. The letter that follows the number is not taken."""
    letters = "".join(letter for letter in ",eEnNaAiIfFty" if letter != following)
    return f"[-+.\\d{letters}]++"


def value_of(number: str) -> float:
    """A number as it was matched, "1,234" included.

    Raises:
        ValueError: it is none ("1.2.3").
    """
    return float(number.replace(",", ""))


def decimals_of(number: str) -> int | None:
    """Digits behind the point of a number in plain notation; None for an exponent or no number, which hide nothing."""
    if "e" in number or "E" in number or "n" in number.lower():
        return None
    return len(number.partition(".")[2])


def filled(shape: Shape) -> str:
    """The row again, near enough to show it: bars are drawn short and times are left out."""
    parts = shape.text.split(HOLE)
    row = parts[0] + "".join(number + part for number, part in zip(shape.numbers, parts[1:], strict=True))
    return row.replace(BAR, "..").replace(RATE, "[..").replace(CLOCK, "..")
