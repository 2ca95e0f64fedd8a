"""The `diagnose --json` document (DESIGN, "diagnose --json"): plain JSON types, non-finite numbers as strings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unstuck import __version__
from unstuck.diagnose.engine import Diagnosis, Finding
from unstuck.diagnose.projection import LEVEL, Projection
from unstuck.diagnose.rule import Evidence, Remedy
from unstuck.json_ready import json_ready
from unstuck.runs import Run


def document(diagnoses: Iterable[Diagnosis]) -> dict[str, Any]:
    """The whole document; `json.dumps(document(...), allow_nan=False)` always succeeds."""
    return {"unstuck": __version__, "runs": [run_document(diagnosis) for diagnosis in diagnoses]}


def run_document(diagnosis: Diagnosis) -> dict[str, Any]:
    """One run of the document. `because_of` names the finding that this one follows from, null for a root cause."""
    run = diagnosis.run
    return {
        "source": run.source,
        "format": run.format,
        "format_confidence": json_ready(run.format_confidence),
        "dialect": run.dialect,
        "updates": run.updates,
        "series": [{"name": s.name, "points": len(s), "unit": s.unit} for s in run.series.values()],
        "verdict": diagnosis.verdict,
        "findings": [_finding(finding, run) for finding in diagnosis.findings],
        "clear": list(diagnosis.clear),
        "could_not_check": [
            {"rule": rule, "missing": list(missing)} for rule, missing in diagnosis.could_not_check.items()
        ],
        "log_next": diagnosis.log_next,
        "projection": _projection(diagnosis.outlook),
        "reach": diagnosis.reach or None,
        "notes": list(run.notes),
    }


def _projection(outlook: Projection | None) -> dict[str, Any] | None:
    if outlook is None:
        return None
    loss, low, high = (json_ready(value) for value in (outlook.loss, outlook.low, outlook.high))
    return {"update": outlook.update, "loss": loss, "low": low, "high": high, "level": LEVEL}


def _finding(finding: Finding, run: Run) -> dict[str, Any]:
    found = finding.found
    return {
        "rule": finding.rule.name,
        "code": finding.rule.code,
        "severity": finding.severity,
        "confidence": json_ready(found.confidence),
        "rank": finding.rank,
        "because_of": finding.because_of,
        "title": found.title,
        "detail": found.detail,
        "evidence": [_evidence(evidence) for evidence in found.evidence],
        "alternatives": [{"what": one.what, "tell": one.tell} for one in finding.alternatives],
        "remedies": [_remedy(remedy, run) for remedy in finding.remedies],
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "series": evidence.series,
        "updates": [int(update) for update in evidence.updates],
        "statistic": evidence.statistic,
        "value": json_ready(evidence.value),
        "threshold": json_ready(evidence.threshold),
        "source": None if evidence.source is None else str(evidence.source),
    }


def _remedy(remedy: Remedy, run: Run) -> dict[str, Any]:
    from unstuck.config.dialects import in_dialect

    patch = []
    for change in remedy.patch:
        theirs = in_dialect(change, run)
        patch.append(
            {"key": theirs.key, "old": json_ready(theirs.old), "new": json_ready(theirs.new), "canonical": change.key}
        )
    return {
        "summary": remedy.summary,
        "safety": remedy.safety,
        "patch": patch,
        "reason": remedy.reason,
        "measured": remedy.measured,
    }
