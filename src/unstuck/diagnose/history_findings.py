"""What a history shows: directions of the learning rate, changes that cannot be told apart, ranks, repeats."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unstuck.diagnose.batch_scaling import not_followed
from unstuck.diagnose.changes import told
from unstuck.diagnose.history_order import result
from unstuck.diagnose.history_outcome import Outcome
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Evidence, Severity

if TYPE_CHECKING:
    from unstuck.diagnose.history import History, HistoryFinding, Step

RATE, RANK = "learning rate", "LoRA rank"
LEAST_RATES = 3  # two rates show a difference, three a direction
# A difference counts against a run of its own when it is this share of the loss: below it the other rate is a little
# better and this one is not sick (ours; twice what an eightfold wrong rate costs, 0.041 nats of about 2, Step Law).
LARGE = 0.05
# Rank: the gap must be a part of what the higher rank gained, open later than the start, and stay open.
LEAST_GAP = 0.05  # ours: of what the higher rank gained; less is not worth twice the adapter
START_SHARE = 0.5  # of the final gap at the first common point; adapters start as the same function (B is 0)
STAYS = 0.7  # of the widest gap over the last third: one that a low learning rate opens closes again
TIMES = ("never", "once", "twice", "three times", "four times", "five times", "six times", "seven times",
         "eight times", "nine times", "ten times")  # fmt: skip
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def findings(history: History) -> tuple[HistoryFinding, ...]:
    """All patterns, the surest first."""
    found = [*_rates_in_time(history), *_confounded(history), *_batches(history), *_ranks(history)]
    told = {frozenset(f.runs) for f in found if f.rule in ("lr-too-low", "lr-too-high")}
    found += [f for f in _rates_by_size(history) if not any(frozenset(f.runs) <= runs for runs in told)]
    return tuple(sorted(found, key=lambda f: (f.severity == "note", -f.confidence)))


def remarks(history: History) -> tuple[str, ...]:
    """Repeats of one setting, and the best run of each group."""
    return (*_repeats(history), *_best(history))


def _rate(history: History, run: int) -> float | None:
    value = history.runs[run].setting("learning_rate")
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None


def _rates_in_time(history: History) -> Iterator[HistoryFinding]:
    """Steps in a row that moved the rate the same way, and what happened each time."""
    for chain in _chains(history):
        runs = [chain[0].old, *[step.new for step in chain]]
        rates = [rate for run in runs if (rate := _rate(history, run)) is not None]
        verdicts = [step.outcome.verdict for step in chain if step.outcome is not None]
        if len(rates) != len(runs) or len(verdicts) != len(chain):
            continue
        lowered = rates[-1] < rates[0]
        worse, better = verdicts.count("worse"), verdicts.count("better")
        listed = ", ".join(number(rate) for rate in rates)
        title = f"The learning rate was {'lowered' if lowered else 'raised'} {_times(len(chain))} ({listed}); "
        title += _what_happened(verdicts)
        alike = worse + better == len(chain)
        alone = [step for step in chain if step.only == RATE]
        if bool(worse) == bool(better) or not (alike or alone):
            continue  # nothing beyond noise, or both, or only together with other changes: no direction
        yield _direction(history, runs, chain, title, lowered == bool(worse), all_alike=alike)


def _chains(history: History) -> Iterator[list[Step]]:
    """Maximal stretches of at least two steps that move the learning rate the same way."""
    chain: list[Step] = []
    for step in history.steps:
        sign = _sign(history, step)
        goes_on = bool(chain) and chain[-1].new == step.old and sign != 0 and sign == _sign(history, chain[-1])
        if not goes_on:
            if len(chain) >= LEAST_RATES - 1:
                yield chain
            chain = []
        if sign:
            chain.append(step)
    if len(chain) >= LEAST_RATES - 1:
        yield chain


def _sign(history: History, step: Step) -> int:
    old, new = _rate(history, step.old), _rate(history, step.new)
    if old is None or new is None or RATE not in step.levers:
        return 0
    return int(np.sign(new - old))


def _direction(
    history: History, runs: list[int], chain: list[Step], title: str, too_low: bool, *, all_alike: bool
) -> HistoryFinding:
    from unstuck.diagnose.history import HistoryFinding

    confounded = [step for step in chain if step.only != RATE]
    detail = ""
    if confounded:
        detail = (
            f"In {_count(len(confounded))} of the steps other settings changed as well, so this may be their effect."
        )
    ends = [step.outcome for step in chain if step.outcome is not None]
    # the last run is sick of it where it got much worse and the rate alone was changed in half of the steps or more
    got_worse = ends[-1].new - ends[0].old > LARGE * abs(ends[0].old)
    blames = runs[-1] if got_worse and 2 * len(confounded) <= len(chain) else None
    confidence = (0.9 if not confounded else 0.6) - (0.0 if all_alike else 0.2)
    facts: dict[str, object] = {"applied_lr": _rate(history, runs[-1])}
    rule = "lr-too-low" if too_low else "lr-too-high"
    severity: Severity = "note" if len(confounded) == len(chain) else "warning"
    evidence = tuple(_outcome_evidence(outcome) for outcome in ends)
    return HistoryFinding(rule, title, tuple(runs), confidence, severity, detail, blames, evidence[-3:], facts)


def _rates_by_size(history: History) -> Iterator[HistoryFinding]:
    """Runs that differ in nothing but the rate: does the result go one way with it?"""
    from unstuck.diagnose.history import HistoryFinding, step

    for group in history.groups:
        if len(group) > 100 or len(group) < LEAST_RATES:  # ours: more are a sweep with tools of its own
            continue
        first = group[0]
        alike = [first, *[run for run in group[1:] if step(history, first, run).only == RATE]]
        by_rate = sorted({rate: run for run in alike if (rate := _rate(history, run)) is not None}.items())
        if len(by_rate) < LEAST_RATES:
            continue
        steps = [step(history, a[1], b[1]) for a, b in itertools.pairwise(by_rate)]
        whole = step(history, by_rate[0][1], by_rate[-1][1]).outcome
        verdicts = [s.outcome.verdict for s in steps if s.outcome is not None]
        if whole is None or whole.verdict.startswith("no") or len(verdicts) < len(steps):
            continue
        if ("worse" if whole.verdict == "better" else "better") in verdicts:
            continue  # an optimum in between: no direction
        too_low = whole.verdict == "better"
        best, worst = (by_rate[-1], by_rate[0]) if too_low else (by_rate[0], by_rate[-1])
        listed = ", ".join(number(rate) for rate, _ in by_rate)
        title = (
            f"Of runs that differ in the learning rate only ({listed}) the result is best at {number(best[0])}, "
            f"the {'highest' if too_low else 'lowest'}: the best rate lies there or {'above' if too_low else 'below'}"
        )
        large = abs(whole.difference) > LARGE * abs(whole.old)
        facts: dict[str, object] = {"applied_lr": worst[0], "stable_lr": best[0]}
        yield HistoryFinding(
            "lr-too-low" if too_low else "lr-too-high", title, tuple(run for _, run in by_rate), 0.85, "warning", "",
            worst[1] if large else None, (_outcome_evidence(whole),), facts,
        )  # fmt: skip


def _confounded(history: History) -> Iterator[HistoryFinding]:
    from unstuck.diagnose.history import HistoryFinding

    known = [step for step in history.steps if step.changes is not None and step.levers]
    several = [step for step in known if len(step.levers) > 1]
    if not several:
        return
    counts = sorted({len(step.levers) for step in several})
    how_many = _count(counts[0]) if len(counts) == 1 else f"{_count(counts[0])} to {_count(counts[-1])}"
    every = f"all {_count(len(known))} steps" if len(known) > 1 else "the only step"
    some = f"{_count(len(several))} of the {_count(len(known))} steps"
    where = every if len(several) == len(known) else some
    title = f"{how_many.capitalize()} settings changed at once in {where}, so their effects cannot be told apart"
    most = max(several, key=lambda step: len(step.levers))
    changed = [change for changes in most.levers.values() for change in changes]
    names = f"{history.name(most.old)} to {history.name(most.new)}"
    runs = tuple(dict.fromkeys(run for step in several for run in (step.old, step.new)))
    yield HistoryFinding("changes-confounded", title, runs, 0.9, "warning", f"From {names}: {told(changed)}.")


def _batches(history: History) -> Iterator[HistoryFinding]:
    from unstuck.diagnose.history import HistoryFinding

    for step in history.steps:
        old, new = history.runs[step.old], history.runs[step.new]
        found = not_followed(old.settings, new.settings) if step.changes is not None else None
        if found is None:
            continue
        moved = "stayed" if found.kept else f"went to {number(found.new_lr)} from"
        title = (
            f"From {history.name(step.old)} to {history.name(step.new)} the effective batch went from "
            f"{found.old_batch:,.0f} to {found.new_batch:,.0f} and the learning rate {moved} {number(found.old_lr)}"
        )
        alone = step.levers.keys() <= {"batch", RATE}
        worse = alone and step.outcome is not None and step.outcome.verdict == "worse"
        detail = f"{found.rule}: {number(found.old_lr)} becomes {number(float(f'{found.asked:.2g}'))}."
        facts: dict[str, object] = {"asked_lr": found.asked, "applied_lr": found.new_lr}
        evidence = (_outcome_evidence(step.outcome),) if step.outcome is not None else ()
        yield HistoryFinding(
            "batch-changed-lr-kept", title, (step.old, step.new), 0.7 if worse else 0.5,
            "warning" if worse else "note", detail, None, evidence, facts,
        )  # fmt: skip


def _ranks(history: History) -> Iterator[HistoryFinding]:
    """Pairs that differ in the LoRA rank only, of which the lower one breaks away."""
    from unstuck.diagnose.history import HistoryFinding, step

    for group in history.groups:
        adapters = [run for run in group if history.runs[run].setting("lora_rank")][:50]  # ours: 1,225 pairs
        worst: dict[int, HistoryFinding] = {}
        for a, b in itertools.combinations(adapters, 2):
            low, high = sorted((a, b), key=lambda run: int(history.runs[run].setting("lora_rank") or 0))
            between = step(history, high, low)
            if between.only != RANK or between.outcome is None or between.outcome.verdict != "worse":
                continue
            away = _break_away(history, low, high, between.outcome)
            if away is None:
                continue
            outcome, ranks = between.outcome, [history.runs[run].setting("lora_rank") for run in (low, high)]
            title = (
                f"LoRA rank {ranks[0]} tracks rank {ranks[1]} until about update {away:,} and then stays behind: "
                f"{outcome.new:.4g} against {outcome.old:.4g} at update {outcome.update:,}, with nothing else changed"
            )
            gap = HistoryFinding(
                "lora-capacity-low", title, (low, high), 0.85, "warning", "", low, (_outcome_evidence(outcome),),
                {"lora_rank": ranks[0], "enough": ranks[1]},
            )  # fmt: skip
            worst.setdefault(low, gap)
        yield from worst.values()


def _break_away(history: History, low: int, high: int, outcome: Outcome) -> int | None:
    """The update at which the lower rank leaves the higher one for good; None where it does not."""
    name = "train/loss"
    a, b = result(history.runs[low], name), result(history.runs[high], name)
    if a is None or b is None:
        name = "val/loss"
        a, b = result(history.runs[low], name), result(history.runs[high], name)
    if a is None or b is None:
        return None
    updates, i, j = np.intersect1d(a.updates, b.updates, return_indices=True)
    if len(updates) < 3:
        return None
    gap = a.values[i] - b.values[j]
    third = max(1, len(gap) // 3)
    widest = float(np.max(np.convolve(gap, np.ones(third) / third, mode="valid")))
    final, gained = float(gap[-third:].mean()), float(b.values[j][0] - b.values[j].min())
    if outcome.difference < LEAST_GAP * gained or final < STAYS * widest or abs(gap[0]) > START_SHARE * final:
        return None
    near = np.flatnonzero(gap < 0.5 * final)
    return int(updates[near[-1]]) if len(near) and near[-1] < len(gap) - third else int(updates[0])


def _repeats(history: History) -> Iterator[str]:
    from unstuck.diagnose.history import repeat_difference, step

    for group in history.groups:
        for old, new in itertools.pairwise(group):
            if repeat_difference(history.runs[old], history.runs[new]) is None:
                continue
            outcome = step(history, old, new).outcome
            if outcome is not None:
                yield (
                    f"The same settings gave {outcome.old:.4g} ({history.name(old)}) and {outcome.new:.4g} "
                    f"({history.name(new)}): another seed moves the result by at least {abs(outcome.difference):.2g}."
                )


def _best(history: History) -> Iterator[str]:
    for group in history.groups:
        values = [(float(s.values.min()), run, s) for run in group if (s := result(history.runs[run], "val/loss"))]
        if len(values) < 2:
            continue
        best, run, series = min(values, key=lambda entry: entry[0])
        update = int(series.updates[int(series.values.argmin())])
        yield f"Lowest validation loss: {best:.4g} at update {update:,} in {history.name(run)}."


def _outcome_evidence(outcome: Outcome) -> Evidence:
    statistic = f"difference at update {outcome.update:,}, {outcome.new:.4g} against {outcome.old:.4g}"
    span = (outcome.update, outcome.update)
    return Evidence(outcome.series, span, statistic, outcome.difference, outcome.limit, outcome.source)


def _what_happened(verdicts: Sequence[str]) -> str:
    if len(set(verdicts)) == 1:
        same = {"worse": "the result got worse", "better": "the result got better"}
        return f"each time {same.get(verdicts[0], 'nothing changed beyond noise')}"
    said = []
    for verdict, words in (("worse", "got worse"), ("better", "got better"), ("no", "did not change beyond noise")):
        count = sum(v.startswith(verdict) for v in verdicts)
        if count:
            said.append(f"{words} {_times(count)}")
    return "the result " + ", ".join(said)


def _times(count: int) -> str:
    return TIMES[count] if count < len(TIMES) else f"{count} times"


def _count(count: int) -> str:
    return COUNTS[count] if count < len(COUNTS) else str(count)
