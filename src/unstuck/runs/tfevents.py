"""The scalars, texts and settings of one TensorBoard event file, decoded in blocks with numpy.

Writers repeat themselves: the summaries of one tag differ in the bytes of their value alone. So the first of a kind is
read field by field (`unstuck.runs.tfsummary`) and becomes a template: which bytes are fixed, and where the values lie.
All others of its length are compared with it, byte for byte, and decoded at once. What fits no template is read field
by field too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unstuck.errors import UserError
from unstuck.runs import protobuf
from unstuck.runs.run import Floats, Ints
from unstuck.runs.scalars import Scalars
from unstuck.runs.tfrecord import Records, unaligned
from unstuck.runs.tfsummary import Event, Scalar, Text, read_event, read_summary

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint64]
_Piece = tuple[Ints, Numbers, Ints, Floats, Floats]  # event, tag, step, wall time and value, each of shape (n,)

LONGEST = 400  # ours: bytes of a summary that are compared; one scalar with its metadata has 40 to 120
MAX_TAGS = 20_000  # ours: a tag per tensor of a large model, several times over; beyond it is no record of training
MAX_TEXTS = 2_000  # ours: configurations come in the first texts; generated samples may follow for ever
MAX_KINDS = 16  # ours: places of the values within one length of summary; the rest is read field by field
MAX_FIRST = 8  # ours: summaries of one length that are tried as a template before all of them are read field by field
MAX_SINGLE = 1_000_000  # ours: events read field by field, some ten microseconds each

_WALL_TIME, _STEP, _SUMMARY = 0x09, 0x10, 0x2A  # keys of Event.wall_time, Event.step and Event.summary (event.proto)


@dataclass(slots=True)
class EventFile:
    """What one event file holds; the scalars are in the order of the file.

    Attributes:
        scalars: in the order of the file; keys are tags.
        texts: the first text summaries.
        settings: of the hparams plugin's session starts.
        session_starts: (how many scalars came before it, its step) of each SessionLog START.
        version: what the first event calls the format, such as "brain.Event:2".
        wall_time: of the first event, seconds since 1970; 0 where there is none.
        events: how many there are.
        unread: events that could not be decoded.
        torn: bytes of a last event that was not written to its end.
        damaged: (first byte, byte behind the last) of what is no event and was skipped.
    """

    scalars: Scalars = field(default_factory=Scalars)
    texts: list[Text] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    session_starts: list[tuple[int, int]] = field(default_factory=list)
    version: str = ""
    wall_time: float = 0.0
    events: int = 0
    unread: int = 0
    torn: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)


def read_event_file(data: bytes) -> EventFile:
    """Decode an event file; a torn or damaged part is left out and noted.

    Raises:
        UserError: the file holds more tags, or more events without scalars, than a record of training has.
    """
    return _Decoder(data).read()


@dataclass(slots=True)
class _Kind:
    """Templates of one length of summary that have their values at the same places.

    Attributes:
        mask: uint64, shape (words,), ones at the bytes that are fixed.
        values: (first byte, dtype) of each value.
        keys: uint64, shape (templates,), hash of each template's fixed bytes, ascending.
        fixed: uint64, shape (templates, words), their fixed bytes.
        tags: int32, shape (templates, values), their tags.
    """

    mask: Words
    values: tuple[tuple[int, str], ...]
    keys: Words
    fixed: Words
    tags: Numbers

    def add(self, keys: Words, fixed: Words, tags: Numbers) -> None:
        all_keys = np.concatenate([self.keys, keys])
        order = np.argsort(all_keys)
        self.keys = all_keys[order]
        self.fixed = np.concatenate([self.fixed, fixed])[order]
        self.tags = np.concatenate([self.tags, tags])[order]

    def find(self, words: Words) -> tuple[Ints, Bools, Words]:
        """For summaries of shape (n, words): which template each may be, whether it is, and its hash."""
        masked = words & self.mask
        keys = _hash(masked)
        if not len(self.keys):
            return np.zeros(len(words), np.int64), np.zeros(len(words), bool), keys
        which = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return which, (masked == self.fixed[which]).all(axis=1), keys


def _hash(words: Words) -> Words:
    """A hash of each row. What it finds equal is compared byte for byte afterwards; a collision only costs time."""
    total = np.zeros(len(words), np.uint64)
    for column in range(words.shape[1]):
        total ^= words[:, column]
        total *= np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd (Knuth, multiplicative hashing)
        total ^= total >> np.uint64(32)
    return total


class _Block(NamedTuple):
    """The first scalar of each event of a block, each of shape (events,); `tag` is -1 where an event has none."""

    tag: Numbers
    steps: Ints
    walls: Floats
    values: Floats


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.out = EventFile()
        self.numbers: dict[str, int] = {}
        self.plugins: dict[str, str] = {}
        self.kinds: dict[int, list[_Kind]] = {}
        self.pieces: list[_Piece] = []
        self.more: list[_Piece] = []  # further values of events that have several
        self.starts: list[tuple[int, int]] = []  # event, step
        self.single = 0

    def read(self) -> EventFile:
        out, records = self.out, Records(self.data)
        for starts, ends in records.blocks():
            self._block(starts, ends)
            out.events += len(starts)
        out.torn, out.damaged = records.torn, records.damaged
        if not self.pieces:
            return out
        events, tag, steps, walls, values = (
            np.concatenate(column) for column in zip(*self.pieces, *self.more, strict=True)
        )
        self.pieces.clear()
        if self.more:
            order = np.argsort(events, kind="stable")
            events, tag, steps, walls, values = (column[order] for column in (events, tag, steps, walls, values))
        # Only the first summary of a tag may state its plugin, and a block is not decoded in its order.
        other = [number for tag, number in self.numbers.items() if self.plugins.get(tag, "scalars") != "scalars"]
        if other:
            kept = ~np.isin(tag, other)
            events, tag, steps, walls, values = (column[kept] for column in (events, tag, steps, walls, values))
        out.session_starts = [(int(np.searchsorted(events, at)), step) for at, step in self.starts]
        out.scalars = Scalars(*_by_first_use(list(self.numbers), tag), steps, walls, values)
        return out

    def _block(self, starts: Ints, ends: Ints) -> None:
        """Decode the events of one block.

        Most have a wall time, perhaps a step, and a summary that fills the rest; these are decoded by their templates.
        """
        data = np.frombuffer(self.data, np.uint8)
        odd = ends - starts < 12
        at = np.where(odd, 0, starts)
        odd |= data[at] != _WALL_TIME
        walls = np.asarray(unaligned(self.data, "<f8")[at + 1], np.float64)
        at += 9
        has_step = data[at] == _STEP
        steps, behind, ended = _varints(data, at + 1, has_step)
        at = np.where(has_step, behind, at)
        odd |= ~ended | (at + 2 > ends)
        at = np.where(odd, 0, at)
        odd |= data[at] != _SUMMARY
        length, at, ended = _varints(data, at + 1, ~odd)
        odd |= ~ended | (at + length != ends) | (length > LONGEST) | (length < 4)
        odd |= at + length + 8 > len(data)  # summaries are compared in words of eight bytes
        block = _Block(np.full(len(starts), -1, np.int32), steps, walls, np.zeros(len(starts)))
        left = [np.flatnonzero(odd)]
        sizes = np.where(odd, 0, length).astype(np.uint16)
        order = np.argsort(sizes, kind="stable")  # a radix sort
        counts = np.bincount(sizes)
        for size, places in zip(
            np.flatnonzero(counts).tolist(), np.split(order, np.cumsum(counts[counts > 0])[:-1]), strict=True
        ):
            if size:
                left.append(places[self._same_length(block, places, at[places], size)])
        for place in np.sort(np.concatenate(left)).tolist():
            self._one(block, place, int(starts[place]), int(ends[place]))
        has = np.flatnonzero(block.tag >= 0)
        self.pieces.append((has + self.out.events, block.tag[has], steps[has], walls[has], block.values[has]))

    def _same_length(self, block: _Block, places: Ints, at: Ints, size: int) -> Ints:
        """Decode summaries of one length that begin at `at`; returns the indices of those that fit no template."""
        width = -(-size // 8) * 8
        rows = unaligned(self.data, f"V{width}")[at].view(np.uint8).reshape(len(at), width)
        rows[:, size:] = 0
        words = rows.view(np.uint64)
        kinds = self.kinds.setdefault(size, [])
        todo = np.arange(len(at))
        for number in range(MAX_KINDS):
            if not len(todo):
                break
            if number == len(kinds):
                kind = self._kind(rows[todo[:MAX_FIRST]], size)
                if kind is None:
                    break
                kinds.append(kind)
            kind = kinds[number]
            which, fits, keys = kind.find(words[todo])
            if not fits.all() and self._learn(kind, rows[todo[~fits]], keys[~fits], size):
                which, fits, _ = kind.find(words[todo])
            done = todo[fits]
            self._take(block, kind, rows[done], places[done], which[fits])
            todo = todo[~fits]
        return todo

    def _kind(self, rows: Bytes, size: int) -> _Kind | None:
        """The places of the values in the first of the summaries that can be a template; None where none can."""
        found = next((scalars for row in rows if (scalars := self._template(row, size))), None)
        if found is None:
            return None
        values = tuple((scalar.start, scalar.dtype) for scalar in found)
        mask = np.zeros(rows.shape[1], np.uint8)
        mask[:size] = 255
        for start, dtype in values:
            mask[start : start + np.dtype(dtype).itemsize] = 0
        words = mask.view(np.uint64)
        none = np.empty(0, np.uint64)
        return _Kind(words, values, none, none.reshape(0, len(words)), np.empty((0, len(values)), np.int32))

    def _template(self, row: Bytes, size: int) -> list[Scalar]:
        """The scalars of a summary that holds nothing else, all of fixed length; else none."""
        event = Event()
        try:
            read_summary(row[:size].tobytes(), 0, size, self.plugins, event)
        except ValueError:
            return []
        if event.texts or event.settings or any(scalar.start < 0 for scalar in event.scalars):
            return []
        return event.scalars

    def _learn(self, kind: _Kind, rows: Bytes, keys: Words, size: int) -> bool:
        """Add the templates of this kind that are among the rows; says whether there was one."""
        new, first = np.unique(keys, return_index=True)
        good: list[int] = []
        tags: list[list[int]] = []
        for place, row in enumerate(rows[first]):
            found = self._template(row, size)
            if tuple((scalar.start, scalar.dtype) for scalar in found) == kind.values:
                good.append(place)
                tags.append([self._number(scalar.tag) for scalar in found])
        if good:
            kind.add(new[good], rows[first[good]].view(np.uint64) & kind.mask, np.array(tags, np.int32))
        return bool(good)

    def _take(self, block: _Block, kind: _Kind, rows: Bytes, places: Ints, which: Ints) -> None:
        """Put down the values of summaries that are at these places of the block and fit these templates."""
        for number, (start, dtype) in enumerate(kind.values):
            raw = np.ascontiguousarray(rows[:, start : start + np.dtype(dtype).itemsize])
            values = raw.view(dtype).reshape(-1).astype(np.float64)
            tags = kind.tags[which, number]
            if number == 0:
                block.tag[places], block.values[places] = tags, values
            else:
                self.more.append((places + self.out.events, tags, block.steps[places], block.walls[places], values))

    def _number(self, tag: str) -> int:
        number = self.numbers.setdefault(tag, len(self.numbers))
        if number >= MAX_TAGS:
            raise UserError(f"The event file holds more than {MAX_TAGS} scalar tags, which is no record of training.")
        return number

    def _one(self, block: _Block, place: int, start: int, end: int) -> None:
        """Read one event field by field."""
        self.single += 1
        if self.single > MAX_SINGLE:
            raise UserError(f"The event file holds more than {MAX_SINGLE} events of histograms, images or the like.")
        try:
            event = read_event(self.data, start, end, self.plugins)
        except ValueError:
            self.out.unread += 1
            return
        out = self.out
        out.wall_time = out.wall_time or event.wall_time
        out.version = out.version or event.version
        out.texts.extend(event.texts[: max(0, MAX_TEXTS - len(out.texts))])
        out.settings.update(event.settings)
        if event.session_start:
            self.starts.append((out.events + place, event.step))
        block.steps[place], block.walls[place] = event.step, event.wall_time
        for number, scalar in enumerate(event.scalars):
            tag = self._number(scalar.tag)
            if number == 0:
                block.tag[place], block.values[place] = tag, scalar.value
            else:
                self.more.append((np.array([out.events + place]), np.array([tag], np.int32), np.array([event.step]),
                                  np.array([event.wall_time]), np.array([scalar.value])))  # fmt: skip


def _by_first_use(names: list[str], tag: Numbers) -> tuple[list[str], Numbers]:
    """The tags in the order in which they are first used, and their new numbers."""
    first = np.full(len(names), len(tag))
    first[tag[::-1]] = np.arange(len(tag) - 1, -1, -1)  # of several the last assignment stays
    order = np.argsort(first)
    used = order[first[order] < len(tag)]
    number = np.zeros(len(names), np.int32)
    number[used] = np.arange(len(used))
    return [names[old] for old in used.tolist()], number[tag]


def _varints(data: Bytes, at: Ints, wanted: Bools) -> tuple[Ints, Ints, Bools]:
    """The numbers at many places, where wanted (else 0); the offsets behind them; whether each ends."""
    values = np.zeros(len(at), np.int64)
    behind = at.copy()
    ended = np.ones(len(at), bool)
    todo = np.flatnonzero(wanted)
    for shift in range(0, 7 * protobuf.MAX_VARINT_BYTES, 7):
        spots = behind[todo]
        inside = spots < len(data)
        ended[todo[~inside]] = False
        todo, spots = todo[inside], spots[inside]
        byte = data[spots].astype(np.int64)
        values[todo] |= (byte & 127) << shift
        behind[todo] = spots + 1
        todo = todo[byte >= 128]
        if not len(todo):
            return values, behind, ended
    ended[todo] = False
    return values, behind, ended
