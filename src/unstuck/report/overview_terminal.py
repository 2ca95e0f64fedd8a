"""Several runs at a glance, above their diagnoses: how many are sick, and for each run what was found first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from unstuck.diagnose.engine import WORST_FIRST
from unstuck.diagnose.history import short_names
from unstuck.report.terminal import MAX_WIDTH, STYLES
from unstuck.report.terminal import _clean as clean
from unstuck.wording import plural

if TYPE_CHECKING:
    from rich.console import Console

    from unstuck.diagnose.engine import Diagnosis


def print_overview(diagnoses: Sequence[Diagnosis], console: Console) -> None:
    """Print one line that counts the verdicts, and one line a run, 80 to 110 columns wide."""
    width = min(console.width, MAX_WIDTH)
    counts = Counter(diagnosis.verdict for diagnosis in diagnoses)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in WORST_FIRST if counts[verdict])
    console.print(Text(f"{plural(len(diagnoses), 'run')}: {told}.", "bold"), highlight=False, soft_wrap=True)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=width // 2)
    table.add_column(overflow="fold")
    for name, diagnosis in zip(short_names([one.run for one in diagnoses]), diagnoses, strict=True):
        table.add_row(Text(diagnosis.verdict, STYLES[diagnosis.verdict]), clean(name), _found(diagnosis))
    console.print(table, width=width, highlight=False)


def _found(diagnosis: Diagnosis) -> str:
    serious = [finding.rule.name for finding in diagnosis.findings if finding.severity != "note"]
    if not serious:
        return "-"
    return serious[0] + (f" and {len(serious) - 1} more" if len(serious) > 1 else "")
