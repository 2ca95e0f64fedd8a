"""Derived values: what the recipe comes to in updates and tokens, each with its reason. No torch in here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from unstuck.config.schema import Config, ScheduleConfig
from unstuck.errors import UserError
from unstuck.train import faults, schedules
from unstuck.wording import plural

# Step Law, arXiv 2503.04715: peak learning rate of AdamW pretraining, N parameters without embeddings, D tokens.
STEP_LAW_SCALE, STEP_LAW_N, STEP_LAW_D = 1.79, -0.713, 0.307
# The smallest model it was checked on within a factor of 2 (shared/PERFORMANCE.md): 46M.
STEP_LAW_FROM_PARAMETERS = 46e6


@dataclass(frozen=True, slots=True)
class Derived:
    """One derived value and why it is what it is."""

    name: str
    value: Any
    reason: str


@dataclass(slots=True)
class Plan:
    """What a run is going to do. `notes`: what of its schedule it will not come to, one sentence each."""

    updates: int
    warmup_updates: int
    horizon_updates: int
    tokens_per_update: int | None
    derived: list[Derived] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def values(self) -> dict[str, Any]:
        """Name -> value, as stored in the run."""
        return {entry.name: entry.value for entry in self.derived}

    def reasons(self) -> dict[str, str]:
        """Name -> reason, as stored in the run."""
        return {entry.name: entry.reason for entry in self.derived}

    def lines(self) -> list[str]:
        """The table printed at the start, one line per value."""
        width = max((len(entry.name) for entry in self.derived), default=0)
        values = [_shown(entry.value) for entry in self.derived]
        value_width = max((len(v) for v in values), default=0)
        return [
            f"{entry.name.replace('_', ' '):<{width}}  {value:>{value_width}}  {entry.reason}"
            for entry, value in zip(self.derived, values, strict=True)
        ]


def make_plan(
    config: Config,
    *,
    examples: int,
    example: str,
    tokens_per_example: int | None,
    vocabulary: int | None,
    parameters: int,
    embedding_parameters: int,
    groups: Mapping[str, Mapping[str, Any]],
    machine: Mapping[str, tuple[Any, str]],
    processes: int = 1,
) -> Plan:
    """Derive everything that follows from the recipe and the data.

    Args:
        config: the recipe.
        examples: training examples in one epoch.
        example: what they are called: "window", "field".
        tokens_per_example: target tokens of each; None where that is not fixed.
        vocabulary: number of token ids; None without text.
        parameters: trainable parameters.
        embedding_parameters: those of them in embeddings and head (the scaling laws leave them out).
        groups: name -> algorithm, base_lr, lr_factor, parameters.
        machine: name -> (choice, reason) of `machine.choose`.
        processes: that train together, each with the batch size of the recipe.

    Raises:
        UserError: the training data is smaller than one update.
    """
    training = config.training
    batch = training.batch_size * training.accumulation * processes
    times = f" x {processes} processes" if processes > 1 else ""
    if batch > examples:
        parts = f" with accumulation {training.accumulation}" if 1 < training.accumulation <= examples else ""
        alone = " training.accumulation=1" if training.accumulation * processes > examples else ""
        largest = max(1, examples // processes // (1 if alone else training.accumulation))
        raise UserError(
            f"One update of batch_size {training.batch_size} x accumulation {training.accumulation}{times} is "
            f"{plural(batch, example)}, and the training data has {examples:,}. The largest batch{parts} is: "
            f"training.batch_size={largest}{alone}"
        )
    tokens = None if tokens_per_example is None else batch * tokens_per_example
    per_epoch = examples / batch
    updates = training.updates or max(1, round((training.epochs or 0.0) * per_epoch))
    schedule = faults.schedule_of(config)
    plan = Plan(updates, schedules.warmup_updates(schedule, updates), schedules.horizon(schedule, updates), tokens)
    add = plan.derived.append

    if training.tokens_per_update is not None:
        why = f"tokens_per_update {training.tokens_per_update:,} / (batch_size {training.batch_size}{times} x context)"
        add(Derived("accumulation", training.accumulation, why))
    add(Derived("effective_batch", batch, f"{example}s: batch_size {training.batch_size} x accumulation "
                                            f"{training.accumulation}{times}"))  # fmt: skip
    if tokens is not None:
        add(Derived("tokens_per_update", tokens, f"effective batch {batch} x {tokens_per_example} tokens"))
    add(Derived("updates_per_epoch", round(per_epoch, 2), f"{plural(examples, example)} / effective batch {batch}"))
    why = (
        "training.updates"
        if training.updates
        else f"{plural(training.epochs or 0, 'epoch')} x {per_epoch:,.1f} updates"
    )
    add(Derived("updates", updates, why))
    add(Derived("epochs", round(updates / per_epoch, 3), f"{plural(updates, 'update')} / {per_epoch:,.1f} per epoch"))
    if tokens is not None:
        add(Derived("tokens", updates * tokens, f"{plural(updates, 'update')} x {tokens} tokens"))
    add(_warmup(config, plan))
    own = "schedule.horizon_updates" if config.schedule.horizon_updates else "all planned updates"
    add(Derived("horizon_updates", plan.horizon_updates, own))
    if vocabulary is not None:
        add(Derived("vocabulary", vocabulary, f"the {getattr(config.data, 'tokenizer', '')} tokenizer's"))
    add(Derived("parameters", parameters, f"{embedding_parameters:,} of them in embeddings and head"))
    for name, group in groups.items():
        factor = f", lr_factor {group['lr_factor']:g}" if group.get("lr_factor", 1.0) != 1.0 else ""
        add(Derived(f"parameters/{name}", int(group["parameters"]),
                    f"{group['algorithm']}, peak LR {group['base_lr']:g}{factor}"))  # fmt: skip
    if tokens is not None and config.start_from is None and config.model.architecture != "pretrained":
        add(_published_scale(config, parameters - embedding_parameters, updates * tokens))
    for name, (value, reason) in machine.items():
        add(Derived(name, value, reason))
    plan.notes += _not_reached(config, schedule, plan)
    return plan


def _warmup(config: Config, plan: Plan) -> Derived:
    schedule = config.schedule
    if schedule.warmup_updates is not None:
        reason = "schedule.warmup_updates"
    elif schedule.warmup_share:
        reason = f"warmup_share {schedule.warmup_share:g} of the horizon {plan.horizon_updates}"
    else:
        reason = "no warm-up is asked for"
    return Derived("warmup_updates", plan.warmup_updates, reason)


def _not_reached(config: Config, schedule: ScheduleConfig, plan: Plan) -> Iterator[str]:
    """What the schedule has in store only after the run's end; a change of the number of updates alone can do that."""
    updates, warmup, span = plan.updates, plan.warmup_updates, plan.horizon_updates
    counted = schedule.warmup_updates is not None
    if warmup > 1 and warmup >= updates:
        fits = f"schedule.warmup_updates={updates // 10}" if counted else "schedule.horizon_updates=null"
        yield (
            f"The warm-up of {warmup:,} updates fills the run of {updates:,}, which ends at "
            f"{100 * updates / warmup:.3g} % of its learning rate; to reach it, train longer or set {fits}."
        )
    elif schedule.kind == "wsd" and span > updates <= (begin := schedules.decay_from(schedule, updates)) + 1:
        yield (
            f"The decay of schedule.kind=wsd begins behind update {begin:,} of a horizon of {span:,}, and the run has "
            f"{updates:,}: its learning rate stays at the peak; to let it fall, set schedule.horizon_updates=null."
        )
    elif schedule.kind == "plateau":
        evaluations = math.ceil(updates / config.evaluation.every_updates)
        # the first is a best, and one more than `patience` must bring no better
        if evaluations < schedule.patience + 2:
            yield (
                f"With {plural(evaluations, 'evaluation')} and schedule.patience={schedule.patience} this run cannot "
                "lower its learning rate; to let it, set a smaller evaluation.every_updates or schedule.patience."
            )


def step_law(parameters: int, tokens: int) -> float:
    """Published peak LR of AdamW pretraining: 1.79 N^-0.713 D^0.307 (arXiv 2503.04715), N without embeddings."""
    return float(STEP_LAW_SCALE * max(1, parameters) ** STEP_LAW_N * tokens**STEP_LAW_D)


def _published_scale(config: Config, parameters: int, tokens: int) -> Derived:
    scale = step_law(parameters, tokens)
    valid = "" if parameters >= STEP_LAW_FROM_PARAMETERS else "; unproven below 46M"
    reason = f"for AdamW: 1.79 x {parameters:,}^-0.713 x {tokens:,}^0.307 (arXiv 2503.04715{valid})"
    if config.optimizer.kind == "muon":
        reason += "; Muon's own scale is 0.02-0.05"
    return Derived("published_lr_scale", float(f"{scale:.3g}"), reason)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
