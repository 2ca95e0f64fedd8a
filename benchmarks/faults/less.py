"""How much a diagnosis needs: each run of a split with a part of its record taken away.

The faults and their labels stay the same; rows are thinned out, averaged between evaluations, or a kind of series or
the configuration is left out. What is lost beyond what nobody could know shows rules that lean on a dense log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.faults.measures import overall
from benchmarks.faults.score import give as give_section
from benchmarks.faults.scored import Scored, take
from benchmarks.faults.tables import table
from unstuck.diagnose.engine import diagnose
from unstuck.runs import Run, Series

Less = Callable[[Run], Run]


def every_nth(n: int) -> Less:
    """Of each series but the evaluations every n-th point, the first after n - 1 others: as a log every n-th time."""

    def apply(run: Run) -> Run:
        return _with(run, {name: s if _evaluated(name) else _thinned(s, n) for name, s in run.series.items()})

    return apply


def every_2nd_evaluation(run: Run) -> Run:
    return _with(run, {name: _thinned(s, 2) if _evaluated(name) else s for name, s in run.series.items()})


def per_evaluation(run: Run) -> Run:
    """One row for each evaluation: means since the one before, the last learning rate. A run without any stays."""
    val = run.get("val/loss")
    if val is None:
        return run
    kept = {}
    for name, series in run.series.items():
        kept[name] = series if _evaluated(name) else _averaged(series, val, last=name.startswith("lr/"))
    return _with(run, kept)


def without(*prefixes: str) -> Less:
    """Without the series whose names begin so."""
    return lambda run: _with(run, {n: s for n, s in run.series.items() if not n.startswith(prefixes)})


def without_settings(run: Run) -> Run:
    return replace(run, settings={}, raw_settings={})


LESS: dict[str, Less] = {
    "all of it": lambda run: run,
    "every 2nd row": every_nth(2),
    "every 4th row": every_nth(4),
    "a row per evaluation": per_evaluation,
    "every 2nd evaluation": every_2nd_evaluation,
    "no gradient norm": without("grad_norm"),
    "no learning rate": without("lr/"),
    "no validation": without("val/"),
    "no configuration": without_settings,
}


def scored_with(runs: Sequence[Scored], less: Less) -> Iterator[Scored]:
    """The runs diagnosed again with less; those that could not be read or need a twin are left out."""
    for one in runs:
        if one.run is not None and one.label.needs != "pair":
            changed = replace(one, run=less(one.run), findings=[], estimates={})
            assert changed.run is not None
            take(changed, diagnose(changed.run))
            yield changed


TITLE = "With less of the record"


def give(runs: Sequence[Scored], only: str = "", *, details: bool = False, write: bool = False) -> None:
    """Print the table, and with `write` keep it in docs/faults.md."""
    told = (
        "The development runs with rows, a kind of series or the configuration taken away; the faults stay the same, "
        "and what shows them may be gone."
    )
    give_section(f"## {TITLE}\n\n{told}\n\n{report(runs, only, details)}\n", TITLE, write)


def report(runs: Sequence[Scored], only: str = "", details: bool = False) -> str:
    """A table over all kinds of less. `details`: each fault that is found in the whole record and lost with less."""
    rows, told = [], []
    whole = {run.id: run for run in scored_with(runs, LESS["all of it"])}
    for name, less in LESS.items():
        if only in name:
            scored = list(scored_with(runs, less))
            o = overall(scored)
            rows.append([name, o.found, o.first, o.healthy_alarmed, o.faulty_wrong])
            told += [f"{name}: {line}" for run in scored for line in _lost(run, whole[run.id])]
            told += [f"{name}: {run.id} {run.view} healthy, {', '.join(run.wrong)} ALARM" for run in scored
                     if run.label.verdict == "healthy" and run.wrong]  # fmt: skip
    header = ["of the record", "fault among the first three", "a true cause at rank 1", "healthy with a false alarm",
              "faulty runs with a wrong alarm"]  # fmt: skip
    return "\n".join([table(header, rows), *(["", *told] if details else [])])


def _lost(run: Scored, whole: Scored) -> Iterator[str]:
    if run.label.verdict != "faulty" or run.label.needs == "model":
        return
    for expected in run.label.expected:
        if whole.found(expected) and not run.found(expected):
            said = [rule for rule, _, _ in whole.findings if rule in expected]
            abstained = [rule for rule in said if rule in run.could_not_check]
            loss = run.run.get("train/loss") if run.run else None
            yield (
                f"{run.id} {run.family} {run.view} {'+'.join(run.label.faults)}: {', '.join(said)} lost"
                f" ({len(loss) if loss else 0} rows; could not check: {', '.join(abstained) or '-'}); now "
                f"{', '.join(rule for rule, _, _ in run.findings[:3]) or 'nothing'}"
            )


def _evaluated(name: str) -> bool:
    return name.startswith("val/")


def _thinned(series: Series, n: int) -> Series:
    kept = np.zeros(len(series), dtype=bool)
    kept[n - 1 :: n] = True
    if not kept.any():
        kept[-1:] = True
    return series.where(kept)


def _averaged(series: Series, val: Series, *, last: bool) -> Series:
    ends = np.searchsorted(series.updates, val.updates, side="right")
    starts = np.concatenate([[0], ends[:-1]])
    kept = ends > starts
    pieces = [series.values[a:b] for a, b in zip(starts[kept], ends[kept], strict=True)]
    values = np.array([piece[-1] if last else piece.mean() for piece in pieces], dtype=np.float64)
    return replace(series, updates=val.updates[kept], values=values, lines=val.lines[kept])


def _with(run: Run, series: dict[str, Series]) -> Run:
    return replace(run, series={name: s for name, s in series.items() if len(s)})
