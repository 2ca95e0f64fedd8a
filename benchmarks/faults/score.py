"""Score a generated split, or the labelled real logs, and write the tables of docs/faults.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks import logs as labelled
from benchmarks.faults.effect import Label, labels
from benchmarks.faults.generate import records
from benchmarks.faults.peers_scored import score_peers
from benchmarks.faults.plan import plan
from benchmarks.faults.scored import Scored, score_record
from benchmarks.faults.tables import report
from unstuck.diagnose.engine import all_rules
from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import read_runs

MOST_SEEDS = 20  # ours: more setups than anybody makes
HEAD = """# Fault benchmark

    python -m benchmarks.faults generate --split development --seeds 1 --workers 2     # and --seeds 2 --only loop
    python -m benchmarks.faults generate --split further --seeds 2 --workers 2         # of transformers one setup each
    python -m benchmarks.faults generate --split retired --seeds 2 --workers 2
    python -m benchmarks.faults generate --split later --seeds 2 --workers 2           # as further; and held-out
    python -m benchmarks.faults score --split development --peers --write              # and every other split
    python -m benchmarks.faults less --split development --write

Small models trained on a CPU, healthy and with one or two faults put in; `benchmarks/faults/README.md` says what is
trained, how a label is confirmed by measurement, and what the numbers mean. The rules were written and mended with the
development families in view; the further families came later, and the rules were mended for them after a first look
(69 % of 151 faults, a false alarm on 15 of 100 healthy runs). The retired families were held out, were scored three
times (70, 70 and 75 %) and then mended for as well. All that is not held out calibrates. Nobody who wrote rules or
readers has looked at the held-out families, their log styles or their runs, but for what docs/LOG.md tells; of them
only these tables are seen, each time the rules are scored (docs/LOG.md tells every time). Peers are their published
rules, restated, on what our readers made of the logs.
"""
PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"


def score_split(out: Path, split: str, *, view: str | None, peers: bool, details: bool, write: bool) -> int:
    """Print, and with `write` keep, the tables of one split; those of held-out runs are never listed one by one."""
    runs = scored_split(out, split, view)
    if not runs:
        print(
            f"There are no runs in {out / split}; make them with: python -m benchmarks.faults generate", file=sys.stderr
        )
        return 2
    told = (
        "Each run is diagnosed from its folder: one form of its log, and the configuration that lies beside it; where "
        "only a comparison shows the fault, with the log of its healthy twin."
    )
    title = f"{split.capitalize()} families"
    shown = details and split != "held-out"
    give(report(title, told, runs, score_peers(runs) if peers else [], details=shown), title, write)
    return 0


def scored_split(out: Path, split: str, view: str | None = None) -> list[Scored]:
    """Every finished run of a split with its label and its diagnosis."""
    planned = {case.id for case in plan(split, MOST_SEEDS)}
    done = [record for record in records(out, split) if record["id"] in planned]  # the others are of an older plan
    given = labels(done)
    twins = {(r["group"], r["seed"]): r for r in done if r["role"] == "healthy"}
    return [score_record(r, given[r["id"]], out, view, twins.get((r["group"], r["seed"]))) for r in done]


def score_logs(folder: Path, *, peers: bool, details: bool, write: bool) -> int:
    """The same measures over the labelled real logs, as `benchmarks/logs.py` judges them."""
    if not (folder / "labels.json").is_file():
        print(f"There are no labelled logs at {folder}; give their folder with --logs.", file=sys.stderr)
        return 2
    judged = list(labelled.judge(folder, ()))
    runs = [scored_log(one) for one in judged]
    if peers:
        for run, one in zip(runs, judged, strict=True):
            run.run = _read(one, folder)
    told = "The labels of these logs name the rules that are wrong; a rule that they do not name is not judged."
    title = "Labelled logs"
    give(report(title, told, runs, score_peers(runs) if peers else [], details=details), title, write)
    return 0


def _read(one: labelled.Judged, folder: Path) -> Run | None:
    """What a peer is given of a labelled log: the same as our rules, of several runs the longest."""
    file = folder / one.file
    config = file.parent.parent / one.label["config"] if "config" in one.label.get("needs", ()) else None
    try:
        return max(read_runs(file, config=config, beside=config is not None), key=lambda run: run.updates)
    except UserError:
        return None


def scored_log(one: labelled.Judged) -> Scored:
    """A judged log as a scored run."""
    label = one.label
    sick = label["verdict"] == "sick"
    needs = next((need for need in ("model", "pair", "config") if need in label.get("needs", ())), "log")
    return Scored(
        one.file, label.get("model", "?"), label.get("trainer", "not ours"), label["format"],
        Label(
            "faulty" if sick else "healthy" if label["verdict"] == "healthy" else "unclear",
            (label.get("fault") or "real",) if sick else (),
            (tuple(label["expect_any"]),) if sick else (),
            frozenset(label["accept"]),
            needs,
        ),
        list(one.findings), tuple(one.could_not_check), one.verdict,
        frozenset(label["forbid"]) if sick else frozenset(all_rules()) - set(label["accept"]), one.error,
    )  # fmt: skip


def give(section: str, title: str, write: bool) -> None:
    """Print a section of docs/faults.md, and with `write` put it there in the place of the one with its title."""
    print(section)
    if not write:
        return
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    page = HEAD + page[page.find("\n## ") :] if "\n## " in page else HEAD
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.M | re.S)
    page = pattern.sub(lambda _: section + "\n", page) if pattern.search(page) else f"{page.rstrip()}\n\n{section}"
    PAGE.write_text(page.rstrip() + "\n", encoding="utf-8")
