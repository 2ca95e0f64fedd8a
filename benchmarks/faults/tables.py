"""The measures as Markdown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from benchmarks.faults.measures import calibration, faulty, grouped, overall, per_rule, share
from benchmarks.faults.peers_scored import PeerScore
from benchmarks.faults.scored import Scored


def report(title: str, told: str, runs: Sequence[Scored], peers: Sequence[PeerScore], *, details: bool) -> str:
    """A section with every table. `details`: the runs that were missed or alarmed on, too (never for held-out)."""
    parts = [f"## {title}", told, counts(runs), main_table(runs, peers), by_group(runs), fault_table(runs)]
    parts += [rule_table(runs), calibration_table(runs)]
    if details:
        parts.append(detail_tables(runs))
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def counts(runs: Sequence[Scored]) -> str:
    verdicts = Counter(run.label.verdict for run in runs)
    asked = len(faulty(runs))
    return (
        f"{len(runs)} runs: {verdicts['healthy']} healthy, {verdicts['faulty']} with a fault that had its effect (of "
        f"{asked} of these a log and a configuration can show it; only they are asked for), "
        f"{verdicts['no-effect']} whose fault did nothing measurable and {verdicts['unclear']} without a defensible "
        "label (neither are scored)."
    )


def main_table(runs: Sequence[Scored], peers: Sequence[PeerScore]) -> str:
    o = overall(runs)
    rows: list[list[object]] = [["unstuck", o.found, o.first, o.called_sick, o.healthy_alarmed]]
    rows += [[p.name, p.found, p.first, p.alarmed, p.healthy_alarmed] for p in peers]
    header = ["", "fault among the first three", "a true cause at rank 1", "faulty run alarmed on",
              "healthy run with a false alarm"]  # fmt: skip
    further = (
        f"\n\nBy errors and warnings alone, without notes: {o.found_as_alarm}. Faulty runs with an error or warning "
        f"that is wrong: {o.faulty_wrong}. Logs that could not be read: {o.unread}."
    )
    return table(header, rows) + further


def by_group(runs: Sequence[Scored]) -> str:
    rows = []
    for what, key in (("family", lambda r: r.family), ("trainer", lambda r: r.trainer), ("log", lambda r: r.view)):
        for name, members in grouped(runs, key).items():
            o = overall(members)
            rows.append([what, name, o.found, o.first, o.healthy_alarmed])
    return table(
        ["by", "", "fault among the first three", "a true cause at rank 1", "healthy with a false alarm"], rows
    )


def fault_table(runs: Sequence[Scored]) -> str:
    """Each fault: how often it had its effect, was found, and what stood at rank 1 instead."""
    faults = sorted({fault for run in runs for fault in run.label.faults})
    rows = []
    for fault in faults:
        made = [run for run in runs if fault in run.label.faults]
        worked = [run for run in made if run.label.verdict == "faulty"]
        single = [run for run in worked if len(run.label.faults) == 1]
        instead = Counter(
            (run.findings[0][0] if run.findings else "nothing" if not run.error else "unread")
            for run in single
            if not run.cause_first
        )
        told = ", ".join(f"{rule} {n}" for rule, n in instead.most_common(4))
        expected = single[0].label.expected[0] if single else ()
        rows.append([
            fault, len(made), len(worked), single[0].label.needs if single else "-",
            share(run.found(run.label.expected[0]) for run in single), share(run.cause_first for run in single),
            " or ".join(expected) or "-", told or "-",
        ])  # fmt: skip
    header = [
        "fault",
        "runs",
        "with effect",
        "needs",
        "first three (alone)",
        "rank 1 (alone)",
        "expected",
        "rank 1 instead",
    ]
    return "### Faults\n\n" + table(header, rows)


def rule_table(runs: Sequence[Scored]) -> str:
    rows = [
        [
            rule,
            row.right,
            row.wrong,
            row.on_healthy,
            _percent(row.precision),
            row.wanted,
        ]
        for rule, row in per_rule(runs).items()
    ]
    header = ["rule", "right", "wrong", "wrong on healthy", "precision", "recall (faults that expect it first)"]
    return "### Rules: errors and warnings\n\n" + table(header, rows)


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def calibration_table(runs: Sequence[Scored]) -> str:
    rows = []
    briers = []
    for severity in ("error", "warning", "note"):
        found = calibration(runs, severity)
        if found.findings:
            briers.append(f"{severity} {found.brier:.3f} ({found.findings})")
        rows += [[severity, f"{mean:.2f}", f"{right:.2f}", n] for mean, right, n in found.bins]
    return (
        "### Confidence against truth\n\n" + table(["severity", "mean confidence", "share right", "findings"], rows)
        + f"\n\nBrier score (findings): {', '.join(briers)}."
    )  # fmt: skip


def detail_tables(runs: Sequence[Scored]) -> str:
    missed = [
        [run.id, run.family, run.view, "+".join(run.label.faults), _said(run), _why(run)]
        for run in faulty(runs)
        if not all(run.found(rules) for rules in run.label.expected)
    ]
    alarmed = [
        [run.id, run.family, run.view, "+".join(run.label.faults) or run.label.verdict, ", ".join(run.wrong)]
        for run in runs
        if run.label.verdict in ("healthy", "faulty") and run.wrong
    ]
    parts = ["### Missed", table(["run", "family", "log", "fault", "findings", "why"], missed) if missed else "None."]
    parts += ["### Wrong", table(["run", "family", "log", "label", "wrong"], alarmed) if alarmed else "None."]
    return "\n\n".join(parts)


def _said(run: Scored) -> str:
    return ", ".join(rule + (" (note)" if severity == "note" else "") for rule, severity, _ in run.findings) or "-"


def _why(run: Scored) -> str:
    if run.error:
        return "unread"
    wanted = {rule for rules in run.label.expected if not run.found(rules) for rule in rules}
    unchecked = wanted & set(run.could_not_check)
    return f"could not check: {', '.join(sorted(unchecked))}" if unchecked else "clear, ranked lower, or no such rule"
