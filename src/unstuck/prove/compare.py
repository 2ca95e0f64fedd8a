"""The comparison: pairs of trials, a look after each pair from the second on, an end as soon as the answer is clear."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from unstuck.config.keys import ALIASES
from unstuck.config.schema import Config
from unstuck.errors import UserError
from unstuck.prove import plan as planning
from unstuck.prove.plan import Comparison
from unstuck.prove.pool import Pool, cores, gpus
from unstuck.prove.proof import Plan, Proof, Trial
from unstuck.prove.statistics import Judgement, Pair, judge, paired_interval, swapped_means
from unstuck.prove.trial import differences, trial_key
from unstuck.wording import plural

TRIALS_FOLDER = ".trials"  # in the runs folder; hidden, so that `unstuck diagnose runs/` does not read trials as runs

# What of the data and the task changes training alone. Any other change of them changes what a validation loss is
# measured on or what it means, so the two losses cannot be compared.
COMPARABLE = {
    "data.context", "data.symmetries", "data.train_trajectories", "task.rate_start", "task.start_batch_share",
    "task.long_context", "task.long_after",
}  # fmt: skip


class Observer(Protocol):
    """Hears how a comparison goes on; the command line shows it."""

    def planned(self, plan: Plan) -> None:
        """Before the first trial."""

    def progressed(self, updates: int) -> None:
        """So many updates were done since the last call, over all trials."""

    def paired(self, pair: Pair, judgement: Judgement) -> None:
        """A pair is complete; `judgement` is of all pairs so far."""


class Silent:
    """Observes nothing."""

    def planned(self, plan: Plan) -> None: ...

    def progressed(self, updates: int) -> None: ...

    def paired(self, pair: Pair, judgement: Judgement) -> None: ...


def compare(
    base: Config,
    changed: Config | None = None,
    *,
    seeds: int = 3,
    updates: int | None = None,
    budget_seconds: float | None = None,
    early: bool = True,
    overrun: float = 1.0,
    named: Sequence[str] = (),
    workers: int | None = None,
    observer: Observer | None = None,
) -> Proof:
    """Measure `changed` against `base` with paired short runs.

    Args:
        base: the recipe as it is.
        changed: the recipe to judge; None: a placebo, the base against itself under independent seeds.
        seeds: pairs planned; the recipe's own seed and the next ones.
        updates: length of a base trial; None: as long as the budget allows, at most the run's planned length.
        budget_seconds: wall time for everything; None: no limit when `updates` is given, else five minutes.
        early: look after every pair from the second on; False: one look after all pairs (narrower interval).
        overrun: trials are cut off at this multiple of the budget; above 1 where a late answer beats none.
        named: the changed keys as the user wrote them, for the answer.
        workers: trials side by side; None: one per CPU core, or one per GPU.

    Raises:
        UserError: nothing differs, the losses would not be comparable, or a trial cannot run.
        KeyboardInterrupt: after every child has been ended; finished trials stay on disk.
    """
    started = time.monotonic()
    asked = updates
    observer = observer or Silent()
    changes = _checked_changes(base, changed, named)
    base, changed = _resolved(base), None if changed is None else _resolved(changed)
    if seeds < 1 or (updates is not None and updates < 1):
        raise UserError("Seeds and updates are whole numbers from 1; try --seeds 3.")
    if updates is None and budget_seconds is None:
        budget_seconds = planning.DEFAULT_BUDGET_SECONDS
    comparison = Comparison.of(base, changed, seeds)
    folder = Path(base.runs_folder) / TRIALS_FOLDER
    devices = gpus(base)
    with Pool(folder, workers or devices or cores(), devices) as pool:
        seconds = math.nan
        if updates is None:
            budget = budget_seconds or planning.DEFAULT_BUDGET_SECONDS
            updates, seconds = planning.plan_for_budget(comparison, pool, folder, budget, started)
        updates = min(updates, comparison.base_lengths.planned_updates)
        plan = planning.describe(
            comparison, max(1, updates), workers=pool.workers, seconds=seconds, early=early, folder=folder
        )
        observer.planned(plan)
        if budget_seconds is not None and updates < min(
            planning.LEAST_UPDATES, comparison.base_lengths.planned_updates
        ):
            return _too_little(plan, changes, asked, time.monotonic() - started)
        deadline = None if budget_seconds is None else started + overrun * budget_seconds
        proof = _run(comparison, pool, plan, folder, early=early, deadline=deadline, observer=observer)
    proof.changes = changes
    proof.seconds = time.monotonic() - started
    return proof


def _resolved(config: Config) -> Config:
    """The config with what it takes over from the run it starts from."""
    if config.start_from is None and config.model.architecture != "from-start":
        return config
    from unstuck.config.recipe import Recipe
    from unstuck.train.start import resolved

    return resolved(Recipe(config, {})).config


def _run(
    comparison: Comparison,
    pool: Pool,
    plan: Plan,
    folder: Path,
    *,
    early: bool,
    deadline: float | None,
    observer: Observer,
) -> Proof:
    jobs = comparison.jobs(plan.updates, folder)
    if comparison.placebo:  # the very same trial again, in another process: must give the same loss bit for bit
        jobs.insert(2, comparison.job("base", comparison.base.seed, plan.updates, folder, fresh=True))
    trials: dict[tuple[str, int], Trial] = {}
    again: Trial | None = None
    pairs: list[Pair] = []
    judgement = judge(pairs, comparison.seeds, early=early)
    for done in pool.run(jobs, progress=observer.progressed, deadline=deadline):
        if done.job.fresh:
            again = done.trial
        else:
            trials[(done.trial.setting, done.trial.seed)] = done.trial
        # Looks are taken in the order of the seeds, not of arrival: which trial ends first must not decide.
        while not judgement.final and (pair := _pair(comparison, trials, len(pairs))) is not None:
            pairs.append(pair)
            judgement = judge(pairs, comparison.seeds, early=early)
            observer.paired(pair, judgement)
        if judgement.final and not (comparison.placebo and again is None):
            break
    used = [trials[key] for key in sorted(trials, key=lambda key: (key[1], key[0]))]
    proof = Proof(judgement, plan, [], used, 0.0)
    proof.records = [
        (job.setting, job.seed, folder / trial_key(job.config) / "run" / "metrics.jsonl")
        for job in jobs
        if not job.fresh and (job.setting, job.seed) in trials
    ]
    if comparison.placebo:
        proof.repeats = [] if again is None else [again]
        proof.placebo = _placebo(pairs, trials, comparison, again)
    return proof


def _pair(comparison: Comparison, trials: dict[tuple[str, int], Trial], i: int) -> Pair | None:
    seed = comparison.base.seed + i
    base = trials.get(("base", seed))
    changed = trials.get(("changed", seed + comparison.seeds if comparison.placebo else seed))
    if base is None or changed is None:
        return None
    return Pair(seed, base.val_loss, changed.val_loss, max(base.untrained, changed.untrained))


def _placebo(
    pairs: list[Pair], trials: dict[tuple[str, int], Trial], comparison: Comparison, again: Trial | None
) -> dict[str, Any]:
    """Repeatability, and where the mean difference lies when the two labels are exchanged within pairs."""
    first = trials.get(("base", comparison.base.seed))
    same = None if first is None or again is None else first.val_loss - again.val_loss
    means = swapped_means([pair.difference for pair in pairs])
    return {
        "repeatability": "not measured" if same is None else ("identical" if same == 0 else "not identical"),
        "repeated_difference": same,
        "label_swaps": {"low": min(means), "high": max(means), "count": len(means)} if means else None,
    }


def _checked_changes(base: Config, changed: Config | None, named: Sequence[str]) -> list[dict[str, Any]]:
    if changed is None:
        return []
    changes = differences(base, changed)
    if not changes:
        raise UserError(
            "The changed recipe is the same as the base, so there is nothing to measure; give another value, or "
            "--placebo to compare a recipe with itself."
        )
    bad = [key for key in changes if key.startswith(("data.", "task.")) and key not in COMPARABLE]
    bad += ["evaluation.max_tokens"] * ("evaluation.max_tokens" in changes)
    if bad:
        raise UserError(
            f"A change of {bad[0]} changes what the validation loss is measured on, so the two losses cannot be "
            "compared; change it in the recipe of both sides instead."
        )

    spelled = {key: name for name in named for key in changes if key == name or key.endswith("." + name)}
    spelled |= {ALIASES[name]: name for name in named if name in ALIASES}
    return [{"key": spelled.get(key, key), "old": old, "new": new} for key, (old, new) in changes.items()]


def _too_little(plan: Plan, changes: list[dict[str, Any]], asked: int | None, seconds: float) -> Proof:
    """The answer when trials would be too short; `asked`: updates of a trial that the user gave."""
    if asked is not None and asked < planning.LEAST_UPDATES:
        reason = (
            f"trials of {plural(asked, 'update')} measure the first steps only; give --updates "
            f"{planning.LEAST_UPDATES} or more"
        )
    else:
        reason = (
            f"the budget allows {plural(max(0, plan.updates), 'update')} a trial, fewer than {planning.LEAST_UPDATES}; "
            "give a larger --budget or fewer --seeds"
        )
    nothing = Judgement("cannot tell within the budget", paired_interval([], 0.05), True, reason)
    return Proof(nothing, plan, changes, [], seconds)
