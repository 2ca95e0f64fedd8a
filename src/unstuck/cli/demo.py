"""The whole way on a built-in corpus: train a run that is stuck, diagnose, fix, prove, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """
unstuck demo
unstuck demo --incident healthy
unstuck demo --incident resume-keeps-old-lr --folder /tmp/demo
"""

STATUS_FAILED = 1


def command(
    incident: Annotated[
        str | None,
        typer.Option(
            "--incident",
            help="horizon-in-micro-batches (default), warmup-cast-to-zero, resume-keeps-old-lr or healthy",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="where runs, trials, ledger and report go")] = Path("demo"),
    json_output: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
) -> int:
    """Train a run that is stuck for a real project's reason; notice, stop, explain, fix, prove and report it.

    No download: the text is the documentation that ships with Python. Exit status: 0 the cause was found and the
    change measured as better (or, for `healthy`, nothing was found), 1 the diagnosis or the proof failed, and it says
    which.
    """
    import difflib
    import sys

    from rich.console import Console

    from unstuck.demo.incidents import DEFAULT, INCIDENTS, size
    from unstuck.demo.run import Demo
    from unstuck.errors import UserError
    from unstuck.prove.progress import Progress as ProofProgress
    from unstuck.train.progress import Progress

    name = incident or DEFAULT
    if name not in INCIDENTS:
        near = difflib.get_close_matches(name, INCIDENTS, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(INCIDENTS)}."
        raise UserError(f"There is no incident '{name}'; {meant}")

    console = Console(stderr=json_output, highlight=False)
    with ProofProgress() as proving:
        demo = Demo(INCIDENTS[name], size(), folder, console, progress=Progress, prove_observer=proving)
        outcome = demo.run()
    console.print()
    width = max(len(label) for label, _ in outcome.summary) + 2
    for label, text in outcome.summary:
        console.print(f"{label + ':':<{width}}{text}", markup=False, soft_wrap=True)
    if json_output:
        import json

        print(json.dumps(outcome.document(), allow_nan=False))
    if not outcome.succeeded:
        print(f"unstuck: the demo failed: {'; '.join(outcome.why_not)}.", file=sys.stderr)
        return STATUS_FAILED
    return 0
