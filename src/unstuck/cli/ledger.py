"""What was changed, when, and what it measurably did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """
unstuck ledger
unstuck ledger demo
unstuck ledger runs --json
"""


def command(
    path: Annotated[
        Path, typer.Argument(help="the runs folder, or a ledger.jsonl; entries are written by prove, fix and demo")
    ] = Path("runs"),
    json_output: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
) -> int:
    """Show what was run, found and changed, and what every change measurably did."""
    from unstuck import __version__, ledger

    book = ledger.read(path)
    if json_output:
        import json

        print(json.dumps({"unstuck": __version__, "ledger": str(book.path), "entries": list(book.entries)}))
        return 0

    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("run", overflow="fold")
    table.add_column("change or rule", overflow="fold")
    table.add_column("measured or found", overflow="fold")
    for entry in book.entries:
        about = ledger.changes_text(entry.get("changes") or ()) or str(entry.get("rule") or "")
        when = str(entry.get("time", ""))[:16].replace("T", " ")
        table.add_row(when, str(entry["kind"]), str(entry["run"]), about, ledger.effect_text(entry))
    Console(markup=False, highlight=False).print(table)
    if book.unreadable:
        print(f"{book.unreadable} line(s) of {book.path} could not be read (a process was killed while writing).")
    return 0
