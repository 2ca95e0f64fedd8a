"""How long the trials are, what they cost, and what they will be able to show: known before they start."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from unstuck.config.schema import Config
from unstuck.config.sections.tasks import loss_unit
from unstuck.prove.pool import Done, Job, Pool
from unstuck.prove.proof import Plan
from unstuck.prove.statistics import planned_detectable
from unstuck.prove.trial import LENGTH_KEYS, Lengths, changed_updates, differences, lengths, shortened, trial_key

DEFAULT_BUDGET_SECONDS = 300.0  # assumption: what a user waits for without having said anything
PILOT_UPDATES = 12  # enough for a median step time once the first two, with their allocations, are a minority
LEAST_UPDATES = 20  # assumption: shorter trials measure the first steps, not the training
# Of the remaining budget so much is planned: speeds spread by about 10 % (PERFORMANCE.md), and a trial that is cut off
# by the budget's end is lost.
BUDGET_SHARE = 0.8

# Seed noise where nothing has been measured: standard deviation 0.0018 nats for GPT-2 124M at update 500, small models
# 5-30 times more (PERFORMANCE.md, "Noise"): the geometric middle, and sqrt(2) for a difference of two runs, as if
# sharing weights and order gave nothing.
PUBLISHED_NOISE = 0.0018 * math.sqrt(5 * 30) * math.sqrt(2)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The two settings as they were asked for, and what differs between them.

    Attributes:
        base, changed: whole recipes, unscaled; the same one twice in a placebo.
        base_lengths, changed_lengths: planned updates and tokens per update of each.
    """

    base: Config
    changed: Config
    base_lengths: Lengths
    changed_lengths: Lengths
    seeds: int
    placebo: bool

    @staticmethod
    def of(base: Config, changed: Config | None, seeds: int) -> Comparison:
        """Work out the lengths; reads the data only where a length is given in epochs."""
        other = base if changed is None else changed
        windows = [_train_windows(c) if c.training.updates is None else None for c in (base, other)]
        return Comparison(base, other, lengths(base, windows[0]), lengths(other, windows[1]), seeds, changed is None)

    def jobs(self, updates: int, folder: Path, *, fresh: bool = False) -> list[Job]:
        """All trials, pair after pair. A placebo's second setting has seeds of its own: independent noise."""
        jobs = []
        for i in range(self.seeds):
            seed = self.base.seed + i
            other = seed + self.seeds if self.placebo else seed
            jobs += [self.job("base", seed, updates, folder, fresh), self.job("changed", other, updates, folder, fresh)]
        return jobs

    def job(self, setting: str, seed: int, updates: int, folder: Path, fresh: bool = False) -> Job:
        """One trial; `updates` is the base trial's length, the changed one has the same tokens."""
        if setting == "base":
            trial = shortened(
                self.base, updates=updates, planned=self.base_lengths.planned_updates, seed=seed, folder=folder
            )
            return Job("base", seed, trial, fresh)
        trial = shortened(
            self.changed,
            updates=self.changed_updates(updates),
            planned=self.changed_lengths.planned_updates,
            seed=seed,
            folder=folder,
        )
        return Job("changed", seed, trial, fresh)

    def changed_updates(self, updates: int) -> int:
        length_changed = bool(LENGTH_KEYS & set(differences(self.base, self.changed)))
        return changed_updates(self.base_lengths, self.changed_lengths, updates, length_changed=length_changed)

    def notes(self) -> list[str]:
        """What limits this comparison, one sentence each."""
        keys = set(differences(self.base, self.changed))
        notes = []
        if LENGTH_KEYS & keys:
            notes.append("The length itself is changed, so the two settings do not train on the same amount of data.")
        if any(key.startswith("model.") for key in keys):
            notes.append("The model itself is changed, so equal seeds do not give equal initial weights.")
        return notes


def plan_for_budget(
    comparison: Comparison, pool: Pool, folder: Path, budget_seconds: float, started: float
) -> tuple[int, float]:
    """Measure the speed with a short trial of each setting side by side; (updates, expected seconds).

    The updates are those of a base trial, at most the planned run's; below LEAST_UPDATES the budget is too small.
    Kept on disk, so that the same command uses the same length and finds its finished trials again.
    """
    planned = comparison.base_lengths.planned_updates
    record = folder / f"plan-{plan_key(comparison, budget_seconds)}.json"
    if record.exists():
        kept = json.loads(record.read_text(encoding="utf-8"))
        return int(kept["updates"]), float(kept["seconds"])
    pilots = min(PILOT_UPDATES, planned)
    jobs = [
        comparison.job(setting, comparison.base.seed, pilots, folder, fresh=True) for setting in ("base", "changed")
    ]
    speeds = list(pool.run(jobs))
    rounds = math.ceil((2 * comparison.seeds + comparison.placebo) / pool.workers)
    left = (budget_seconds - (time.monotonic() - started)) * BUDGET_SHARE
    besides = max(done.seconds_besides_steps for done in speeds)
    per_update = max(_seconds_per_base_update(done, pilots) for done in speeds)
    updates = min(planned, int((left / rounds - besides) / per_update)) if per_update > 0 else planned
    seconds = rounds * (besides + max(0, updates) * per_update)
    if updates >= LEAST_UPDATES:  # a busy moment must not make the same command hopeless for ever
        record.write_text(json.dumps({"updates": updates, "seconds": round(seconds, 1)}), encoding="utf-8")
    return updates, seconds


def plan_key(comparison: Comparison, budget_seconds: float) -> str:
    """The same for the same command: recipes, seeds, budget."""
    parts = [trial_key(comparison.base), trial_key(comparison.changed), comparison.seeds, comparison.placebo]
    return hashlib.sha256(json.dumps([*parts, budget_seconds]).encode()).hexdigest()[:16]


def describe(comparison: Comparison, updates: int, *, workers: int, seconds: float, early: bool, folder: Path) -> Plan:
    """The plan with its cost and what it will be able to show."""
    noise, source = expected_noise(comparison, updates, folder)
    return Plan(
        seeds=comparison.seeds,
        updates=updates,
        changed_updates=comparison.changed_updates(updates),
        planned_updates=comparison.base_lengths.planned_updates,
        tokens=updates * comparison.base_lengths.tokens_per_update,
        runs=2 * comparison.seeds + comparison.placebo,
        workers=workers,
        seconds=seconds,
        detectable=planned_detectable(comparison.seeds, noise, early=early),
        noise=noise,
        noise_source=source,
        notes=tuple(comparison.notes()),
        unit=loss_unit(comparison.base.task),
    )


def expected_noise(comparison: Comparison, updates: int, folder: Path) -> tuple[float, str]:
    """Standard deviation to expect of a pair's difference, and where it is from.

    Three or more base trials of this length on disk are a measurement; else the published scale.
    """
    losses: list[float] = []
    seed = comparison.base.seed
    for s in range(seed, seed + 2 * comparison.seeds):
        path = folder / trial_key(comparison.job("base", s, updates, folder).config) / "result.json"
        if path.exists():
            loss = json.loads(path.read_text(encoding="utf-8"))["val_loss"]
            losses += [loss] if isinstance(loss, float) else []
    if len(losses) >= 3:
        return statistics.stdev(losses) * math.sqrt(2), f"from {len(losses)} seeds of the base already on disk"
    return PUBLISHED_NOISE, "from the published seed noise of small models; yours is measured as it runs"


def _seconds_per_base_update(done: Done, base_updates: int) -> float:
    return done.seconds_per_update * max(1, done.trial.updates) / max(1, base_updates)


def _train_windows(config: Config) -> int:
    import torch

    from unstuck.train import tasks
    from unstuck.train.tasks.task import Share

    return tasks.make(config, torch.device("cpu"), Share()).examples
