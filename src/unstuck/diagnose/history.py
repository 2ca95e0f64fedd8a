"""Several runs as one history: what changed from each to the next, and what happened then.

Only runs that may be compared are: the same task, loss, unit and vocabulary as far as the logs say; else the history
says why not. A run is compared with the one before it in time at the last update that both reached.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from unstuck.diagnose.changes import SettingChange, changes_between, levers
from unstuck.diagnose.history_order import (
    goes_on,
    ordered,
    same_configuration_keys,
    same_record,
    why_not_comparable,
)
from unstuck.diagnose.history_outcome import Outcome, compare
from unstuck.diagnose.rule import Evidence, Severity
from unstuck.diagnose.thin import thin
from unstuck.runs import Run

MAX_PAIRED = 100  # ours: runs of which all pairs are looked at (4,950 pairs); of more only neighbours in time
MAX_GROUPS = 20  # ours: of more groups only the latest are tried for another run
LEAST_ALIKE = 0.9  # repeats of a setting are compared when their lengths differ by a tenth at most


@dataclass(frozen=True, slots=True)
class Step:
    """From one run to the next that compares with it.

    Attributes:
        old, new: indices into `History.runs`.
        changes: settings that differ; None where a configuration is not known.
        outcome: what happened; None where that is not known.
        why_unknown: why there is no outcome, in a few words.
    """

    old: int
    new: int
    changes: tuple[SettingChange, ...] | None
    outcome: Outcome | None
    why_unknown: str = ""

    @property
    def levers(self) -> dict[str, tuple[SettingChange, ...]]:
        """The changes that matter, by lever."""
        return levers(self.changes or ())

    @property
    def only(self) -> str | None:
        """The one lever that was changed; None where there were none or several, or nothing is known."""
        return next(iter(self.levers)) if self.changes is not None and len(self.levers) == 1 else None


@dataclass(frozen=True, slots=True)
class HistoryFinding:
    """A rule's pattern in the history.

    Attributes:
        rule: a rule's name.
        runs: indices of the runs that it speaks of, in the order of time.
        blames: index of the run whose diagnosis it belongs to; None: only the history's.
        facts: numbers for the remedy of the rule.
    """

    rule: str
    title: str
    runs: tuple[int, ...]
    confidence: float
    severity: Severity = "warning"
    detail: str = ""
    blames: int | None = None
    evidence: tuple[Evidence, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class History:
    """Runs in the order of time, the steps between those that compare, and what they show together.

    Attributes:
        runs: in the order of time.
        order: how the order is known.
        steps: each from a run to the next one of its group.
        groups: indices of runs that compare with each other, in the order of time; those of a single run as well.
        findings: patterns, the surest first.
        remarks: sentences: repeats of a setting, the best run, what was not compared and why.
        seed_sds: for each group the standard deviation over runs of the same settings, None where there are none.
    """

    runs: tuple[Run, ...]
    order: str
    steps: tuple[Step, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    findings: tuple[HistoryFinding, ...] = ()
    remarks: tuple[str, ...] = ()
    seed_sds: tuple[float | None, ...] = ()

    def name(self, index: int) -> str:
        """A short name of a run: the last part of its source that tells the runs apart."""
        return short_names(self.runs)[index]

    def seed_sd(self, index: int) -> float | None:
        """What another seed is worth in the group of a run: tasks apart have losses of other scales."""
        return next((sd for group, sd in zip(self.groups, self.seed_sds, strict=True) if index in group), None)


def history_of(runs: Sequence[Run]) -> History:
    """The history of at least two runs."""
    from unstuck.diagnose.history_findings import findings, remarks

    places, order = ordered(runs)
    in_time = [thin(runs[k]) for k in places]
    kept, twice = _without_copies(in_time)
    history = History(tuple(kept), order)
    groups, reasons = _groups(kept)
    history.groups = tuple(tuple(group) for group in groups)
    history.seed_sds = tuple(_seed_sd(kept, group) for group in groups)
    history.steps = tuple(step(history, old, new) for group in groups for old, new in itertools.pairwise(group))
    history.findings = findings(history)
    history.remarks = (*remarks(history), *twice, *reasons)
    return history


def step(history: History, old: int, new: int) -> Step:
    """From one run to another of its group."""
    a, b = history.runs[old], history.runs[new]
    changes = changes_of(a, b)
    why = "it goes on from the run before" if goes_on(a, b) else why_not_comparable(a, b, changes)
    outcome = None if why else compare(a, b, history.seed_sd(old))
    if outcome is None and not why:
        why = "they reached no update in common"
    return Step(old, new, changes, outcome, why)


def changes_of(a: Run, b: Run) -> tuple[SettingChange, ...] | None:
    """What differs between the settings of two runs; None where one configuration is not known."""
    if not same_configuration_keys(a, b):
        return None
    return changes_between(a.settings, b.settings, a.raw_settings, b.raw_settings)


def short_names(runs: Sequence[Run]) -> list[str]:
    """The last part of each run's source, with the folder before it where two would be alike."""
    for depth in (1, 2, 3):
        names = ["/".join(PurePath(run.source).parts[-depth:]) for run in runs]
        if len(set(names)) == len(names):
            return names
    return [run.source for run in runs]


def _without_copies(runs: list[Run]) -> tuple[list[Run], list[str]]:
    """The runs without second records of one run; the record with more settings, then more series, is kept."""
    if len(runs) > MAX_PAIRED:
        return runs, []
    kept: list[Run] = []
    twice: list[str] = []
    for run in runs:
        place = next((k for k, other in enumerate(kept) if same_record(other, run)), None)
        if place is None:
            kept.append(run)
            continue
        twice.append(f"{PurePath(kept[place].source).name} and {PurePath(run.source).name}")
        if (len(run.raw_settings), len(run.series)) > (len(kept[place].raw_settings), len(kept[place].series)):
            kept[place] = run
    more = f" and {len(twice) - 2} more" if len(twice) > 2 else ""
    told = [f"Records of the same run, counted once: {'; '.join(twice[:2])}{more}."] if twice else []
    return kept, told


def _groups(runs: list[Run]) -> tuple[list[list[int]], list[str]]:
    """Runs that compare with the first run of their group, and why the groups do not compare with each other."""
    groups: list[list[int]] = []
    apart: dict[str, list[int]] = {}
    for k, run in enumerate(runs):
        why = ""
        for group in groups[-MAX_GROUPS:]:
            first = runs[group[0]]
            why = why_not_comparable(first, run, changes_of(first, run))
            if not why:
                group.append(k)
                break
        else:
            groups.append([k])
            if why:
                apart.setdefault(why, []).append(k)
    names = short_names(runs)
    reasons = []
    for why, alone in apart.items():
        who = names[alone[0]] if len(alone) == 1 else f"{names[alone[0]]} and {len(alone) - 1} more"
        reasons.append(f"Not compared with the runs before: {who}; {why}.")
    return groups, reasons


def _seed_sd(runs: list[Run], group: list[int]) -> float | None:
    """Standard deviation over seeds: pooled over pairs of neighbours in time whose settings are the same."""
    squares: list[float] = []
    for old, new in itertools.pairwise(group):
        difference = repeat_difference(runs[old], runs[new])
        if difference is not None:
            squares.append(difference**2 / 2)  # the variance of one of two values whose difference is d
    return (sum(squares) / len(squares)) ** 0.5 if squares else None


def repeat_difference(a: Run, b: Run) -> float | None:
    """How far two runs of the same settings and length are apart; None where they are no repeats."""
    changes = changes_of(a, b)
    shorter, longer = sorted((a.updates, b.updates))
    if changes is None or levers(changes) or goes_on(a, b) or shorter < LEAST_ALIKE * longer:
        return None
    outcome = compare(a, b)
    seeds = a.setting("seed"), b.setting("seed")
    if outcome is None or (outcome.difference == 0 and seeds[0] == seeds[1]):
        return None  # one seed twice: that it repeats says nothing of other seeds
    return outcome.difference
