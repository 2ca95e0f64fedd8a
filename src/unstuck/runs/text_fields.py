"""Rows of a text log that differ in their digits only: the numbers of many of them at once.

The sign of a row is the row with a 0 for every digit. A pattern without a digit of its own that matches one row matches
all rows of the same sign, at the same places: one match tells where their numbers stand, and numpy reads them there.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unstuck.runs.run import Floats, Ints
from unstuck.runs.text_lines import decimals_of, value_of

MAX_SIGN = 1000  # ours: bytes of a row whose sign is kept; what programs print is shorter
LEAST_ALIKE = 32  # measured: numpy's calls for one sign take as long as some 25 matches
EXACT_DIGITS = 15  # IEEE 754: every whole number of so many digits is a float64
EXACT_POWER = 22  # the largest power of ten that is a float64; so one division or product rounds as float() does

_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_NUMBER = re.compile(r"([-+]?)(\d[\d,]*|)(?:\.(\d*))?(?:[eE]([-+]?)(\d{1,3}))?")
_TENS = 10.0 ** np.arange(EXACT_POWER + 1)


class Signed(NamedTuple):
    """Some rows of a log as bytes: their text with a newline behind each, where each begins, and the places of the rows
    of each sign."""

    text: bytes
    begins: Ints
    places: dict[bytes, list[int]]


@dataclass(frozen=True, slots=True)
class Field:
    """Where the digits of one number stand in every row of a sign, in bytes from the beginning of the row.

    Attributes:
        start, end: of the number.
        mantissa, exponent: places of the digits.
        fraction: how many digits of the mantissa stand behind the point.
        negative, small: whether the number, the exponent has a minus.
        decimals: as `decimals_of` tells.
        constant: the value where no digit is in it: nan, inf.
        plain: whether the digits can be added up without rounding.
    """

    start: int
    end: int
    mantissa: tuple[int, ...] = ()
    exponent: tuple[int, ...] = ()
    fraction: int = 0
    negative: bool = False
    small: bool = False
    decimals: int | None = 0
    constant: float | None = None
    plain: bool = True


def signed(rows: list[str]) -> Signed:
    """Rows by their sign."""
    text = ("\n".join(rows) + "\n").encode("utf-8", "surrogatepass")
    ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, sign in enumerate(text.translate(_DIGITS).split(b"\n")[:-1]):
        places[sign].append(place)
    return Signed(text, np.append(0, ends[:-1] + 1), places)


def fields_of(match: re.Match[str]) -> tuple[Field, ...] | None:
    """Where the groups of a matched row stand; None where one of them is no number."""
    fields = [_field(match, group) for group in range(1, match.re.groups + 1)]
    return tuple(field for field in fields if field is not None) if None not in fields else None


def _field(match: re.Match[str], group: int) -> Field | None:
    written = match[group]
    start = len(match.string[: match.start(group)].encode("utf-8", "surrogatepass"))
    end = start + len(written)
    if not written.isascii():
        return None
    if not re.search(r"\d", written):
        try:
            return Field(start, end, constant=value_of(written))
        except ValueError:
            return None
    found = _NUMBER.fullmatch(written)
    if found is None:
        return None
    mantissa = tuple(start + at for at in range(found.end(3) if found[3] else found.end(2)) if written[at].isdigit())
    exponent = tuple(start + at for at in range(*found.span(5))) if found[5] else ()
    if not mantissa:
        return None
    return Field(start, end, mantissa, exponent, len(found[3] or ""), found[1] == "-", found[4] == "-",
                 decimals_of(written), plain=len(mantissa) <= EXACT_DIGITS)  # fmt: skip


def numbers_of(text: bytes, begins: Ints, fields: Sequence[Field]) -> Floats:
    """The numbers of rows of one sign, float64, shape (rows, fields), as `value_of` reads them.

    Args:
        begins: where each row begins in the text.
    """
    letters = np.frombuffer(text, np.uint8)
    values = np.empty((len(begins), len(fields)))
    for at, field in enumerate(fields):
        if field.constant is not None:
            values[:, at] = field.constant
        elif field.plain:
            values[:, at] = _added_up(letters, text, begins, field)
        else:
            values[:, at] = _one_by_one(text, begins, field)
    return values


def _added_up(letters: npt.NDArray[np.uint8], text: bytes, begins: Ints, field: Field) -> Floats:
    values = _whole(letters, begins, field.mantissa)
    if field.exponent:
        power = _whole(letters, begins, field.exponent).astype(np.int64) * (-1 if field.small else 1) - field.fraction
        far = np.abs(power) > EXACT_POWER
        tens = _TENS[np.where(far, 0, np.abs(power))]
        values = np.where(power < 0, values / tens, values * tens)
        if field.negative:
            values = -values
        if far.any():
            values[far] = _one_by_one(text, begins[far], field)
        return values
    values /= _TENS[field.fraction]
    return -values if field.negative else values


def _whole(letters: npt.NDArray[np.uint8], begins: Ints, places: Sequence[int]) -> Floats:
    """The whole numbers that digits make."""
    values = np.zeros(len(begins))
    for digits in letters[begins + np.array(places)[:, None]] - np.uint8(ord("0")):
        values *= 10.0
        values += digits
    return values


def _one_by_one(text: bytes, begins: Ints, field: Field) -> list[float]:
    written = [text[a:b] for a, b in zip((begins + field.start).tolist(), (begins + field.end).tolist(), strict=True)]
    return [float(number.replace(b",", b"")) for number in written]
