"""The parts of a report that tell of one run: verdict, findings, curves, configuration, what could not be checked."""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck.diagnose.calibration import record_of
from unstuck.diagnose.engine import Diagnosis, Finding
from unstuck.diagnose.rule import Evidence, Remedy
from unstuck.report.html_text import diff, esc, number, place, section_of, setting, sure
from unstuck.runs import Run
from unstuck.wording import plural

SAFETY = {
    "safe": ("safe", "cannot make a sound run worse"),
    "unsafe": ("check first", "may make a sound run worse"),
    "advice": ("advice", "no setting expresses it"),
}


def section(label: str, body: str, note: str = "") -> str:
    """A row of the page: its name at the left, the body at the right."""
    aside = f'<p class="aside">{note}</p>' if note else ""
    return f'<section class="row"><header><h2>{esc(label)}</h2>{aside}</header><div class="body">{body}</div></section>'


def verdict(diagnosis: Diagnosis) -> str:
    """The first thing on the page: sick, healthy or undetermined, in one sentence with its numbers."""
    findings = diagnosis.findings
    serious = [f for f in findings if f.severity != "note"]
    if diagnosis.verdict == "sick":
        state, head = "Sick", serious[0].found.title if serious else "Something is wrong with this run."
        followers = sum(f.because_of is not None for f in serious)
        sub = f"{esc(serious[0].rule.name)} is the root cause" if serious else ""
        if followers:
            sub += f"; {plural(followers, 'other finding follows', 'other findings follow')} from one ranked above"
        others = len(serious) - 1 - followers
        if others > 0:
            sub += f"; {plural(others, 'finding stands', 'findings stand')} beside it"
        sub += "."
    elif diagnosis.verdict == "healthy":
        state, head = "Healthy", "Nothing is wrong with this run as far as its record shows."
        sub = (
            f"{plural(len(diagnosis.clear), 'rule')} looked and found nothing; "
            f"{len(diagnosis.could_not_check)} could not check."
        )
    else:
        state, head = "Undetermined", "The record says too little to tell whether this run is well."
        wanted = ", ".join(dict.fromkeys(m for missing in diagnosis.could_not_check.values() for m in missing[:1]))
        sub = f"To find out, log: {esc(wanted)}." if wanted else ""
    return (
        f'<div class="verdict {esc(diagnosis.verdict)}"><p class="state">{state}</p>'
        f"<h1>{esc(head)}</h1><p class='sub'>{sub}</p></div>"
    )


def facts(run: Run) -> str:
    """The run in a row of figures."""
    shown: list[tuple[str, str]] = [("updates", f"{run.updates:,}")]
    for label, name in (("final training loss", "train/loss"), ("best validation loss", "val/loss")):
        series = run.get(name)
        if series is None or not len(series):
            continue
        if name == "train/loss":
            shown.append((label, number(float(series.values[-1]))))
        elif len(finite := series.finite()):
            best = int(np.argmin(finite.values))
            shown.append((f"{label}, update {int(finite.updates[best]):,}", number(float(finite.values[best]))))
    peaks = [float(np.max(f.values)) for s in run.learning_rates().values() if len(f := s.finite())]
    if peaks:
        shown.append(("highest learning rate", number(max(peaks))))
    tokens = run.get("tokens")
    if tokens is not None and len(tokens):
        shown.append(("tokens", f"{tokens.values[-1]:,.0f}" if np.isfinite(tokens.values[-1]) else "nan"))
    cells = "".join(f"<div><dd>{esc(value)}</dd><dt>{esc(label)}</dt></div>" for label, value in shown)
    return f'<dl class="facts">{cells}</dl>'


def findings(diagnosis: Diagnosis, run_id: str) -> str:
    """Every finding: what, evidence, why it matters, what to change, how sure. Consequences are folded."""
    return "".join(_finding(f, diagnosis.run, f"{run_id}-finding-{f.rank}") for f in diagnosis.findings)


def _finding(finding: Finding, run: Run, anchor: str) -> str:
    found, rule = finding.found, finding.rule
    rows = [("Evidence", _evidence(found.evidence) + (f"<p>{esc(found.detail)}</p>" if found.detail else ""))]
    if why := section_of(rule.doc, "Why it matters"):
        rows.append(("Why it matters", f"<p>{esc(why)}</p>"))
    if finding.alternatives:
        others = "".join(f"<li>{esc(o.what)}. To tell: {esc(o.tell)}.</li>" for o in finding.alternatives)
        rows.append(("Or else", f"<ul>{others}</ul>"))
    change = "".join(_remedy(r, run) for r in finding.remedies)
    if not change and (general := section_of(rule.doc, "Remedy")):
        change = f"<p>{esc(general)}</p>"
    rows.append(("What to change", change or "<p>There is no remedy for this yet.</p>"))
    because = f"; it follows from <b>{esc(finding.because_of)}</b>" if finding.because_of else ""
    record = record_of(rule.name) if finding.severity != "note" else ""
    rows.append(("How sure", f"<p>{esc(sure(found.confidence, record))}{because}.</p>"))
    table = "".join(f"<div><dt>{label}</dt><dd>{body}</dd></div>" for label, body in rows)
    opened = "" if finding.because_of or finding.severity == "note" else " open"
    return (
        f'<details class="finding {esc(finding.severity)}" id="{esc(anchor)}"{opened}><summary>'
        f'<span class="rank">{finding.rank}</span><span class="what"><span class="name">{esc(rule.name)} '
        f"<i>{esc(rule.code)} · {esc(finding.severity)}</i></span>{esc(found.title)}</span></summary>"
        f'<dl class="reason">{table}</dl></details>'
    )


def _evidence(evidence: tuple[Evidence, ...]) -> str:
    rows = []
    for e in evidence:
        first, last = e.updates
        span = f"{first:,}" if first == last else f"{first:,}-{last:,}"
        limit = "" if e.threshold is None else number(e.threshold)
        rows.append(
            f"<tr><td><code>{esc(e.series)}</code></td><td class=n>{span}</td><td>{esc(e.statistic)}</td>"
            f"<td class=n><b>{esc(number(e.value))}</b></td><td class=n>{esc(limit)}</td>"
            f"<td>{place(e.source)}</td></tr>"
        )
    head = (
        "<tr><th>series</th><th class=n>updates</th><th>statistic</th><th class=n>value</th>"
        "<th class=n>against</th><th>read at</th></tr>"
    )
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _remedy(remedy: Remedy, run: Run) -> str:
    word, meaning = SAFETY[remedy.safety]
    measured = remedy.measured or "its effect has not been measured; unstuck prove measures it"
    reason = f"<p>{esc(remedy.reason)}</p>" if remedy.reason else ""
    return (
        f'<div class="remedy"><p><b>{esc(remedy.summary)}</b> '
        f'<span class="tag {esc(remedy.safety)}" title="{esc(meaning)}">{word}</span></p>'
        f"{diff(remedy.patch, run)}{reason}<p class='aside'>Effect: {esc(measured)}.</p></div>"
    )


def first_change(diagnosis: Diagnosis) -> str:
    """The change that the root cause asks for, for the top of the page; empty where there is none."""
    for finding in [f for f in diagnosis.findings if f.severity != "note"][:1]:
        for remedy in finding.remedies[:1]:
            return f"<h3>The change</h3><p>{esc(remedy.summary)}</p>{diff(remedy.patch, diagnosis.run)}"
    return ""


def curves(charts: list[dict[str, Any]]) -> str:
    """Places for the charts, which the script fills; what is not finite is said in words too."""
    if not charts:
        return "<p>No series was logged.</p>"
    return "".join(_chart(c) for c in charts if c["main"]) + (
        f'<div class="pair">{rest}</div>' if (rest := "".join(_chart(c) for c in charts if not c["main"])) else ""
    )


def _chart(chart: dict[str, Any]) -> str:
    bad = "".join(
        f'<p class="bad">{esc(b["name"])} is not finite at {b["count"]:,} of {b["of"]:,} points, '
        f"first at update {b['first']:,}.</p>"
        for b in chart["bad"]
    )
    axis = "linear" if chart["log"] else "log"
    return (
        f'<figure id="{esc(chart["id"])}"><figcaption><b>{esc(chart["heading"])}</b> <span>{esc(chart["unit"])}</span>'
        f'<button type="button" data-axis>{axis} scale</button></figcaption>{bad}'
        '<div class="plot" role="img"></div><p class="aside hidden" data-lost></p></figure>'
    )


def configuration(diagnosis: Diagnosis) -> str:
    """Every setting with where it was read; the ones a remedy changes are marked."""
    run = diagnosis.run
    changed = {change.key for f in diagnosis.findings for r in f.remedies for change in r.patch}
    rows = []
    for name, found in run.settings.items():
        known = f' <span class="aside">{esc(name)}</span>' if name not in (found.key, found.key.split(".")[-1]) else ""
        written = (
            f' <span class="aside">written {esc(setting(found.written))}</span>' if found.written is not None else ""
        )
        mark = ' class="changed"' if name in changed else ""
        rows.append(
            f"<tr{mark}><td><code>{esc(found.key)}</code>{known}</td><td><code>{esc(setting(found.value))}</code>"
            f"{written}</td><td>{place(found.source)}</td></tr>"
        )
    head = "<tr><th>setting</th><th>value</th><th>read at</th></tr>"
    shown = {id(s) for s in run.settings.values()} | {(s.key, str(s.source)) for s in run.settings.values()}
    rest = [
        f"<tr><td><code>{esc(key)}</code></td><td><code>{esc(setting(s.value))}</code></td>"
        f"<td>{place(s.source)}</td></tr>"
        for key, s in run.raw_settings.items()
        if (s.key, str(s.source)) not in shown
    ]
    table = (
        f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>' if rows else "<p>No setting was found.</p>"
    )
    if rest:
        table += (
            f"<details><summary>{plural(len(rest), 'further key')} that no rule reads</summary>"
            f'<div class="scroll"><table>{head}{"".join(rest)}</table></div></details>'
        )
    return table


def unchecked(diagnosis: Diagnosis) -> str:
    """What could not be checked and what that needs, then what was checked and is clear."""
    rows = "".join(
        f"<tr><td><code>{esc(name)}</code></td><td>{esc(', '.join(missing))}</td></tr>"
        for name, missing in diagnosis.could_not_check.items()
    )
    parts = []
    if rows:
        parts.append(f'<div class="scroll"><table><tr><th>could not check</th><th>needs</th></tr>{rows}</table></div>')
    if diagnosis.clear:
        chips = " ".join(f"<code>{esc(name)}</code>" for name in diagnosis.clear)
        parts.append(f'<p class="clear"><b>Checked and clear</b> {chips}</p>')
    return "".join(parts) or "<p>No rule was applied.</p>"


def notes(run: Run) -> str:
    """What the reader converted or left out."""
    return "<ul>" + "".join(f"<li>{esc(note)}</li>" for note in run.notes) + "</ul>" if run.notes else ""
