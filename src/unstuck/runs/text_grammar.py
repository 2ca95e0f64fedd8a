"""What the numbers of a shape are: counts, metrics with their keys and phases, totals, means; or nothing.

A number is named by what stands before it (`loss 2.3`, `loss: 2.3`, `'loss': 2.3`), else by what stands behind it
(`34.5 tok/s`, `200/2983 batches`); after a slash it is the total of the one before, in brackets behind it its running
mean. A word for a phase (`val`, `[eval]`, `Test set:`) holds for the keys that follow it in the row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from unstuck.runs import names
from unstuck.runs.text_gaps import DELIMITER, Gap, behind, counting, known_tail, taken_apart, without_prefix
from unstuck.runs.text_lines import BAR, HOLE, RATE
from unstuck.runs.text_rewritten import SKIPPED, rewritten
from unstuck.runs.text_words import (
    ACCURACIES,
    AROUND_COUNTS,
    ENDED,
    MILLISECONDS,
    NOTHING,
    PLACES,
    PLANNED,
    RATES,
    SCALES,
    STOP,
    SUMMARY,
    count_of,
    in_family,
    is_known,
    is_outcome,
    is_phase,
    is_unit,
    phase_of,
    split_phase,
    words_of,
)

MAX_HOLES = 80  # ours: the widest tables of metrics that detectors print have some 40 columns
COUNTS = ("epoch", "step", "micro_step", "batch", "count")

_KERAS = re.compile(r"\0(?:ms|s|us|µs)/(?:step|epoch|sample)|\x02.{0,20}- ETA:|^\0/\0 (?:\x02 ?)?- \0s - ")
_BOTH = re.compile(r"\b(train\w*) ?[/|,&] ?(val\w*|test\w*|dev\w*|eval\w*)\b", re.I)
_MISSING = re.compile(r"[:=] ?(?:n/?a|none|null|-+) ?$", re.I)  # "val: n/a" says nothing about what follows
_STARRED = re.compile(r"\s*\* +(?:Acc|Prec)@")  # PyTorch's ImageNet example at the end of an evaluation
_EVALUATION = re.compile(r"saving dict for", re.I)  # TensorFlow estimators name an evaluation so


@dataclass(frozen=True, slots=True)
class Hole:
    """One number of a shape.

    Attributes:
        role: a count (`epoch`, `step`, `micro_step`, `batch`, or `count` where it has no name), `other` for one more
            count of the same kind, `metric`, `number` (no name), `total`, `mean` or `spread` of the number `of`, `rank`
            of a process, or `skip`.
        key: the name as logged; for a count its name too.
        phase: `train`, `val`, `test` or nothing.
        unit: what stands behind it.
        of: for a total, mean or spread: which number it belongs to.
        exact: a colon, an equals sign or a delimiter sets the key off.
    """

    role: str
    key: str = ""
    phase: str = ""
    unit: str = ""
    of: int = -1
    exact: bool = True


@dataclass(frozen=True)
class Template:
    """A shape that was understood.

    Attributes:
        shape: its text, see `text_lines`.
        holes: one for each number.
        phase: what the whole row is about.
        summary: the row sums up or looks back.
        strange: words that are neither keys nor units nor known around them.
        table: the keys come from a header further up.
        body: the shape without what logging and launchers put before it.
        rank: the process that the text before it names, -1 for none.
    """

    shape: str
    holes: tuple[Hole, ...]
    phase: str = ""
    summary: bool = False
    strange: int = 0
    table: bool = False
    body: str = ""
    rank: int = -1

    @cached_property
    def counts(self) -> dict[str, int]:
        """Role -> number of the row's counts."""
        return {hole.role: at for at, hole in reversed(list(enumerate(self.holes))) if hole.role in COUNTS}

    @cached_property
    def metrics(self) -> tuple[int, ...]:
        return tuple(at for at, hole in enumerate(self.holes) if hole.role == "metric")

    @cached_property
    def outcomes(self) -> tuple[int, ...]:
        """Metrics that training improves."""
        return tuple(at for at in self.metrics if is_outcome(self.holes[at].key))

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Numbers without a name."""
        return tuple(at for at, hole in enumerate(self.holes) if hole.role == "number")

    def total_of(self, at: int) -> int | None:
        """Which number is the total of number `at`."""
        return next((k for k, hole in enumerate(self.holes) if hole.role == "total" and hole.of == at), None)

    @property
    def is_bar(self) -> bool:
        return BAR in self.shape or RATE in self.shape

    @property
    def is_running(self) -> bool:
        """The running means of an epoch so far: Keras prints them beside `5s 6ms/step`, YOLO in a table with a bar."""
        return bool(_KERAS.search(self.shape) or (self.table and BAR in self.shape)) and "count" in self.counts

    @property
    def is_repr(self) -> bool:
        """A printed dictionary: a zero in it is a zero, not a rounded number."""
        return bool(re.search(r"['\"]\s*:\s*['\"]?\0", self.shape))


def template_of(shape: str) -> Template | None:
    """What the numbers of a shape are, from its own words; None where it has no numbers or far too many."""
    if not 0 < shape.count(HOLE) <= MAX_HOLES:
        return None
    body, roles, rank = without_prefix(shape)
    holes = [Hole(role) for role in roles]
    text = rewritten(body)
    gaps = re.split(r"[\0\4]", text)
    kinds = re.findall(r"[\0\4]", text)
    reader = _Reader(holes)
    if _STARRED.match(body):
        reader.phase = reader.row_phase = "test"
    for at in range(len(kinds)):
        if kinds[at] == SKIPPED:
            holes.append(Hole("skip"))
            continue
        gap = taken_apart(gaps[at], first=at == 0)
        unit, right = behind(gaps[at + 1], last=at + 1 == len(kinds))
        reader.read(gap, unit, right)
    if gaps[-1:]:
        reader.contexts(DELIMITER.split(taken_apart(gaps[-1], first=False).key or ""))
    told = tuple(_settled(_lists(holes)))
    return Template(shape, told, reader.row_phase, reader.summary, reader.strange, body=body, rank=rank)


def tails_of(holes: tuple[Hole, ...]) -> tuple[Hole, ...]:
    """The numbers with their keys cut to the last words that logs use, where they end in such words."""
    cut = []
    for hole in holes:
        tokens = hole.key.split() if hole.role == "metric" else []
        size = known_tail(tokens)
        cut.append(replace(hole, key=" ".join(tokens[-size:])) if 0 < size < len(tokens) else hole)
    return tuple(cut)


class _Reader:
    """Reads the numbers of a row from left to right."""

    def __init__(self, holes: list[Hole]) -> None:
        self.holes = holes
        self.phase = ""
        self.row_phase = ""
        self.summary = False
        self.strange = 0
        self.pending = ""  # an outcome named before a count: "Cost after iteration 100: 0.69"
        self.base = ""  # the last metric without its phase: "loss train: 2.3, val: 2.4"
        self.used: set[str] = set()
        self.prefix = ""

    def contexts(self, parts: list[str] | tuple[str, ...]) -> None:
        for part in parts:
            words = words_of(part)
            if not words or _MISSING.search(part):
                continue
            if len(words) <= 6:  # ours: a longer text is a sentence
                named = [phase for word in words if (phase := phase_of(word))]
                if _EVALUATION.search(part):
                    named = ["val"]
                if named:
                    self.phase = self.row_phase = named[-1]
                if set(words) & (SUMMARY | ENDED) or words[0].startswith(("final", "best")):
                    self.summary = True
            self.prefix = part.strip()
            self.strange += sum(
                1 for word in words if not (phase_of(word) or word in AROUND_COUNTS or is_unit(word) or is_known(word)
                                            or word.isdigit() or word in NOTHING)
            )  # fmt: skip

    def read(self, gap: Gap, unit: str, right: str) -> None:
        """Add the next number."""
        holes = self.holes
        previous = holes[-1] if holes else Hole("skip")
        self.contexts(gap.contexts)
        if gap.relation and self._related(gap.relation, previous, unit, right):
            return
        key = gap.key
        if _BOTH.search(key):
            self._metric(_BOTH.sub(r"\1", key), unit, gap)
            self.last_key = key
            return
        role = counting(key) if key else ""
        if role and unit in MILLISECONDS and unit not in ("m",):
            role = ""  # "Step: 5ms" is a time
        if role and self._count(role, key, unit):
            return
        if words_of(key):
            self._metric(key, unit, gap)
        elif self.pending:
            self._metric(self.pending, unit, gap)
            self.pending = ""
        else:
            self._nameless(unit, right, gap)

    def _related(self, relation: str, previous: Hole, unit: str, right: str) -> bool:
        """Add a number that belongs to the one before; False where that cannot be."""
        holes = self.holes
        at = len(holes) - 1
        owner = previous.of if previous.role in ("total", "mean", "spread") else at
        if relation == "total" and previous.role in ("mean", "skip", "other"):  # "45.3% (2265/5000)"
            holes[at] = Hole("skip")
            return self._skip()
        if relation == "total" and previous.role not in ("total", "skip", "rank"):
            if previous.role == "metric" and (both := _BOTH.search(self.last_key)):
                self._metric(_BOTH.sub(both[2], self.last_key), unit, Gap(exact=True))
                return True
            if previous.role == "number" or (previous.role == "metric" and is_phase(previous.key)):
                holes[at] = replace(previous, role="count", key="")
                self._namedbehind(at, previous.unit if count_of(previous.unit) else right or unit)
            holes.append(Hole("total", of=at, unit=unit))
            return True
        if relation == "mean" and "/" in unit and unit != previous.unit:
            return False  # "5004.8s (0.60 steps/sec)"
        if relation == "mean" and previous.role in ("metric", "total", "spread", *COUNTS):
            same = previous.role == "metric" and unit in ("", previous.unit)
            holes.append(Hole("mean", of=owner, unit=unit) if same else Hole("skip"))
            return True
        if relation == "spread" and previous.role == "metric":
            holes.append(Hole("spread", of=at))
            return True
        if relation == "next" and previous.role == "metric" and self.listed == at:
            self.listed = len(holes)
            holes.append(replace(previous, of=previous.of if previous.of >= 0 else at))
            return True
        return relation == "mean" and self._skip()

    last_key = ""
    listed = -2

    def _skip(self) -> bool:
        self.holes.append(Hole("skip"))
        return True

    def _namedbehind(self, at: int, right: str) -> None:
        """Give a count the name that stands behind its total: `200/2983 batches`."""
        role = count_of(right)
        if role and role not in {hole.role for hole in self.holes}:
            self.holes[at] = replace(self.holes[at], role=role, key=right)

    def _count(self, role: str, key: str, unit: str) -> bool:
        """Add a count; False where the words make it a metric after all."""
        words = set(words_of(key))
        phase, rest = split_phase(key)
        if phase and not (phase == "train" and self.row_phase):  # "valid: .., total_train_updates 60" is of validation
            self.phase = self.row_phase = phase
        behind = any(hole.role == "metric" for hole in self.holes)
        if words & (SUMMARY - AROUND_COUNTS) or (behind and not count_of(key)):
            self.summary |= bool(words & (SUMMARY - PLANNED if behind else SUMMARY))
            return self._skip()
        if role in {hole.role for hole in self.holes}:
            if not self._better(role, key, unit):
                self.holes.append(Hole("other", key, unit=unit))
            return True
        outcome = [word for word in rest if is_outcome(word) and word not in ("score",)]
        if outcome and not behind:
            self.pending = " ".join(
                word for word in key.split() if not counting(word) and word.lower() not in ("at", "after", "for")
            )
        self.holes.append(Hole(role, key, unit=unit))
        return True

    def _better(self, role: str, key: str, unit: str) -> bool:
        """Of `iter 4 step 2` the step is the optimizer's (`names.STEP_NAMES` has the better name first)."""
        at = next(at for at, hole in enumerate(self.holes) if hole.role == role)
        order = {name: place for place, name in enumerate(names.STEP_NAMES)}
        old, new = (order.get(names.normalise(name)) for name in (self.holes[at].key, key))
        if old is None or new is None or new >= old:
            return False
        self.holes[at] = replace(self.holes[at], role="other")
        self.holes.append(Hole(role, key, unit=unit))
        return True

    def _metric(self, key: str, unit: str, gap: Gap) -> None:
        phase, rest = split_phase(key)
        self.last_key = key
        words = {*rest}
        if not rest and self.base:  # "val: 2.4" after "loss train: 2.3"
            key = f"{phase}/{self.base}"
        elif not rest and gap.exact and all(hole.role in ("skip", "rank", "other") for hole in self.holes):
            self.phase = self.row_phase = phase  # "Test: [0/79] Loss 2.3"
        nothing = words & NOTHING if words != {"eta"} or unit else set()  # a time left, or a rate: its values tell
        if nothing and not is_outcome(key) and not (nothing <= PLACES and len(words) > 1 and is_known(key)):
            self._skip()
            return
        if not gap.exact and words & STOP:
            self.strange += len(words)
            self._skip()
            return
        if words & SUMMARY:
            self.summary |= not self.used
        own = phase or self.phase
        bare = phase or own in ("", "train") or in_family(rest, RATES)
        name = key if bare else f"{own}/{key}"
        if name in self.used and self.prefix:
            name = f"{self.prefix}/{key}"
        at, base = 2, name
        while name in self.used:
            name, at = f"{base} #{at}", at + 1
        self.used.add(name)
        if phase and rest:
            self.base = " ".join(word for word in key.split() if not phase_of(word)) or self.base
        if gap.opens and gap.key:
            self.listed = len(self.holes)
        self.holes.append(Hole("metric", name, own, unit, exact=gap.exact or bool(gap.opens)))

    def _nameless(self, unit: str, right: str, gap: Gap) -> None:
        """A number without words before it: named by what follows, or a count, or nothing."""
        scaled = unit in SCALES and is_unit(right)  # "12.3K tok/s"
        name = " ".join(part for part in ("" if unit == "%" or scaled else unit, right) if part)
        last = next((hole.key for hole in reversed(self.holes) if hole.role == "metric"), "")
        if gap.opens == "(" and in_family(split_phase(last)[1], ACCURACIES):
            self._skip()  # "accuracy: 98%, (9827/10000)"
            return
        role = count_of(name) if name else ""
        if role and role not in {hole.role for hole in self.holes}:
            self.holes.append(Hole(role, name))
        elif unit == "%" and not right:
            self._skip()
        elif (
            name.strip() and name[0] != "/" and (is_unit(name.split()[0]) or is_known(name) or names.may_be_rate(name))
        ):
            self._metric(name, unit, Gap(exact=True))
        else:
            self.holes.append(Hole("number", unit=unit))


def _settled(holes: list[Hole]) -> list[Hole]:
    """Decide what the row as a whole tells: a number named by nothing but a phase is the outcome (`100 val 2.3`) or,
    beside one, a count (`Train: 3 [..`); of two counts without names the first is the epoch (`[0/25][10/1583]`)."""
    nameless = [at for at, hole in enumerate(holes) if hole.role == "count"]
    first = next((at for at, hole in enumerate(holes) if hole.role == "metric"), len(holes))
    if len(nameless) > 2 and nameless[1] < first:  # "[0/25][10/1583] Loss_D: 0.3 D(G(z)): 0.12/0.09"
        for at in nameless[2:]:
            holes[at] = replace(holes[at], role="number")
        nameless = nameless[:2]
    if len(nameless) == 2 and not any(hole.role in ("epoch", "step", "batch") for hole in holes):
        for at, role in zip(nameless, ("epoch", "batch"), strict=True):
            holes[at] = replace(holes[at], role=role)
    bare = [at for at, hole in enumerate(holes) if hole.role == "metric" and is_phase(hole.key)]
    others = [at for at, hole in enumerate(holes) if hole.role == "metric" and at not in bare and is_outcome(hole.key)]
    for at in bare:
        if others and at < others[0]:
            counted = at + 1 < len(holes) and holes[at + 1].role in ("count", "batch", "step")
            holes[at] = replace(holes[at], role="epoch" if counted else "number", phase="")
    outcomes = [at for at, hole in enumerate(holes) if hole.role == "metric" and is_outcome(hole.key)]
    own = [split_phase(holes[at].key)[0] for at in outcomes]
    if own and own[0] in ("val", "test") and set(own) == {own[0], ""}:  # "val Loss: 0.31 Acc: 0.89"
        for at, phase in zip(outcomes, own, strict=True):
            if not phase:
                holes[at] = replace(holes[at], key=f"{own[0]}/{holes[at].key}", phase=own[0])
    return holes


def _lists(holes: list[Hole]) -> list[Hole]:
    """Numbers of a printed list are told apart by their place: `lr=[1e-3, 1e-4]` is lr/0 and lr/1."""
    lists = {hole.of for hole in holes if hole.role == "metric" and hole.of >= 0}
    places = dict.fromkeys(lists, 0)
    told: list[Hole] = []
    for at, hole in enumerate(holes):
        if at in lists:
            hole = replace(hole, key=f"{hole.key}/0")
        elif hole.role == "metric" and hole.of >= 0:
            places[hole.of] += 1
            hole = replace(hole, key=f"{holes[hole.of].key}/{places[hole.of]}", of=-1)
        told.append(hole)
    return told
