"""Derived values and the projection of the final loss."""

from __future__ import annotations

import math
import random

import pytest

from tests.train.conftest import Make
from unstuck.errors import UserError
from unstuck.train.plan import Plan, make_plan, step_law
from unstuck.train.projection import project


def plan(tiny: Make, *overrides: str, windows: int = 1200) -> Plan:
    return make_plan(
        tiny(*overrides).config,
        examples=windows,
        example="window",
        tokens_per_example=16,
        vocabulary=30,
        parameters=2_000_000,
        embedding_parameters=1_000_000,
        groups={"matrices": {"algorithm": "muon", "base_lr": 0.03, "lr_factor": 0.5, "parameters": 1_000_000}},
        machine={"threads": (2, "every core")},
    )


def test_derived_values_follow_from_the_recipe(tiny: Make) -> None:
    made = plan(tiny, "batch_size=4", "accumulation=3", "warmup_share=0.1", "updates=300")
    values = made.values()
    assert values["effective_batch"] == 12
    assert values["tokens_per_update"] == 192
    assert values["updates_per_epoch"] == 100
    assert values["epochs"] == 3
    assert values["warmup_updates"] == made.warmup_updates == 30
    assert values["tokens"] == 57_600
    assert "lr_factor 0.5" in made.reasons()["parameters/matrices"]
    assert "unproven below 46M" in made.reasons()["published_lr_scale"]
    assert any("tokens per update" in line and "192" in line for line in made.lines())


def test_epochs_become_updates(tiny: Make) -> None:
    assert plan(tiny, "training.epochs=2.5", "batch_size=12").updates == 250


def test_step_law_is_the_published_formula() -> None:
    assert step_law(1_000_000_000, 20_000_000_000) == pytest.approx(1.79 * 1e9**-0.713 * 2e10**0.307)


def test_data_smaller_than_an_update_is_one_sentence(tiny: Make) -> None:
    with pytest.raises(UserError, match=r"The largest batch is: training\.batch_size=3"):
        plan(tiny, windows=3)


def test_the_projection_of_a_power_law_is_its_end() -> None:
    draw = random.Random(1)
    losses = [1.5 + 3.0 * t**-0.5 + draw.gauss(0, 0.02) for t in range(1, 401)]
    projected = project(losses[:200], 400)
    assert projected is not None
    assert projected == pytest.approx(1.65, abs=0.05)


def test_no_projection_without_a_falling_curve() -> None:
    draw = random.Random(1)
    assert project([4.0 + draw.gauss(0, 0.05) for _ in range(200)], 400) is None
    assert project([1.0 + 0.01 * t for t in range(200)], 400) is None
    assert project([3.0 - 0.01 * t for t in range(20)], 400) is None
    assert project([math.nan] * 200, 400) is None
