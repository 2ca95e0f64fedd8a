"""Show the change that treats a run's root cause, in the run's own words, and write it on request."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstuck.errors import UserError

if TYPE_CHECKING:
    from unstuck.config.apply import Prescription
    from unstuck.diagnose.engine import Diagnosis, Finding
    from unstuck.diagnose.rule import Remedy

EXAMPLE = """
unstuck fix runs/gpt-char
unstuck fix out/train.log --config config/train_shakespeare.py --apply
"""


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run folder or a log file")],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="F", help="the run's configuration, when it is not beside the log"),
    ] = None,
    rule: Annotated[
        str | None, typer.Option("--rule", metavar="NAME", help="treat this finding instead of the root cause")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="write the change; the old file is kept as .bak")] = False,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="with --apply: also a change that may make a sound run worse")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
) -> int | None:
    """Show the change for the root cause of RUN as a diff of its configuration file, or as options for its command.

    With --apply the file is replaced in one step and the old one kept beside it as .bak. A run folder of unstuck is
    a record and stays as it is: the change is written to fixed.yaml in it, ready for `unstuck train`.
    """
    from unstuck.config.apply import is_applied, prescription, write

    diagnosis = _diagnosed(run, config)
    finding = _finding(diagnosis, rule)
    remedy = next((r for r in finding.remedies if r.patch), None) if finding is not None else None
    prescribed = None
    if finding is not None and remedy is not None:
        prescribed = prescription(diagnosis.run, remedy.patch, finding.rule.name, config)
    already = prescribed is not None and is_applied(prescribed)
    kept: Path | None = None
    if apply and not already and prescribed is not None and finding is not None and remedy is not None:
        if remedy.safety == "unsafe" and not unsafe:
            raise UserError(
                "This change may make a sound run worse, so it is not applied unasked; measure it first with "
                "`unstuck prove`, or write it with --apply --unsafe."
            )
        kept = write(prescribed)
        _note(diagnosis, finding, prescribed)
    if as_json:
        document = _document(
            diagnosis, finding, remedy, prescribed, applied=apply and prescribed is not None, kept=kept, already=already
        )
        print(json.dumps(document, indent=1, allow_nan=False))
    elif finding is None:
        enough = diagnosis.verdict == "healthy"
        why = "enough was checked" if enough else f"too little is logged to tell; see: unstuck diagnose {run}"
        print(f"Nothing to fix in {run}: no error or warning was found ({why}).")
    else:
        named = (
            diagnosis.run.source if config is None else f"{diagnosis.run.source} --config {shlex.quote(str(config))}"
        )
        _print(diagnosis, finding, remedy, prescribed, named, applied=apply, kept=kept, already=already)
    return None


def _diagnosed(path: Path, config: Path | None) -> Diagnosis:
    from unstuck.diagnose.engine import diagnose
    from unstuck.runs.readers import read_runs

    runs = read_runs(path, config=config)
    if len(runs) > 1:
        names = ", ".join(str(r.source) for r in runs[:3])
        raise UserError(f"{path} holds {len(runs)} runs ({names}, ...); name one of them.")
    return diagnose(runs[0])


def _finding(diagnosis: Diagnosis, rule: str | None) -> Finding | None:
    """The finding asked for, else the root cause; None when nothing but notes was found."""
    if rule is None:
        return next((f for f in diagnosis.findings if f.severity != "note"), None)
    found = {f.rule.name: f for f in diagnosis.findings}
    if rule not in found:
        names = f"it has {', '.join(found)}" if found else "it has no findings"
        raise UserError(f"{diagnosis.run.source} has no finding '{rule}': {names}.")
    return found[rule]


def _note(diagnosis: Diagnosis, finding: Finding, prescribed: Prescription) -> None:
    """Enter the change in the ledger: that of the runs folder for a run of ours, else of `runs` in this folder.

    The change is made by now, so a ledger that cannot be written is said and is no failure.
    """
    from unstuck import ledger

    source, folder = diagnosis.run.source, Path("runs")
    if diagnosis.run.dialect == "unstuck" and prescribed.file is not None:
        source, folder = str(prescribed.file.parent), prescribed.file.resolve().parent.parent
    changes = [{"key": c.key, "old": c.old, "new": c.new} for c in prescribed.changes]
    try:
        ledger.append(folder, "change", run=source, rule=finding.rule.name, changes=changes, file=str(prescribed.file))
    except OSError as error:
        print(f"unstuck: the change is made but not in the ledger ({error.strerror}): {folder}", file=sys.stderr)


def _print(
    diagnosis: Diagnosis,
    finding: Finding,
    remedy: Remedy | None,
    prescribed: Prescription | None,
    named: str,
    *,
    applied: bool,
    kept: Path | None,
    already: bool,
) -> None:
    """`named`: the run and its configuration, as a command names them."""
    print(f"{finding.rule.code} {finding.rule.name}: {finding.found.title}\n")
    if remedy is None or prescribed is None:
        said = [r.summary for r in finding.remedies] or ["No remedy is known for this finding yet."]
        print("\n".join(f"  {text}" for text in said))
        print("\nNo setting expresses this, so there is nothing to write.")
        others = [f.rule.name for f in diagnosis.findings if f is not finding and any(r.patch for r in f.remedies)]
        if others:
            print(f"Other findings have a change: unstuck fix {named} --rule {others[0]}")
        return
    print(f"{remedy.summary} ({remedy.safety})")
    if remedy.reason:
        print(f"  {remedy.reason[:1].upper()}{remedy.reason[1:]}.")
    print(f"  Measured effect: {remedy.measured or 'never measured'}.\n")
    if prescribed.diff:
        _print_diff(prescribed.diff)
    else:
        print(f"  {prescribed.command}")
    print()
    for key, origin in prescribed.came_from.items():
        if origin != "default":
            print(f"{key} came from: {origin}")
    ours = prescribed.command.startswith("unstuck train")
    if already:
        print(f"Already applied: {prescribed.file} holds this change, so there is nothing to write.")
        print(f"Train with it: {prescribed.command}" if ours else f"The same on the command line: {prescribed.command}")
    elif applied and prescribed.file is not None:
        old = f"; the old file is {kept}" if kept is not None else ""
        print(f"Wrote {prescribed.file}{old}.")
        print(f"Train with it: {prescribed.command}" if ours else f"The same on the command line: {prescribed.command}")
    elif prescribed.file is not None:
        first = next((f for f in diagnosis.findings if any(r.patch for r in f.remedies)), finding)
        rule = "" if finding is first else f" --rule {finding.rule.name}"
        unsafe = " --unsafe" * (remedy.safety == "unsafe")
        print(f"To write it: unstuck fix {named}{rule} --apply{unsafe}")
        if not ours:
            print(f"The same on the command line: {prescribed.command}")
    else:
        print("The run's settings are in no file that can be edited: change them where the run is started.")


def _print_diff(diff: str) -> None:
    colours = {"+": "\033[32m", "-": "\033[31m", "@": "\033[36m"} if sys.stdout.isatty() else {}
    for line in diff.splitlines():
        colour = colours.get(line[:1], "")
        print(f"{colour}{line}\033[0m" if colour else line)


def _document(
    diagnosis: Diagnosis,
    finding: Finding | None,
    remedy: Remedy | None,
    prescribed: Prescription | None,
    *,
    applied: bool,
    kept: Path | None,
    already: bool,
) -> dict[str, Any]:
    from unstuck import __version__
    from unstuck.json_ready import json_ready

    document: dict[str, Any] = {
        "unstuck": __version__,
        "source": diagnosis.run.source,
        "verdict": diagnosis.verdict,
        "rule": finding.rule.name if finding is not None else None,
        "title": finding.found.title if finding is not None else None,
        "advice": [r.summary for r in finding.remedies if not r.patch] if finding is not None else [],
        "remedy": None,
        "file": None,
        "diff": "",
        "command": None,
        "applied": applied and not already,
        "already_applied": already,
        "kept": str(kept) if kept is not None else None,
    }
    if remedy is not None and prescribed is not None:
        changes = [{"key": c.key, "old": json_ready(c.old), "new": json_ready(c.new)} for c in prescribed.changes]
        document["remedy"] = {
            "summary": remedy.summary,
            "safety": remedy.safety,
            "reason": remedy.reason,
            "measured": remedy.measured,
            "patch": changes,
        }
        document["file"] = str(prescribed.file) if prescribed.file is not None else None
        document["diff"] = prescribed.diff
        document["command"] = prescribed.command
    return document
