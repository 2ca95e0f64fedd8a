"""The history of several runs on the page: what changed at each step, what happened, what that shows."""

from __future__ import annotations

from unstuck.diagnose.changes import told
from unstuck.diagnose.history import History, Step, short_names
from unstuck.report.html_run import section
from unstuck.report.html_text import esc, number
from unstuck.wording import plural

TONES = {"better": "good", "worse": "wrong"}


def history_section(history: History) -> str:
    """One row of the page; empty where nothing is known of any step."""
    parts = [
        f'<div class="finding {esc(found.severity)}"><div class="reason"><p><span class="name">{esc(found.rule)} '
        f"<i>{esc(found.severity)}, {found.confidence:.0%}</i></span>{esc(found.title)}.</p>"
        f"{f'<p>{esc(found.detail)}</p>' if found.detail else ''}</div></div>"
        for found in history.findings
    ]
    names = short_names(history.runs)
    if history.steps:
        head = "<tr><th>step</th><th>changed</th><th>result</th><th class=n>before</th><th class=n>after</th><th></th>"
        rows = "".join(_row(step, names) for step in history.steps)
        parts.append(f'<div class="scroll"><table>{head}</tr>{rows}</table></div>')
    parts += [f"<p>{esc(remark)}</p>" for remark in history.remarks]
    note = f"{plural(len(history.runs), 'run')}, {history.order}"
    return section("History", "".join(parts), esc(note)) if parts else ""


def _row(step: Step, names: list[str]) -> str:
    if step.changes is None:
        changed = "what changed is not known"
    elif not step.levers:
        changed = "nothing that matters"
    else:
        changed = told([change for changes in step.levers.values() for change in changes])
    cells = (
        f"<td><code>{esc(names[step.old])}</code> to <code>{esc(names[step.new])}</code></td><td>{esc(changed)}</td>"
    )
    outcome = step.outcome
    if outcome is None:
        return f"<tr>{cells}<td colspan=4>not compared: {esc(step.why_unknown)}</td></tr>"
    tone = TONES.get(outcome.verdict, "open")
    return (
        f"<tr>{cells}<td><code>{esc(outcome.series)}</code> at update {outcome.update:,}</td>"
        f"<td class=n>{esc(number(outcome.old))}</td><td class=n>{esc(number(outcome.new))}</td>"
        f'<td class="{tone}">{esc(outcome.verdict)} (noise up to {outcome.limit:.2g})</td></tr>'
    )
