"""Which counting mistake turns the configured learning rate into the logged one, to its printed digits.

Incident I1: 2.7532e-08 was logged where 5e-5 was configured. `explain` searches the small set of mistakes that real
projects made - a horizon counted in micro-batches, a schedule stepped per micro-batch, per epoch or per device, a
warm-up share cast to zero, the learning rate divided by accumulation or scaled by batch / 256, another group's factor -
alone and combined, and answers with the simplest combination that gives every logged value within half a unit of its
last digit: 5e-5 x 0.1 x 468 / 84,992.

A combination's cost is the number of its mistakes; a number that has to be assumed (a world size that no log gives)
adds a half. Several combinations of the same least cost are an ambiguous answer, never a choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unstuck.diagnose.expected_lr import Convention, Plan, Shape, conventions, multiplier, printed_tolerance

Floats = npt.NDArray[np.float64]

MAX_COST = 3.5  # three mistakes and one assumed number: incident I3 has three
POINTS = 24  # points of the series that the search looks at; the answer is then checked on all of them
# A fit must hold for nearly all points: a log may hold a stray value around a resume or an evaluation.
FIT_SHARE = 0.97
# Explanations whose costs differ by less count as equally simple.
TIE = 0.3
# Within a warm-up, an LR divided by n and a horizon n times too long are the same numbers. Horizons counted in
# micro-batches are what projects did (incidents I1 and I3; two of five); an LR divided by n was seen in none, so the
# key on the left is left out where the one on the right fits as well.
RARER = {"scale/accumulation": "horizon/micro", "scale/world-down": "horizon/world"}
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


@dataclass(frozen=True, slots=True)
class Explanation:
    """A combination that gives the logged values.

    Attributes:
        faults: keys of the mistakes, empty when the values are as configured.
        sentence: the arithmetic and its meaning, "5e-5 x 0.1 x 468 / 84,992: ...".
        cost: number of mistakes, plus a half for each assumed number.
        facts: `horizon_applied`, `horizon_expected`, `warmup_applied`, `factor`, `group`, `through_warmup`.
    """

    faults: tuple[str, ...]
    sentence: str
    cost: float
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """`correct`: the values are as configured. `explanations`: the simplest ones, several when ambiguous."""

    correct: bool
    explanations: tuple[Explanation, ...] = ()

    @property
    def best(self) -> Explanation | None:
        """The explanation, when exactly one is simplest."""
        return self.explanations[0] if len(self.explanations) == 1 else None


def explain(plan: Plan, updates: Floats, values: Floats, tolerance: Floats | None = None) -> Answer:
    """Explain logged learning rates of one group.

    Args:
        plan: what the configuration says.
        updates: float64 (n,), x-axis of the log, optimizer updates (or micro-batches, `plan.trusted_updates` False).
        values: float64 (n,), logged learning rates, finite.
        tolerance: float64 (n,), half a unit of the last printed digit; None: read from the values.
    """
    if tolerance is None:
        tolerance = printed_tolerance(values)
    if is_as_configured(plan, updates, values, tolerance):
        return Answer(True)
    take = np.unique(np.linspace(0, len(values) - 1, POINTS).astype(int))
    found: dict[tuple[str, ...], Explanation] = {}
    best = MAX_COST
    options = _factor_options(plan)
    shown = most_telling(plan.expected(updates), values)
    for steps, horizon, warmup in _clocks(plan):
        cost = steps.cost + horizon.cost + warmup.cost
        if cost > best + TIE:
            continue
        clock = _steps(plan, steps, updates)
        shape = plan.shape(warmup.value, horizon.value or None)
        for convention in conventions(shape, (-1, 0, 1)):
            share = multiplier(shape, clock[take], convention)
            for option in _matching_factors(plan, options, share, values[take], tolerance[take]):
                total = cost + option.cost
                faults = tuple(o.key for o in (option, steps, horizon, warmup) if o.key)
                if total > best + TIE or not faults:
                    continue
                if faults in found and found[faults].cost <= total:
                    continue
                whole = plan.base * option.value * multiplier(shape, clock, convention)
                if np.mean(np.abs(whole - values) <= tolerance) < FIT_SHARE:
                    continue
                best = min(best, total)
                found[faults] = _explanation(
                    plan, option, steps, horizon, warmup, float(clock[shown]), shape, convention, total
                )
    simplest = sorted((e for e in found.values() if e.cost <= best + TIE), key=lambda e: e.cost)
    return Answer(False, tuple(_without_synonyms(simplest)))


def is_as_configured(plan: Plan, updates: Floats, values: Floats, tolerance: Floats) -> bool:
    """Whether some common convention, with a declared factor, gives the values to their printed digits."""
    clocks = [updates]
    if not plan.trusted_updates and plan.accumulation > 1:
        beyond = plan.updates is not None and updates[-1] > 1.01 * plan.updates
        if beyond:  # the log counts micro-batches: more of them than updates were planned
            clocks.append(np.floor(updates / plan.accumulation))
    shapes = [plan.shape(w) for w in _roundings(plan.warmup)]
    per_epoch = plan.updates_per_epoch
    if plan.epochs and per_epoch:  # a schedule counted in epochs and stepped once per epoch is legitimate
        shape = plan.shape(plan.warmup / per_epoch, plan.epochs)
        if _fits(plan, shape, np.floor((updates - 1) / per_epoch), values, tolerance):
            return True
    return any(_fits(plan, shape, clock, values, tolerance) for clock in clocks for shape in shapes)


def most_telling(expected: Floats, values: Floats) -> int:
    """Index of the point whose ratio to the expectation is largest, the last one where several are alike."""
    small = 1e-3 * max(float(expected.max()), float(values.max()))  # near 0 one step of counting is a large ratio
    off = np.abs(np.log(np.maximum(values, small) / np.maximum(expected, small)))
    return int(len(off) - 1 - np.argmax(off[::-1] >= 0.999 * off.max()))


def envelope(plan: Plan, updates: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest LR over all conventions at each update, shapes (n,); beyond is what no convention explains."""
    low, high = np.full(len(updates), np.inf), np.zeros(len(updates))
    for warmup in _roundings(plan.warmup):
        shape = plan.shape(warmup)
        for convention in conventions(shape):
            share = multiplier(shape, updates, convention)
            for factor in _declared(plan):
                low = np.minimum(low, plan.base * factor * share)
                high = np.maximum(high, plan.base * factor * share)
    return low, high


def _fits(plan: Plan, shape: Shape, clock: Floats, values: Floats, tolerance: Floats) -> bool:
    probe = np.unique(np.linspace(0, len(values) - 1, 8).astype(int))
    for convention in conventions(shape):
        for factor in _declared(plan):
            peak = plan.base * factor
            quick = peak * multiplier(shape, clock[probe], convention)
            if np.mean(np.abs(quick - values[probe]) <= tolerance[probe]) < 0.8:
                continue
            whole = peak * multiplier(shape, clock, convention)
            if np.mean(np.abs(whole - values) <= tolerance) >= FIT_SHARE:
                return True
    return False


def _declared(plan: Plan) -> tuple[float, ...]:
    """The group's factor, or every declared factor where the log does not name its group."""
    if plan.factor is not None:
        return (plan.factor,)
    return tuple(dict.fromkeys([1.0, *plan.factors.values()]))


def _roundings(warmup: float) -> tuple[float, ...]:
    """A share of the horizon is rounded to the nearest update (ours), up (transformers) or down (int())."""
    return tuple(dict.fromkeys([float(round(warmup)), float(math.ceil(warmup)), float(math.floor(warmup)), warmup]))


def _clocks(plan: Plan) -> list[tuple[Option, Option, Option]]:
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


def _steps(plan: Plan, option: Option, updates: Floats) -> Floats:
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
        options = [Option(w) for w in _roundings(configured)]
        if horizon.key and plan.horizon:
            options.append(
                Option(share * plan.horizon, "the warm-up is a share of the planned updates", 0.75, "warmup/planned")
            )
        options.append(Option(0.0, f"the warm-up share {share:g} was cast to 0 updates", 1, "warmup/zero"))
        return options
    w = float(count or 0.0)
    options = [Option(w)]
    if w > 0:
        options.append(Option(0.0, f"the warm-up of {w:,.0f} updates is missing", 1, "warmup/zero"))
        if plan.accumulation > 1:
            n = plan.accumulation
            options.append(Option(w * n, "the warm-up was multiplied by the accumulation", 1, "warmup/micro"))
            options.append(Option(w / n, "the warm-up was divided by the accumulation", 1, "warmup/divided"))
    return options


def _factor_options(plan: Plan) -> list[Option]:
    n, devices = plan.accumulation, plan.world_size
    declared = _declared(plan)
    of = {f: g for g, f in plan.factors.items()}
    named = plan.factor is not None
    options = [
        Option(
            f,
            "" if named or f == 1.0 else f"only group {of[f]} is logged",
            0 if named else 0.125,
            facts={"group": of.get(f, "")},
        )
        for f in declared
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
        for f in declared:
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


def _matching_factors(
    plan: Plan, options: list[Option], share: Floats, values: Floats, tolerance: Floats
) -> list[Option]:
    """The factors that give the values on this clock; at most a few of the list, by interval arithmetic."""
    informative = share > 1e-12
    if not informative.any():
        return []
    ratio = values[informative] / share[informative] / plan.base
    slack = tolerance[informative] / share[informative] / plan.base
    low, high = ratio - slack, ratio + slack
    return [o for o in options if np.mean((low <= o.value) & (o.value <= high)) >= 0.9]


def _explanation(
    plan: Plan,
    factor: Option,
    steps: Option,
    horizon: Option,
    warmup: Option,
    at: float,
    shape: Shape,
    convention: Convention,
    cost: float,
) -> Explanation:
    last = max(0.0, at + convention.shift)
    ramp_top = last + (0 if convention.ramp == "i/w" else 1)
    ramp_length = shape.warmup + (1 if convention.ramp == "(i+1)/(w+1)" else 0)
    in_warmup = shape.warmup > 0 and last < shape.warmup
    parts = [number(plan.base)]
    scale = factor.facts.get("scale")
    applied = factor.value / float(scale) if isinstance(scale, float) else factor.value
    if applied != 1.0:
        parts.append(f"{applied:g}")
    if isinstance(scale, float):
        parts.append(str(factor.facts["shown"]))
    facts: dict[str, object] = {"factor": factor.value, "group": factor.facts.get("group", "")}
    tail = ""
    if in_warmup:
        parts.append(f"{ramp_top:,.0f} / {ramp_length:,.0f}")
        tail = f"; {100 * ramp_top / ramp_length:.2g} % through warm-up"
        facts["through_warmup"] = ramp_top / ramp_length
    elif shape.kind != "constant":
        share = float(multiplier(shape, np.array([at]), convention)[0])
        parts.append(f"{share:.4g} ({shape.kind} at {last:,.0f} / {shape.horizon or 0:,.0f})")
    said = [o.says for o in (factor, steps, horizon, warmup) if o.says and o.key not in ("",)]
    said += [factor.says] if factor.says and not factor.key else []
    if shape.horizon and plan.horizon:
        facts["horizon_applied"], facts["horizon_expected"] = shape.horizon, plan.horizon
        speed = abs(steps.value) if steps.key.startswith("step/") and steps.key != "step/resume" else 1.0
        facts["clock_ratio"] = plan.horizon * speed / shape.horizon
    facts["warmup_applied"], facts["warmup_expected"] = shape.warmup, plan.warmup
    faults = tuple(o.key for o in (factor, steps, horizon, warmup) if o.key)
    return Explanation(faults, f"{' x '.join(parts)}: {', '.join(said)}{tail}", cost, facts)


def _without_synonyms(explanations: list[Explanation]) -> list[Explanation]:
    """Leave out an explanation that adds to the faults of another one, or is the rarer cause of the same numbers."""
    kept = [e for e in explanations if not any(set(o.faults) < set(e.faults) for o in explanations)]
    sets = {frozenset(e.faults) for e in kept}
    return [
        e for e in kept if not (RARER.keys() & set(e.faults) and frozenset(RARER.get(f, f) for f in e.faults) in sets)
    ]


def number(value: float) -> str:
    """5e-05 as 5e-5, 0.0003 as 3e-4: as people write learning rates."""
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"
