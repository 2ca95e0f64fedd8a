"""Which templates of a scan are the record of training.

A template counts when it names an outcome and a count, or stands between such rows again and again; prose, headers and
sample text do neither.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from unstuck.runs.text_gaps import known_tail
from unstuck.runs.text_grammar import Hole, Template, tails_of
from unstuck.runs.text_groups import LEAST_BARE, REGULAR, Group, goes_on, group_of, key_of
from unstuck.runs.text_points import points_of
from unstuck.runs.text_scan import Scan
from unstuck.runs.text_words import RATES, in_family, is_phase, phase_of, split_phase

MAX_STRANGE = 6  # ours: words that are neither keys nor units in a row that has a count and an outcome
BLOCK = 24  # ours: lines of one block
FEW_STRANGE = 2  # the same in a row without a count


def choose(scan: Scan, said: dict[str, str]) -> list[Group]:
    """The groups of a scan that are points of training, in the order of their first row.

    Args:
        said: what the user said about columns, by key as logged.
    """
    groups = [group_of(found, said) for found in scan.found if found.count and not is_summary(found.template)]
    for group in groups:
        if scan.cut and (tails := tails_of(group.template.holes)) in scan.cut:
            group.template = replace(group.template, holes=tails)
    settings = {told.row for told in scan.told if told.kind == "setting"}
    groups = _accepted(groups, settings, said)
    groups = _one_rank(groups)
    groups = points_of(groups, [(one.row, phase) for one in scan.told if (phase := phase_of(one.kind))])
    return _by_row(_without_echoes(groups))


def _without_echoes(groups: list[Group]) -> list[Group]:
    """The groups without rows that have no count and repeat what rows with a count say: a sum, or no data at all."""
    counted = {key_of(g, at) for g in groups if g.template.counts for at in g.template.outcomes}
    return [
        group
        for group in groups
        if group.template.counts
        or not group.template.outcomes
        or any(key_of(group, at) not in counted for at in group.template.outcomes)
    ]


def is_summary(template: Template) -> bool:
    """What transformers' Trainer prints once, at the end of training."""
    return any(hole.key == "train_runtime" for hole in template.holes)


def _accepted(groups: list[Group], settings: set[int], said: Collection[str]) -> list[Group]:
    """The groups that are points, and those that only count and give the others their step."""
    full = [group for group in groups if _is_full(group, said)]
    repeated = [g for g in full if g.count >= 2]
    roles = {role for group in repeated for role in group.template.counts}
    full = [g for g in full if g.count >= 2 or roles & g.template.counts.keys() or _is_strong(g)]
    first = min((int(group.rows[0]) for group in full), default=None)
    heads = [group for group in groups if group not in full and _is_head(group)]
    epochs = [group for group in heads if "epoch" in group.template.counts]
    start = min([*([first] if first is not None else []), *(int(g.rows[0]) for g in epochs)], default=None)
    bare = [group for group in groups if group not in full and _is_bare(group, start, settings)]
    keys = {(role, group.template.holes[at].key) for group in full for role, at in group.template.counts.items()}
    beside = [group for group in groups if group not in full and roles and _is_beside(group, keys)]
    points = full + bare + beside
    if not points:
        return []
    blocks = [group for group in groups if group not in points and _is_of_block(group, bare)]
    useful = [group for group in heads if _is_useful(group, points)]
    return points + blocks + _first_counted(useful)


def _is_full(group: Group, said: Collection[str]) -> bool:
    """A count, and something that training improves or that steers it."""
    template = group.template
    if not template.counts or template.strange > MAX_STRANGE:
        return False
    alone = all(template.total_of(at) is None for at in template.counts.values())
    sure = template.is_repr or _is_strong(group)
    if (
        alone
        and not sure
        and group.count >= LEAST_BARE
        and all(np.ptp(group.column(at)) == 0 for at in template.counts.values())
    ):
        return False  # a sentence that is printed again and again does not count
    steered = any(in_family(split_phase(template.holes[at].key)[1], RATES) for at in template.metrics)
    named = any(template.holes[at].key.startswith("col") or key_of(group, at) in said for at in template.metrics)
    return bool(template.outcomes) or steered or named or _bare_phase(template)


def _bare_phase(template: Template) -> bool:
    return any(is_phase(template.holes[at].key) for at in template.metrics)


def _is_strong(group: Group) -> bool:
    """A row that says enough to be believed although no other looks like it."""
    template = group.template
    exact = [at for at in template.outcomes if template.holes[at].exact]
    return bool(exact) and not template.strange and not template.summary


def _is_bare(group: Group, start: int | None, settings: set[int]) -> bool:
    """No count, but an outcome with its name, more than once, after training began."""
    template = group.template
    if template.counts or template.summary or template.strange > FEW_STRANGE:
        return False
    if template.table and (start is None or not all(template.holes[at].phase for at in template.metrics)):
        return False
    rows = group.rows
    if start is None:
        varies = any(np.ptp(group.column(at)) > 0 for at in template.outcomes)  # settings are printed alike each time
        plain = bool(template.outcomes) and not settings & set(rows.tolist())
        return group.count >= LEAST_BARE and (varies or plain)
    if not template.outcomes:  # a learning rate by itself: not the header of each start
        steered = any(in_family(split_phase(template.holes[at].key)[1], RATES) for at in template.metrics)
        alone = not any({row - 1, row + 1} & settings for row in rows[:100].tolist())
        return steered and alone and group.count >= LEAST_BARE and int(rows[0]) > start
    return int(rows[-1]) > start and group.count >= 2


def _is_beside(group: Group, keys: set[tuple[str, str]]) -> bool:
    """The count of a full row and other numbers: `step:3/100 train_time:12ms`."""
    template = group.template
    if not template.counts or not template.metrics or template.strange or group.count < 2:
        return False
    if not all(template.holes[at].exact for at in template.metrics):
        return False
    return any((role, template.holes[at].key) in keys for role, at in template.counts.items())


def _is_head(group: Group) -> bool:
    """Only a count: `Epoch 3/30`, `step 100`, the state of a bar without values."""
    template = group.template
    if not template.counts or template.outcomes or template.strange > FEW_STRANGE + 1 or template.summary:
        return False
    if "epoch" in template.counts:
        return bool(template.holes[template.counts["epoch"]].key) and not template.metrics
    steps = group.column(next(iter(template.counts.values())))
    return not template.strange and group.count >= LEAST_BARE and goes_on(steps)  # "Step 1: add the numbers" is prose


def _is_useful(group: Group, points: list[Group]) -> bool:
    """Whether points need the count of a head: they have none, or only the batch within an epoch."""
    roles = group.template.counts.keys()
    if group.template.is_bar and "epoch" not in roles:
        return False
    if "epoch" in roles:
        return any("epoch" not in point.template.counts for point in points)
    return any(not point.template.counts for point in points)


def _is_of_block(group: Group, bare: list[Group]) -> bool:
    """One more line of the blocks of lines that hold an outcome each: `learning_rate=1e-4` below `loss=2.3`."""
    template = group.template
    if template.counts or template.summary or template.strange or len(template.metrics) != 1 or template.table:
        return False
    if not all(_is_named(template.holes[at]) for at in template.metrics) or group.count < LEAST_BARE:
        return False
    return any(
        len(other.rows) == len(group.rows) and np.mean(np.abs(other.rows - group.rows) <= BLOCK) >= REGULAR
        for other in bare
    )


def _is_named(hole: Hole) -> bool:
    """Whether a number has a name: before a colon or an equals sign, or words of training alone (`grad norm  1.65`)."""
    words = hole.key.split()
    if hole.exact or not words:
        return hole.exact
    rate = any(in_family(split_phase(name)[1], RATES) for name in (hole.key, words[0]))  # of a group: `lr body`
    return rate or known_tail(words) == len(words)


def _first_counted(heads: list[Group]) -> list[Group]:
    """The heads with one count of steps only, that of the line which begins the block."""
    steps = {g.template.holes[g.template.counts["step"]].key: g for g in reversed(_by_row(heads)) if _steps_only(g)}
    if len(steps) < 2:
        return heads
    first = min(steps, key=lambda key: int(steps[key].rows[0]))
    return [g for g in heads if not _steps_only(g) or g.template.holes[g.template.counts["step"]].key == first]


def _steps_only(group: Group) -> bool:
    return group.template.counts.keys() == {"step"}


def _by_row(groups: list[Group]) -> list[Group]:
    return sorted(groups, key=lambda group: int(group.rows[0]))


def _one_rank(groups: list[Group]) -> list[Group]:
    """Of rows that several processes wrote alike those of the first process."""
    kept = []
    lowest: dict[tuple[Hole, ...], int] = {}
    for group in groups:
        if (rank := group.template.rank) >= 0:
            lowest[group.template.holes] = min(lowest.get(group.template.holes, rank), rank)
    for group in groups:
        if group.template.rank > lowest.get(group.template.holes, group.template.rank):
            continue
        ranked = next((at for at, hole in enumerate(group.template.holes) if hole.role == "rank"), None)
        if ranked is not None and len(group.rows):
            ranks = group.column(ranked)
            group = group.where(ranks == ranks.min())
        kept.append(group)
    return kept
