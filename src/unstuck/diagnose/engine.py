"""Run every rule on a run, put causes before consequences, and reach a verdict."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Literal

import numpy as np

from unstuck.diagnose import rules as rules_package
from unstuck.diagnose.alternatives import Alternative, alternatives
from unstuck.diagnose.calibration import calibrated
from unstuck.diagnose.case import Case
from unstuck.diagnose.projection import Projection, Reach, outlook, passed_at, seconds_per_update, when_reached
from unstuck.diagnose.reasoning import explained_away, log_next, ranked
from unstuck.diagnose.rule import Clear, CouldNotCheck, Found, Remedy, Rule, Severity
from unstuck.diagnose.thin import thin
from unstuck.runs import Run

Verdict = Literal["sick", "healthy", "undetermined"]
WORST_FIRST: tuple[Verdict, ...] = ("sick", "undetermined", "healthy")  # of several runs the worst counts

# A run is healthy only when a rule that follows the loss over the whole run could look and found nothing: rules that
# need one point each (no NaN, no resume) are clear of a run of two updates as well, which shows nothing.
FOLLOWS_THE_LOSS = ("loss-diverged", "loss-plateau")
# Some logs have validation alone; of fewer evaluations than this nobody says that a run went well (ours).
FOLLOWS_VALIDATION, EVALUATIONS = "best-checkpoint-passed", 10


# What arithmetic on a log that nobody foresaw can raise (LinAlgError is a ValueError).
NUMERICAL_FAULTS = (ArithmeticError, IndexError, ValueError)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule's finding in a run, ranked; `because_of` names the finding that it follows from.

    `found.confidence` is calibrated (see `calibration`), `estimate` is what the rule itself said of it.
    `alternatives` are other causes of the same pattern that the run's record does not rule out.
    """

    rule: Rule
    found: Found
    severity: Severity
    rank: int
    because_of: str | None = None
    remedies: tuple[Remedy, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    estimate: float | None = None


@dataclass(slots=True)
class Diagnosis:
    """What all rules said of one run.

    `outlook`: the loss at the planned end of a run that has not reached it, where the record carries a projection.
    `reach`: when the loss that was asked for is reached, or why nobody can say, as a clause.
    """

    run: Run
    verdict: Verdict
    findings: list[Finding] = field(default_factory=list)
    clear: list[str] = field(default_factory=list)
    could_not_check: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outlook: Projection | None = None
    reach: str = ""

    @property
    def log_next(self) -> list[str]:
        """What would let most of the rules look that could not, the most wanted first."""
        return log_next(self.could_not_check)


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


def diagnose(run: Run, target: float | None = None) -> Diagnosis:
    """Apply every rule that a log or configuration can answer (stages L and C) to one run.

    Args:
        target: a loss of which the diagnosis is to say when it is reached.
    """
    from unstuck.remedies import remedies_for

    case = Case(thin(run))
    hits: dict[str, tuple[Rule, Found]] = {}
    estimates: dict[str, float] = {}
    diagnosis = Diagnosis(replace(run, notes=case.run.notes), "undetermined")
    for name, rule in all_rules().items():
        if not set(rule.stages) & {"L", "C"}:
            continue
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, about logs that nobody foresaw
                outcome = rule.check(case)
        except NUMERICAL_FAULTS as error:  # a fault of ours: the other rules still speak, and this one is not silent
            outcome = CouldNotCheck(
                (f"nothing: the rule itself failed, please report it ({type(error).__name__}: {error})",)
            )
        if isinstance(outcome, Found):
            estimates[name] = outcome.confidence
            if (outcome.severity or rule.severity) != "note":
                outcome = replace(outcome, confidence=calibrated(name, outcome.confidence))
            hits[name] = (rule, outcome)
        elif isinstance(outcome, Clear):
            diagnosis.clear.append(name)
        elif isinstance(outcome, CouldNotCheck):
            diagnosis.could_not_check[name] = outcome.missing
    for name in explained_away(hits):
        del hits[name]
        diagnosis.clear.append(name)
    diagnosis.findings = [
        Finding(
            rule,
            found,
            found.severity or rule.severity,
            rank,
            because,
            remedies_for(case, rule.name, found),
            alternatives(case, rule.name) if because is None else (),
            estimates[rule.name],
        )
        for rank, (rule, found, because) in enumerate(ranked(hits, run.updates), start=1)
    ]
    with np.errstate(all="ignore"), suppress(*NUMERICAL_FAULTS):
        _look_ahead(diagnosis, case, target)
    if any(f.severity != "note" for f in diagnosis.findings):
        diagnosis.verdict = "sick"
    elif _followed(case, diagnosis.clear):
        diagnosis.verdict = "healthy"
    return diagnosis


def _look_ahead(diagnosis: Diagnosis, case: Case, target: float | None) -> None:
    """What the run comes to, and when the loss that was asked for is reached."""
    if target is not None:
        diagnosis.reach = f"{target:g}: the record does not carry a projection"
        ahead = when_reached(case, target)
        pace = seconds_per_update(case)
        diagnosis.reach = ahead.said(pace) if isinstance(ahead, Reach) else f"{target:g}: {ahead.reason}"
        if (passed := passed_at(case, target)) is not None:
            diagnosis.reach = f"{target:g} was reached at {case.run.axis} {passed:,}"
    said = outlook(case)
    diagnosis.outlook = said if isinstance(said, Projection) else None


def _followed(case: Case, clear: list[str]) -> bool:
    """Whether a rule that follows the loss over the whole run could look and found nothing."""
    by_validation = FOLLOWS_VALIDATION in clear and case.val is not None and len(case.val) >= EVALUATIONS
    return by_validation or any(name in clear for name in FOLLOWS_THE_LOSS)
