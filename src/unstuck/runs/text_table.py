"""Rows of bare numbers under a header: `epoch train_loss valid_loss`, Markdown, pandas, rich, spaCy, fastai.

A header is the nearest row above, rules left out, that has as many names as the row has cells; its names become the
keys of the columns.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from unstuck.runs.names import GRADIENT_NORM
from unstuck.runs.text_grammar import Hole, Template
from unstuck.runs.text_lines import BAR, HOLE
from unstuck.runs.text_words import (
    INITIALS,
    NOTHING,
    RATES,
    count_of,
    in_family,
    is_known,
    is_outcome,
    phase_of,
    split_phase,
    words_of,
)

MAX_COLUMNS = 60  # ours: a wider table is data
LEAST_COLUMNS = 2
MAX_HEADER = 400  # ours: characters; a wider table is no console's
MAX_NAME = 40  # ours: characters of the name of a column
REMEMBERED = 4096  # ours: rows that come again and again, 400 characters each at most
LOOK_BACK = 4  # ours: rows above a row that may be its header, blank rows and rules left out

_RULE = re.compile(r"[\s|+:=\-─━┄┅┈┉│┃║═┼┿╂╇╋╈┡┩├┤┝┥┞┦└┘┏┓┳┻┗┛┬┴┌┐╪╬╠╣╔╗╚╝╦╩╭╮╰╯┢┪┠┨*_.]+\Z")
_WALLS = re.compile(r"[|│┃║]")
_CELL = re.compile(r"[-+]?(?:\0(?:/\0)?[%A-Za-z]{0,3}|\x01|\x02|\x03|nan|none|n/a|na|#na#|null|-+|—|)\Z", re.I)
_CELLS_ONLY = re.compile(
    r"\s*(?:[-+]?(?:\d[\d.,]*(?:[eE][-+]?\d+)?[%A-Za-z]{0,3}|\d+(?::\d\d){1,2}|nan|inf|-)(?:\s+|\Z))+\Z", re.I
)
_LISTED = r"[-+]?(?:\d++(?:\.\d*+)?(?:[eE][-+]?\d{1,3})?|nan|inf)"
_LISTS = re.compile(rf"\s*\d+(?:\s+\[(?:{_LISTED}(?:,\s*{_LISTED})*)?\])+\s*\Z")
_LIST_OR_WORD = re.compile(r"\[[^\]]*\]|\S+")
_NAME = re.compile(r"[^\0-\3]+\Z")
_NUMBER = re.compile(r"[-+]?[\d.,]+(?:e[-+]?\d+)?%?", re.I)
_ALIGNED = re.compile(r"\S+(?: \S+)*"), re.compile(r"\S+")  # names of several words, of one


class Cells(NamedTuple):
    """A row cut into cells, and by what: a wall, a tab or blanks."""

    cells: list[str]
    by: str


Span = tuple[int, int]


def columns_of(row: str) -> tuple[Span, ...] | None:
    """Where the names of a header stand whose columns are aligned by blanks; None where a row is no such header."""
    return None if len(row) > MAX_HEADER else _aligned(row)


@lru_cache(REMEMBERED)
def _aligned(row: str) -> tuple[Span, ...] | None:
    if "\t" in row or _WALLS.search(row):
        return None
    for pattern in _ALIGNED:
        spans = tuple(found.span() for found in pattern.finditer(row))
        if LEAST_COLUMNS <= len(spans) <= MAX_COLUMNS and _is_header([row[start:end] for start, end in spans]):
            return spans
    return None


def lists_added(row: str, names: str) -> str:
    """A row of a count and printed lists with one number for each list; as it is where it is no such row.

    DeepXDE prints the parts of a loss, whose sum is trained: the list below a name with `loss` is their sum, of other
    lists only those of one number are known. `names`: the header.
    """
    if len(row) > MAX_HEADER or not _LISTS.match(row):
        return row
    cells = [found[0] for found in _LIST_OR_WORD.finditer(row)]
    columns = _ALIGNED[0].findall(names)
    if len(columns) != len(cells):
        return row
    told = [cells[0]]
    for cell, name in zip(cells[1:], columns[1:], strict=True):
        numbers = [float(number) for number in cell.strip("[]").split(",") if number.strip()]
        known = len(numbers) == 1 or (len(numbers) > 1 and "loss" in name.lower())
        told.append(f"{sum(numbers):.9g}" if known else "-")
    return "  ".join(told)


def gaps_filled(row: str, columns: tuple[Span, ...]) -> str:
    """A row of fewer cells than its table has columns with a dash in each empty one; as it is where that is not clear.

    A cell belongs to the name that ends or begins where it does, else to the only one that it overlaps.
    """
    if len(row) > MAX_HEADER or not _CELLS_ONLY.match(row):
        return row
    cells = [found.span() for found in re.finditer(r"\S+", row)]
    if len(cells) >= len(columns):
        return row
    given: dict[int, Span] = {}
    for start, end in cells:
        aligned = {at for at, (left, right) in enumerate(columns) if end == right or start == left}
        over = {at for at, (left, right) in enumerate(columns) if start < right and end > left}
        chosen = aligned if len(aligned) == 1 else over
        if len(chosen) != 1:
            return row
        given[chosen.pop()] = (start, end)
    if len(given) < len(cells) or list(given) != sorted(given):
        return row
    return "  ".join(row[slice(*given[at])] if at in given else "-" for at in range(len(columns)))


def is_rule(row: str) -> bool:
    """A row that only draws a line."""
    return bool(row.strip()) and _RULE.match(row) is not None


def cells_of(shape: str, commas: bool = False) -> Cells | None:
    """The cells of a shape whose cells are all numbers, times, gaps or one word; None where it is no such row.

    Args:
        commas: they divide cells too.
    """
    body = shape.split(BAR)[0].rstrip(" :") if BAR in shape and not shape.startswith(BAR) else shape
    if _WALLS.search(body):
        cells = [cell.strip() for cell in _WALLS.split(body)]
        cells = cells[1 if not cells[0] else 0 : -1 if not cells[-1] else None]
        by = "|"
    elif "\t" in body:
        cells, by = [cell.strip() for cell in body.split("\t")], "\t"
    elif commas and "," in body:
        cells, by = [cell.strip() for cell in body.split(",")], ","
    else:
        cells, by = body.split(), " "
    plain = [_CELL.match(cell) is not None for cell in cells]
    words = [cell for cell, number in zip(cells, plain, strict=True) if not number]
    numbers = sum(HOLE in cell for cell in cells)
    if not 2 <= len(cells) <= MAX_COLUMNS or numbers < 2 or len(words) > 1 or any("," in cell for cell in cells):
        return None
    if any(HOLE in cell or "=" in cell or cell.endswith(":") for cell in words):
        return None
    return Cells(cells, by)


def names_above(above: list[str], cells: Cells) -> list[str] | None:
    """The names of the columns from the rows above, nearest last; None where none of them is the header.

    Args:
        above: rows as written.
        cells: of the row below.
    """
    rule = below = ""
    looked = 0
    for row in reversed(above):
        if not row.strip():
            continue
        if is_rule(row):
            rule = row
            continue
        if names := _names(row, rule, cells) or _names_of_two(row, below, cells):
            return names
        looked, below = looked + 1, row
        if looked >= LOOK_BACK:
            break
    return None


def _names(row: str, rule: str, cells: Cells) -> list[str] | None:
    """The names in a row that may be a header of `cells`."""
    count = len(cells.cells)
    for names in _divisions(row, rule, cells.by):
        if len(names) == count - 1 and cells.by == " ":
            names = ["", *names]  # pandas prints an index without a name
        if len(names) == count and _is_header(names):
            return names
    return None


def _names_of_two(row: str, below: str, cells: Cells) -> list[str] | None:
    """The names in two rows of a walled header, one word above the other: MATLAB's `Mini-batch` over `Loss`."""
    if cells.by != "|" or not below:
        return None
    above, under = _divisions(row, "", "|")[0], _divisions(below, "", "|")[0]
    if len(above) != len(cells.cells) or len(under) != len(above):
        return None
    names = [f"{first} {second}".strip() for first, second in zip(above, under, strict=True)]
    return names if _is_header(names) else None


def _divisions(row: str, rule: str, by: str) -> list[list[str]]:
    if by == "|":
        names = [name.strip(" *") for name in _WALLS.split(GRADIENT_NORM.sub("grad_norm", row.strip()))]
        return [names[1 if not names[0] else 0 : -1 if not names[-1] else None]]
    if by == "\t":
        return [[name.strip() for name in row.strip("\n").split("\t")]]
    spans = [found.span() for found in re.finditer(r"-+", rule)]
    ways = []
    if len(spans) > 1:  # spaCy: dashes below each name
        ends = [*(start for start, _ in spans[1:]), None]
        ways.append([row[start:end].strip() for (start, _), end in zip(spans, ends, strict=True)])
    return [*ways, re.split(r" {2,}|\t", row.strip()), row.split()]


def _is_header(names: list[str]) -> bool:
    """Names, most of them different, at least one of a count or of what logs hold, none of them a sentence."""
    named = [name for name in names if name]
    if len(set(named)) < len(named) or len(named) < len(names) - 1:
        return False
    if max(map(len, named), default=0) > MAX_NAME:
        return False
    if not any(map(_count, named)) and sum(map(is_known, named)) < 2 and not _is_counted(named):
        return False
    return all(_NAME.match(name) and len(name.split()) <= 5 and not _NUMBER.fullmatch(name) for name in named)


def _is_counted(names: list[str]) -> bool:
    """Whether a letter that stands for a count is before an outcome: `t  loss`."""
    return names[0].lower() in INITIALS and any(map(is_outcome, names[1:]))


def _count(name: str) -> str:
    if name.strip() == "#":  # spaCy's step
        return "step"
    if name.strip() in ("E", "e"):
        return "epoch"
    return count_of(name)


def phases_above(above: list[str], cells: Cells) -> list[str] | None:
    """The names of the columns where the rows of a table are the metrics and its columns the phases, as AllenNLP and
    Ludwig print an epoch: `Training | Validation` above `loss | 0.69 | 0.68`; None where it is no such table.

    Args:
        above: rows as written.
        cells: of the row below.
    """
    name = cells.cells[0].split()[-1:]
    if cells.by != "|" or not name or not is_known(name[0]) or HOLE in name[0]:
        return None
    for row in reversed(above):
        if (body := _WALLS.split(row.strip().strip("|│┃║"))) and len(body) >= LEAST_COLUMNS and not is_rule(row):
            heads = [cell.strip().split()[-1] if cell.strip() else "" for cell in body]
            heads = heads[1:] if not heads[0] else heads
            if len(heads) == len(cells.cells) - 1 and all(map(phase_of, heads)):
                return ["", *(f"{phase_of(head)}/{name[0]}" for head in heads)]
    return None


def table_template(shape: str, cells: Cells, names: list[str] | None, title: str = "") -> Template:
    """A row of a table as a template; without names its columns are `col1`, `col2` ...

    Args:
        title: the phase that a line above the header names, "" for none.
    """
    holes: list[Hole] = []
    used: set[str] = set()
    phase = next((phase_of(cell) for cell in cells.cells if phase_of(cell)), title)
    for at, cell in enumerate(cells.cells):
        name = names[at] if names is not None else f"col{at + 1}"
        numbers = cell.count(HOLE)
        if not numbers:
            continue
        role = _count(name) if names is not None else ""
        if (role or name) in used or not name or set(words_of(name)) & NOTHING:
            holes.append(Hole("skip"))
        elif role:
            holes.append(Hole(role, name))
        else:
            own = split_phase(name)[0] or phase
            bare = own in ("", "train") or own == split_phase(name)[0] or in_family(words_of(name), RATES)
            key = name if bare else f"{own}/{name}"
            holes.append(Hole("metric", key, own, _unit(cell)))
        used.add(role or name)
        if numbers == 2:
            holes.append(Hole("total", of=len(holes) - 1))
    behind = shape.partition(BAR)[2]
    if behind.strip().startswith(f"{HOLE}/{HOLE}") and shape.count(HOLE) == len(holes) + 2:
        holes += [Hole("count"), Hole("total", of=len(holes))]
    holes += [Hole("skip")] * (shape.count(HOLE) - len(holes))
    return Template(shape, tuple(holes), phase, table=True)


def _unit(cell: str) -> str:
    found = re.search(rf"[{HOLE}]([%A-Za-z]+)\Z", cell)
    return found[1] if found else ""
