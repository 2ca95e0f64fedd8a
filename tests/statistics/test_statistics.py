"""Properties of the functions that rules take their thresholds from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.diagnose import statistics as s
from unstuck.diagnose.slopes import robust_slope

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
    assert 1.0 <= s.points_per_independent(noise(seed, n)) < (max(1.01, n / 2) if n < 60 else 8.0)


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


@FAST
@given(SEEDS, st.integers(50, 200), st.integers(50, 200), st.floats(8, 50))
def test_one_jump_of_the_level_is_one_change_point(seed, before, after, height):
    values = noise(seed, before + after)
    values[before:] += height
    cuts = s.change_points(values)
    assert any(abs(cut - before) <= 2 for cut in cuts)


@FAST
@given(st.floats(0.5, 12), st.floats(100, 1e9))
def test_more_validation_tokens_give_a_smaller_error(loss, tokens):
    assert s.validation_standard_error(loss, 4 * tokens) == pytest.approx(s.validation_standard_error(loss, tokens) / 2)


@FAST
@given(SEEDS, st.integers(12, 300), SCALES, st.floats(-100, 100))
def test_levels_and_falls_move_with_the_series(seed, n, scale, offset):
    values = noise(seed, n).cumsum() / 3 + noise(seed + 1, n)
    (mean, error), (fall, fall_error) = s.level(values), s.fall(values)
    moved, moved_error = s.level(scale * values + offset)
    assert moved == pytest.approx(scale * mean + offset, rel=1e-6, abs=1e-6 * scale)
    assert moved_error == pytest.approx(scale * error, rel=1e-6)
    assert s.fall(scale * values + offset) == pytest.approx(
        (scale * fall, scale * fall_error), rel=1e-5, abs=1e-6 * scale
    )


@FAST
@given(SEEDS, st.integers(12, 300))
def test_read_backwards_a_fall_is_a_rise_and_noise_is_the_same(seed, n):
    values = noise(seed, n).cumsum() / 3 + noise(seed + 1, n)
    back = values[::-1].copy()
    fall, error = s.fall(values)
    assert s.fall(back) == pytest.approx((-fall, error), rel=1e-6, abs=1e-9)
    assert s.level(back) == pytest.approx(s.level(values), rel=1e-9, abs=1e-9)
    assert s.noise_sd(back) == pytest.approx(s.noise_sd(values), rel=1e-9)
    assert s.lag1(back) == pytest.approx(s.lag1(values), abs=1e-9)
    assert s.memory_of_differences(back) == pytest.approx(s.memory_of_differences(values), rel=1e-9)
    np.testing.assert_allclose(s.trend(back), s.trend(values)[::-1], atol=1e-9)


@FAST
@given(SEEDS, st.integers(12, 300), SCALES, st.floats(-100, 100))
def test_trend_moves_with_the_series_and_memory_has_no_unit(seed, n, scale, offset):
    values = noise(seed, n).cumsum()
    np.testing.assert_allclose(
        s.trend(scale * values + offset), scale * s.trend(values) + offset, rtol=1e-6, atol=1e-6 * scale
    )
    rest = s.residuals(values)
    assert s.points_per_independent(scale * rest) == pytest.approx(s.points_per_independent(rest), rel=1e-6)
    r, noise_of = s.memory_of_differences(values)
    assert s.memory_of_differences(scale * values + offset) == pytest.approx((r, scale * noise_of), rel=1e-6, abs=1e-6)


@FAST
@given(SEEDS, st.integers(100, 300), SCALES, st.floats(-100, 100))
def test_spikes_and_jumps_stay_where_they_are_when_the_unit_changes(seed, n, scale, offset):
    values = noise(seed, n)
    values[n // 3 : n // 3 + 4] += 60.0
    values[2 * n // 3 :] += 12.0
    moved = scale * values + offset
    assert [spike.start for spike in s.spikes(moved)] == [spike.start for spike in s.spikes(values)]
    assert s.change_points(moved) == s.change_points(values)


@FAST
@given(SEEDS, st.integers(40, 300), st.floats(20, 50))
def test_read_backwards_a_jump_is_in_the_mirrored_place(seed, n, height):
    values = noise(seed, n)
    values[n // 2 :] += height
    mirrored = [n - cut for cut in reversed(s.change_points(values[::-1].copy()))]
    assert mirrored == s.change_points(values)


@FAST
@given(SEEDS, st.integers(5, 200), st.floats(0.1, 100), st.floats(-10, 10), st.floats(-10, 10))
def test_robust_slope_moves_with_the_line(seed, n, scale, offset, slope):
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.uniform(0, 10, n)), rng.normal(size=n)
    found, error = robust_slope(x, y)
    tolerance = max(1e-6, 0.02 * error)  # both stop a few steps before the solution
    assert robust_slope(x, y + offset + slope * x)[0] == pytest.approx(found + slope, abs=tolerance)
    assert robust_slope(x, scale * y)[0] == pytest.approx(scale * found, abs=scale * tolerance)
    assert robust_slope(-x[::-1], y[::-1].copy())[0] == pytest.approx(-found, abs=tolerance)


def test_error_of_a_robust_slope_holds_in_noise_with_memory():
    rng = np.random.default_rng(8)
    x, missed = np.linspace(0, 1, 200), 0
    for _ in range(200):
        values = np.convolve(rng.normal(size=220), np.ones(21) / 21, "valid")
        slope, error = robust_slope(x, 3 * x + values)
        missed += abs(slope - 3) > 3 * error
    assert missed / 200 <= 0.05


def test_an_exact_line_has_its_slope_and_no_error():
    assert robust_slope(np.arange(9.0), 2 * np.arange(9.0)) == (pytest.approx(2.0), pytest.approx(0.0, abs=1e-9))


@pytest.mark.parametrize("x", [np.arange(4.0), np.ones(20)])
def test_no_slope_without_five_points_at_two_places(x):
    assert np.isnan(robust_slope(x, np.arange(len(x), dtype=float))).all()


@FAST
@given(SEEDS, st.integers(50, 400), st.floats(1.0, 6.0))
def test_skew_lengthens_the_upper_tail_alone(seed, n, z):
    heavy_above = np.exp(noise(seed, n))
    assert s.skewed(z, heavy_above) > z
    assert s.skewed(z, -heavy_above) == z


def test_skewed_quantile_is_that_of_the_log_normal_it_was_made_of():
    rng = np.random.default_rng(9)
    draws = np.exp(0.5 * rng.normal(size=100_000))
    # in units of the spread around the median, 0.5: (exp(0.5 z) - 1) / 0.5
    assert s.skewed(4.0, draws - 1) == pytest.approx(np.expm1(2.0) / 0.5, rel=0.05)


def test_five_rising_points_are_no_rise_in_a_long_series():
    values = np.concatenate([noise(10, 40, 1.0), np.array([-0.2, -0.1, 0.0, 0.1, 0.2])])
    rise = s.rise_after_best(values)
    assert rise is not None
    assert not rise.beyond_noise
