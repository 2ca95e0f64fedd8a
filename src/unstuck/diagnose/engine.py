"""Run every rule on a run, put causes before consequences, and reach a verdict."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

from unstuck.diagnose import rules as rules_package
from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Found, Remedy, Rule, Severity
from unstuck.diagnose.thin import thin
from unstuck.runs import Run

Verdict = Literal["sick", "healthy", "undetermined"]
SEVERITY_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}

# A run is healthy only when a rule that follows the loss over the whole run could look and found nothing: rules that
# need one point each (no NaN, no resume) are clear of a run of two updates as well, which shows nothing.
FOLLOWS_THE_LOSS = ("loss-diverged", "loss-plateau")
# Some logs have validation alone; of fewer evaluations than this nobody says that a run went well (ours).
FOLLOWS_VALIDATION, EVALUATIONS = "best-checkpoint-passed", 10


# What arithmetic on a log that nobody foresaw can raise (LinAlgError is a ValueError).
NUMERICAL_FAULTS = (ArithmeticError, IndexError, ValueError)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's finding in a run, ranked; `because_of` names the finding that it follows from."""

    rule: Rule
    found: Found
    severity: Severity
    rank: int
    because_of: str | None = None
    remedies: tuple[Remedy, ...] = ()


@dataclass(slots=True)
class Diagnosis:
    """What all rules said of one run."""

    run: Run
    verdict: Verdict
    findings: list[Finding] = field(default_factory=list)
    clear: list[str] = field(default_factory=list)
    could_not_check: dict[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def all_rules() -> dict[str, Rule]:
    """Every rule below `diagnose/rules`, by name, discovered by its place."""
    found: dict[str, Rule] = {}
    for module in pkgutil.walk_packages(rules_package.__path__, rules_package.__name__ + "."):
        if module.ispkg:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Rule):
                found[value.name] = value
    return dict(sorted(found.items(), key=lambda item: item[1].code))


def diagnose(run: Run) -> Diagnosis:
    """Apply every rule that a log or configuration can answer (stages L and C) to one run."""
    from unstuck.remedies import remedies_for

    case = Case(thin(run))
    hits: dict[str, tuple[Rule, Found]] = {}
    diagnosis = Diagnosis(replace(run, notes=case.run.notes), "undetermined")
    for name, rule in all_rules().items():
        if not set(rule.stages) & {"L", "C"}:
            continue
        try:
            outcome = rule.check(case)
        except NUMERICAL_FAULTS as error:  # a fault of ours: the other rules still speak, and this one is not silent
            outcome = CouldNotCheck(
                (f"nothing: the rule itself failed, please report it ({type(error).__name__}: {error})",)
            )
        if isinstance(outcome, Found):
            hits[name] = (rule, outcome)
        elif isinstance(outcome, Clear):
            diagnosis.clear.append(name)
        elif isinstance(outcome, CouldNotCheck):
            diagnosis.could_not_check[name] = outcome.missing
    diagnosis.findings = [
        Finding(rule, found, found.severity or rule.severity, rank, because, remedies_for(case, rule.name, found))
        for rank, (rule, found, because) in enumerate(_ranked(hits), start=1)
    ]
    if any(f.severity != "note" for f in diagnosis.findings):
        diagnosis.verdict = "sick"
    elif any(name in diagnosis.clear for name in FOLLOWS_THE_LOSS):
        diagnosis.verdict = "healthy"
    elif FOLLOWS_VALIDATION in diagnosis.clear and case.val is not None and len(case.val) >= EVALUATIONS:
        diagnosis.verdict = "healthy"
    return diagnosis


def _ranked(hits: dict[str, tuple[Rule, Found]]) -> list[tuple[Rule, Found, str | None]]:
    """Root causes first (by severity, then confidence), each followed by what it explains; notes last.

    At the same severity a finding on speed comes after one on learning: a busy machine slows a run, it does not keep
    it from learning.
    """

    def order(name: str) -> tuple[int, bool, float, str]:
        rule, found = hits[name]
        severity = SEVERITY_ORDER[found.severity or rule.severity]
        return severity, rule.family == "throughput", -found.confidence, rule.code

    cause_of: dict[str, str] = {}
    for name in sorted(hits, key=order):
        for explained in hits[name][0].explains:
            # a note is no root cause of an error or warning
            only_a_note = explained in hits and order(name)[0] == SEVERITY_ORDER["note"] > order(explained)[0]
            if explained in hits and explained != name and not only_a_note:
                cause_of.setdefault(explained, name)
    for name in list(cause_of):  # two rules that explain each other: the better placed one is the cause
        seen = {name}
        cause = cause_of.get(name)
        while cause is not None:
            if cause in seen:
                cause_of.pop(min(seen, key=order), None)
                break
            seen.add(cause)
            cause = cause_of.get(cause)

    ranked: list[tuple[Rule, Found, str | None]] = []

    def place(name: str) -> None:
        rule, found = hits[name]
        ranked.append((rule, found, cause_of.get(name)))
        for follower in sorted((n for n, c in cause_of.items() if c == name), key=order):
            place(follower)

    for root in sorted((n for n in hits if n not in cause_of), key=order):
        place(root)
    severity_of = {r.name: f.severity or r.severity for r, f, _ in ranked}
    ranked.sort(key=lambda entry: severity_of[entry[0].name] == "note")  # stable: notes after everything else
    return ranked
