"""How often the steady rise that `overfitting` asks for comes from a validation loss that only wanders."""

from __future__ import annotations

import numpy as np
import pytest

from tests.statistics.noises import Noise, autoregressive, rate
from unstuck.diagnose.few_points import in_rising_order
from unstuck.diagnose.rules.generalisation.overfitting import DRIFT, drift
from unstuck.diagnose.statistics import Floats, rise_after_best

WANDERS: dict[str, tuple[Noise, float]] = {
    "white noise": (lambda rng, n: rng.normal(size=n), 0.01),
    "a memory of 0.5": (lambda rng, n: autoregressive(rng, n, 0.5), 0.03),
    "a memory of 0.8": (lambda rng, n: autoregressive(rng, n, 0.8), 0.07),
    "a random walk": (lambda rng, n: np.cumsum(rng.normal(size=n)), 0.13),
}


def drifts_after_best(values: Floats) -> bool:
    return drift(values[int(np.argmin(values)) :]) >= DRIFT


@pytest.mark.parametrize("points", [10, 16, 30])
@pytest.mark.parametrize("kind", sorted(WANDERS))
def test_a_wandering_level_drifts_no_more_often_than_said(kind: str, points: int) -> None:
    noise, most = WANDERS[kind]
    assert rate(drifts_after_best, noise, points, 1500) <= most


@pytest.mark.parametrize("share", [0.5, 1.0, 2.0])
def test_a_rise_of_the_noise_of_a_step_is_seen(share: float) -> None:
    """Steps of half of their noise are seen in one of three runs of ten steps, of twice the noise in all."""
    rng = np.random.default_rng(1)
    found = np.mean([drift(np.cumsum(np.append(0.0, rng.normal(share, 1.0, 10)))) >= DRIFT for _ in range(1000)])
    assert found >= {0.5: 0.25, 1.0: 0.8, 2.0: 0.99}[share]


def test_too_few_or_equal_steps_say_nothing() -> None:
    assert np.isnan(drift(np.arange(5.0)))
    assert np.isnan(drift(np.arange(9.0)))


ORDERS = {"white noise": 0.002, "a memory of 0.5": 0.008, "a memory of 0.8": 0.025, "a random walk": 0.06}


def rises_in_order(values: Floats) -> bool:
    rise = rise_after_best(values)
    return rise is not None and in_rising_order(values, rise)


@pytest.mark.parametrize("points", [8, 12, 16])
@pytest.mark.parametrize("kind", sorted(WANDERS))
def test_a_wandering_level_hardly_rises_in_order(kind: str, points: int) -> None:
    assert rate(rises_in_order, WANDERS[kind][0], points, 1500) <= ORDERS[kind]


def test_a_rise_that_levels_off_is_in_order() -> None:
    rng = np.random.default_rng(1)
    curves = [8 - 5.5 * np.exp(-np.arange(10) / 3) + rng.normal(0, 0.03, 10) for _ in range(200)]
    assert np.mean([rises_in_order(curve) for curve in curves]) >= 0.95
