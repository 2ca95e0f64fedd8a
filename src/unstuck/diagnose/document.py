"""The `diagnose --json` document (DESIGN, "diagnose --json"): plain JSON types, non-finite numbers as strings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from unstuck import __version__
from unstuck.diagnose.engine import Diagnosis, Finding
from unstuck.diagnose.rule import Evidence, Remedy
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
        "format_confidence": plain(run.format_confidence),
        "dialect": run.dialect,
        "updates": run.updates,
        "series": [{"name": s.name, "points": len(s), "unit": s.unit} for s in run.series.values()],
        "verdict": diagnosis.verdict,
        "findings": [_finding(finding, run) for finding in diagnosis.findings],
        "clear": list(diagnosis.clear),
        "could_not_check": [
            {"rule": rule, "missing": list(missing)} for rule, missing in diagnosis.could_not_check.items()
        ],
        "notes": list(run.notes),
    }


def _finding(finding: Finding, run: Run) -> dict[str, Any]:
    found = finding.found
    return {
        "rule": finding.rule.name,
        "code": finding.rule.code,
        "severity": finding.severity,
        "confidence": plain(found.confidence),
        "rank": finding.rank,
        "because_of": finding.because_of,
        "title": found.title,
        "detail": found.detail,
        "evidence": [_evidence(evidence) for evidence in found.evidence],
        "remedies": [_remedy(remedy, run) for remedy in finding.remedies],
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "series": evidence.series,
        "updates": [int(update) for update in evidence.updates],
        "statistic": evidence.statistic,
        "value": plain(evidence.value),
        "threshold": plain(evidence.threshold),
        "source": None if evidence.source is None else str(evidence.source),
    }


def _remedy(remedy: Remedy, run: Run) -> dict[str, Any]:
    from unstuck.config.dialects import in_dialect

    patch = []
    for change in remedy.patch:
        theirs = in_dialect(change, run)
        patch.append({"key": theirs.key, "old": plain(theirs.old), "new": plain(theirs.new), "canonical": change.key})
    return {
        "summary": remedy.summary,
        "safety": remedy.safety,
        "patch": patch,
        "reason": remedy.reason,
        "measured": remedy.measured,
    }


def plain(value: Any) -> Any:
    """`value` in JSON types: NaN and infinities become "nan", "inf", "-inf"; numpy numbers become Python's."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)
