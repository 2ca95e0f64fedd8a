"""The top-level key `history` of `diagnose --json`."""

from __future__ import annotations

from typing import Any

from unstuck.diagnose.history import History, Step, short_names
from unstuck.diagnose.history_order import common_result, result
from unstuck.json_ready import json_ready
from unstuck.runs import Run


def history_document(history: History) -> dict[str, Any]:
    """Plain JSON types; runs are given by their place in `runs` and by their source."""
    names = short_names(history.runs)
    return {
        "order": history.order,
        "runs": [{"source": run.source, "name": names[k], **_results(run)} for k, run in enumerate(history.runs)],
        "groups": [list(group) for group in history.groups],
        "seed_sds": json_ready(list(history.seed_sds)),
        "steps": [_step_document(entry) for entry in history.steps],
        "findings": [
            {
                "rule": found.rule,
                "severity": found.severity,
                "confidence": found.confidence,
                "title": found.title,
                "detail": found.detail,
                "runs": [history.runs[k].source for k in found.runs],
                "blames": None if found.blames is None else history.runs[found.blames].source,
            }
            for found in history.findings
        ],
        "remarks": list(history.remarks),
    }


def _results(run: Run) -> dict[str, Any]:
    name = common_result(run, run)
    series = result(run, name) if name else None
    if name is None or series is None:
        return {"result": None}
    best = int(series.values.argmin())
    return {
        "result": name,
        "best": {"update": int(series.updates[best]), "value": json_ready(float(series.values[best]))},
        "final": {"update": int(series.updates[-1]), "value": json_ready(float(series.values[-1]))},
    }


def _step_document(entry: Step) -> dict[str, Any]:
    outcome = entry.outcome
    changes = entry.changes
    return {
        "old": entry.old,
        "new": entry.new,
        "why_unknown": entry.why_unknown,
        "changes": None
        if changes is None
        else [
            {
                "key": c.key,
                "canonical": c.canonical,
                "old": json_ready(c.old),
                "new": json_ready(c.new),
                "lever": c.lever,
            }
            for c in changes
        ],
        "outcome": None
        if outcome is None
        else {
            "series": outcome.series,
            "update": outcome.update,
            "old": json_ready(outcome.old),
            "new": json_ready(outcome.new),
            "error": json_ready(outcome.error),
            "verdict": outcome.verdict,
        },
    }
