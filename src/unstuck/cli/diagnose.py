"""Say what is wrong with a run, with evidence, from its log, run folder or a folder of logs."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unstuck.errors import UserError

if TYPE_CHECKING:
    from unstuck.runs import Run

EXAMPLE = """
unstuck diagnose train.log
unstuck diagnose out/trainer_state.json --config args.json
unstuck diagnose runs/gpt-char-1 --html report.html
unstuck diagnose odd.log --columns it=step,cost=train/loss
unstuck diagnose first.log second.log third.log
kubectl logs my-training | unstuck diagnose -
"""

PIPED = Path("-")  # the log comes through standard input

STATUS = {"healthy": 0, "sick": 1, "undetermined": 3}  # exit status of a verdict


def command(
    paths: Annotated[
        list[Path],
        # typer's own check of one path would keep the others from their diagnosis
        typer.Argument(
            metavar="PATH...", help="log files, run folders or folders of logs; - reads standard input", readable=False
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="F", help="the run's configuration, when it is not beside the log"),
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--columns", metavar="KEY=NAME,...", help="what columns of the log are: loss=val/loss, it=step"),
    ] = None,
    target: Annotated[
        float | None, typer.Option("--target", metavar="LOSS", help="also say when this loss is reached")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="F", help="also write a report that opens offline")
    ] = None,
) -> int:
    """Say what is wrong with each run of PATH..., why, how sure that is, and what to change.

    Exit status: 0 healthy, 1 sick, 2 unreadable or wrong usage, 3 undetermined (too little was logged to tell). Of
    several runs the worst counts: unreadable before sick before undetermined before healthy.
    """
    from unstuck.cli.main import os_sentence, say
    from unstuck.diagnose.engine import WORST_FIRST, diagnose
    from unstuck.runs.names import said_columns
    from unstuck.runs.of_ledger import is_ledger, runs_of_ledger
    from unstuck.runs.readers import read_runs

    said = said_columns(columns or [])
    diagnoses = []
    errors: list[dict[str, str]] = []
    places: list[Path] = []
    for path in paths:
        try:
            places += runs_of_ledger(path) if is_ledger(path) else [path]
        except UserError as error:
            errors.append({"path": str(path), "error": str(error)})
    for path in places:
        try:
            runs = _piped(config, said) if path == PIPED else read_runs(path, config=config, columns=said)
        except UserError as error:
            errors.append({"path": str(path), "error": str(error)})
        except OSError as error:
            sentence = os_sentence(error)
            if sentence is None:
                raise
            errors.append({"path": str(path), "error": sentence})
        else:
            diagnoses += [diagnose(run, target) for run in runs]
    history = None
    if len(diagnoses) > 1:
        from unstuck.diagnose.attach import attach
        from unstuck.diagnose.history import history_of

        history = history_of([diagnosis.run for diagnosis in diagnoses])
        attach(history, diagnoses)
    if html is not None and diagnoses:
        from unstuck.report.html import write_report

        write_report(html, diagnoses, history=history, title=f"unstuck: {', '.join(str(path) for path in paths)}")
    if as_json:
        import json

        from unstuck.diagnose.document import document

        whole = {**document(diagnoses), "errors": errors}
        if history is not None:
            from unstuck.diagnose.history_document import history_document

            whole["history"] = history_document(history)
        print(json.dumps(whole, indent=1, allow_nan=False))
    else:
        from rich.console import Console

        from unstuck.report.terminal import print_diagnosis

        console = Console()
        if len(diagnoses) > 1:
            from unstuck.report.overview_terminal import print_overview

            print_overview(diagnoses, console)
        for place, diagnosis in enumerate(diagnoses):
            if place or len(diagnoses) > 1:
                console.print()
            print_diagnosis(diagnosis, console, config)
        if history is not None:
            from unstuck.report.history_terminal import print_history

            console.print()
            print_history(history, console)
        if html is not None and diagnoses:
            console.print(f"\nReport: {html}", highlight=False, markup=False)
    if errors:
        sys.stdout.flush()
        return max(say(sentence) for sentence in dict.fromkeys(error["error"] for error in errors))
    verdicts = {diagnosis.verdict for diagnosis in diagnoses}
    return STATUS[next(verdict for verdict in WORST_FIRST if verdict in verdicts)]


def _piped(config: Path | None, columns: Mapping[str, str]) -> list[Run]:
    """The runs of a log that comes through standard input; readers go over a file more than once, so it is kept in one.

    Raises:
        UserError: as `read_runs`.
    """
    from unstuck.runs.readers import read_runs

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stdin"
        with file.open("wb") as kept:
            shutil.copyfileobj(sys.stdin.buffer, kept)
        try:
            runs = read_runs(file, config=config, beside=config is not None, columns=columns)
        except UserError as error:
            raise UserError(str(error).replace(str(file), "Standard input")) from None
    for run in runs:
        run.source = "stdin"
    return runs
