"""Gives a finding of the history to the diagnosis of the run that it blames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unstuck.diagnose.case import Case
from unstuck.diagnose.engine import Diagnosis, Finding, all_rules
from unstuck.diagnose.history import History, HistoryFinding
from unstuck.diagnose.reasoning import SEVERITY_ORDER
from unstuck.diagnose.rule import Found


def attach(history: History, diagnoses: Sequence[Diagnosis]) -> None:
    """Add each blaming finding to its run's findings, where the rule has not found it already.

    Its place is behind the run's own findings of the same severity that are at least as sure; the run becomes sick.
    """
    for told in history.findings:
        if told.blames is None:
            continue
        source = history.runs[told.blames].source
        diagnosis = next((d for d in diagnoses if d.run.source == source), None)
        if diagnosis is not None and told.rule in all_rules():
            _add(diagnosis, told)


def _add(diagnosis: Diagnosis, told: HistoryFinding) -> None:
    from unstuck.remedies import remedies_for

    own = next((f for f in diagnosis.findings if f.rule.name == told.rule), None)
    if own is not None and SEVERITY_ORDER[own.severity] <= SEVERITY_ORDER[told.severity]:
        return
    rule = all_rules()[told.rule]
    found = Found(told.title, told.evidence, told.confidence, told.severity, told.detail, told.facts)
    remedies = remedies_for(Case(diagnosis.run), rule.name, found)
    new = Finding(rule, found, told.severity, 0, None, remedies)
    findings = [f for f in diagnosis.findings if f is not own]
    place = next((k for k, f in enumerate(findings) if _order(new) < _order(f)), len(findings))
    findings.insert(place, new)
    diagnosis.findings = [replace(finding, rank=rank) for rank, finding in enumerate(findings, start=1)]
    diagnosis.clear = [name for name in diagnosis.clear if name != told.rule]
    diagnosis.could_not_check.pop(told.rule, None)
    if told.severity != "note":
        diagnosis.verdict = "sick"


def _order(finding: Finding) -> tuple[int, float]:
    return SEVERITY_ORDER[finding.severity], -finding.found.confidence
