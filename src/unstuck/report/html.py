"""One self-contained HTML file for one or several diagnoses: opens offline, prints, follows light and dark.

The words, tables and the interval of the proof need no script. The curves are drawn by plotly.js, which is embedded
compressed (1.9 MB instead of 4.8) and unpacked by the browser itself.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from unstuck import __version__
from unstuck.diagnose.engine import Diagnosis
from unstuck.diagnose.history import History
from unstuck.errors import UserError
from unstuck.report import html_proof, html_run
from unstuck.report.html_figures import charts, proof_charts
from unstuck.report.html_history import history_section
from unstuck.report.html_text import esc, number
from unstuck.wording import plural


def write_report(
    path: Path,
    diagnoses: Sequence[Diagnosis],
    *,
    proof: Mapping[str, Any] | None = None,
    history: History | None = None,
    title: str,
) -> None:
    """Write the report, atomically.

    Args:
        path: the HTML file; its folder is made if need be.
        diagnoses: one section each, in this order; the verdict of each comes before anything else.
        proof: the document of `prove --json`, with an optional `curves` (see `html_figures.proof_charts`). It is shown
            with the first diagnosis.
        history: of these runs, shown before them.
        title: of the page.

    Raises:
        UserError: the file cannot be written.
    """
    page = render(diagnoses, proof=proof, history=history, title=title)
    aside = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(page)
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
    except OSError as error:
        if aside is not None:
            with suppress(OSError):
                os.unlink(aside)
        raise UserError(
            f"The report {path} cannot be written ({error.strerror}); name another place with --html PATH."
        ) from None


def render(
    diagnoses: Sequence[Diagnosis], *, proof: Mapping[str, Any] | None, history: History | None = None, title: str
) -> str:
    """The page as text."""
    figures: list[dict[str, Any]] = []
    parts = [_overview(diagnoses)] if len(diagnoses) > 1 else []
    if history is not None:
        parts.append(history_section(history))
    for index, diagnosis in enumerate(diagnoses):
        parts.append(_run(diagnosis, f"run{index}", figures, proof if index == 0 else None))
    if proof is not None and not diagnoses:
        parts.append(_proof(proof, figures))
    # "<" is written as an escape so that no text of a log can end the script element or open another one.
    data = json.dumps(figures, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><meta name="generator" content="unstuck {__version__}">
<title>{esc(title)}</title><style>{_template("report.css")}</style></head><body>
<main><nav><span class="brand">unstuck</span><span>{esc(title)}</span></nav>
{"".join(parts)}
<footer>Made by unstuck {__version__}, {esc(made)}. This file needs no network. Time is counted in optimizer updates on
every axis.</footer></main>
<noscript><p class="noscript">The curves need JavaScript; everything else on this page does not.</p></noscript>
<script type="application/json" id="figures">{data}</script>
<script type="text/plain" id="plotly">{_plotly()}</script>
<script>{_template("report.js")}</script>
</body></html>
"""


def _run(diagnosis: Diagnosis, run_id: str, figures: list[dict[str, Any]], proof: Mapping[str, Any] | None) -> str:
    run = diagnosis.run
    drawn = charts(diagnosis, run_id)
    figures += drawn
    origin = (
        f'<p class="origin"><code>{esc(run.source)}</code> read as {esc(run.format)} '
        f"({run.format_confidence:.0%} sure)</p>"
    )
    cards = [html_run.first_change(diagnosis), html_proof.summary(proof) if proof is not None else ""]
    answer = "".join(f"<div>{card}</div>" for card in cards if card)
    parts = [
        html_run.verdict(diagnosis),
        origin,
        html_run.facts(run),
        f'<div class="answer">{answer}</div>' if answer else "",
    ]
    if diagnosis.findings:
        count = plural(len(diagnosis.findings), "finding")
        parts.append(html_run.section("Findings", html_run.findings(diagnosis, run_id), f"{count}, root cause first"))
    if proof is not None:
        parts.append(_proof(proof, figures))
    parts.append(html_run.section("Curves", html_run.curves(drawn), "drag to zoom, double-click to go back"))
    count = plural(len(run.settings), "setting")
    parts.append(html_run.section("Configuration", html_run.configuration(diagnosis), f"{count}, each with its origin"))
    parts.append(html_run.section("Not checked", html_run.unchecked(diagnosis), "silence is never a pass"))
    if run.notes:
        parts.append(html_run.section("Reader's notes", html_run.notes(run)))
    return f'<article class="run" id="{run_id}">{"".join(parts)}</article>'


def _proof(proof: Mapping[str, Any], figures: list[dict[str, Any]]) -> str:
    drawn = proof_charts(proof)
    figures += drawn
    body = html_proof.proof_body(proof) + (html_run.curves(drawn) if drawn else "")
    return html_run.section("Proof", body, "paired controlled runs")


def _overview(diagnoses: Sequence[Diagnosis]) -> str:
    rows = []
    for index, diagnosis in enumerate(diagnoses):
        first = diagnosis.findings[0] if diagnosis.findings else None
        what = f"<b>{esc(first.rule.name)}</b> {esc(first.found.title)}" if first else ""
        rows.append(
            f'<tr><td class="{esc(diagnosis.verdict)}">{esc(diagnosis.verdict)}</td>'
            f'<td><a href="#run{index}"><code>{esc(diagnosis.run.source)}</code></a></td>'
            f"<td class=n>{esc(number(diagnosis.run.updates))}</td><td>{what}</td></tr>"
        )
    counts = [(v, sum(d.verdict == v for d in diagnoses)) for v in ("sick", "healthy", "undetermined")]
    head = ", ".join(f"{count} {verdict}" for verdict, count in counts if count)
    table = "<tr><th>verdict</th><th>run</th><th class=n>updates</th><th>first finding</th></tr>" + "".join(rows)
    return (
        f'<div class="verdict overview"><p class="state">{plural(len(diagnoses), "run")}</p><h1>{esc(head)}</h1></div>'
        f'<div class="scroll"><table class="overview">{table}</table></div>'
    )


@cache
def _template(name: str) -> str:
    return (resources.files("unstuck.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    """plotly.js as it comes with the plotly package, gzipped and in base64."""
    script = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 6, mtime=0)).decode("ascii")


def _umask() -> int:
    """The process's umask, which mkstemp does not apply; reading it means setting it for a moment."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
