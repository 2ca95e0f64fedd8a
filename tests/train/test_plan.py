"""Derived values of a plan."""

from __future__ import annotations

import pytest

from tests.train.conftest import Make
from unstuck.config.recipe import bundled_recipes, load_recipe, variants_of
from unstuck.errors import UserError
from unstuck.train.plan import Plan, make_plan, step_law


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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("schedule.warmup_updates=100", "updates=20"), "ends at 20 % of its learning rate"),
        (("schedule.warmup_updates=20", "updates=20"), "ends at 100 % of its learning rate"),
        (("schedule=plateau", "schedule.warmup_updates=100", "updates=20"), "set schedule.warmup_updates=2."),
        (("warmup_share=0.1", "schedule.horizon_updates=1000", "updates=50"), "set schedule.horizon_updates=null."),
        (("schedule.horizon_updates=1000", "updates=501"), "wsd begins behind update 500 of a horizon of 1,000"),
        (("schedule=plateau", "schedule.patience=3", "updates=32"), "With 4 evaluations and schedule.patience=3"),
        (("schedule.warmup_updates=19", "updates=20"), None),
        (("schedule.horizon_updates=1000", "updates=502"), None),
        (("schedule=plateau", "schedule.patience=3", "updates=33"), None),
        (("warmup_share=1", "updates=1"), None),
    ],
)
def test_what_the_schedule_cannot_come_to_is_said_beforehand(
    tiny: Make, settings: tuple[str, ...], said: str | None
) -> None:
    notes = plan(tiny, *settings).notes
    assert len(notes) == (said is not None)
    assert said is None or said in notes[0]


@pytest.mark.parametrize("name", [f"{r}:{v}" for r in bundled_recipes() for v in variants_of(r)] + [*bundled_recipes()])
def test_the_bundled_recipes_come_to_all_of_their_schedules(name: str) -> None:
    made = make_plan(
        load_recipe(name).config, examples=20_000, example="window", tokens_per_example=16, vocabulary=30,
        parameters=2_000, embedding_parameters=1_000, groups={}, machine={},
    )  # fmt: skip
    assert made.notes == []


def test_data_smaller_than_an_update_is_one_sentence(tiny: Make) -> None:
    with pytest.raises(UserError, match=r"The largest batch is: training\.batch_size=3"):
        plan(tiny, windows=3)
