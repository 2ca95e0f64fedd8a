"""What the learning curve so far says of the loss ahead, and when it says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.diagnose.projection import NoProjection, Projection, Reach, project, reach
from unstuck.diagnose.rate_course import constant_course


def _power_law(last: int) -> tuple[np.ndarray, np.ndarray]:
    updates = np.arange(1.0, last + 1)
    return updates, 1.5 + 3.0 * updates**-0.5 + np.random.default_rng(1).normal(0, 0.02, last)


def test_a_power_law_is_projected_to_its_end() -> None:
    ahead = project(*_power_law(400), 1600, constant_course())
    assert isinstance(ahead, Projection)
    assert ahead.low <= 1.5 + 3.0 * 1600**-0.5 <= ahead.high
    assert ahead.loss == pytest.approx(1.575, abs=0.05)


def test_an_unknown_learning_rate_widens_the_interval() -> None:
    known, unknown = (project(*_power_law(400), 800, rates) for rates in (constant_course().held(400), None))
    assert isinstance(known, Projection)
    assert isinstance(unknown, Projection)
    assert unknown.high - unknown.low > known.high - known.low


def test_the_update_at_which_a_target_is_reached() -> None:
    found = reach(*_power_law(400), 1.58, constant_course())
    assert isinstance(found, Reach)
    never = reach(*_power_law(400), 1.0, constant_course())
    assert isinstance(never, NoProjection) or str(never) != str(found)


@pytest.mark.parametrize("losses", [np.full(200, np.nan), 3.0 - 0.01 * np.arange(6)])
def test_what_carries_no_projection_says_why(losses: np.ndarray) -> None:
    said = project(np.arange(1.0, len(losses) + 1), losses, 2.0 * len(losses))
    assert isinstance(said, NoProjection)


def test_farther_than_was_measured_is_refused() -> None:
    assert isinstance(project(*_power_law(100), 1e6), NoProjection)
