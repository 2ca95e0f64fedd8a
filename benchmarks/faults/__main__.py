"""Command line of the fault benchmark.

python -m benchmarks.faults generate --split development --seeds 1 --workers 2 --out /tmp/unstuck-faults
python -m benchmarks.faults score --split development --out /tmp/unstuck-faults --peers --write
python -m benchmarks.faults calibrate --out /tmp/unstuck-faults
python -m benchmarks.faults logs --logs ../shared/logs
python -m benchmarks.faults restyle --out /tmp/unstuck-faults --every 4
python -m benchmarks.faults less --split development --out /tmp/unstuck-faults --details
python -m benchmarks.faults plan --split development --seeds 1
python -m benchmarks.faults labels --split development --out /tmp/unstuck-faults
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from benchmarks.faults.plan import SPLITS, plan

DEFAULT_OUT = Path("/tmp/unstuck-faults")
ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("generate", "score", "plan", "labels"):
        command = commands.add_parser(name)
        command.add_argument("--split", choices=SPLITS, default="development")
        command.add_argument("--seeds", type=int, default=1, help="setups of each family and trainer")
        command.add_argument("--out", type=Path, default=DEFAULT_OUT)
        if name == "generate":
            command.add_argument("--workers", type=int, default=2)
            command.add_argument("--only", default="", help="part of a group's name, as char-gpt/loop")
            command.add_argument("--limit", type=int, help="stop after so many runs")
    scoring = commands.choices["score"]
    calibrating = commands.add_parser("calibrate", help="how often findings were right, by the development splits")
    calibrating.add_argument("--out", type=Path, default=DEFAULT_OUT)
    logs = commands.add_parser("logs", help="the labelled real logs by the same measures")
    logs.add_argument("--logs", type=Path, default=ROOT.parent / "shared" / "logs")
    restyling = commands.add_parser("restyle", help="the development runs printed again in other styles")
    restyling.add_argument("--out", type=Path, default=DEFAULT_OUT)
    restyling.add_argument("--every", type=int, default=1, help="take every such run only")
    restyling.add_argument("--only", default="", help="part of the name of a style or a form of configuration")
    restyling.add_argument("--details", action="store_true", help="what is read or found otherwise")
    lessening = commands.add_parser("less", help="the runs of a split with a part of their record taken away")
    lessening.add_argument("--split", choices=SPLITS[:-1], default="development")
    lessening.add_argument("--out", type=Path, default=DEFAULT_OUT)
    lessening.add_argument("--only", default="", help="part of the name of what is left")
    lessening.add_argument("--details", action="store_true", help="each fault that is lost")
    lessening.add_argument("--write", action="store_true", help="write the section of docs/faults.md")
    for command in (scoring, logs):
        command.add_argument("--peers", action="store_true", help="other tools' rules beside ours")
        command.add_argument("--details", action="store_true", help="each missed run and each wrong alarm")
        command.add_argument("--write", action="store_true", help="write the section of docs/faults.md")
    scoring.add_argument("--view", help="this form of the log where a run has it: text, jsonl, state, stdout")
    asked = parser.parse_args()

    if asked.command == "plan":
        return _plan(asked.split, asked.seeds)
    if asked.command == "labels":
        return _labels(asked.out, asked.split)
    if asked.command == "generate":
        from benchmarks.faults.generate import generate

        cases = [case for case in plan(asked.split, asked.seeds) if asked.only in case.group][: asked.limit]
        return 1 if generate(cases, asked.out, asked.workers) else 0
    if asked.command == "restyle":
        from benchmarks.faults.restyle import report, restyle

        print(report(restyle(asked.out, every=asked.every, only=asked.only), asked.details))
        return 0
    from benchmarks.faults.score import score_logs, score_split, scored_split

    if asked.command == "calibrate":
        from benchmarks.faults.calibrate import calibrate

        print(calibrate([run for split in SPLITS[:-1] for run in scored_split(asked.out, split)]))
        return 0
    if asked.command == "less":
        from benchmarks.faults import less

        less.give(scored_split(asked.out, asked.split), asked.only, details=asked.details, write=asked.write)
        return 0
    if asked.command == "logs":
        return score_logs(asked.logs, peers=asked.peers, details=asked.details, write=asked.write)
    return score_split(
        asked.out, asked.split, view=asked.view, peers=asked.peers, details=asked.details, write=asked.write
    )  # fmt: skip


def _plan(split: str, seeds: int) -> int:
    cases = plan(split, seeds)
    print(f"{len(cases)} runs: {dict(Counter(case.role for case in cases))}")
    for names, count in Counter("+".join(case.names) or "healthy" for case in cases).most_common():
        print(f"{count:4d} {names}")
    return 0


def _labels(out: Path, split: str) -> int:
    """What became of the runs of each family and trainer, without a diagnosis: whether a new family is sound."""
    from benchmarks.faults.effect import labels
    from benchmarks.faults.generate import records

    done = list(records(out, split))
    given = labels(done)
    for record in sorted(done, key=lambda r: (r["group"], r["role"], r["names"])):
        label = given[record["id"]]
        effects = ", ".join(f"{name} {size:.3g}" for name, size in label.effects.items())
        what = "+".join(record["names"]) or record["role"]
        print(f"{record['group']:40s} {record['id']} {what:44s} {label.verdict:10s} {effects}")
    print(dict(Counter(label.verdict for label in given.values())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
