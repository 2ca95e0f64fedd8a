"""Statistics for logs of few rows: Student's quantiles, Kendall's test by order, a line through a short stretch."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from unstuck.diagnose.few_points import (
    chance_of_order,
    error_about_line,
    fall_along_line,
    fall_of_line,
    student_quantile,
)
from unstuck.diagnose.statistics import false_alarm_z


def falls(order: tuple[int, ...]) -> int:
    return sum(a > b for a, b in itertools.combinations(order, 2))


@pytest.mark.parametrize("n", [2, 4, 6])
def test_the_chance_of_an_order_is_that_of_counting_all_orders(n: int):
    orders = list(itertools.permutations(range(n)))
    for order in orders[:: max(1, len(orders) // 40)]:
        as_steady = sum(falls(other) <= falls(order) for other in orders) / len(orders)
        assert chance_of_order(np.array(order, dtype=float)) == pytest.approx(as_steady)


def test_points_that_do_not_differ_are_no_trend():
    assert chance_of_order(np.ones(10)) > 0.4
    assert chance_of_order(np.array([3.0])) == 1.0


def test_a_line_falls_by_what_it_falls_and_its_error_covers_the_truth():
    fall, error = fall_of_line(np.array([4.0, 3.0, 2.0, 1.0]))
    assert fall == pytest.approx(3.0)
    assert error == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(fall_of_line(np.ones(3))[0])


@pytest.mark.parametrize("n", [6, 8, 12, 24])
def test_a_flat_series_seldom_falls_beyond_the_quantile_of_its_few_degrees_of_freedom(n: int):
    rng = np.random.default_rng(n)
    limit, draws = student_quantile(false_alarm_z(1, 0.01), n - 2), 4000
    beyond = sum(fall > limit * error for fall, error in (fall_of_line(rng.normal(size=n)) for _ in range(draws)))
    assert beyond / draws < 0.01 + 3 * math.sqrt(0.01 / draws)  # three standard errors of the count


# Tables of t, one-sided 0.001 (Abramowitz, Stegun, table 26.10: 0.998 two-sided).
TABLE = {1: 318.31, 2: 22.327, 3: 10.215, 4: 7.173, 5: 5.893, 9: 4.297, 30: 3.385, 120: 3.160}


@pytest.mark.parametrize(("dof", "quantile"), TABLE.items())
def test_student_quantile_is_that_of_the_tables(dof: int, quantile: float) -> None:
    assert student_quantile(false_alarm_z(1), dof) == pytest.approx(quantile, rel=1.5e-3)


@pytest.mark.parametrize("n", [6, 8, 12, 16])
def test_noise_passes_for_a_fall_once_in_a_thousand_times(n: int) -> None:
    rng = np.random.default_rng(n)
    draws = 20_000
    passed = sum(fall > slack for fall, slack in (fall_along_line(rng.normal(size=n)) for _ in range(draws)))
    # 20 expected; 40 is passed with a chance of 3e-5 (Poisson)
    assert passed <= 40


def test_a_line_and_a_parabola_leave_no_error() -> None:
    x = np.arange(8.0)
    assert fall_along_line(3 - 0.5 * x) == pytest.approx((3.5, 0.0), abs=1e-9)
    assert error_about_line(3 - 0.5 * x + 0.1 * x**2) > 0.1
    assert error_about_line(3 - 0.5 * x + 0.1 * x**2, 2) == pytest.approx(0.0, abs=1e-9)


def test_too_few_points_know_no_error() -> None:
    assert math.isnan(fall_along_line(np.zeros(3))[0])
    assert math.isnan(error_about_line(np.zeros(3), 2))
