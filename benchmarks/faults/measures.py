"""Measures over scored runs: recall, precision, rank of the cause, false alarms, calibration."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks.faults.scored import Scored

Z95 = 1.96  # two-sided 95 %
BINS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)  # ours: confidences below one half are rare


@dataclass(slots=True)
class Share:
    """So many of so many, with Wilson's interval."""

    hits: int = 0
    total: int = 0

    def add(self, hit: bool) -> None:
        self.hits, self.total = self.hits + hit, self.total + 1

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else math.nan

    def interval(self) -> tuple[float, float]:
        """95 %, Wilson 1927."""
        n, z = self.total, Z95
        if not n:
            return 0.0, 1.0
        p = self.value
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))

    def __str__(self) -> str:
        if not self.total:
            return "-"
        low, high = self.interval()
        return f"{self.hits} of {self.total} ({self.value:.0%}, {low:.0%}-{high:.0%})"


def share(hits: Iterable[bool]) -> Share:
    counted = Share()
    for hit in hits:
        counted.add(hit)
    return counted


def faulty(runs: Iterable[Scored]) -> list[Scored]:
    """Runs with a fault that had its effect and that logs and configurations can show, if need be the twin's too."""
    return [run for run in runs if run.label.verdict == "faulty" and run.label.needs != "model"]


def healthy(runs: Iterable[Scored]) -> list[Scored]:
    return [run for run in runs if run.label.verdict == "healthy"]


@dataclass(slots=True)
class Overall:
    """The measures of issue 4 over some runs."""

    found: Share  # faults with an expected rule among the first three
    found_as_alarm: Share  # the same, errors and warnings alone
    first: Share  # runs whose rank 1 names a fault they have
    called_sick: Share
    healthy_alarmed: Share  # healthy runs with any error or warning that is wrong
    faulty_wrong: Share  # faulty runs with a wrong error or warning
    unread: int


def overall(runs: Sequence[Scored]) -> Overall:
    sick, well = faulty(runs), healthy(runs)
    return Overall(
        share(run.found(rules) for run in sick for rules in run.label.expected),
        share(run.found(rules, notes=False) for run in sick for rules in run.label.expected),
        share(run.cause_first for run in sick),
        share(run.verdict == "sick" for run in sick),
        share(bool(run.wrong) for run in well),
        share(bool(run.wrong) for run in sick),
        sum(bool(run.error) for run in [*sick, *well]),
    )


@dataclass(slots=True)
class PerRule:
    """How one rule did: its errors and warnings, right or wrong, and the faults that it should have named."""

    right: int = 0
    wrong: int = 0
    on_healthy: int = 0
    wanted: Share = field(default_factory=Share)

    @property
    def precision(self) -> float:
        fired = self.right + self.wrong
        return self.right / fired if fired else math.nan


def per_rule(runs: Sequence[Scored]) -> dict[str, PerRule]:
    """Precision over faulty and healthy runs; recall where the rule is the first that a fault expects."""
    table: dict[str, PerRule] = defaultdict(PerRule)
    for run in [*faulty(runs), *healthy(runs)]:
        for rule in set(run.alarms):
            right = run.is_right(rule)
            table[rule].right += right
            table[rule].wrong += not right
            table[rule].on_healthy += not right and run.label.verdict == "healthy"
        for rules in run.label.expected:
            table[rules[0]].wanted.add(run.found(rules))
    return dict(sorted(table.items()))


@dataclass(slots=True)
class Calibration:
    """Confidence against truth: (mean confidence, share right, findings) per bin, and Brier's score."""

    bins: list[tuple[float, float, int]]
    brier: float
    findings: int


def calibration(runs: Sequence[Scored], severity: str | None = None) -> Calibration:
    """Over every finding on faulty and healthy runs; of one severity, or errors and warnings together."""
    pairs = [
        (confidence, run.is_right(rule))
        for run in [*faulty(runs), *healthy(runs)]
        for rule, given, confidence in run.findings
        if (given == severity if severity else given != "note") and not math.isnan(confidence)
    ]
    bins = []
    for low, high in pairwise(BINS):
        inside = [(c, r) for c, r in pairs if low <= c < high or (c == high == 1.0)]
        if inside:
            count = len(inside)
            bins.append((sum(c for c, _ in inside) / count, sum(r for _, r in inside) / count, count))
    brier = sum((c - r) ** 2 for c, r in pairs) / len(pairs) if pairs else math.nan
    return Calibration(bins, brier, len(pairs))


def grouped(runs: Sequence[Scored], key: Callable[[Scored], str]) -> dict[str, list[Scored]]:
    parts: dict[str, list[Scored]] = defaultdict(list)
    for run in runs:
        parts[key(run)].append(run)
    return dict(sorted(parts.items()))
