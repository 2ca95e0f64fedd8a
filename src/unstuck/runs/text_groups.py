"""The points of one template of a text log, with the roles of its numbers settled by how their values rise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from unstuck.runs import names
from unstuck.runs.run import Floats, Ints
from unstuck.runs.text_found import Found
from unstuck.runs.text_gaps import counting
from unstuck.runs.text_grammar import COUNTS, Hole, Template
from unstuck.runs.text_lines import HOLE
from unstuck.runs.text_settings import known
from unstuck.runs.text_words import (
    ERRORS,
    INITIALS,
    LOSSES,
    SCALES,
    in_family,
    is_known,
    is_outcome,
    is_phase,
    split_phase,
)

LEAST_BARE = 3  # ours: rows that show a rule: two may be a coincidence
LEAST_ASSUMED = 5  # ours: rows `100: 2.31` before a number without a name is taken for the loss
REGULAR = 0.9  # ours: share of the steps of a number that must rise for it to be a count; resumes step back


@dataclass(slots=True, eq=False)
class Group:
    """The points of one template, or those of them that belong to one phase.

    Attributes:
        template: with the roles that were settled.
        rows: place of each point among the rows of the log, int64, shape (n,).
        lines: its line, int64, shape (n,).
        values: float64, shape (n, number of wanted numbers).
        wanted: which number of the template each column is.
        decimals: as `Found.decimals`.
        examples: (line, text) of rows.
        count: rows seen in the log.
        phase: `val` or `test` where it is known from the lines around.
    """

    template: Template
    rows: Ints
    lines: Ints
    values: Floats
    wanted: list[int]
    decimals: list[int | None]
    examples: list[tuple[int, str]]
    count: int
    phase: str = ""

    def column(self, at: int) -> Floats:
        """The values of one number of the template, shape (n,)."""
        return self.values[:, self.wanted.index(at)]

    def total(self, role: str) -> Floats | None:
        """The totals printed behind a count."""
        at = self.template.counts.get(role)
        of = None if at is None else self.template.total_of(at)
        return None if of is None or of not in self.wanted else self.column(of)

    def where(self, mask: npt.NDArray[np.bool_]) -> Group:
        return replace(self, rows=self.rows[mask], lines=self.lines[mask], values=self.values[mask])

    @property
    def is_evaluation(self) -> bool:
        return (self.phase or self.template.phase) in ("val", "test")


def group_of(found: Found, said: dict[str, str]) -> Group:
    """All rows of a template, with the roles of its numbers settled by their values and by what the user said."""
    values = found.values()
    for column, at in enumerate(found.wanted):
        hole = found.template.holes[at]
        if hole.role in (*COUNTS, "total") and (scale := SCALES.get(hole.unit.removesuffix("it"))):  # "it 1.2k"
            values[:, column] = np.round(values[:, column] * scale)
    group = Group(found.template, found.rows(), found.lines(), values, found.wanted, found.decimals,
                  found.examples, found.count)  # fmt: skip
    holes = [_said(hole, at, said) for at, hole in enumerate(found.template.holes)]
    group.template = replace(found.template, holes=tuple(holes))
    group.template = replace(group.template, holes=tuple(_counts_inferred(group)))
    return group


def _said(hole: Hole, at: int, said: dict[str, str]) -> Hole:
    """The hole as the user named it: a count, or a column without a name."""
    key = hole.key or f"col{at + 1}"
    name = said.get(key)
    if name is None or hole.role in ("total", "mean", "spread", "rank", "skip"):
        return hole
    if name in ("step", "micro_step", "epoch"):
        return replace(hole, role=name, key=key)
    return replace(hole, role="metric", key=key)


def _counts_inferred(group: Group) -> list[Hole]:
    """The holes, with counts found by how their values rise where no word names them: `[12] loss: 2.3`, `s:100`."""
    template, holes = group.template, [_checked(group, at) for at in range(len(group.template.holes))]
    holes = _rising_instead(group, _epoch_before_batch(group, _count_behind_name(group, holes)))
    candidates = _candidates(template)
    integers = [at for at in candidates if at in group.wanted and is_integer(group.column(at))]
    if "epoch" in template.counts or "step" in template.counts or len(group.rows) < 2:
        return _assumed(group, _counted_twice(group, holes))
    if len(integers) >= 2 and _resets_with(group.column(integers[1]), group.column(integers[0])):
        for at, role in zip(integers, ("epoch", "batch"), strict=False):
            holes[at] = replace(holes[at], role=role)
    elif integers and not template.counts and rises(group.column(integers[0])):
        role = "epoch" if holes[integers[0]].key.lower() in ("e", "ep") else "step"
        holes[integers[0]] = replace(holes[integers[0]], role=role)
    return _assumed(group, holes)


def _count_behind_name(group: Group, holes: list[Hole]) -> list[Hole]:
    """The holes of `Train loss 100 0.523` with the whole number that rises taken for the step, and the number without
    a name behind it for the loss (NVIDIA's Tacotron 2, train.py)."""
    for at, (hole, behind) in enumerate(pairwise(holes)):
        if hole.role != "metric" or behind.role != "number" or not is_outcome(hole.key) or group.template.counts:
            continue
        if not {at, at + 1} <= {*group.wanted} or len(group.rows) < LEAST_BARE:
            continue
        if is_integer(group.column(at)) and rises(group.column(at)) and not is_integer(group.column(at + 1)):
            holes[at], holes[at + 1] = replace(hole, role="step", key="step"), replace(hole, unit=behind.unit)
            break
    return holes


def _rising_instead(group: Group, holes: list[Hole]) -> list[Hole]:
    """The holes with one count of each kind: another one that rises where the first does not, as the updates of one
    report (`updates: 15`) before all of them (`total_train_updates: 60`)."""
    for at, hole in enumerate(holes):
        if hole.role != "other":
            continue
        role = counting(hole.key)
        counts = at in group.wanted and is_integer(group.column(at)) and rises(group.column(at))
        first = next((k for k, other in enumerate(holes) if other.role == role), None)  # none: it was a setting
        holes[at] = Hole("skip")
        if counts and (first is None or (first in group.wanted and not goes_on(group.column(first)))):
            holes[at] = replace(hole, role=role)
            if first is not None:
                holes[first] = Hole("skip")
    return holes


def _counted_twice(group: Group, holes: list[Hole]) -> list[Hole]:
    """The holes with `1/12` before `Epoch 1` taken for the epoch, whose total it has: it counts the same."""
    at = {role: place for role, place in group.template.counts.items() if place in group.wanted}
    if not {"epoch", "count"} <= at.keys():
        return holes
    epochs = group.column(at["epoch"])
    if np.ptp(epochs) > 0 and np.array_equal(epochs, group.column(at["count"])):
        holes[at["count"]] = replace(holes[at["count"]], role="epoch", key=holes[at["epoch"]].key)
        holes[at["epoch"]] = Hole("skip")
    return holes


def _epoch_before_batch(group: Group, holes: list[Hole]) -> list[Hole]:
    """The holes with `Batch 3/100` read as batch 100 of epoch 3 where what seems the total counts (WeNet)."""
    at = group.template.counts.get("batch")
    of = None if at is None else group.template.total_of(at)
    if at is None or of is None or not {at, of} <= {*group.wanted} or len(group.rows) < LEAST_BARE:
        return holes
    outer, inner = group.column(at), group.column(of)
    if "epoch" in group.template.counts or np.ptp(inner) == 0 or not _resets_with(inner, outer):
        return holes
    holes[at], holes[of] = Hole("epoch", "epoch"), Hole("batch", holes[at].key)
    return holes


def _checked(group: Group, at: int) -> Hole:
    """A count that never changes under the name of a setting is one; whole numbers count, others are measured."""
    hole = group.template.holes[at]
    if hole.role == "metric" and hole.key.lower() == "eta" and not names.is_small_rate(group.column(at)):
        return Hole("skip")  # a time left
    if hole.role not in COUNTS or at not in group.wanted:
        return hole
    values = group.column(at)
    if hole.key and known(hole.key) is not None and (len(values) < LEAST_BARE or np.all(values == values[0])):
        return Hole("skip")
    if hole.role != "epoch" and not is_integer(values):
        return replace(hole, role="metric" if hole.key else "number")
    return hole


def _candidates(template: Template) -> list[int]:
    """Numbers before the first outcome that no known word names."""
    places: list[int] = []
    front = template.body.partition(HOLE)[0]
    if re.search(r"[A-Za-z]{2}", front) and not (template.holes and template.holes[0].key.lower() in INITIALS):
        return []  # "Total cost: 5 + 7" is no count
    for at, hole in enumerate(template.holes):
        if hole.role == "metric" and is_known(hole.key) and hole.key.lower() not in INITIALS:
            break
        # the first column of a table counts, whatever the program calls it, where its values do
        unnamed = hole.role == "metric" and (hole.key.lower() in INITIALS or (template.table and not places))
        if hole.role == "number" or unnamed or (hole.role == "metric" and is_phase(hole.key) and not places):
            places.append(at)
    return places


def _assumed(group: Group, holes: list[Hole]) -> list[Hole]:
    """`Epoch 3: 2.31` and `100/5000: 2.31`: the only number behind a count, printed with decimals, is the outcome."""
    counted = [at for at, hole in enumerate(holes) if hole.role in ("epoch", "step", "count", "batch")]
    bare = [at for at, hole in enumerate(holes) if hole.role == "number"]
    named = any(hole.role == "metric" for hole in holes)
    if named or len(bare) != 1 or not counted or bare[0] < counted[-1] or len(group.rows) < LEAST_ASSUMED:
        return holes
    digits = group.decimals[group.wanted.index(bare[0])]
    if digits == 0 or group.template.strange or group.template.table:
        return holes
    holes[bare[0]] = replace(holes[bare[0]], role="metric", key=f"col{bare[0] + 1}")
    return holes


def in_blocks(groups: list[Group]) -> list[Group]:
    """The groups with one row for each block of lines, where nothing counts and every block has one line of each.

    The row of a block is that of its first line.
    """
    if any(group.template.counts for group in groups):
        return groups
    often = Counter(len(group.rows) for group in groups)
    size = max(often, key=lambda rows: (often[rows], rows), default=0)
    mine = sorted((group for group in groups if len(group.rows) == size), key=lambda group: int(group.rows[0]))
    if size < LEAST_BARE or len(mine) < 2:
        return groups
    first = mine[0].rows
    regular = [g for g in mine if np.all(g.rows >= first) and np.all(g.rows[:-1] < first[1:])]
    return [replace(group, rows=first) if group in regular else group for group in groups]


def is_integer(values: Floats) -> bool:
    """Whether all values count something: whole, not negative."""
    finite = np.isfinite(values)
    return bool(finite.all() and np.all(values == np.floor(values)) and np.all(values >= 0) and len(values))


def rises(values: Floats) -> bool:
    """Whether a number goes up from row to row, a restart now and then left out."""
    steps = np.diff(values)
    return bool(len(steps) and np.mean(steps > 0) >= REGULAR)


def goes_on(values: Floats) -> bool:
    """Whether a number goes up, or stays where an evaluation names the step once more."""
    steps = np.diff(values)
    return bool(len(steps) and np.mean(steps >= 0) >= REGULAR and 2 * np.sum(steps > 0) >= len(steps))


def _resets_with(inner: Floats, outer: Floats) -> bool:
    """Whether a number begins again whenever the other one goes up."""
    back = np.diff(inner) < 0
    up = np.diff(outer) > 0
    return bool(not (np.diff(outer) < 0).any() and (not back.any() or np.mean(up[back]) >= REGULAR)
                and (back.any() or rises(inner)) and np.mean(back[up] if up.any() else [True]) >= REGULAR)  # fmt: skip


def key_of(group: Group, at: int) -> str:
    """The key of a number, with the phase that the lines around the row told."""
    hole = group.template.holes[at]
    own = split_phase(hole.key)[0]
    if group.phase and not own and is_outcome(hole.key):
        return f"{group.phase}/{hole.key}"
    return hole.key


def scores_of(groups: Sequence[Group]) -> set[str]:
    """Keys that are the name of a phase and nothing else, beside a loss that has its name: scores, not losses.

    `Loss: 0.7, Train: 0.9, Val: 0.8` (PyTorch Geometric's and OGB's examples) are accuracies: the loss of training has
    been told. Without `Train` they are scores where they are shares that rise.
    """
    scores: set[str] = set()
    for group in groups:
        template = group.template
        bare = [at for at in template.metrics if is_phase(template.holes[at].key)]
        told = [split_phase(template.holes[at].key) for at in template.outcomes if at not in bare]
        named = any(phase in ("", "train") and in_family(words, LOSSES | ERRORS) for phase, words in told)
        if not named or not bare:
            continue
        trained = any(split_phase(template.holes[at].key)[0] == "train" for at in bare)
        scores |= {key_of(group, at) for at in bare if trained or _rising_share(group.column(at))}
    return scores


def _rising_share(values: Floats) -> bool:
    """Whether numbers are shares that are larger in the last third than in the first."""
    third = max(1, len(values) // 3)
    inside = np.isfinite(values).all() and np.all((values >= 0) & (values <= 1))
    return bool(inside and np.median(values[-third:]) > np.median(values[:third]))
