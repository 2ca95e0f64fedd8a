"""How often the statistics call healthy noise something, and how often they see what is there."""

from __future__ import annotations

import numpy as np
import pytest

from tests.statistics.noises import NOISES, autoregressive, rate
from unstuck.diagnose import statistics as s

RUNS = 200


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("n", [30, 300])
def test_a_flat_series_rarely_seems_to_fall(kind: str, n: int) -> None:
    def falls(values: s.Floats) -> bool:
        fall, error = s.fall(values)
        return abs(fall) > s.false_alarm_z(1) * error

    # 10 points of noise that forgets within 4 do not tell how long it remembers
    assert rate(falls, NOISES[kind], n, RUNS) <= (0.12 if (kind, n) == ("AR(1) 0.6", 30) else 0.03)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("n", [100, 400])
def test_spikes_are_rare_in_noise_of_every_kind(kind: str, n: int) -> None:
    # tails of index 4 pass twice the lowest point in one run of 17; log-normal noise is skewed by 1.75
    allowed = {"heavy tails": 0.12, "log-normal": 0.1, "mean of 4 exponentials": 0.06}.get(kind, 0.03)
    assert rate(lambda values: bool(s.spikes(values)), NOISES[kind], n, RUNS) <= allowed


@pytest.mark.parametrize("kind", NOISES)
def test_spikes_are_rare_on_a_falling_curve(kind: str) -> None:
    allowed = {"heavy tails": 0.12, "log-normal": 0.1, "mean of 4 exponentials": 0.06}.get(kind, 0.03)
    curve = 100 * np.exp(-np.arange(400) / 50)
    assert rate(lambda values: bool(s.spikes(values + curve)), NOISES[kind], 400, RUNS) <= allowed


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("n", [30, 300])
def test_a_flat_validation_rarely_seems_to_rise(kind: str, n: int) -> None:
    def rises(values: s.Floats) -> bool:
        rise = s.rise_after_best(values)
        return rise is not None and rise.beyond_noise

    assert rate(rises, NOISES[kind], n, RUNS) <= (0.08 if kind == "AR(1) 0.6" else 0.03)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("n", [30, 300])
def test_level_jumps_are_rare_in_noise(kind: str, n: int) -> None:
    allowed = {"AR(1) 0.6": 0.12, "heavy tails": 0.05}.get(kind, 0.03)
    assert rate(lambda values: bool(s.change_points(values)), NOISES[kind], n, RUNS) <= allowed


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6])
def test_a_jump_of_the_level_is_found_in_noise_with_memory(r: float) -> None:
    rng = np.random.default_rng(1)
    step = np.where(np.arange(400) < 150, 0.0, 4.0)
    found = [s.change_points(step + autoregressive(rng, 400, r)) for _ in range(100)]
    assert np.mean([any(abs(cut - 150) <= 8 for cut in cuts) for cuts in found]) >= 0.95


@pytest.mark.parametrize("kind", NOISES)
def test_a_spike_of_several_points_is_found_in_noise_of_every_kind(kind: str) -> None:
    rng = np.random.default_rng(2)
    seen = 0
    for _ in range(100):
        values = NOISES[kind](rng, 400)
        values[200:204] += 40.0  # log-normal noise itself reaches 28 once in a thousand such series
        seen += any(spike.start in (199, 200) for spike in s.spikes(values))
    assert seen >= 95


@pytest.mark.parametrize("kind", ["white", "AR(1) 0.3", "heavy tails", "log-normal"])
def test_a_slow_fall_is_seen_over_the_noise(kind: str) -> None:
    rng = np.random.default_rng(3)
    line = -4.0 * np.arange(300) / 300
    seen = [s.fall(line + NOISES[kind](rng, 300)) for _ in range(100)]
    assert np.mean([fall > s.false_alarm_z(1) * error for fall, error in seen]) >= 0.9


@pytest.mark.parametrize("n", [10, 20, 50, 200])
@pytest.mark.parametrize("r", [0.0, 0.5])
def test_the_error_of_a_level_holds_in_short_series_too(n: int, r: float) -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(400):
        mean, error = s.level(autoregressive(rng, n, r))
        missed += abs(mean) > 1.96 * error
    assert missed / 400 <= (0.1 if r == 0 else 0.25 if n <= 20 else 0.13)  # 0.05 of a normal with known variance


def test_a_curve_that_falls_steeply_is_not_taken_for_memory() -> None:
    rng = np.random.default_rng(5)
    curve = 30 * np.exp(-np.arange(24) / 3)
    seen = [s.fall(curve + rng.normal(size=24)) for _ in range(100)]
    assert np.mean([fall > s.false_alarm_z(1) * error for fall, error in seen]) >= 0.95
