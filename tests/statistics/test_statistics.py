"""Properties of the functions that rules take their thresholds from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.diagnose import statistics as s
from unstuck.diagnose.learning_curve import decline_per_e_fold, fit_learning_curve

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(30, 400)
SCALES = st.floats(1e-3, 1e3)
FAST = settings(max_examples=30, deadline=None)


def noise(seed: int, n: int, sd: float = 1.0) -> s.Floats:
    return np.random.default_rng(seed).normal(0.0, sd, n)


@FAST
@given(SEEDS, SIZES, SCALES, st.floats(-10, 10), st.floats(-1, 1))
def test_noise_ignores_offset_and_line_and_scales_with_the_series(seed, n, scale, offset, slope):
    white = noise(seed, n)
    line = offset + slope * np.arange(n)
    assert s.noise_sd(scale * (white + line)) == pytest.approx(scale * s.noise_sd(white), rel=1e-6)


def test_noise_of_white_noise_is_its_standard_deviation():
    assert s.noise_sd(noise(0, 20_000, 0.3)) == pytest.approx(0.3, rel=0.03)


@FAST
@given(SEEDS, SIZES)
def test_noise_does_not_count_a_few_spikes(seed, n):
    white = noise(seed, n)
    spiked = white.copy()
    spiked[:: n // 3] += 1000.0
    assert s.noise_sd(spiked) < 3 * s.noise_sd(white)


def test_noise_of_fewer_than_five_points_is_unknown():
    assert np.isnan(s.noise_sd(np.arange(4.0)))


@FAST
@given(SEEDS, st.integers(1, 200), st.sampled_from([3, 5, 11]))
def test_running_median_agrees_with_its_plain_definition(seed, n, window):
    values = noise(seed, n)
    half = window // 2
    fast = s.running_median(values, window)
    for i in range(half, n - half):
        assert fast[i] == np.median(values[i - half : i + half + 1])


@FAST
@given(SEEDS, st.integers(2, 200), st.sampled_from([1, 5, 9]))
def test_trailing_median_agrees_with_its_plain_definition(seed, n, window):
    values = noise(seed, n)
    fast = s.trailing_median(values, window)
    for i in range(n):
        assert fast[i] == (np.median(values[i - window : i]) if i >= window else np.inf)


@FAST
@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_more_looks_need_a_larger_deviation(few, many):
    low, high = sorted((few, many))
    assert s.false_alarm_z(low) <= s.false_alarm_z(high)


def test_largest_of_many_normal_values_rarely_passes_its_threshold():
    draws = np.random.default_rng(1).normal(size=(2000, 500)).max(axis=1)
    assert (draws > s.false_alarm_z(500, alpha=0.05)).mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("r", [0.0, 0.5, 0.8])
def test_error_of_a_level_covers_the_true_level_of_autocorrelated_noise(r):
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(300):
        white = rng.normal(size=200)
        values = np.empty(200)
        state = white[0]
        for i in range(200):
            state = r * state + np.sqrt(1 - r * r) * white[i]
            values[i] = state
        mean, error = s.level(values)
        missed += abs(mean) > 3 * error
    assert missed / 300 < 0.03


def test_error_of_a_level_sees_a_slow_wander_below_louder_noise():
    rng = np.random.default_rng(3)
    errors, means = [], []
    for _ in range(200):
        wander, white = np.zeros(600), rng.normal(size=600)
        for i in range(1, 600):
            wander[i] = 0.97 * wander[i - 1] + 0.2 * white[i]
        mean, error = s.level(wander[200:] + rng.normal(size=400))
        means.append(mean)
        errors.append(error)
    assert np.std(means) < 3 * np.mean(errors)  # from the lag-1 correlation alone: 4.5 times


@FAST
@given(SEEDS, st.integers(3, 400))
def test_white_noise_is_worth_its_points(seed, n):
    assert 1.0 <= s.points_per_independent(noise(seed, n)) < (30.0 if n < 60 else 4.0)


@FAST
@given(SEEDS, st.integers(30, 300), st.floats(0.05, 1.0))
def test_fall_has_the_sign_of_the_trend(seed, n, slope):
    line = slope * np.arange(n)
    down, error = s.fall(noise(seed, n, 0.01) - line)
    up, _ = s.fall(noise(seed, n, 0.01) + line)
    assert down > 3 * error
    assert up < -3 * error


@FAST
@given(SEEDS, st.integers(8, 60), SCALES, st.floats(-5, 5))
def test_rise_is_unchanged_by_offset_and_scales_with_the_series(seed, n, scale, offset):
    values = noise(seed, n)
    plain, moved = s.rise_after_best(values), s.rise_after_best(scale * values + offset)
    assert (plain is None) == (moved is None)
    if plain is not None and moved is not None:
        assert moved.best == plain.best
        assert moved.rise == pytest.approx(scale * plain.rise, rel=1e-6, abs=1e-9 * scale)
        assert moved.beyond_noise == plain.beyond_noise


def test_rise_rarely_fires_on_white_noise_and_on_a_random_walk():
    rng = np.random.default_rng(3)
    alarms = {"white": 0, "walk": 0}
    for _ in range(500):
        white = rng.normal(size=30)
        for name, values in (("white", white), ("walk", np.cumsum(white))):
            rise = s.rise_after_best(values)
            alarms[name] += rise is not None and rise.rise > rise.threshold
    assert alarms["white"] <= 3
    assert alarms["walk"] <= 40  # an estimated wander of 30 points is itself uncertain; the rules ask for more evidence


def test_rise_finds_a_steady_climb():
    values = np.concatenate([np.linspace(3, 2, 10), np.linspace(2.02, 2.4, 20)]) + noise(4, 30, 0.01)
    rise = s.rise_after_best(values)
    assert rise is not None
    assert rise.beyond_noise
    assert abs(rise.best - 10) <= 2


@FAST
@given(SEEDS, st.integers(100, 400), st.floats(15, 100))
def test_a_jump_far_beyond_noise_is_found_where_it_is_and_said_to_be_over(seed, n, height):
    values = noise(seed, n)
    values[n // 2 : n // 2 + 3] += height
    found = [spike for spike in s.spikes(values) if spike.start == n // 2]
    assert len(found) == 1
    assert found[0].back is not None


def test_spikes_are_rare_in_noise_of_every_kind():
    rng = np.random.default_rng(5)
    kinds = {
        "normal": lambda: rng.normal(size=500),
        "heavy": lambda: rng.standard_t(4, 500),
        "falling": lambda: rng.normal(size=500) + 100 * np.exp(-np.arange(500) / 50),
        "walk": lambda: np.cumsum(rng.normal(size=500)) * 0.05 + rng.normal(size=500),
    }
    for name, draw in kinds.items():
        # tails of index 4 pass twice the lowest point in one run of 17
        allowed = 24 if name == "heavy" else 8
        assert sum(bool(s.spikes(draw())) for _ in range(200)) <= allowed, name


@FAST
@given(SEEDS, st.integers(20, 200), st.integers(20, 200), st.floats(6, 50))
def test_one_jump_of_the_level_is_one_change_point(seed, before, after, height):
    values = noise(seed, before + after)
    values[before:] += height
    cuts = s.change_points(values)
    assert any(abs(cut - before) <= 2 for cut in cuts)


def test_change_points_are_rare_in_noise():
    assert sum(bool(s.change_points(noise(seed, 300))) for seed in range(300)) <= 6


@FAST
@given(st.floats(0.3, 1.5), st.floats(0.5, 3.0), st.floats(1.0, 8.0))
def test_learning_curve_predicts_what_it_was_made_of(exponent, floor, amplitude):
    u = np.arange(1.0, 2001.0, 5.0)
    curve = fit_learning_curve(u, floor + amplitude * u**-exponent)
    assert curve is not None
    assert curve.at(4000.0) == pytest.approx(floor + amplitude * 4000.0**-exponent, abs=0.02 * amplitude)
    low, high = curve.between(4000.0)
    assert low <= curve.at(4000.0) <= high


def test_noise_widens_the_projection():
    u = np.arange(10.0, 2001.0, 10.0)
    clean = 2 + 8 * u**-0.5
    widths = []
    for sd in (0.01, 0.2):
        curve = fit_learning_curve(u, clean + noise(6, len(u), sd))
        assert curve is not None
        low, high = curve.between(8000.0)
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_decline_per_e_fold_is_the_slope_over_the_logarithm():
    u = np.arange(100.0, 1001.0)
    decline, error = decline_per_e_fold(u, 5 - 0.4 * np.log(u) + noise(7, len(u), 0.01))
    assert decline == pytest.approx(0.4, abs=4 * error + 1e-3)


@FAST
@given(st.floats(0.5, 12), st.floats(100, 1e9))
def test_more_validation_tokens_give_a_smaller_error(loss, tokens):
    assert s.validation_standard_error(loss, 4 * tokens) == pytest.approx(s.validation_standard_error(loss, tokens) / 2)
