"""Diagnosis while the run trains: the same rules, on the run's own record, for a bounded share of its time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unstuck.train.folder import write_atomically
from unstuck.train.state import LoopState

if TYPE_CHECKING:
    from unstuck.diagnose.engine import Diagnosis

# shared/PERFORMANCE.md: live diagnosis and signals may cost 2 % of an update (aim 1 %).
COST_SHARE = 0.015

Emit = Callable[[Mapping[str, Any]], None]


class LiveDiagnosis:
    """Diagnoses the run folder at evaluations, as often as its cost allows, and once at the end.

    Args:
        folder: the run folder; its metrics must be flushed before each call.
        stop_on: names of rules whose finding stops the run.
    """

    def __init__(self, folder: Path, stop_on: Collection[str] = ()) -> None:
        self.folder = folder
        self.stop_on = frozenset(stop_on)
        self.seconds = 0.0
        self.looks = 0
        self._last_cost = 0.0
        self._looked_at = -1.0
        self._alerted: set[str] = set()
        self._broken = False

    def look(self, state: LoopState, emit: Emit) -> str | None:
        """Diagnose the run so far when it is due; report what is new; say why to stop, if so."""
        due = self._looked_at < 0 or self._last_cost <= COST_SHARE * (state.seconds - self._looked_at)
        if self._broken or not due:
            return None
        started = time.perf_counter()
        try:
            diagnosis = self.diagnose()
        except Exception as error:  # noqa: BLE001 - a fault in a rule must not end a run of hours; `final` raises it
            self._broken = True
            emit({"event": "note", "update": state.update, "text": f"live diagnosis failed: {error!r}"})
            return None
        stop = self._report(diagnosis, state.update, emit)
        cost = time.perf_counter() - started
        self.seconds += cost
        self.looks += 1
        # The first look imports the rules; that happens once and says nothing about the next one.
        self._last_cost = cost if self.looks > 1 else 0.0
        self._looked_at = state.seconds
        return stop

    def diagnose(self) -> Diagnosis:
        """Diagnose the run folder as `unstuck diagnose` would, and renew findings.jsonl."""
        from unstuck.diagnose.document import document
        from unstuck.diagnose.engine import diagnose
        from unstuck.runs.readers import read_runs

        diagnosis = diagnose(read_runs(self.folder)[0])
        findings = document([diagnosis])["runs"][0]["findings"]
        write_atomically(self.folder / "findings.jsonl", "".join(json.dumps(f) + "\n" for f in findings))
        return diagnosis

    def _report(self, diagnosis: Diagnosis, update: int, emit: Emit) -> str | None:
        """Alerts for new errors and warnings; of rules that judge a whole run (without stage V) only when asked for."""
        stop = None
        for finding in diagnosis.findings:
            name = finding.rule.name
            live = "V" in finding.rule.stages and finding.severity != "note"
            if name in self._alerted or not (live or name in self.stop_on):
                continue
            self._alerted.add(name)
            emit(
                {
                    "event": "alert",
                    "update": update,
                    "rule": name,
                    "code": finding.rule.code,
                    "severity": finding.severity,
                    "title": finding.found.title,
                }
            )
            if name in self.stop_on and stop is None:
                stop = f"finding: {name}"
        return stop
