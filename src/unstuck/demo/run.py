"""One incident from the first update to the summary: train, notice, stop, explain, fix, prove, report."""

from __future__ import annotations

import difflib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from unstuck import ledger
from unstuck.config.patch import ConfigPatch
from unstuck.config.recipe import Recipe, load_recipe
from unstuck.demo.incidents import Incident, Size
from unstuck.demo.watch import Watch
from unstuck.diagnose.engine import Diagnosis, Finding
from unstuck.prove.proof import Proof
from unstuck.wording import plural

SEEDS = 3
PROOF_OVERRUN = 1.75  # on a machine that becomes busy the demo is late rather than without an answer


@dataclass(slots=True)
class Outcome:
    """What the demo ended with.

    Attributes:
        succeeded: the diagnosis named the incident's cause and the proof is `better`; for a healthy run: nothing found.
        why_not: what failed, one sentence each.
        summary: the five closing lines, label and text.
    """

    incident: str
    run: Path
    diagnosis: Diagnosis
    report: Path
    seconds: float = 0.0
    finding: Finding | None = None
    patch: ConfigPatch = ()
    proof: Proof | None = None
    why_not: list[str] = field(default_factory=list)
    summary: list[tuple[str, str]] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return not self.why_not

    def changes(self) -> list[dict[str, Any]]:
        """The patch with the keys of the run's own dialect."""
        from unstuck.config.dialects import in_dialect

        theirs = [in_dialect(change, self.diagnosis.run) for change in self.patch]
        return [{"key": c.key, "old": c.old, "new": c.new} for c in theirs]

    def document(self) -> dict[str, Any]:
        """`demo --json`: the diagnosis and the proof are the documents of their own commands."""
        from unstuck.diagnose.document import document
        from unstuck.json_ready import json_ready

        return {
            "incident": self.incident,
            "succeeded": self.succeeded,
            "why_not": self.why_not,
            "run": str(self.run),
            "verdict": self.diagnosis.verdict,
            "rank_1": None if self.finding is None else self.finding.rule.name,
            "patch": json_ready(self.changes()),
            "proof": None if self.proof is None else self.proof.document(),
            "diagnosis": document([self.diagnosis]),
            "report": str(self.report),
            "seconds": round(self.seconds, 1),
            "summary": dict(self.summary),
        }


@dataclass(slots=True)
class Demo:
    """One demo run.

    Args:
        incident: what goes wrong.
        size: how much is trained.
        folder: runs folder: run, trials, ledger and report go there.
        console: where people read.
        progress: makes an observer of a training, with `event` and `close`; None: silent.
        prove_observer: observer of the proof; None: silent.
    """

    incident: Incident
    size: Size
    folder: Path
    console: Console
    progress: Callable[[], Any] | None = None
    prove_observer: Any = None

    def run(self) -> Outcome:
        """Everything, in order.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was finished stays in the folder.
            UserError: the folder cannot be written, or the training cannot run here.
        """
        started = time.monotonic()
        self._say(self.incident.story)
        recipe, run, start_from = self._train()
        from unstuck.diagnose.engine import diagnose
        from unstuck.runs.readers import read_runs

        self._step("Explain")
        diagnosis = diagnose(read_runs(run)[0])
        self._print(diagnosis)
        outcome = Outcome(self.incident.name, run, diagnosis, run / "report.html")
        findings = [f for f in diagnosis.findings if f.severity != "note"]
        outcome.finding = findings[0] if findings else None
        self._note_diagnosis(outcome)
        self._check_diagnosis(outcome)
        if outcome.finding is not None:
            self._fix_and_prove(outcome, recipe, start_from)
        self._report(outcome)
        outcome.seconds = time.monotonic() - started
        outcome.summary = summary(outcome)
        return outcome

    def _train(self) -> tuple[Recipe, Path, Path | None]:
        """Train the run, resume it where the incident does; its recipe, its folder, the weights it was resumed from."""
        settings = self.incident.settings(self.size)
        recipe = load_recipe("gpt-char").with_changes(
            {**settings, "name": self.incident.name, "runs_folder": str(self.folder)}, "the demo's incident"
        )
        if not self.incident.resume_settings:
            self._step("Train")
            return recipe, self._trained(recipe, watched=True), None
        self._step("Train the first part")
        first = self._trained(recipe, watched=False)
        before = first.with_name(first.name + "-before-the-resume")
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(first, before)
        asked = {**self.incident.resume_settings, "training.updates": self.size.updates}
        resumed = recipe.with_changes(asked, "asked for on the resume")
        self._step("Resume with " + ", ".join(f"{k}={v:g}" for k, v in self.incident.resume_settings.items()))
        return resumed, self._trained(resumed, watched=True, resume=first), before

    def _trained(self, recipe: Recipe, *, watched: bool, resume: Path | None = None) -> Path:
        from unstuck.train.run import train

        observer = self.progress() if self.progress else None
        watch = Watch(self._say)
        try:
            result = train(recipe, resume=resume, observer=observer, stop_when=watch if watched else None, report=False)
        finally:
            if observer is not None:
                observer.close()
        reason = result.summary["stopped_by"]
        if reason == "user":
            raise KeyboardInterrupt
        final = (result.summary.get("final") or {}).get("val_loss")
        ledger.append(
            self.folder, "run", run=str(result.folder), updates=result.summary["updates"], stopped_by=reason,
            val_loss=final,
        )  # fmt: skip
        if reason.startswith("finding: "):
            self._say(f"Stopped at update {result.summary['updates']} by that finding; no more compute is spent on it.")
        return result.folder

    def _print(self, diagnosis: Diagnosis) -> None:
        from unstuck.report.terminal import print_diagnosis

        print_diagnosis(diagnosis, self.console)

    def _note_diagnosis(self, outcome: Outcome) -> None:
        found = outcome.finding
        ledger.append(
            self.folder, "diagnosis", run=str(outcome.run), verdict=outcome.diagnosis.verdict,
            rule=None if found is None else found.rule.name, title=None if found is None else found.found.title,
        )  # fmt: skip

    def _check_diagnosis(self, outcome: Outcome) -> None:
        """Compare with what is known of the incident: only for the exit status, nothing below depends on it."""
        expected, found = self.incident.expected, outcome.finding
        if not expected and found is not None:
            outcome.why_not.append(f"the run is healthy, yet {found.rule.name} was found")
        elif not expected and outcome.diagnosis.verdict != "healthy":
            outcome.why_not.append(f"the run is healthy, yet the verdict is {outcome.diagnosis.verdict}")
        elif expected and (found is None or found.rule.name not in expected):
            got = "nothing" if found is None else found.rule.name
            outcome.why_not.append(f"the cause was put in as {' or '.join(sorted(expected))}, yet rank 1 is {got}")

    def _fix_and_prove(self, outcome: Outcome, recipe: Recipe, start_from: Path | None) -> None:
        """Apply rank 1's first remedy that is a patch, and measure it against the recipe as it ran."""
        assert outcome.finding is not None
        remedy = next((r for r in outcome.finding.remedies if r.patch), None)
        if remedy is None:
            outcome.why_not.append(f"{outcome.finding.rule.name} has no remedy that is a change of settings")
            return
        outcome.patch = remedy.patch
        self._step("Fix")
        base = as_it_ran(recipe, outcome.diagnosis, start_from)
        origin = f"remedy of {outcome.finding.rule.name}"
        changed = recipe.with_changes({c.key: c.new for c in remedy.patch}, origin)
        if start_from is not None:
            changed = changed.with_changes({"start_from": str(start_from)}, origin)
        self._diff(base, changed)
        ledger.append(
            self.folder, "change", run=str(outcome.run), summary=remedy.summary, rule=outcome.finding.rule.name,
            changes=outcome.changes(),
        )  # fmt: skip
        self._step(f"Prove: the recipe as it ran against the changed one, {SEEDS} seeds each")
        from unstuck.prove.compare import compare

        proof = compare(
            base.config,
            changed.config,
            seeds=SEEDS,
            updates=self.size.proof_updates,
            budget_seconds=None if self.size.proof_updates else self.size.proof_seconds,
            early=False,
            overrun=PROOF_OVERRUN,
            observer=self.prove_observer,
        )
        outcome.proof = proof
        document = proof.document()
        entry = {key: document[key] for key in ("verdict", "difference", "detectable", "changes", "cost")}
        ledger.append(self.folder, "verdict", run=str(outcome.run), **entry)
        if proof.verdict != "better":
            outcome.why_not.append(f"the proof of the change says '{proof.verdict}'")

    def _diff(self, base: Recipe, changed: Recipe) -> None:
        old, new = (recipe.to_yaml(comments=False).splitlines() for recipe in (base, changed))
        for line in difflib.unified_diff(old, new, "recipe as it ran", "recipe changed", n=1, lineterm=""):
            style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
            self.console.print(f"  {line}", style=style, markup=False, highlight=False, soft_wrap=True)

    def _report(self, outcome: Outcome) -> None:
        from unstuck.report.html import write_report
        from unstuck.report.html_curves import read_curves

        proof = None
        if outcome.proof is not None:
            proof = {**outcome.proof.document(), "curves": read_curves(outcome.proof.records)}
        write_report(outcome.report, [outcome.diagnosis], proof=proof, title=f"unstuck demo: {self.incident.name}")

    def _step(self, text: str) -> None:
        self.console.print(f"\n== {text}", style="bold", markup=False, highlight=False)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)


def as_it_ran(recipe: Recipe, diagnosis: Diagnosis, start_from: Path | None) -> Recipe:
    """The recipe that does what the run did, as the proof's base.

    Without a resume that is the run's own recipe, with the bug of its program. A resume cannot be put into a recipe,
    so what the record shows was applied is: the weights it went on from, and its logged learning rate.
    """
    if start_from is None:
        return recipe
    run = diagnosis.run
    factors = run.setting("group_lr_factors") or {}
    rates = [float(s.values[-1]) / factors.get(name, 1.0) for name, s in run.learning_rates().items() if len(s)]
    applied: Mapping[str, Any] = {"optimizer.learning_rate": float(f"{rates[0]:.6g}")} if rates else {}
    return recipe.with_changes({**applied, "start_from": str(start_from)}, "the run's record")


def summary(outcome: Outcome) -> list[tuple[str, str]]:
    """The five closing lines."""
    found, proof, diagnosis = outcome.finding, outcome.proof, outcome.diagnosis
    report = ("Report", str(outcome.report))
    if found is None:
        looked = plural(len(diagnosis.clear), "rule")
        checked = f"{looked} looked and found nothing, {len(diagnosis.could_not_check)} could not"
        loss = diagnosis.run.get("val/loss")
        course = (
            "no validation loss" if loss is None else f"validation loss {loss.values[0]:.3f} -> {loss.values[-1]:.3f}"
        )
        return [
            ("What was wrong", f"nothing found; the run is {diagnosis.verdict}"),
            ("Evidence", f"{checked}; {course} in {diagnosis.run.updates} updates"),
            ("Change", "none"),
            ("Measured effect", "none: nothing was changed"),
            report,
        ]
    evidence = found.found.evidence[0]
    against = "" if evidence.threshold is None else f" against {evidence.threshold:.4g}"
    where = "" if evidence.source is None else f" ({evidence.source})"
    return [
        ("What was wrong", f"{found.found.title} [{found.rule.code} {found.rule.name}]"),
        ("Evidence", f"{evidence.series}: {evidence.statistic} {evidence.value:.4g}{against}{where}"),
        (
            "Change",
            ledger.changes_text(outcome.changes()) or "none: the finding has no remedy that is a change of settings",
        ),
        ("Measured effect", "not measured" if proof is None else proof.sentence()),
        report,
    ]
