"""The readings that the learning-rate arithmetic tries: of the schedule's step, its horizon, its warm-up, the factor.

Each reading is an `Option`: a number, what it means in words, and its cost, 0 when it is as configured and about 1 for
a counting mistake that real projects made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unstuck.diagnose.expected_lr import Plan
from unstuck.wording import plural

Floats = npt.NDArray[np.float64]

# Devices tried where the log gives no world size (one node of 2, 3, 4 or 8; 16 and 32 are two and four such nodes).
ASSUMED_WORLD_SIZES = (2, 3, 4, 6, 8, 16, 32)
# Batch sizes that published linear scaling rules divide by: 256 Goyal et al. arXiv 1706.02677 (also MAE, BEiT),
# 512 DeiT arXiv 2012.12877.
REFERENCE_BATCHES = (256, 512)


@dataclass(frozen=True, slots=True)
class Option:
    """One reading of one quantity: a number, what is said about it, and what it costs (0: as configured)."""

    value: float
    says: str = ""
    cost: float = 0.0
    key: str = ""
    facts: dict[str, object] = field(default_factory=dict)


def declared(plan: Plan) -> tuple[float, ...]:
    """The group's factor, or every declared factor where the log does not name its group."""
    if plan.factor is not None:
        return (plan.factor,)
    return tuple(dict.fromkeys([1.0, *plan.factors.values()]))


def roundings(warmup: float) -> tuple[float, ...]:
    """A share of the horizon is rounded to the nearest update (ours), up (transformers) or down (int())."""
    return tuple(dict.fromkeys([float(round(warmup)), float(math.ceil(warmup)), float(math.floor(warmup)), warmup]))


def clocks(plan: Plan) -> list[tuple[Option, Option, Option]]:
    """Readings of (schedule step, horizon, warm-up), cheapest first."""
    result = [
        (steps, horizon, warmup)
        for horizon in _horizon_options(plan)
        for warmup in _warmup_options(plan, horizon)
        for steps in _step_options(plan)
    ]
    result.sort(key=lambda clock: sum(o.cost for o in clock))
    return result


def _step_options(plan: Plan) -> list[Option]:
    n, devices = plan.accumulation, plan.world_size or 1
    options = [Option(1.0)]
    if n > 1:
        options.append(Option(n, f"the schedule advanced {n} times per update, once per micro-batch", 1, "step/micro"))
        if not plan.trusted_updates:
            options.append(Option(1 / n, f"the log counts micro-batches, {n} per update", 0.5, "log/micro"))
    if devices > 1:
        options.append(
            Option(devices, f"the schedule advanced once per device, {devices} times per update", 1, "step/world")
        )
        if n > 1:
            times = n * devices
            says = f"the schedule advanced once per micro-batch and device, {times} times per update"
            options.append(Option(times, says, 1.25, "step/micro-world"))
    if plan.updates_per_epoch and plan.updates_per_epoch > 1:
        options.append(Option(1 / plan.updates_per_epoch, "the schedule advanced once per epoch", 1, "step/epoch"))
    for resumed in plan.resumed_at:
        if resumed > 0:
            options.append(
                Option(-resumed, f"the schedule began again at the resume at update {resumed:,}", 1, "step/resume")
            )
    return options


def schedule_steps(plan: Plan, option: Option, updates: Floats) -> Floats:
    """Schedule steps at each update, shape (n,)."""
    if option.key == "step/resume":
        resumed = -option.value
        return np.where(updates > resumed, updates - resumed, updates)
    if option.key == "step/epoch":
        return np.floor((updates - 1) * option.value) + 1
    return np.floor(updates * option.value + 1e-9)


def _horizon_options(plan: Plan) -> list[Option]:
    h = plan.horizon
    if not h:
        return [Option(0.0)]
    n, devices = plan.accumulation, plan.world_size or 1
    options = [Option(h)]
    if n > 1:
        says = f"the schedule advanced once per {n} micro-batches over a horizon counted in micro-batches"
        options.append(Option(h * n, says, 1, "horizon/micro"))
        options.append(Option(h / n, f"the horizon was divided by {n} though it is in updates", 1, "horizon/divided"))
    if devices > 1:
        says = f"the horizon counts the batches of all {devices} devices"
        options.append(Option(h * devices, says, 1, "horizon/world"))
        options.append(Option(h / devices, f"the horizon was divided by {devices} devices", 1, "horizon/divided-world"))
        if n > 1:
            says = f"the horizon counts the micro-batches of all {devices} devices"
            options.append(Option(h * n * devices, says, 1.25, "horizon/micro-world"))
    if plan.updates and abs(plan.updates - h) > 0.5:
        options.append(
            Option(plan.updates, "the horizon is the planned updates, not the one asked for", 1, "horizon/updates")
        )
    if plan.epochs and plan.epochs > 1 and plan.updates_per_epoch:
        options.append(Option(plan.updates_per_epoch, "the horizon is one epoch", 1, "horizon/epoch"))
        options.append(
            Option(plan.updates_per_epoch * n, "the horizon is one epoch of micro-batches", 1.25, "horizon/epoch-micro")
        )
    return [o for o in options if o.value >= 1]


def _warmup_options(plan: Plan, horizon: Option) -> list[Option]:
    share, count = plan.warmup_share, plan.warmup_updates
    if count is None and share:
        configured = share * (horizon.value or 0.0)
        options = [Option(w) for w in roundings(configured)]
        if horizon.key and plan.horizon:
            options.append(
                Option(share * plan.horizon, "the warm-up is a share of the planned updates", 0.75, "warmup/planned")
            )
        options.append(Option(0.0, f"the warm-up share {share:g} was cast to 0 updates", 1, "warmup/zero"))
        return options
    w = float(count or 0.0)
    options = [Option(w)]
    if w > 0:
        options.append(Option(0.0, f"the warm-up of {plural(round(w), 'update')} is missing", 1, "warmup/zero"))
        if plan.accumulation > 1:
            n = plan.accumulation
            options.append(Option(w * n, "the warm-up was multiplied by the accumulation", 1, "warmup/micro"))
            options.append(Option(w / n, "the warm-up was divided by the accumulation", 1, "warmup/divided"))
    return options


def factor_options(plan: Plan) -> list[Option]:
    n, devices = plan.accumulation, plan.world_size
    factors = declared(plan)
    of = {f: g for g, f in plan.factors.items()}
    named = plan.factor is not None
    options = [
        Option(
            f,
            "" if named or f == 1.0 else f"only group {of[f]} is logged",
            0 if named else 0.125,
            facts={"group": of.get(f, "")},
        )
        for f in factors
    ]
    own = plan.factor if named and plan.factor is not None else 1.0
    if named and own != 1.0:
        options.append(Option(1.0, f"the group's factor {own:g} was not applied", 1, "factor/none"))
        options.append(Option(own * own, f"the group's factor {own:g} was applied twice", 1, "factor/twice"))
    for factor, group in of.items():
        if named and factor not in (own, 1.0):
            options.append(Option(factor, f"the factor of group {group} was applied", 1, "factor/other"))
    scales: list[tuple[float, str, float, str]] = []
    if n > 1:
        scales += [
            (1 / n, f"the learning rate was divided by the accumulation {n}", 1, "scale/accumulation"),
            (float(n), f"the learning rate was multiplied by the accumulation {n}", 1, "scale/accumulation-up"),
        ]
    if devices and devices > 1:
        scales += [
            (float(devices), f"the learning rate was multiplied by {devices} devices", 1, "scale/world"),
            (1 / devices, f"the learning rate was divided by {devices} devices", 1, "scale/world-down"),
            (
                math.sqrt(devices),
                f"the learning rate was multiplied by the root of {devices} devices",
                1,
                "scale/world-root",
            ),
        ]
        if n > 1:
            scales.append(
                (
                    float(n * devices),
                    f"the learning rate was multiplied by accumulation x devices, {n} x {devices}",
                    1.25,
                    "scale/both",
                )
            )
    for old in plan.bases_before:
        if old != plan.base:
            says = f"the learning rate from before the resume, {number(old)}, came back"
            scales.append((old / plan.base, says, 1, "resume/old"))
    all_scales = [(*scale, number(scale[0])) for scale in scales] + _batch_scales(plan)
    for scale, says, cost, key, shown in all_scales:
        for f in factors:
            group = of.get(f, "")
            options.append(
                Option(
                    f * scale,
                    says,
                    cost + (0 if named else 0.125),
                    key,
                    {"group": group, "scale": scale, "shown": shown},
                )
            )
    return options


def _batch_scales(plan: Plan) -> list[tuple[float, str, float, str, str]]:
    if not plan.batch_size:
        return []
    b, n = plan.batch_size, plan.accumulation
    worlds = [(plan.world_size, 0.0)] if plan.world_size else [(1, 0.0), *((w, 0.5) for w in ASSUMED_WORLD_SIZES)]
    result: list[tuple[float, str, float, str, str]] = []
    for reference in REFERENCE_BATCHES:
        for devices, extra in worlds:
            terms = [str(b)] + ([str(n)] if n > 1 else []) + ([str(devices)] if devices and devices > 1 else [])
            batch = b * n * (devices or 1)
            on = f" ({devices} devices)" if devices and devices > 1 else ""
            says = f"the learning rate was scaled by batch / {reference}{on}"
            shown = f"{' x '.join(terms)} / {reference}"
            if batch != reference:
                less_common = 0.0 if reference == REFERENCE_BATCHES[0] else 0.25
                result.append((batch / reference, says, 1 + extra + less_common, "scale/batch", shown))
    return result


def number(value: float) -> str:
    """5e-05 as 5e-5, 0.0003 as 3e-4: as people write learning rates."""
    if value == 0 or not math.isfinite(value) or 1e-2 <= abs(value) < 1e4:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
