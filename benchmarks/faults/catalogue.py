"""The faults: what each changes, by how much, what should be named for it, and when it had its effect.

Sizes are drawn from ranges that real projects have (the incidents of the project, and the labelled logs' chronicles);
the ranges are ours. `expected`: any of these at rank 1 is the root cause; `accepted`: true of such a run as well, a
consequence or a lesser name. Every other error or warning is wrong.

`needs`: "log" (the log alone shows it), "config" (with the configuration beside it), "pair" (only beside the twin's
log) or "model" (no log shows it). `effect`: how it is measured whether the fault did anything, see `effect.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.faults.settings import Setup
from benchmarks.faults.trainers.styles import DATA_TIME, NORM, STEP_TIME, STEPS

Applied = tuple[Setup, dict[str, Any]] | None

# True of many a run that does not learn as it should: never wrong beside its cause.
STUCK = ("loss-plateau", "loss-at-chance")
UNSTABLE = ("loss-spike", "loss-diverged", "loss-oscillating", "gradient-exploding", "loss-not-finite", "loss-plateau",
            "loss-at-chance", "best-checkpoint-passed", "clip-saturated")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault.

    Attributes:
        apply: the setup with the fault in it, and its size; None where it makes no sense there.
        shows: what the log must show for it ("grad_norm", "data_time" ...).
        kinds: kinds of problem that it exists for.
        trainers: trainers that can have it.
        text_only: visible in the printed log and not in a table of numbers.
    """

    name: str
    expected: tuple[str, ...]
    accepted: tuple[str, ...]
    apply: Callable[[Random, Setup], Applied]
    needs: str = "log"
    effect: str = "loss"
    shows: frozenset[str] = frozenset()
    kinds: tuple[str, ...] = ("tokens", "classes", "fields")
    trainers: tuple[str, ...] = ("loop", "transformers", "unstuck")
    text_only: bool = False


def log_uniform(rng: Random, low: float, high: float) -> float:
    """Uniform in the logarithm, to two digits."""
    return float(f"{low * (high / low) ** rng.random():.2g}")


def scaled_rate(low: float, high: float) -> Callable[[Random, Setup], Applied]:
    """The learning rate times a factor of the range."""

    def apply(rng: Random, setup: Setup) -> Applied:
        factor = log_uniform(rng, low, high)
        rate = float(f"{setup.settings.learning_rate * factor:.2g}")
        return setup.but(learning_rate=rate), {"factor": factor}

    return apply


def lr_too_high(rng: Random, setup: Setup) -> Applied:
    # SGD has its edge a few times above a good rate; Adam's normed steps bear more
    return scaled_rate(*((5.0, 30.0) if setup.settings.optimizer == "sgd" else (10.0, 100.0)))(rng, setup)


def warmup_missing(rng: Random, setup: Setup) -> Applied:
    if setup.settings.model.get("norm") != "post" or not setup.settings.warmup:
        return None
    factor = log_uniform(rng, 1.2, 1.8)
    return setup.but(warmup=0, learning_rate=setup.settings.learning_rate * factor), {"factor": factor}


def warmup_cast(rng: Random, setup: Setup) -> Applied:
    if setup.settings.model.get("norm") != "post" or not setup.settings.warmup:
        return None
    factor = log_uniform(rng, 1.2, 1.8)
    changed = setup.but(warmup_as_share=True, warmup_cast=True, learning_rate=setup.settings.learning_rate * factor)
    return changed, {"factor": factor}


def warmup_too_long(rng: Random, setup: Setup) -> Applied:
    share = round(rng.uniform(0.6, 1.5), 2)
    return setup.but(warmup=round(share * setup.settings.updates), warmup_as_share=False), {"share": share}


def accumulated(rng: Random, setup: Setup) -> tuple[Setup, int]:
    """The same samples per update in at least two micro-batches."""
    settings = setup.settings
    total = settings.batch_size * settings.accumulation
    count = rng.choice([n for n in (2, 4, 8) if total % n == 0 and total // n >= 1] or [1])
    return setup.but(batch_size=total // count, accumulation=count), count


def decaying(setup: Setup) -> bool:
    return setup.settings.schedule in ("cosine", "linear", "wsd")


def horizon_in_micro_batches(rng: Random, setup: Setup) -> Applied:
    changed, count = accumulated(rng, setup)
    if count < 2 or not decaying(setup):
        return None
    return changed.but(horizon_factor=float(count)), {"accumulation": count}


def stepped_per_micro_batch(rng: Random, setup: Setup) -> Applied:
    changed, count = accumulated(rng, setup)
    if count < 2 or not decaying(setup):
        return None
    return changed.but(steps_per_update=count), {"accumulation": count}


def schedule_constant(rng: Random, setup: Setup) -> Applied:
    """At a rate that is right where it is annealed and too coarse for the end where it is not."""
    factor = log_uniform(rng, 1.5, 3.0)
    return setup.but(schedule="constant", learning_rate=setup.settings.learning_rate * factor), {"factor": factor}


def restarts_unplanned(rng: Random, setup: Setup) -> Applied:
    if setup.settings.schedule != "cosine":
        return None
    share = round(rng.uniform(0.35, 0.65), 2)
    return setup.but(mirrored=True, horizon_factor=share), {"share": share}


def plateau_idle(rng: Random, setup: Setup) -> Applied:
    evaluations = setup.settings.updates // setup.settings.eval_every
    patience = evaluations + rng.randint(0, 20)
    factor = log_uniform(rng, 1.5, 3.0)
    rate = setup.settings.learning_rate * factor
    return setup.but(schedule="plateau", patience=patience, warmup=0, learning_rate=rate), {"patience": patience}


def resume_point(rng: Random, setup: Setup) -> int:
    """An update with a checkpoint: a multiple of the evaluations, past the middle."""
    every = setup.settings.eval_every
    return every * round(rng.uniform(0.5, 0.8) * setup.settings.updates / every)


def lr_jump_at_resume(rng: Random, setup: Setup) -> Applied:
    if not decaying(setup):
        return None
    at = resume_point(rng, setup)
    return setup.but(resume_at=at, schedule_anew=True), {"at": at}


def stale_rate_at_resume(rng: Random, setup: Setup) -> Applied:
    at = resume_point(rng, setup)
    factor = rng.choice((0.1, 0.2, 0.3))
    changed = setup.but(
        resume_at=at, resume_learning_rate=float(f"{setup.settings.learning_rate * factor:.2g}"), stale_rate=True
    )
    return changed, {"at": at, "factor": factor}


def group_starved(rng: Random, setup: Setup) -> Applied:
    factor = log_uniform(rng, 0.001, 0.02)
    return setup.but(group_factors={"body": factor, "head": 1.0}), {"factor": factor}


def clip_too_low(rng: Random, setup: Setup) -> Applied:
    if setup.settings.optimizer != "sgd":  # Adam divides by the size of the gradient: a small limit does nothing
        return None
    limit = log_uniform(rng, 0.002, 0.02)
    return setup.but(clip_norm=limit), {"clip": limit}


def clip_never_active(rng: Random, setup: Setup) -> Applied:
    limit = rng.choice((100.0, 500.0, 1000.0))
    changed = lr_too_high(rng, setup)
    return None if changed is None else (changed[0].but(clip_norm=limit), {"clip": limit, **changed[1]})


def bad_samples(rng: Random, setup: Setup) -> Applied:
    """So many that the first comes after about a tenth to a third of the run."""
    count = rng.choice((3, 5, 8))
    return setup.but(bad_samples=count), {"samples": count}


def half_overflow(rng: Random, setup: Setup) -> Applied:
    """A loss scale that grows as torch's GradScaler lets it, in an update that goes on where that would skip."""
    every = max(2, setup.settings.updates // rng.randint(20, 40))
    return setup.but(scale_growth=every, precision="float16"), {"every": every}


def zero_by_filter(rng: Random, setup: Setup) -> Applied:
    """Weights that are not numbers, and a filter (`nan_to_num`; transformers' own, on by default) before the log."""
    changed = half_overflow(rng, setup) if setup.trainer == "loop" else bad_samples(rng, setup)
    return None if changed is None else (changed[0].but(nan_filter=True), changed[1])


def with_bug(**bugs: Any) -> Callable[[Random, Setup], Applied]:
    def apply(rng: Random, setup: Setup) -> Applied:
        return setup.but(**bugs), {}

    return apply


def validation_trained(rng: Random, setup: Setup) -> Applied:
    """A small text, of which the validation part is in the training part as well."""
    count = setup.settings.data["few_samples"] // rng.choice((2, 4))
    return setup.but(validation="trained", data={"train_samples": count, "val_samples": count // 2}), {"samples": count}


def validation_small(rng: Random, setup: Setup) -> Applied:
    few = setup.settings.data["few_validation"]
    count = rng.randint(max(2, few // 2), few)
    return setup.but(data={"val_samples": count}), {"samples": count}


def smoothing(rng: Random, setup: Setup) -> Applied:
    amount = rng.choice((0.1, 0.15, 0.2))
    return setup.but(label_smoothing=amount), {"smoothing": amount}


def loss_divided(rng: Random, setup: Setup) -> Applied:
    """Printed after it was divided for the backward pass, or summed over micro-batches and never divided."""
    changed, count = accumulated(rng, setup)
    if count < 2:
        return None
    divisor = float(count) if rng.random() < 0.5 else 1.0 / count
    return changed.but(loss_divisor=divisor), {"divisor": divisor}


def overfitting(rng: Random, setup: Setup) -> Applied:
    count = setup.settings.data["few_samples"] * rng.choice((1, 2))
    return setup.but(data={"train_samples": count}, dropout=0.0, weight_decay=0.0), {"samples": count}


def undertrained(rng: Random, setup: Setup) -> Applied:
    """Planned far too short with a rate that does not fall, or ended long before the plan (the job's time was up)."""
    planned = setup.settings.updates
    updates = max(40, round(rng.uniform(0.1, 0.2) * planned))
    finer = {"eval_every": max(5, updates // 6), "log_every": min(setup.settings.log_every, 2)}
    if setup.trainer == "transformers" or rng.random() < 0.5:
        warmup = round(setup.settings.warmup * updates / planned)
        return setup.but(updates=updates, schedule="constant", warmup=warmup, **finer), {"updates": updates}
    return setup.but(stop_at=updates, **finer), {"updates": updates, "planned": planned}


def batch_small(rng: Random, setup: Setup) -> Applied:
    return setup.but(batch_size=1, accumulation=1), {"batch": 1}


def data_bound(rng: Random, setup: Setup) -> Applied:
    wait = round(rng.uniform(0.03, 0.15), 3)  # seconds; an update of these models takes 5 to 20 ms
    return setup.but(wait=wait), {"wait": wait}


def slows_down(rng: Random, setup: Setup) -> Applied:
    share = round(rng.uniform(1.0, 4.0), 1)
    return setup.but(slowdown=share), {"share": share}


def out_of_memory(rng: Random, setup: Setup) -> Applied:
    at = round(rng.uniform(0.3, 0.8) * setup.settings.updates)
    return setup.but(memory_at=at), {"at": at}


def unshuffled(rng: Random, setup: Setup) -> Applied:
    return setup.but(shuffle=False), {}


def vanishing(rng: Random, setup: Setup) -> Applied:
    layers = rng.randint(6, 9)
    return setup.but(model={"layers": layers, "activation": "sigmoid"}), {"layers": layers}


def lora_rank_low(rng: Random, setup: Setup) -> Applied:
    if "lora_rank" not in setup.settings.model:
        return None
    return setup.but(model={"lora_rank": 1}), {"rank": 1}


def decayed_norms(rng: Random, setup: Setup) -> Applied:
    amount = rng.choice((0.3, 0.5, 1.0))
    return setup.but(weight_decay=amount, model={"decay_norms": True}), {"weight_decay": amount}


FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("lr-too-high", ("lr-too-high",), (*UNSTABLE, "warmup-missing", "lr-not-as-configured",
              "gradient-noise-dominates", "gradient-vanishing"), lr_too_high),  # too large a step kills units
        Fault("lr-too-low", ("lr-too-low",), (*STUCK, "undertrained", "gradient-vanishing"),
              scaled_rate(1 / 300, 1 / 30)),
        Fault("warmup-missing", ("warmup-missing", "lr-too-high"), (*UNSTABLE, "gradient-vanishing"), warmup_missing),
        Fault("warmup-cast", ("warmup-missing", "setting-truncated", "lr-not-as-configured"),
              (*UNSTABLE, "lr-too-high", "gradient-vanishing"), warmup_cast, needs="config",
              trainers=("loop", "unstuck")),
        Fault("warmup-too-long", ("warmup-too-long",), (*STUCK, "undertrained", "lr-too-low",
              "schedule-wrong-horizon", "arithmetic-contradiction"), warmup_too_long),
        Fault("horizon-in-micro-batches", ("schedule-wrong-horizon", "lr-not-as-configured"),
              ("arithmetic-contradiction", "schedule-constant", "undertrained", "lr-too-high",
               "loss-plateau"), horizon_in_micro_batches, needs="config", trainers=("loop", "unstuck")),
        Fault("stepped-per-micro-batch", ("schedule-wrong-horizon",),
              ("lr-not-as-configured", "arithmetic-contradiction", "undertrained", "lr-too-low", *STUCK),
              stepped_per_micro_batch, trainers=("loop", "unstuck")),
        Fault("schedule-constant", ("schedule-constant", "loss-plateau"),
              ("lr-too-high", "gradient-noise-dominates", "loss-oscillating", "undertrained",
               "best-checkpoint-passed"), schedule_constant),
        Fault("restarts-unplanned", ("schedule-restarts-unplanned", "schedule-wrong-horizon"),
              ("lr-not-as-configured", "loss-plateau", "loss-spike", "best-checkpoint-passed", "lr-too-high"),
              restarts_unplanned, trainers=("loop",)),
        Fault("plateau-idle", ("plateau-scheduler-idle",),
              ("schedule-constant", "loss-plateau", "lr-too-high", "gradient-noise-dominates", "loss-oscillating",
               "undertrained", "best-checkpoint-passed"), plateau_idle, needs="config"),
        Fault("lr-jump-at-resume", ("lr-jumps-on-resume", "schedule-restarts-unplanned"),
              ("schedule-wrong-horizon", "lr-not-as-configured", "loss-spike",
               "lr-too-high", "warmup-missing", "loss-plateau"), lr_jump_at_resume,
              effect="jump", trainers=("loop", "unstuck")),
        Fault("stale-rate-at-resume", ("lr-stale-after-resume", "lr-not-as-configured"),
              ("schedule-constant", "arithmetic-contradiction", "loss-plateau"),
              stale_rate_at_resume, needs="config", effect="fact", trainers=("loop", "unstuck")),
        Fault("group-starved", ("lr-group-starved",),
              (*STUCK, "lr-too-low", "undertrained", "lr-not-as-configured"), group_starved,
              trainers=("loop", "unstuck")),
        Fault("clip-too-low", ("clip-saturated",), (*STUCK, "lr-too-low", "undertrained"), clip_too_low,
              shows=frozenset({NORM})),
        Fault("clip-never-active", ("clip-never-active", "lr-too-high", "gradient-exploding"),
              (*UNSTABLE, "warmup-missing", "gradient-noise-dominates", "gradient-vanishing"), clip_never_active,
              needs="config",
              shows=frozenset({NORM})),
        Fault("bad-samples", ("loss-not-finite",), ("gradient-exploding", "loss-diverged", "best-checkpoint-passed"),
              bad_samples, effect="finite", trainers=("loop", "transformers")),
        Fault("half-overflow", ("loss-not-finite",),
              ("gradient-exploding", "loss-diverged", "best-checkpoint-passed", "lr-too-high"), half_overflow,
              effect="finite", trainers=("loop",)),
        Fault("zero-by-filter", ("loss-zero-by-filter", "loss-not-finite"),
              ("gradient-exploding", "loss-diverged", "best-checkpoint-passed",
               "loss-implausibly-low"), zero_by_filter, effect="finite", trainers=("loop", "transformers")),
        Fault("targets-visible", ("loss-implausibly-low", "labels-misaligned"),
              ("validation-shifted", "initial-loss-implausible"), with_bug(targets="visible"), effect="low",
              kinds=("tokens",), trainers=("loop", "transformers")),
        Fault("targets-shifted", ("initial-loss-implausible", "labels-misaligned"), (*STUCK, "lr-too-low"),
              with_bug(targets="shifted"), needs="config", kinds=("tokens",), trainers=("loop", "transformers")),
        Fault("targets-permuted", ("loss-at-chance", "labels-misaligned", "loss-plateau"),
              ("overfitting", "lr-too-low", "gradient-noise-dominates", "best-checkpoint-passed", "undertrained"),
              with_bug(targets="permuted"), kinds=("tokens", "fields"), trainers=("loop", "transformers")),
        Fault("labels-permuted", ("loss-at-chance", "labels-misaligned"),
              ("overfitting", "loss-plateau", "lr-too-low", "gradient-noise-dominates", "best-checkpoint-passed"),
              with_bug(targets="permuted"), needs="config", kinds=("classes",), trainers=("loop", "transformers")),
        Fault("validation-trained", ("loss-implausibly-low", "splits-overlap"), ("validation-noisy",),
              validation_trained, effect="low", kinds=("tokens",), trainers=("loop", "transformers")),
        Fault("validation-shifted", ("validation-shifted",),
              ("validation-noisy", "best-checkpoint-passed", "loss-plateau", "overfitting"),
              with_bug(validation="shifted"), effect="report", trainers=("loop", "transformers")),
        Fault("validation-small", ("validation-noisy",),
              ("validation-shifted", "best-checkpoint-passed", "loss-spike", "loss-oscillating", "loss-plateau"),
              validation_small, needs="config", effect="noise"),
        Fault("smoothing", ("loss-floored-by-smoothing",), ("loss-plateau", "validation-shifted"), smoothing,
              needs="config", effect="report", kinds=("tokens", "classes"), trainers=("loop", "transformers")),
        Fault("loss-summed", ("loss-not-per-token", "initial-loss-implausible"),
              (*UNSTABLE, "lr-too-high", "validation-shifted"),
              with_bug(reduction="sum"), effect="report", kinds=("tokens", "classes"),
              trainers=("loop", "transformers")),
        Fault("loss-divided", ("initial-loss-implausible", "loss-not-per-token"),
              ("validation-shifted", "loss-implausibly-low", "arithmetic-contradiction"), loss_divided,
              effect="fact", kinds=("tokens", "classes"), trainers=("loop",)),
        Fault("frozen-body", ("parameter-unmoved", "parameter-without-gradient", "lr-group-starved"),
              (*STUCK, "lr-too-low", "undertrained", "gradient-vanishing"), with_bug(frozen=True),
              needs="model", trainers=("loop", "transformers")),
        Fault("overfitting", ("overfitting", "best-checkpoint-passed"), ("validation-shifted", "schedule-constant"),
              overfitting, effect="rise"),
        Fault("undertrained", ("undertrained",), ("lr-too-low", "warmup-too-long"), undertrained,
              shows=frozenset({STEPS})),
        Fault("batch-small", ("gradient-noise-dominates",),
              (*UNSTABLE, "lr-too-high", "undertrained", "validation-noisy", "batch-changed-lr-kept",
               "clip-never-active"), batch_small,
              needs="config", shows=frozenset({STEPS})),
        Fault("data-bound", ("data-bound",), (), data_bound, effect="wait", shows=frozenset({DATA_TIME}),
              trainers=("loop",)),
        Fault("slows-down", ("throughput-falls",), (), slows_down, effect="slow", shows=frozenset({STEP_TIME}),
              trainers=("loop",)),
        Fault("out-of-memory", ("memory-exhausted",), ("undertrained",), out_of_memory, effect="ended",
              trainers=("loop",), text_only=True),
        Fault("unshuffled", ("order-unshuffled", "loss-oscillating", "loss-at-chance"),
              (*UNSTABLE, "lr-too-high", "overfitting", "gradient-noise-dominates", "validation-shifted",
               "schedule-constant"), unshuffled, needs="config", trainers=("loop", "transformers")),
        # the logs have the total norm only, which the last layers make up: what vanishes is seen in the model
        Fault("vanishing", ("gradient-vanishing",), (*STUCK, "lr-too-low", "undertrained"), vanishing,
              needs="model", shows=frozenset({NORM}), kinds=("classes", "fields"), trainers=("loop", "transformers")),
        Fault("lora-rate-like-full", ("lora-lr-like-full", "lr-too-low"), (*STUCK, "undertrained"),
              scaled_rate(1 / 100, 1 / 15), needs="config"),
        Fault("lora-rank-low", ("lora-capacity-low",), ("undertrained", "lr-too-low"), lora_rank_low, needs="pair"),
        Fault("decayed-norms", ("norm-weights-decayed",), (*STUCK, "lr-too-low"), decayed_norms, needs="config",
              trainers=("unstuck",)),
    )
}  # fmt: skip

# Two faults that can stand in one run without hiding each other; either may be named first.
PAIRS: tuple[tuple[str, str], ...] = (
    ("lr-too-low", "smoothing"),
    ("lr-too-high", "data-bound"),
    ("warmup-too-long", "validation-shifted"),
    ("overfitting", "smoothing"),
    ("group-starved", "slows-down"),
    ("schedule-constant", "validation-small"),
    ("horizon-in-micro-batches", "validation-shifted"),
    ("lr-too-low", "loss-divided"),
    ("overfitting", "lr-jump-at-resume"),
    ("clip-too-low", "validation-shifted"),
    ("lr-too-high", "smoothing"),
    ("bad-samples", "validation-shifted"),
)
