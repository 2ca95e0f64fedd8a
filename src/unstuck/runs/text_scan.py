"""One pass over a text log: rows by template, and the lines that tell of settings, phases and events.

A shape that is met often is compiled to one pattern; rows that differ in their digits only are matched once
(`unstuck.runs.text_fields`), other rows cost one match each, and those that no pattern knows are taken apart one by
one, each shape once. Memory is bounded: of a template's rows every `stride`-th is kept, non-finite ones all the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from unstuck.runs.run import Ints
from unstuck.runs.text_fields import LEAST_ALIKE, MAX_SIGN, Field, fields_of, numbers_of, signed
from unstuck.runs.text_found import Found
from unstuck.runs.text_grammar import Hole, Template, tails_of, template_of
from unstuck.runs.text_lines import MAX_ROW, Shape, alike, filled, pattern_of, rows_of, shape_of
from unstuck.runs.text_rows import row_of
from unstuck.runs.text_settings import is_setting, known, pairs_of
from unstuck.runs.text_table import (
    Span,
    cells_of,
    columns_of,
    gaps_filled,
    lists_added,
    names_above,
    phases_above,
    table_template,
)
from unstuck.runs.text_words import is_outcome, phase_of, split_phase

FIRST, MOST = 512, 16_384  # ours: rows at once, more and more; new shapes come at the beginning of a log
OFTEN = 16  # ours: compiling a pattern costs about as much as taking this many rows apart
REPEATED = 8  # ours: starts of the program in one file; a row of one shape that comes more often is no setting
MAX_SIGNS = 4096  # ours: signs of rows remembered; the numbers of a program are of some hundred lengths
MAX_SHAPES = 50_000  # ours: shapes remembered; prose has one a line
MAX_TEMPLATES = 1000  # ours: no program has as many print statements
MAX_LOOKS = 50_000  # ours: shapes that are looked at, some seconds; a log of more kinds of lines follows no grammar
MANY_HEADS = 16  # ours: different words before one key (`a.wav loss`, `b.wav loss`) that make them no part of it
MAX_VALUES = 8 << 20  # measured: a log is read in some eight times the memory of its kept numbers, 64 MiB here
_MEASURED = re.compile(r"([A-Za-z][\w./@-]{0,80}) ?[:=] ?[-+]?(?=\d|\.\d|nan|inf)")  # "train/total_loss: 0.69"
_STANDING = re.compile(r"(?<![\w-])[-+.]*\d")  # a number that is no part of a name: not "bleu-4", "f1"
TITLE = 3  # ours: rows between the title of a table and its header, a rule and a blank row
MAX_TOLD = 6000  # ours: lines of settings, phases and events that are kept
_DIGIT = re.compile(r"\d")


class Told(NamedTuple):
    """A line without points that says something: `setting`, `event`, or the name of a phase."""

    row: int
    line: int
    kind: str
    text: str


@dataclass(slots=True, eq=False)
class _Known:
    """A shape that was looked at: its rows go to `found`, those of other shapes with the same numbers too."""

    found: Found | None
    shape: str = ""
    seen: int = 0
    pattern: re.Pattern[str] | None = None

    @property
    def blind(self) -> bool:
        """Whether the pattern matches rows whatever their digits are."""
        return not _DIGIT.search(self.shape)

    def compile(self) -> None:
        assert self.found is not None
        self.pattern = pattern_of(self.shape, [at in self.found.wanted for at in range(len(self.found.template.holes))])


class Scan:
    """The pass itself; `found` and `told` are what it gathers.

    Args:
        bare: keep rows of numbers without any name too, as `col1`, `col2` ...; the user names them.
    """

    def __init__(self, bare: bool = False) -> None:
        self.found: list[Found] = []
        self.told: list[Told] = []
        self.rows = 0
        self.texts = 0  # rows that are not blank
        self.looks = 0  # shapes that were looked at
        self.cut: set[tuple[Hole, ...]] = set()  # numbers whose keys are cut to the words that logs use
        self._bare = bare
        self._shapes: dict[str, _Known] = {}
        self._alike: dict[tuple[object, ...], Found] = {}
        self._variants: dict[int, list[str]] = {}
        self._heads: Counter[tuple[Hole, ...]] = Counter()
        self._hot: list[_Known] = []
        self._size = FIRST
        # Of a sign: the shape and the places of its numbers; or how many shapes there were when none was of that sign.
        self._signs: dict[bytes, tuple[_Known, tuple[Field, ...]] | int] = {}
        self._headers: list[list[str]] = []
        self._above: list[str] = []
        self._header = ("", "")  # the last header whose columns are aligned by blanks, and the phase of its title
        self._columns: tuple[Span, ...] = ()
        self._title = (-TITLE, "")  # the last row that only names a phase

    def read(self, pieces: Iterable[tuple[int, str]]) -> Scan:
        """Take in pieces of whole lines: (line of the first, text)."""
        for line, piece in pieces:
            self._piece(line, piece)
            while sum(found.size for found in self.found) > MAX_VALUES:
                max(self.found, key=lambda found: found.size).thin()
        for found in self.found:
            found.sort()
        return self

    def _piece(self, line: int, piece: str) -> None:
        texts, lines = rows_of(piece, line)
        begin = 0
        while begin < len(texts):
            end = begin + self._size
            self._slice(texts[begin:end], lines[begin:end])
            begin, self._size = end, min(2 * self._size, MOST)

    def _slice(self, texts: list[str], lines: Ints) -> None:
        """Rows in a row: those that a pattern knows, then the others one by one, which may give new patterns."""
        self._hot.sort(key=lambda shape: -shape.seen)
        places = self._alike_in(texts, lines) if self._hot else np.arange(len(texts))
        rest = texts if len(places) == len(texts) else [texts[place] for place in places.tolist()]
        for shape in self._hot:
            if not rest:
                break
            assert shape.pattern is not None
            assert shape.found is not None
            matches = list(map(shape.pattern.match, rest))
            groups = [match.groups() for match in matches if match is not None]
            if not groups:
                continue
            taken = places
            if len(groups) < len(rest):
                hit = np.array([match is not None for match in matches])
                taken, places = places[hit], places[~hit]
                rest = [text for text, match in zip(rest, matches, strict=True) if match is None]
            else:
                rest, places = [], places[:0]
            shape.found.add_many(taken + self.rows, lines[taken], list(zip(*groups, strict=True)))
            shape.seen += len(groups)
            self.texts += len(groups)
        for place, text in zip(places.tolist(), rest, strict=True):
            if text and not text.isspace():
                self.texts += 1
                self._row(text, self.rows + place, int(lines[place]), texts, place)
        self.rows += len(texts)
        self._above = texts[-10:]

    def _alike_in(self, texts: list[str], lines: Ints) -> Ints:
        """Take in the rows that are many of one sign; the places of the other rows."""
        text, begins, by_sign = signed(texts)
        taken: dict[int, list[tuple[_Known, tuple[Field, ...], Ints]]] = {}
        rest = np.ones(len(texts), dtype=np.bool_)
        for sign, places in by_sign.items():
            if len(places) < LEAST_ALIKE or len(sign) > MAX_SIGN:
                continue
            known = self._signs.get(sign, 0)
            if isinstance(known, int):
                if known == len(self._hot):
                    continue
                if len(self._signs) >= MAX_SIGNS:
                    self._signs.clear()
                known = self._signs[sign] = self._known_row(texts[places[0]]) or len(self._hot)
            if not isinstance(known, int):
                at = np.array(places)
                taken.setdefault(id(known[0].found), []).append((*known, at))
                rest[at] = False
        for parts in taken.values():
            mixed = np.concatenate([at for _, _, at in parts])
            values = np.concatenate([numbers_of(text, begins[at], fields) for _, fields, at in parts])
            order = np.argsort(mixed, kind="stable")
            ordered = mixed[order]
            found = parts[0][0].found
            assert found is not None
            found.add_numbers(ordered + self.rows, lines[ordered], values[order])
            for shape, fields, at in parts:
                found.printed([field.decimals for field in fields])
                shape.seen += len(at)
                self.texts += len(at)
        return np.flatnonzero(rest)

    def _known_row(self, text: str) -> tuple[_Known, tuple[Field, ...]] | None:
        """The shape of a row and where its numbers stand, where a pattern knows all rows of its sign."""
        for shape in self._hot:
            if shape.blind and shape.pattern is not None and (match := shape.pattern.match(text)) is not None:
                fields = fields_of(match)
                return None if fields is None else (shape, fields)
        return None

    def _row(self, text: str, row: int, line: int, texts: list[str], place: int) -> None:
        """One row that no pattern knows."""
        if len(text) > MAX_ROW:
            if len(self.told) < MAX_TOLD and is_setting(text):
                self._tell(row, line, "setting", text)
            return
        said = row_of(text)
        event, numeric = said.event, said.numeric
        wordy = not numeric or not (_STANDING.search(text) or "=" in text)
        if wordy and (columns := columns_of(text)) is not None and (text, self._titled(row)) != self._header:
            self._header, self._columns = (text, self._titled(row)), columns
            self._shapes = {
                shape: kind
                for shape, kind in self._shapes.items()
                if kind.found is None or not kind.found.template.table
            }
        if not numeric or not (said.worth or self._bare):
            if event:
                self._tell(row, line, "event", text)
            elif is_setting(text):
                self._tell(row, line, "setting", text)
            elif said.phase:
                self._tell(row, line, said.phase, text)
                self._title = (row, phase_of(said.phase))
            return
        shape = shape_of(self._filled(text))
        kind = self._shapes.get(shape.text)
        if kind is None:
            above = [*self._above, *texts[:place]][-10:] if place < 10 else texts[place - 10 : place]
            kind = self._look(shape, text, above)
        found = kind.found
        if event and (found is None or not found.template.counts or not found.template.outcomes):
            self._tell(row, line, "event", text)
            return
        if found is not None:
            if len(found.examples) < 2:
                found.examples.append((line, filled(shape)))
            found.add(row, line, shape.numbers)
            kind.seen += 1
            if kind.seen == OFTEN:
                kind.compile()
                self._hot.append(kind)
        points = found is not None and (found.count > REPEATED or (found.template.counts and found.template.metrics))
        if not points and is_setting(text):
            self._tell(row, line, "setting", text)

    def _filled(self, text: str) -> str:
        """A row of a table whose columns are aligned by blanks with one cell for each column."""
        if not self._columns:
            return text
        return gaps_filled(lists_added(text, self._header[0]) if "[" in text else text, self._columns)

    def _titled(self, row: int) -> str:
        """The phase that a row just above names, "" where none does."""
        return self._title[1] if 0 < row - self._title[0] <= TITLE else ""

    def _tell(self, row: int, line: int, kind: str, text: str) -> None:
        if len(self.told) < MAX_TOLD:
            self.told.append(Told(row, line, kind, text))

    def _look(self, shape: Shape, text: str, above: list[str]) -> _Known:
        """Decide, once, what the rows of a shape are."""
        if len(self._shapes) >= MAX_SHAPES:
            hot = {id(kind) for kind in self._hot}
            self._shapes = {text: kind for text, kind in self._shapes.items() if id(kind) in hot}
        self.looks += 1
        full = len(self.found) >= MAX_TEMPLATES or self.looks > MAX_LOOKS
        template = None if full or _is_header_line(text) else self._template(shape.text, above)
        kind = _Known(None if template is None else self._found(template), shape.text)
        self._shapes[shape.text] = kind
        if kind.found is not None:
            self._generalise(kind.found, shape.text)
        return kind

    def _generalise(self, found: Found, shape: str) -> None:
        """One pattern for shapes that differ in words only, such as the name of a file, once there are many."""
        shapes = self._variants.setdefault(id(found), [])
        if len(shapes) < OFTEN:
            shapes.append(shape)
            if len(shapes) == OFTEN and (general := alike(shapes)) is not None:
                kind = _Known(found, general)
                kind.compile()
                self._hot.append(kind)

    def _found(self, template: Template) -> Found | None:
        """Where the rows of a template are kept: with those of another shape whose numbers are the same."""
        wanted = [at for at, hole in enumerate(template.holes) if hole.role not in ("skip", "spread")]
        rest = (template.phase, template.rank, template.is_bar, template.is_repr, template.summary)
        told = (template.holes, *rest)
        found = self._alike.get(told)
        if found is None and (tails := tails_of(template.holes)) != template.holes:
            self._heads[tails] += 1
            if self._heads[tails] > MANY_HEADS:
                self.cut.add(tails)
                template, told = replace(template, holes=tails), (tails, *rest)
                found = self._alike.get(told)
        if found is None and wanted:
            found = self._alike[told] = Found(template, wanted, decimals=[0] * len(wanted))
            self.found.append(found)
        return found

    def _template(self, shape: str, above: list[str]) -> Template | None:
        cells = cells_of(shape, self._bare)
        if cells is not None:
            if (told := phases_above(above, cells)) is not None:
                return table_template(shape, cells, told)
            names = names_above(above, cells)
            if names is None:
                names = next((header for header in reversed(self._headers) if len(header) == len(cells.cells)), None)
            elif names not in self._headers:
                self._headers.append(names)
            if names is not None:
                return table_template(shape, cells, names, self._header[1] if cells.by == " " else "")
        template = template_of(shape)
        if template is not None and (template.metrics or template.counts):
            return template
        return table_template(shape, cells, None) if cells is not None and self._bare else None


def _is_header_line(text: str) -> bool:
    """Whether a row prints several settings and nothing that training improves."""
    if text.count("=") + text.count(":") + text.count("--") < 3:
        return False
    if any(split_phase(key)[0] and is_outcome(key) for key in _MEASURED.findall(text)):
        return False
    pairs = pairs_of(text)
    return sum(known(key) is not None for key, _ in pairs) >= 3 and not any(
        is_outcome(key.rpartition(".")[2]) for key, value in pairs if not isinstance(value, str | bool)
    )
