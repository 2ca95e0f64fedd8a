"""Diagnose every labelled log in the formats read so far and compare with the labels.

    python benchmarks/logs.py [--logs ../shared/logs] [--verbose] [--no-write]

A sick run counts as found when one of its expected rules is among the first three findings; a healthy run raises a
false alarm with any error or warning that is not in its `accept` list. Each generated log is judged with what its
`needs` lists: with its configuration, or with the other run of its pair, where that is listed, else from the log alone.
The second column of the summary gives every log its configuration, which is how a user's folder looks. Prints the
tables and writes `docs/logs.md`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unstuck.diagnose.attach import attach
from unstuck.diagnose.engine import Diagnosis, all_rules, diagnose
from unstuck.diagnose.history import history_of
from unstuck.errors import UserError
from unstuck.runs.readers import read_runs

ROOT = Path(__file__).resolve().parents[1]
TOP = 3
UNREAD_NEEDS = {"model": "the log cannot show it, needs the model"}


@dataclass(slots=True)
class Judged:
    label: dict[str, Any]
    file: str
    seconds: float
    findings: list[tuple[str, str, float]] = field(default_factory=list)  # rule, severity, confidence
    could_not_check: list[str] = field(default_factory=list)
    verdict: str = ""
    error: str = ""

    @property
    def top(self) -> list[str]:
        """The first three findings; notes are no findings of a sickness and come last anyway."""
        return [rule for rule, _, _ in self.findings[:TOP]]

    @property
    def hit(self) -> bool:
        return bool(set(self.top) & set(self.label["expect_any"]))

    @property
    def false_alarms(self) -> list[str]:
        """Errors and warnings that the label calls plainly wrong; on a healthy run also any that it does not accept."""
        serious = [rule for rule, severity, _ in self.findings if severity != "note"]
        if self.label["verdict"] == "healthy":
            return [rule for rule in serious if rule not in self.label["accept"]]
        return [rule for rule in serious if rule in self.label["forbid"]]

    def reason(self) -> str:
        """Why the expected rule is missing, as far as it can be told."""
        if self.error:
            return self.error
        needs = [UNREAD_NEEDS[need] for need in self.label.get("needs", []) if need in UNREAD_NEEDS]
        if needs:
            return "; ".join(needs)
        expected = self.label["expect_any"]
        if not set(expected) & all_rules().keys():
            return f"no rule yet: {', '.join(expected)}"
        if below := [rule for rule, _, _ in self.findings[TOP:] if rule in expected]:
            return f"found below the top three: {', '.join(below)}"
        if unchecked := [rule for rule in expected if rule in self.could_not_check]:
            return f"could not check: {', '.join(unchecked)}"
        return f"clear: {', '.join(rule for rule in expected if rule in all_rules())}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=ROOT.parent / "shared" / "logs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "logs.md")
    parser.add_argument("--formats", default="", help="label formats, separated by commas; default: all")
    parser.add_argument("--verbose", action="store_true", help="print the findings of every log")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    if not (arguments.logs / "labels.json").is_file():
        print(f"There are no labelled logs at {arguments.logs}; give their folder with --logs.", file=sys.stderr)
        return 2
    formats = tuple(filter(None, arguments.formats.split(",")))
    judged = list(judge(arguments.logs, formats))
    furnished = list(judge(arguments.logs, formats, always_with_config=True))
    if arguments.verbose:
        for one in judged:
            told = ", ".join(f"{rule} ({severity}, {confidence:.2f})" for rule, severity, confidence in one.findings)
            wanted = "/".join(one.label["expect_any"]) or one.label["verdict"]
            mark = "ok  " if (one.hit or one.label["verdict"] != "sick") and not one.false_alarms else "MISS"
            print(f"{mark} {one.file} [{wanted}] {one.verdict}: {told or one.error or 'nothing'}")
        print()
    report = render(judged, furnished)
    print(report)
    if not arguments.no_write:
        arguments.out.write_text(report, encoding="utf-8")
    return 0


def judge(logs: Path, formats: tuple[str, ...], *, always_with_config: bool = False) -> Iterator[Judged]:
    """Diagnose every labelled file of the formats, in the order of the labels."""
    for folder in (logs, logs / "generated"):
        path = folder / "labels.json"
        if not path.is_file():
            continue
        for label in json.loads(path.read_text(encoding="utf-8")):
            if formats and label["format"] not in formats:
                continue
            file = folder / label["file"]
            given = "config" in label and (always_with_config or bool({"config", "pair"} & set(label["needs"])))
            config = folder / label["config"] if given else None
            started = time.perf_counter()
            one = Judged(label, str(file.relative_to(logs)), 0.0)
            try:
                runs = read_runs(file, config=config, beside=config is not None)
                diagnoses = [diagnose(run) for run in runs]
                if "pair" in label.get("needs", []):  # the other run with its own configuration, as a user gives both
                    both = [*diagnoses, *(diagnose(run) for run in read_runs(folder / label["pair"]))]
                    attach(history_of([one.run for one in both]), both)
                worst = max(diagnoses, key=lambda d: (d.verdict == "sick", len(d.findings)))
            except UserError as error:
                one.error = str(error).replace(str(logs), "")
            else:
                _take(one, worst)
            one.seconds = time.perf_counter() - started
            yield one


def _take(one: Judged, diagnosis: Diagnosis) -> None:
    one.findings = [(f.rule.name, f.severity, f.found.confidence) for f in diagnosis.findings]
    one.could_not_check = list(diagnosis.could_not_check)
    one.verdict = diagnosis.verdict


def render(judged: list[Judged], furnished: list[Judged]) -> str:
    """The Markdown page. `furnished`: the same logs, each with its configuration."""
    lines = [
        "# Diagnosis against the labelled logs",
        "",
        f"Written by `python benchmarks/logs.py` over {len(judged)} logs in {len({o.label['format'] for o in judged})} "
        "formats, real and generated. The rules were written with these logs in view, and several were extended after "
        "a miss among them was seen (docs/LOG.md), so the shares are not those of unseen logs. A finding that is only "
        "a note counts in the first row and not in the verdict.",
        "",
        "| | with what the label says is needed | every log with its configuration |",
        "|---|---|---|",
    ]
    for what, right, group in _GROUPS:
        lines.append(f"| {what} | {_share(group(judged), right)} | {_share(group(furnished), right)} |")
    alarmed = [one for one in judged if one.false_alarms]
    only_furnished = [
        one for one, plain in zip(furnished, judged, strict=True) if set(one.false_alarms) - set(plain.false_alarms)
    ]
    lines += [
        "",
        f"Median time to read and diagnose one log: {1000 * _median([o.seconds for o in judged]):.0f} ms.",
        "",
        "## Missed",
        "",
    ]
    missed = [one for one in judged if one.label["verdict"] == "sick" and not one.hit]
    if missed:
        lines += ["| log | expected | first findings | reason |", "|---|---|---|---|"]
        lines += [
            f"| {one.file} | {', '.join(one.label['expect_any'])} | {', '.join(one.top) or '-'} | {one.reason()} |"
            for one in missed
        ]
    else:
        lines.append("None.")
    lines += ["", "## Findings that the label calls wrong", ""]
    if alarmed or only_furnished:
        lines += ["| log | label | wrong findings |", "|---|---|---|"]
        lines += [f"| {one.file} | {one.label['verdict']} | {', '.join(one.false_alarms)} |" for one in alarmed]
        lines += [
            f"| {one.file}, with its configuration | {one.label['verdict']} | {', '.join(one.false_alarms)} |"
            for one in only_furnished
        ]
    else:
        lines.append("None.")
    lines += ["", "## All", "", "| log | label | expected | findings |", "|---|---|---|---|"]
    lines += [
        f"| {one.file} | {one.label['verdict']} | {', '.join(one.label['expect_any']) or '-'} | "
        f"{', '.join(rule + (' (note)' if severity == 'note' else '') for rule, severity, _ in one.findings) or '-'} |"
        for one in judged
    ]
    return "\n".join(lines) + "\n"


def _sick(ones: list[Judged]) -> list[Judged]:
    return [one for one in ones if one.label["verdict"] == "sick"]


def _alone(ones: list[Judged]) -> list[Judged]:
    """Sick runs that their own log (and configuration) can show."""
    return [one for one in _sick(ones) if not set(one.label.get("needs", [])) & UNREAD_NEEDS.keys()]


def _built(ones: list[Judged]) -> list[Judged]:
    return [one for one in _alone(ones) if set(one.label["expect_any"]) & all_rules().keys()]


def _healthy(ones: list[Judged]) -> list[Judged]:
    return [one for one in ones if one.label["verdict"] == "healthy"]


def _found(one: Judged) -> bool:
    return one.hit


def _first(one: Judged) -> bool:
    return bool(set(one.top[:1]) & set(one.label["expect_any"]))


def _called_sick(one: Judged) -> bool:
    return one.verdict == "sick"


def _quiet(one: Judged) -> bool:
    return not one.false_alarms


_GROUPS: tuple[tuple[str, Callable[[Judged], bool], Callable[[list[Judged]], list[Judged]]], ...] = (
    ("sick runs, an expected rule among the first three findings", _found, _sick),
    ("sick runs, an expected rule at rank 1", _first, _sick),
    ("... without those that need the model", _found, _alone),
    ("... of these, with an expected rule that is built", _found, _built),
    ("sick runs with the verdict sick", _called_sick, _sick),
    ("healthy runs without an error or warning", _quiet, _healthy),
    ("sick runs without a finding that the label calls wrong", _quiet, _sick),
)


def _share(ones: list[Judged], right: Callable[[Judged], bool]) -> str:
    count = sum(right(one) for one in ones)
    return f"{count} of {len(ones)} ({count / len(ones):.0%})" if ones else "-"


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0


if __name__ == "__main__":
    sys.exit(main())
