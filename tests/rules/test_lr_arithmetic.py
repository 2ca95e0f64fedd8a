"""The learning-rate arithmetic: it names an injected counting fault, and finds nothing in a correct run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.config.schema import ScheduleConfig
from unstuck.diagnose.expected_lr import Plan, printed_tolerance
from unstuck.diagnose.lr_arithmetic import explain
from unstuck.train import schedules

I1_FACTORS = {"memory": 0.1, "neuroscience": 0.5, "core": 1.0}
I1_UPDATES = 20 * 42_496 / 3


def i1_plan(factor: float | None = 0.1, trusted: bool = True) -> Plan:
    return Plan(
        base=5e-5, kind="cosine", factor=factor, factors=I1_FACTORS, warmup_share=0.1, horizon=I1_UPDATES,
        updates=I1_UPDATES, accumulation=3, batch_size=6, micro_batches_per_epoch=42_496.0, epochs=20.0,
        trusted_updates=trusted,
    )  # fmt: skip


def floats(*values: float):
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize("printed", [2.7532e-08, 2.75e-08])
def test_answers_incident_1_as_its_arithmetic_is(printed):
    best = explain(i1_plan(), floats(1405 // 3), floats(printed)).best
    assert best is not None
    assert best.sentence == (
        "5e-5 x 0.1 x 468 / 84,992: the schedule advanced once per 3 micro-batches over a horizon counted in "
        "micro-batches; 0.55 % through warm-up"
    )
    assert best.facts["horizon_applied"] == pytest.approx(849_920)


def test_answers_incident_1_from_a_log_that_counts_micro_batches_and_names_no_group():
    best = explain(i1_plan(None, trusted=False), floats(1405), floats(2.7532e-08)).best
    assert best is not None
    assert set(best.faults) == {"log/micro", "horizon/micro"}
    assert best.facts["group"] == "memory"


def test_answers_incident_3_batch_scaling_over_three_devices():
    plan = Plan(base=1e-4, kind="constant", batch_size=24, accumulation=3, updates=1500, horizon=1500)
    best = explain(plan, floats(1500), floats(8.44e-05)).best
    assert best is not None
    assert best.sentence == "1e-4 x 24 x 3 x 3 / 256: the learning rate was scaled by batch / 256 (3 devices)"


def test_refuses_a_value_that_nothing_explains():
    answer = explain(i1_plan(), floats(468), floats(3.1416e-08))
    assert not answer.correct
    assert answer.best is None


# A log's ways to print a learning rate: nanoGPT forks %e, transformers str(), plain scripts %.2e, JSON round(x, 8).
PRINTERS = {
    "full": lambda v: v,
    "4e": lambda v: float(f"{v:.4e}"),
    "2e": lambda v: float(f"{v:.2e}"),
    "rounded": lambda v: round(v, 8),
    "float32": lambda v: float(np.float32(v)),
}


@st.composite
def configurations(draw):
    kind = draw(st.sampled_from(["cosine", "linear", "constant", "wsd", "polynomial", "inverse_sqrt", "restarts"]))
    updates = draw(st.integers(60, 30_000))
    warmup = draw(
        st.sampled_from([("share", 0.0), ("share", 0.03), ("share", 0.1), ("count", 10), ("count", updates // 7)])
    )
    factor = draw(st.sampled_from([1.0, 0.1, 0.3, 0.5]))
    schedule = ScheduleConfig(
        kind=kind, floor=draw(st.sampled_from([0.0, 0.1])), cycles=2 if kind == "restarts" else 1,
        warmup_share=warmup[1] if warmup[0] == "share" else None,
        warmup_updates=int(warmup[1]) if warmup[0] == "count" else None,
    )  # fmt: skip
    plan = Plan(
        base=draw(st.sampled_from([1e-3, 3e-4, 2e-5, 5e-5, 6e-4, 0.03])), kind=kind, factor=factor,
        factors={"body": factor, "head": 1.0}, warmup_share=schedule.warmup_share, power=schedule.power,
        warmup_updates=schedule.warmup_updates, horizon=float(updates), updates=float(updates), floor=schedule.floor,
        cycles=schedule.cycles, accumulation=draw(st.sampled_from([1, 2, 3, 4, 8])),
        world_size=draw(st.sampled_from([None, 1, 2, 3, 4])), batch_size=draw(st.sampled_from([6, 12, 16, 24])),
    )  # fmt: skip
    done = draw(st.integers(40, updates))
    every = draw(st.sampled_from([1, 10, 50]))
    return plan, schedule, np.arange(every, max(done, every * 6) + 1, every, dtype=np.float64)


def applied(plan: Plan, schedule: ScheduleConfig, updates, horizon: int, speed: float = 1.0):
    index = [max(0, math.floor(u * speed + 1e-9) - 1) for u in updates]
    share = [schedules.multiplier(schedule, i, planned_updates=horizon) for i in index]
    return plan.base * plan.factor * np.array(share)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(configurations(), st.sampled_from(list(PRINTERS)), st.sampled_from([-1, 0, 1]))
def test_a_correct_run_is_as_configured_at_every_logged_update(configuration, printer, shift):
    plan, schedule, updates = configuration
    updates = updates[updates <= plan.horizon]
    values = applied(plan, schedule, np.maximum(updates + shift, 1), int(plan.horizon))
    printed = np.array([PRINTERS[printer](v) for v in values])
    assert explain(plan, updates, printed, printed_tolerance(printed)).correct


FAULTS = {
    "horizon/micro": lambda p, s, u: applied(p, s, u, int(p.horizon) * p.accumulation),
    "step/micro": lambda p, s, u: applied(p, s, u, int(p.horizon), p.accumulation),
    "scale/accumulation": lambda p, s, u: applied(p, s, u, int(p.horizon)) / p.accumulation,
    "step/world": lambda p, s, u: applied(p, s, u, int(p.horizon), p.world_size or 1),
    "horizon/world": lambda p, s, u: applied(p, s, u, int(p.horizon) * (p.world_size or 1)),
    "scale/batch": lambda p, s, u: (
        applied(p, s, u, int(p.horizon)) * p.batch_size * p.accumulation * (p.world_size or 1) / 256
    ),
    "factor/none": lambda p, s, u: applied(p, s, u, int(p.horizon)) / p.factor,
    "warmup/zero": lambda p, s, u: applied(
        p, s.model_copy(update={"warmup_share": None, "warmup_updates": 0}), u, int(p.horizon)
    ),
}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(configurations(), st.sampled_from(list(FAULTS)), st.sampled_from(["full", "4e", "2e"]))
def test_one_injected_counting_fault_is_named_or_called_ambiguous(configuration, fault, printer):
    plan, schedule, updates = configuration
    values = np.array([PRINTERS[printer](v) for v in FAULTS[fault](plan, schedule, updates)])
    answer = explain(plan, updates, values, printed_tolerance(values))
    if fault == "warmup/zero" and updates[0] >= plan.warmup:
        return  # the ramp was over before the first logged update
    if answer.correct or not answer.explanations:
        honest = applied(plan, schedule, updates, int(plan.horizon))
        gap = np.abs(honest - values) / np.maximum(honest, values).clip(1e-30)
        # nothing to find: the fault changes no logged value by more than the printed digits or one step
        assert answer.correct
        assert np.mean(gap > 0.2) < 0.1
        return
    named = {e.faults for e in answer.explanations}
    if fault == "scale/accumulation" and np.all(updates < plan.warmup):  # the same numbers, see RARER
        fault = "horizon/micro"
    assert (fault,) in named, (fault, answer)


def test_a_long_series_rounded_to_fixed_decimals_is_read_to_those_decimals_at_its_end():
    """The first 400 of 413 values all have five digits and eight decimals; only the tail tells which was meant."""
    plan = Plan(base=1e-3, kind="cosine", horizon=501.0, updates=501.0, floor=0.0)
    schedule = ScheduleConfig(kind="cosine", floor=0.0)
    updates = np.arange(1.0, 414.0)
    printed = np.round(applied(plan, schedule, np.maximum(updates - 1, 1), 501), 8)
    assert printed_tolerance(printed)[-1] == pytest.approx(0.5e-8, rel=0.03)
    assert explain(plan, updates, printed, printed_tolerance(printed)).correct
