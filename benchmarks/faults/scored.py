"""One run as it was labelled and as it was diagnosed: what every measure is computed from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.faults.effect import Label, Record
from unstuck.diagnose.attach import attach
from unstuck.diagnose.engine import Diagnosis, diagnose
from unstuck.diagnose.history import history_of
from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import read_runs

NEVER_WRONG = frozenset({"gradient-norm-preclip"})  # a note on how to read the log (RULES.md)
TOP = 3
NUMBER = re.compile(r"(?<![\w.])\d+\.?\d*(?:e[-+]?\d+)?")
TELLS = re.compile(r"resum|restor|reload|continu|config|setting|argument|override", re.I)


@dataclass(slots=True)
class Scored:
    """A labelled run with its findings.

    Attributes:
        findings: (rule, severity, confidence), the first is rank 1.
        estimates: the confidence that each of these rules said itself, before calibration.
        forbidden: rules that are wrong here; None: all that are neither expected nor accepted.
        error: why the log could not be read.
        run: what the reader made of the log, for the peers; None where it could not be read.
    """

    id: str
    family: str
    trainer: str
    view: str
    label: Label
    findings: list[tuple[str, str, float]] = field(default_factory=list)
    estimates: dict[str, float] = field(default_factory=dict)
    could_not_check: tuple[str, ...] = ()
    verdict: str = ""
    forbidden: frozenset[str] | None = None
    error: str = ""
    run: Run | None = None

    @property
    def alarms(self) -> list[str]:
        """Rules of errors and warnings, in their order; notes are no alarms."""
        return [rule for rule, severity, _ in self.findings if severity != "note"]

    def is_right(self, rule: str) -> bool:
        """Whether a finding of the rule is true of the run."""
        named = rule in self.label.accepted or any(rule in rules for rules in self.label.expected)
        return named or rule in NEVER_WRONG or (self.forbidden is not None and rule not in self.forbidden)

    @property
    def wrong(self) -> list[str]:
        return [rule for rule in self.alarms if not self.is_right(rule)]

    def rank_of(self, expected: tuple[str, ...], *, notes: bool = True) -> int | None:
        """The best rank at which one of the rules is found, from 1; None where none is."""
        names = [rule for rule, _, _ in self.findings] if notes else self.alarms
        return min((names.index(rule) + 1 for rule in expected if rule in names), default=None)

    def found(self, expected: tuple[str, ...], *, notes: bool = True) -> bool:
        """Whether one of the rules is among the first three."""
        rank = self.rank_of(expected, notes=notes)
        return rank is not None and rank <= TOP

    @property
    def cause_first(self) -> bool:
        """Whether rank 1 names a fault that the run has."""
        return any(self.rank_of(expected) == 1 for expected in self.label.expected)


def score_record(
    record: Record, label: Label, out: Path, view: str | None = None, twin: Record | None = None
) -> Scored:
    """Read one form of a run's log with the configuration beside it, and diagnose it.

    Args:
        view: "text", "jsonl" ...; None or a form that the run has not: the one that was drawn for it.
        twin: the healthy run of the same setup and seed, given to a diagnosis that needs a pair.
    """
    views: Mapping[str, str] = record["outcome"]["views"]
    chosen = view if view in views else record["primary"]
    setup: Mapping[str, Any] = record["setup"]
    asked = setup["settings"]["resume_learning_rate"]
    if asked is not None and setup["bugs"]["stale_rate"] and not _is_written(asked, out / _place(record, chosen)):
        label = replace(label, needs="model")  # the rate that was asked for at the resume stands nowhere
    scored = Scored(record["id"], setup["family"], setup["trainer"], f"{setup['style']}/{chosen}", label)
    try:
        scored.run = _longest(record, chosen, out)
        both = [diagnose(scored.run)]
        if twin is not None and label.needs == "pair":
            both.append(diagnose(_longest(twin, chosen, out)))
            attach(history_of([diagnosis.run for diagnosis in both]), both)
    except UserError as error:
        scored.error = str(error).replace(str(out), "")
        return scored
    take(scored, both[0])
    return scored


def _longest(record: Record, view: str, out: Path) -> Run:
    """The run that one form of a log holds; where its reader tells several apart, the one that went farthest."""
    return max(read_runs(out / _place(record, view)), key=lambda run: run.updates)


def _place(record: Record, view: str) -> Path:
    return Path(record["split"], "logs", record["id"], record["outcome"]["views"][view])


def _is_written(value: float, log: Path) -> bool:
    """Whether this number stands in a file beside the log, or in a line of it that tells of a resume or of settings.

    A row of the warm-up may hold the same number by chance.
    """
    folder = log if log.is_dir() else log.parent
    texts = {file: file.read_text(encoding="utf-8", errors="replace") for file in folder.iterdir() if file.is_file()}
    if log in texts:
        texts[log] = "\n".join(line for line in texts[log].splitlines() if TELLS.search(line))
    told = "\n".join(texts.values())
    return any(math.isclose(float(number), value, rel_tol=1e-6) for number in NUMBER.findall(told))


def take(scored: Scored, diagnosis: Diagnosis) -> None:
    scored.findings = [(f.rule.name, f.severity, f.found.confidence) for f in diagnosis.findings]
    scored.estimates = {f.rule.name: f.estimate or f.found.confidence for f in diagnosis.findings}
    scored.could_not_check = tuple(diagnosis.could_not_check)
    scored.verdict = diagnosis.verdict
