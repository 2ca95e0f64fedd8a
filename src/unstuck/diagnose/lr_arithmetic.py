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

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unstuck.diagnose.expected_lr import Convention, Plan, Shape, conventions, multiplier, printed_tolerance
from unstuck.diagnose.lr_readings import Option, clocks, declared, factor_options, number, roundings, schedule_steps

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
    options = factor_options(plan)
    shown = most_telling(plan.expected(updates), values)
    for steps, horizon, warmup in clocks(plan):
        cost = steps.cost + horizon.cost + warmup.cost
        if cost > best + TIE:
            continue
        clock = schedule_steps(plan, steps, updates)
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
    shapes = [plan.shape(w) for w in roundings(plan.warmup)]
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
    for warmup in roundings(plan.warmup):
        shape = plan.shape(warmup)
        for convention in conventions(shape):
            share = multiplier(shape, updates, convention)
            for factor in declared(plan):
                low = np.minimum(low, plan.base * factor * share)
                high = np.maximum(high, plan.base * factor * share)
    return low, high


def _fits(plan: Plan, shape: Shape, clock: Floats, values: Floats, tolerance: Floats) -> bool:
    probe = np.unique(np.linspace(0, len(values) - 1, 8).astype(int))
    for convention in conventions(shape):
        for factor in declared(plan):
            peak = plan.base * factor
            quick = peak * multiplier(shape, clock[probe], convention)
            if np.mean(np.abs(quick - values[probe]) <= tolerance[probe]) < 0.8:
                continue
            whole = peak * multiplier(shape, clock, convention)
            if np.mean(np.abs(whole - values) <= tolerance) >= FIT_SHARE:
                return True
    return False


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
