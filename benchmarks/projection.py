"""Backtest of projections: cut finished runs, project to their end, compare.

    python benchmarks/projection.py --trained runs/projection --train    train the runs that are missing, then measure
    python benchmarks/projection.py --trained runs/projection            measure what is there
    python benchmarks/projection.py --curves FOLDER ...                  and these logs, one group for each folder

Every run of --logs, --trained and --curves with at least 24 points of the training or validation loss is cut at 5, 10,
20, 30, 50 and 70 % of its updates. What is left is projected as `unstuck diagnose` does it, with what the log tells of
its schedule, to the last 3 % of the run; the mean loss there, whose own error widens the intervals, decides. Groups in
DEVELOPMENT were looked at when the model was made; the others are the result. Runs labelled sick are told apart. Writes
docs/projection.md.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import NormalDist

import numpy as np

from benchmarks.projection_baselines import binned_power_law, last_value, plain_power_law
from unstuck.diagnose.case import Case
from unstuck.diagnose.learning_curve import FEWEST_POINTS
from unstuck.diagnose.projection import FARTHEST, NoProjection, curve_of, project, rates_of
from unstuck.diagnose.statistics import level, noise_sd
from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import read_runs

ROOT = Path(__file__).resolve().parents[1]
CUTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)  # the first is beyond the limit of projections
LEVELS = (0.8, 0.95)
LEAST_POINTS = 24
LAST_SHARE = 0.03
# Small enough that all 24 runs take half an hour on one core; every 20th update is followed by an evaluation.
SMALL = ("training.updates=600", "evaluation.every_updates=20", "checkpoint.every_updates=null")
TEXT = ("evaluation.max_tokens=4096", "model.width=64", "model.heads=2", "model.layers=2")
RECIPES = {
    "gpt-char": (*TEXT, "model.ngrams=0"),
    "gpt-bpe": (*TEXT, "data.vocabulary=1024", "data.context=64"),
    "ltg-bert:quick": (*TEXT, "training.batch_size=8"),
    "navier-stokes:quick": ("data.train_trajectories=10", "data.points=16", "model.modes=6"),
}
SCHEDULES = {"cosine": (), "wsd": ("schedule.decay_share=0.2",), "constant": ()}
SEEDS = (1, 2)
DEVELOPMENT = (
    "generated",
    "build_nanogpt_logtxt",
    "nanogpt_stdout",
    "csv_25",
    "csv_100",
    "modded",
    "pgolf",
    "trained, seed 1",
)
# The folders of --curves that docs/projection.md was made with, and where their files are from.
SOURCES = {
    "csv_25": "github.com/thu-yao-01-luo/MultiPowerLaw, loss_curve_repo",
    "csv_100": "the same",
    "csv_400": "the same",
    "modded": "github.com/KellerJordan/modded-nanogpt, records/track_1_short, twelve of June to November 2024",
    "modded-unseen": "the same, six others of October and November 2024",
    "pgolf": "github.com/openai/parameter-golf, records, eight of March 2026",
    "pgolf-unseen": "the same, six others",
    "trainer-state-unseen": "trainer_state.json in the root of fifteen repositories on github.com",
    "faults-healthy": "the healthy runs of benchmarks/faults, development split, one form of each log",
}
Baseline = Callable[..., float | None]
BASELINES: dict[str, Baseline] = {
    "last value": last_value,
    "binned power law": binned_power_law,
    "plain power law": plain_power_law,
}


@dataclass(frozen=True, slots=True)
class Finished:
    """One loss of one finished run."""

    group: str
    name: str
    series: str
    run: Run
    sick: bool


@dataclass(frozen=True, slots=True)
class Projected:
    """One cut of one curve; errors are relative to the loss at the end.

    Attributes:
        refused: why there is no projection; empty where there is one.
        beyond: refused only because the end is too far ahead; then the curve is measured all the same.
        error: of the projection, nan where there is no curve.
        covered: for each of LEVELS whether the end lies inside.
        width: half of the 80 % interval.
        baselines: errors of the plain fits.
    """

    of: Finished
    cut: float
    refused: str
    beyond: bool
    error: float
    covered: tuple[bool, ...]
    width: float
    baselines: dict[str, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, default=ROOT.parent / "shared" / "logs")
    parser.add_argument("--trained", type=Path, help="folder of run folders")
    parser.add_argument("--train", action="store_true", help="train what is missing there (an hour on two cores)")
    parser.add_argument("--curves", type=Path, nargs="*", default=[], help="further folders of logs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "projection.md")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--verbose", action="store_true", help="print every projection")
    arguments = parser.parse_args()
    if arguments.train:
        if arguments.trained is None:
            parser.error("--train needs a folder: --trained FOLDER")
        train(arguments.trained)
    curves = [*labelled(arguments.logs), *trained(arguments.trained), *further(arguments.curves)]
    if not curves:
        print(f"No finished runs: give their folder with --logs (tried {arguments.logs}).", file=sys.stderr)
        return 2
    rows = [row for curve in curves for row in backtest(curve)]
    if arguments.verbose:
        for row in rows:
            said = row.refused or f"{row.error:+.2%}, half-width {row.width:.2%}, covered {row.covered}"
            print(f"{row.of.group} {row.of.name} {row.of.series} at {row.cut:.0%}: {said}")
    report = render(rows)
    print(report)
    if not arguments.no_write:
        arguments.out.write_text(report, encoding="utf-8")
    return 0


def train(folder: Path) -> None:
    """Train every recipe with every schedule and seed, one after another, in processes of their own."""
    for seed, schedule, recipe in product(SEEDS, SCHEDULES, RECIPES):
        run = folder / f"{recipe.partition(':')[0]}-{schedule}-{seed}"
        if (run / "summary.json").is_file():
            continue
        settings = [f"seed={seed}", f"schedule.kind={schedule}", *SCHEDULES[schedule], *SMALL, *RECIPES[recipe]]
        command = [
            sys.executable,
            "-m",
            "unstuck.cli.main",
            "train",
            recipe,
            *settings,
            "--quiet",
            "--folder",
            str(run),
        ]
        print(f"training {run.name}", file=sys.stderr)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def labelled(logs: Path) -> Iterator[Finished]:
    """Every labelled log that can be read; of a generated run that was logged in several formats, the first."""
    seen: set[str] = set()
    for folder in (logs, logs / "generated"):
        path = folder / "labels.json"
        for label in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else ():
            made = re.search(r"run_\d{3}", label["file"]) if folder != logs else None
            key = made[0] if made is not None else label["file"]
            if label["verdict"] == "table" or key in seen:
                continue
            seen.add(key)
            config = folder / label["config"] if "config" in label else None
            group = "generated" if folder != logs else label["format"]
            yield from _of_file(folder / label["file"], group, label["verdict"] == "sick", config)


def trained(folder: Path | None) -> Iterator[Finished]:
    """Every run folder below `folder`."""
    for path in sorted(folder.glob("*/metrics.jsonl")) if folder is not None else ():
        yield from _of_file(path.parent, f"trained, seed {path.parent.name.rpartition('-')[2]}", False)


def further(folders: Iterable[Path]) -> Iterator[Finished]:
    """Every file that can be read, one group for each folder."""
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            yield from _of_file(path, folder.name, False, name=str(path.relative_to(folder)))


def _of_file(
    path: Path, group: str, sick: bool, config: Path | None = None, name: str | None = None
) -> Iterator[Finished]:
    try:
        runs = read_runs(path, config=config)
    except UserError:
        return
    for number, run in enumerate(runs):
        named = f"{name or path.stem} {number + 1}"
        for series in ("train/loss", "val/loss"):
            logged = run.get(series)
            if logged is not None and (logged.finite().updates >= 1).sum() >= LEAST_POINTS:
                yield Finished(group, named, series, run, sick)


def backtest(of: Finished) -> Iterator[Projected]:
    """Every cut of a curve that has happened after its first point."""
    series = of.run.series[of.series].finite()
    series = series.where(series.updates >= 1)
    count = max(2 if len(series) < 60 else 3, round(LAST_SHARE * len(series)))
    end, error = _end(series.values, count)
    target = float(series.updates[-count:].mean())
    if not end > 0:
        return
    for cut in CUTS:
        last = int(cut * series.updates[-1])
        part = series.between(1, last)
        if not len(part):
            continue
        run = replace(of.run, series={name: s.between(0, last) for name, s in of.run.series.items()})
        rates = rates_of(Case(run))
        updates, losses = part.updates.astype(np.float64), part.values
        plain = {name: fit(updates, losses, target) for name, fit in BASELINES.items()} if len(part) >= 2 else {}
        errors = {name: value / end - 1 for name, value in plain.items() if value is not None}
        curve = curve_of(updates, losses, rates, target)
        if isinstance(curve, NoProjection):
            yield Projected(of, cut, curve.reason, False, math.nan, (), math.nan, errors)
            continue
        said = project(updates, losses, target, rates)
        refused = said.reason if isinstance(said, NoProjection) else ""
        middle, covered, width = curve.at(target), [], math.nan
        for share in LEVELS:
            low, high = curve.between(target, share)
            width = (high - low) / 2 / end if share == LEVELS[0] else width
            z = NormalDist().inv_cdf(0.5 + share / 2)
            low, high = middle - math.hypot(middle - low, z * error), middle + math.hypot(high - middle, z * error)
            covered.append(low <= end <= high)
        yield Projected(of, cut, refused, bool(refused), middle / end - 1, tuple(covered), width, errors)


def _end(values: np.ndarray[tuple[int], np.dtype[np.float64]], count: int) -> tuple[float, float]:
    """The level at the end of a run, the mean of its last points, and its standard error."""
    mean, error = level(values[-count:])
    noise = float(np.nan_to_num(noise_sd(values[-max(20, count) :]))) / math.sqrt(count)
    return mean, noise if count < 9 else max(noise, error)  # of fewer points their own scatter says little


def render(rows: list[Projected]) -> str:
    """The Markdown page."""
    sound = [row for row in rows if not row.of.sick]
    within = [row for row in sound if row.cut > CUTS[0]]
    parts = {
        "Other groups": [row for row in within if row.of.group not in DEVELOPMENT],
        "Development": [row for row in within if row.of.group in DEVELOPMENT],
        "Labelled sick": [row for row in rows if row.of.sick and row.cut > CUTS[0]],
    }
    lines = [
        "# Projections, backtested",
        "",
        "    python benchmarks/projection.py --trained runs/projection --train --curves " + " ".join(SOURCES),
        "",
        "Each curve is cut and projected to its end as `unstuck diagnose` would have done it then, with what the log"
        " tells of the learning rate; `undertrained`, `lr-too-low` and the progress line of `unstuck train` use it."
        " Coverage: how often the end lay inside the interval. Width: half of the 80 % interval, as a share of the"
        " loss. Errors are medians of the absolute relative error, of the projection and of plain fits on the same cuts"
        " (in brackets: on how many of them the fit gave a number; `benchmarks/projection_baselines.py`). Cuts of one"
        " curve, and the training and validation loss of one run, are not independent.",
        "",
        f"Looked at when the model was made, so no evidence: {', '.join(DEVELOPMENT)}. No constant was chosen by the"
        " others, but all of them except faults-healthy were measured with four versions of the model, and the second"
        " seeds are the recipes of the first.",
        "",
    ]
    for title, chosen in parts.items():
        if not chosen:
            continue
        curves = len({(row.of.group, row.of.name, row.of.series) for row in chosen})
        lines += [f"## {title}: {curves} curves", "", *_table("seen", chosen, lambda row: f"{row.cut:.0%}"), ""]
    lines += ["## By group", "", *_table("group", within, lambda row: row.of.group), ""]
    beyond = [replace(row, refused="") for row in sound if row.beyond]
    if beyond:
        lines += ["## Beyond the limit, which users do not see", ""]
        lines += [*_table("seen", beyond, lambda row: f"{row.cut:.0%}"), ""]
    lines += ["## What it cannot do", "", *_limits(parts, beyond), ""]
    lines += ["## Not projected", "", "| why | cuts |", "|---|---|"]
    reasons = [_reason(row.refused) for row in within if row.refused]
    lines += [f"| {reason} | {reasons.count(reason)} |" for reason in sorted(set(reasons))]
    lines += ["", "## Logs of --curves", "", *(f"- `{group}`: {source}" for group, source in SOURCES.items())]
    return "\n".join(lines) + "\n"


def _limits(parts: dict[str, list[Projected]], beyond: list[Projected]) -> list[str]:
    """What the measurements say against projections, as list items."""
    others = [row for row in parts["Other groups"] if not row.refused]
    early = [row for row in others if row.cut <= 0.1]
    late = [row for row in others if row.cut > 0.1]
    sick = [row for row in parts["Labelled sick"] if not row.refused]
    lines = [
        "- It knows one loss and the learning rate. Overfitting to come, a change of data or a loss that blows up are"
        " in no interval.",
        "- Single points scatter more: the intervals are those of the level.",
        "- A rate that goes up again, a loss that rises, one that does not fall beyond its noise, fewer than"
        f" {FEWEST_POINTS} points since the warm-up: no projection, with the reason.",
    ]
    if early and late:
        lines.append(
            f"- From a tenth of a run the median error is {_error(early):.0%} ({len(early)} cuts; last value"
            f" {_error(early, 'last value'):.0%}, plain power law {_error(early, 'plain power law'):.0%}): the interval"
            f" is what counts there. From a fifth on it is {_error(late):.1%} ({_error(late, 'last value'):.1%},"
            f" {_error(late, 'plain power law'):.1%})."
        )
    for what, rows in (
        (f"Farther than {FARTHEST:.0f} times the updates so far it is refused: there", beyond),
        ("In sick runs", sick),
    ):
        if rows:
            inside = [f"{np.mean([row.covered[i] for row in rows]):.0%} in those of {LEVELS[i]:.0%}" for i in (0, 1)]
            lines.append(f"- {what} the intervals do not hold: {inside[0]}, {inside[1]}.")
    return lines


def _error(rows: list[Projected], baseline: str | None = None) -> float:
    """Median absolute relative error of the projection, or of a baseline where it gave a number."""
    errors = (row.error if baseline is None else row.baselines.get(baseline, math.nan) for row in rows)
    return float(np.nanmedian([abs(error) for error in errors]))


def _table(head: str, rows: list[Projected], key: Callable[[Projected], str]) -> list[str]:
    lines = [
        f"| {head} | cuts | projected | covered by 80 % | by 95 % | width | error | " + " | ".join(BASELINES) + " |",
        "|---" * (7 + len(BASELINES)) + "|",
    ]
    groups = sorted({key(row) for row in rows})
    for name in [*groups, "all"] if len(groups) > 1 else groups:
        chosen = [row for row in rows if name in ("all", key(row))]
        made = [row for row in chosen if not row.refused]
        if not made:
            lines.append(f"| {name} | {len(chosen)} | 0 |" + " |" * (4 + len(BASELINES)))
            continue
        cells = [f"{np.mean([row.covered[i] for row in made]):.0%}" for i in range(len(LEVELS))]
        cells += [f"{np.median([row.width for row in made]):.2%}", f"{np.median([abs(row.error) for row in made]):.2%}"]
        for baseline in BASELINES:
            errors = [abs(row.baselines[baseline]) for row in made if baseline in row.baselines]
            share = "" if len(errors) == len(made) else f" ({len(errors)})"
            cells.append(f"{np.median(errors):.2%}{share}" if errors else "")
        lines.append(f"| {name} | {len(chosen)} | {len(made)} | " + " | ".join(cells) + " |")
    return lines


def _reason(text: str) -> str:
    """A reason without its numbers."""
    return " ".join("N" if any(c.isdigit() for c in word) else word for word in text.split())


if __name__ == "__main__":
    sys.exit(main())
