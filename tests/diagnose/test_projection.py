"""What the learning curve so far says of the loss ahead, and when it says nothing."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from unstuck.diagnose.case import Case
from unstuck.diagnose.engine import diagnose
from unstuck.diagnose.projection import NoProjection, Projection, Reach, outlook, project, reach, rough_span
from unstuck.diagnose.rate_course import constant_course
from unstuck.diagnose.slopes import decline_at_end, gain_ahead
from unstuck.runs import Run, Series, Setting, Source


def _power_law(last: int) -> tuple[np.ndarray, np.ndarray]:
    updates = np.arange(1.0, last + 1)
    return updates, 1.5 + 3.0 * updates**-0.5 + np.random.default_rng(1).normal(0, 0.02, last)


def test_a_power_law_is_projected_to_its_end() -> None:
    ahead = project(*_power_law(400), 1600, constant_course())
    assert isinstance(ahead, Projection)
    assert ahead.low <= 1.5 + 3.0 * 1600**-0.5 <= ahead.high
    assert ahead.loss == pytest.approx(1.575, abs=0.05)


def test_a_curve_that_has_yet_to_become_steep_is_not_taken_for_a_power_law_at_its_end() -> None:
    updates = np.arange(1.0, 101)
    losses = 3.0 + 7.8 / (1.0 + updates / 150) + np.random.default_rng(1).normal(0, 0.02, 100)
    ahead = project(updates, losses, 400, constant_course())
    assert isinstance(ahead, Projection)
    assert ahead.low <= 3.0 + 7.8 / (1.0 + 400 / 150) <= ahead.high


def test_an_unknown_learning_rate_widens_the_interval() -> None:
    known, unknown = (project(*_power_law(400), 800, rates) for rates in (constant_course().held(400), None))
    assert isinstance(known, Projection)
    assert isinstance(unknown, Projection)
    assert unknown.high - unknown.low > known.high - known.low


def test_the_update_at_which_a_target_is_reached() -> None:
    found = reach(*_power_law(400), 1.6, constant_course())
    assert isinstance(found, Reach)
    assert found.earliest is not None
    assert found.update is not None
    assert found.earliest < 900 < (found.latest or math.inf)  # 1.5 + 3 / sqrt(900) = 1.6
    assert found.said().startswith("at this rate 1.6 is reached at update ")


def test_a_target_below_the_floor_is_never_reached() -> None:
    never = reach(*_power_law(400), 1e-3, constant_course())
    assert isinstance(never, Reach)
    assert never.update is None
    assert "is not reached" in never.said()


def test_a_target_far_ahead_is_told_in_days_and_as_a_guess() -> None:
    updates = np.arange(1.0, 1406)
    losses = 10.4 - 0.05 * np.log(updates) + np.random.default_rng(2).normal(0, 0.01, len(updates))
    found = reach(updates, losses, 9.8, constant_course())
    assert isinstance(found, Reach)
    said = r"at this rate 9\.8 is reached in [\d,.]+ days, a guess so far ahead, and hardly before 8\.8 days"
    assert re.search(said, found.said(60.0))


@pytest.mark.parametrize(
    ("seconds", "said"), [(42, "42 s"), (210, "3.5 min"), (43_200, "12 h"), (5.2e6, "60 days"), (1e9, "12,000 days")]
)
def test_spans_are_as_rough_as_a_projection(seconds: float, said: str) -> None:
    assert rough_span(seconds) == said


def test_a_rate_too_low_says_how_long_it_would_take() -> None:
    run = _slow_run()
    finding = next(f for f in diagnose(run).findings if f.rule.name == "lr-too-low")
    assert re.search(r"At this rate 7\.036 is reached in [\d.]+ days \(80% between", finding.found.detail)
    assert finding.found.facts["reached_update"] > 2000


def _slow_run() -> Run:
    """A GPT-2 from scratch at a hundredth of the usual rate, two minutes an update."""
    updates = np.arange(10, 2001, 10)
    noise = np.random.default_rng(3).normal(0, 0.02, len(updates))
    values = {
        "train/loss": 7.0 + 3.8 * np.exp(-updates / 2500) + noise,
        "lr/all": np.full(len(updates), 3e-6),
        "time/step_ms": np.full(len(updates), 120_000.0),
    }
    settings = {"optimizer": "adamw", "start": "fresh", "vocabulary": 50257, "parameters": 124_000_000}
    return Run(
        "log",
        "made-up",
        series={name: Series(name, updates, v, np.arange(len(updates)) + 1, "log") for name, v in values.items()},
        settings={name: Setting(value, name, Source("log")) for name, value in settings.items()},
    )


def test_an_unfinished_run_has_an_outlook_and_a_finished_one_has_none() -> None:
    run = _slow_run()
    assert isinstance(outlook(Case(run)), NoProjection)  # no plan
    run.settings["updates"] = Setting(4000, "updates", Source("log"))
    ahead = outlook(Case(run))
    assert isinstance(ahead, Projection)
    assert ahead.update == 4000
    assert ahead.low < 7.0 + 3.8 * math.exp(-4000 / 2500) < ahead.high
    run.settings["updates"] = Setting(2000, "updates", Source("log"))
    assert isinstance(outlook(Case(run)), NoProjection)


@pytest.mark.parametrize("shares", [(1 / 3,), (1 / 2,), (2 / 3,)])
def test_the_decline_at_the_end_of_a_power_law_does_not_depend_on_the_window(shares: tuple[float, ...]) -> None:
    updates = np.arange(1.0, 1001)
    decline = decline_at_end(updates, 2.0 + 3.0 * updates**-0.5, shares)
    assert decline is not None
    assert decline.value == pytest.approx(0.5 * 3.0 * 1000**-0.5, rel=0.03)


def test_the_error_of_a_decline_holds_for_five_evaluations() -> None:
    updates, rng = np.array([50.0, 75.0, 100.0, 125.0, 150.0]), np.random.default_rng(4)
    missed = 0
    for _ in range(500):
        decline = decline_at_end(updates, 3.0 - 0.3 * np.log(updates) + rng.normal(0, 0.02, 5), (2 / 3,))
        assert decline is not None
        middle = math.exp(0.5 * (np.log(updates).mean() - math.log(150)))  # the correction for curvature
        missed += not decline.low <= 0.3 * middle <= decline.high
    assert missed / 500 < 0.05


def test_no_decline_from_four_points_in_the_widest_window() -> None:
    updates = np.array([1.0, 60.0, 80.0, 100.0, 120.0])
    assert decline_at_end(updates, 1 / updates, (1 / 3, 1 / 2, 2 / 3)) is None


def test_what_is_gained_ahead_is_a_power_laws() -> None:
    u, times = 100.0, 4.0
    decline = 0.5 * 3.0 * u**-0.5
    assert gain_ahead(times) * decline == pytest.approx(3.0 * (u**-0.5 - (times * u) ** -0.5))
    assert gain_ahead(1.0) == 0.0


@pytest.mark.parametrize("losses", [np.full(200, np.nan), 3.0 - 0.01 * np.arange(6)])
def test_what_carries_no_projection_says_why(losses: np.ndarray) -> None:
    said = project(np.arange(1.0, len(losses) + 1), losses, 2.0 * len(losses))
    assert isinstance(said, NoProjection)


def test_farther_than_was_measured_is_refused() -> None:
    assert isinstance(project(*_power_law(100), 1e6), NoProjection)
