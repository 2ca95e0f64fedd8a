"""Values of the schedules, by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.config.schema import ScheduleConfig
from unstuck.train.schedules import Plateau, multiplier, warmup_updates

KINDS = ("constant", "linear", "cosine", "wsd", "polynomial", "inverse_sqrt", "plateau", "restarts")


def at(update: int, planned: int = 100, **settings: Any) -> float:
    return multiplier(ScheduleConfig(**settings), update, planned_updates=planned)


@pytest.mark.parametrize(
    ("settings", "update", "expected"),
    [
        ({"kind": "constant"}, 0, 1.0),
        ({"kind": "constant"}, 99, 1.0),
        ({"kind": "constant", "warmup_updates": 10}, 0, 0.1),
        ({"kind": "constant", "warmup_updates": 10}, 9, 1.0),
        ({"kind": "linear"}, 50, 0.5),
        ({"kind": "linear", "floor": 0.2}, 50, 0.6),
        ({"kind": "linear", "warmup_share": 0.1}, 55, 0.5),
        ({"kind": "cosine"}, 50, 0.5),
        ({"kind": "cosine", "floor": 0.1}, 100, 0.1),
        ({"kind": "cosine"}, 25, 0.5 * (1 + math.cos(math.pi / 4))),
        ({"kind": "wsd", "decay_share": 0.2}, 79, 1.0),
        ({"kind": "wsd", "decay_share": 0.2}, 90, 0.5),
        ({"kind": "wsd", "decay_share": 1.0, "warmup_updates": 20}, 60, 0.5),
        ({"kind": "polynomial", "power": 2.0}, 50, 0.25),
        ({"kind": "inverse_sqrt", "warmup_updates": 10}, 10, math.sqrt(10 / 11)),
        ({"kind": "inverse_sqrt", "warmup_updates": 10}, 39, math.sqrt(10 / 40)),
        ({"kind": "restarts", "cycles": 2}, 25, 0.5),
        ({"kind": "restarts", "cycles": 2}, 50, 1.0),
        ({"kind": "restarts", "cycles": 2}, 75, 0.5),
        ({"kind": "restarts", "cycles": 2}, 100, 0.0),
        ({"kind": "linear", "horizon_updates": 200}, 100, 0.5),
        ({"kind": "linear", "horizon_updates": 50}, 80, 0.0),
    ],
)
def test_multiplier_is_what_the_formula_gives(settings: dict[str, Any], update: int, expected: float) -> None:
    assert at(update, **settings) == pytest.approx(expected, abs=1e-12)


@given(
    kind=st.sampled_from(KINDS),
    update=st.integers(0, 5000),
    planned=st.integers(1, 3000),
    warmup=st.floats(0, 1),
    floor=st.floats(0, 1),
    cycles=st.integers(1, 5),
)
def test_every_schedule_stays_between_zero_and_one(
    kind: Any, update: int, planned: int, warmup: float, floor: float, cycles: int
) -> None:
    schedule = ScheduleConfig(kind=kind, warmup_share=warmup, floor=floor, cycles=cycles)
    assert 0.0 <= multiplier(schedule, update, planned_updates=planned) <= 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_update_always_moves_and_no_planned_update_is_wasted(kind: Any) -> None:
    schedule = ScheduleConfig(kind=kind, warmup_share=0.1)
    assert all(multiplier(schedule, update, planned_updates=40) > 0 for update in range(40))


def test_a_warmup_share_is_of_the_horizon() -> None:
    assert warmup_updates(ScheduleConfig(warmup_share=0.1), 300) == 30
    assert warmup_updates(ScheduleConfig(warmup_share=0.1, horizon_updates=1000), 300) == 100
    assert warmup_updates(ScheduleConfig(warmup_updates=7), 300) == 7
    assert warmup_updates(ScheduleConfig(), 300) == 0


def test_plateau_with_patience_5_and_its_best_first_lowers_at_the_seventh_evaluation() -> None:
    schedule = ScheduleConfig(kind="plateau", patience=5, factor=0.5)
    plateau = Plateau()
    lowered = [plateau.observe(loss, schedule) for loss in (0.587, 0.609, 0.613, 0.601, 0.588, 0.59, 0.6, 0.6)]
    assert lowered == [False] * 6 + [True, False]
    assert multiplier(schedule, 7, planned_updates=10, plateau_scale=plateau.scale) == 0.5


def test_plateau_counts_nan_as_no_improvement_and_stops_at_the_floor() -> None:
    schedule = ScheduleConfig(kind="plateau", patience=1, factor=0.1, floor=0.05)
    plateau = Plateau()
    for _ in range(20):
        plateau.observe(math.nan, schedule)
    assert plateau.scale == 0.05


def test_schedules_import_no_torch() -> None:
    code = "import sys, unstuck.train.schedules, unstuck.train.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
