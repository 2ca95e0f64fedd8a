"""What a comparison gives back: trials, verdict, interval, cost, and the document of `prove --json`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unstuck.json_ready import json_ready
from unstuck.prove.statistics import Judgement
from unstuck.wording import plural

Role = Literal["base", "changed"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One finished short run.

    Attributes:
        setting: `base` or `changed` ("changed" is the second copy in a placebo).
        seed: of weights and data order.
        updates: optimizer updates trained.
        val_loss: final validation loss (nats per token, relative L2), nan where the run diverged.
        untrained: loss of a model that learned nothing: before training, at least ln V.
        tokens: trained on; None where the data have none.
        examples: windows or fields trained on.
        seconds: of the whole worker process.
        reused: it was on disk from an earlier call.
    """

    setting: Role
    seed: int
    updates: int
    val_loss: float
    untrained: float
    tokens: int | None
    examples: int
    seconds: float
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a comparison will do and cost, known before it starts.

    Attributes:
        seeds: pairs planned.
        updates: optimizer updates of a base trial; `changed_updates` of a changed one (other batch, same tokens).
        planned_updates: of the whole run that the trial stands for; both settings' schedules are scaled alike.
        tokens: of one trial.
        runs: trials in all.
        workers: processes side by side, one thread each.
        seconds: expected cost of what is not on disk yet; nan where no speed is known.
        detectable: expected half width of the interval, in `unit`.
        noise: standard deviation of a pair's difference that `detectable` assumes; `noise_source` says whence.
        notes: what the reader must know about this design, one sentence each.
        unit: of the validation loss; where it is no loss per token, `tokens` counts examples.
    """

    seeds: int
    updates: int
    changed_updates: int
    planned_updates: int
    tokens: int
    runs: int
    workers: int
    seconds: float
    detectable: float
    noise: float
    noise_source: str
    notes: tuple[str, ...] = ()
    unit: str = "nats/token"

    @property
    def counted(self) -> str:
        """What training is counted in."""
        return "tokens" if self.unit == "nats/token" else "fields"

    def sentences(self) -> list[str]:
        """The plan as it is printed beforehand."""
        share = self.updates / self.planned_updates
        length = plural(self.updates, "update")
        if share == 1:
            length += " (the run's whole length)"
        else:
            length += f" ({share:.0%} of the run's {self.planned_updates}, schedules scaled alike)"
        if self.changed_updates != self.updates:
            length += f", the changed setting {plural(self.changed_updates, 'update')} for the same {self.counted}"
        cost = f"about {self.seconds:.0f} s" if math.isfinite(self.seconds) else "unknown until the first trial ends"
        lines = [
            f"{plural(self.seeds, 'seed')} x 2 settings, {self.runs} trials of {length}; {self.workers} side by side.",
            f"Cost: {cost}, {self.tokens * self.runs:,} {self.counted}.",
        ]
        if math.isfinite(self.detectable):
            lines.append(
                f"Detectable: at worst a difference of {self.detectable:.3f} {self.unit} ({self.noise_source}); "
                "it stops earlier when the answer is clear."
            )
        return [*lines, *self.notes]


@dataclass(slots=True)
class Proof:
    """A finished (or stopped) comparison. `repeats` are a placebo's second runs of a trial: cost, but no evidence."""

    judgement: Judgement
    plan: Plan
    changes: list[dict[str, Any]]
    trials: list[Trial]
    seconds: float
    placebo: dict[str, Any] | None = None
    repeats: list[Trial] = field(default_factory=list)
    records: list[tuple[Role, int, Path]] = field(default_factory=list)  # (setting, seed, metrics.jsonl) of the trials

    @property
    def verdict(self) -> str:
        return self.judgement.verdict

    def document(self) -> dict[str, Any]:
        """`prove --json` (DESIGN.md); numbers that are not finite are the strings "nan", "inf", "-inf"."""
        interval = self.judgement.interval
        document: dict[str, Any] = {
            "verdict": self.judgement.verdict,
            "difference": {
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "level": 0.95,
                "unit": self.plan.unit,
            },
            "detectable": interval.half_width,
            "changes": self.changes,
            "trials": [
                {"setting": t.setting, "seed": t.seed, "updates": t.updates, "val_loss": t.val_loss}
                for t in self.trials
            ],
            "cost": self._cost(),
        }
        if self.placebo is not None:
            document["placebo"] = self.placebo
        finite: dict[str, Any] = json_ready(document)
        return finite

    def _cost(self) -> dict[str, Any]:
        """What was spent; where there are no tokens they are null, and examples are given."""
        trials = (*self.trials, *self.repeats)
        cost: dict[str, Any] = {"seconds": round(self.seconds, 1), "tokens": None, "runs": len(trials)}
        if self.plan.counted == "tokens":
            return cost | {"tokens": sum(t.tokens or 0 for t in trials)}
        return cost | {"examples": sum(t.examples for t in trials)}

    def sentence(self) -> str:
        """Verdict and measured effect in one line."""
        interval = self.judgement.interval
        if not math.isfinite(interval.half_width):
            return f"{self.verdict}: {self.judgement.reason}"
        effect = f"{interval.mean:+.4f} {self.plan.unit}, 95 % interval {interval.low:+.4f} to {interval.high:+.4f}"
        return f"{self.verdict}: validation loss {effect} ({plural(interval.pairs, 'seed')})"
