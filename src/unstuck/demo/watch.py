"""Notices while a run trains: diagnoses its record at every evaluation and stops it by a confirmed finding."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unstuck.diagnose.engine import Finding

# A finding stops the run when two evaluations in a row name the same rule first: one look alone may meet a record too
# short to tell (assumption; the cost is one evaluation's worth of training).
LOOKS_THAT_AGREE = 2

# Families whose evidence, the learning rate that was applied, stays true as the run goes on. Of the others only rules
# made for a running job (stage V) may stop it: "undertrained" is true of every run in its middle. Never stops it:
# throughput, because a busy machine does not make the training wrong.
LASTING = ("learning_rate", "schedule")
HARMLESS = ("throughput",)


class Watch:
    """A `stop_when` for `unstuck.train.run.train`.

    Args:
        say: called with a sentence when something is noticed.
    """

    def __init__(self, say: Any) -> None:
        self._say = say
        self._folder: Path | None = None
        self._names: list[str] = []

    def __call__(self, row: Mapping[str, Any]) -> str | None:
        """The reason to stop, at an evaluation whose rank-1 finding was rank 1 at the one before as well."""
        if row["event"] in ("start", "resume"):
            self._folder = Path(row["folder"])
        if row["event"] != "evaluation" or not row["update"] or self._folder is None:
            return None
        from unstuck.diagnose.engine import diagnose
        from unstuck.runs.readers import read_runs

        findings = [f for f in diagnose(read_runs(self._folder)[0]).findings if _may_stop(f)]
        name = findings[0].rule.name if findings else ""
        if name and name not in self._names:
            self._say(f"Noticed at update {row['update']}: {findings[0].found.title} ({name})")
        self._names.append(name)
        recent = self._names[-LOOKS_THAT_AGREE:]
        if name and len(recent) == LOOKS_THAT_AGREE and set(recent) == {name}:
            return f"finding: {name}"
        return None


def _may_stop(finding: Finding) -> bool:
    rule = finding.rule
    lasting = rule.family in LASTING or "V" in rule.stages
    return finding.severity != "note" and lasting and rule.family not in HARMLESS
