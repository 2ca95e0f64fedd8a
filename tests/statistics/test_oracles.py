"""The statistics against scipy, statsmodels and ruptures (extra dev)."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.statistics.noises import NOISES, autoregressive
from unstuck.diagnose import statistics as s
from unstuck.diagnose.slopes import robust_slope

ruptures = pytest.importorskip("ruptures", reason="needs the extra dev: pip install -e '.[dev]'")
statsmodels = pytest.importorskip("statsmodels.api", reason="needs the extra dev: pip install -e '.[dev]'")
scipy_stats = pytest.importorskip("scipy.stats", reason="needs the extra dev: pip install -e '.[dev]'")

SEEDS = st.integers(0, 2**32 - 1)
FAST = settings(max_examples=25, deadline=None)


@FAST
@given(SEEDS, st.integers(1, 300), st.sampled_from(sorted(NOISES)))
def test_mad_sd_is_scipys(seed: int, n: int, kind: str) -> None:
    values = NOISES[kind](np.random.default_rng(seed), n)
    expected = scipy_stats.median_abs_deviation(values, scale="normal")
    assert s.mad_sd(values) == pytest.approx(expected, rel=1e-4, abs=1e-12)


@FAST
@given(SEEDS, st.integers(20, 300), st.sampled_from([3, 5, 11]))
def test_running_median_is_scipys_within_the_ends(seed: int, n: int, window: int) -> None:
    from scipy.ndimage import median_filter

    values = np.random.default_rng(seed).normal(size=n)
    half = window // 2
    np.testing.assert_array_equal(
        s.running_median(values, window)[half:-half], median_filter(values, size=window)[half:-half]
    )


@FAST
@given(SEEDS, st.integers(3, 300))
def test_lag1_is_statsmodels_autocorrelation(seed: int, n: int) -> None:
    from statsmodels.tsa.stattools import acf

    values = np.random.default_rng(seed).normal(size=n)
    assert s.lag1(values) == pytest.approx(acf(values, nlags=1, fft=False)[1], abs=1e-12)


@given(st.floats(1, 1e9), st.sampled_from([1e-4, 1e-3, 0.05]))
@FAST
def test_false_alarm_z_is_the_normal_quantile(looks: float, alpha: float) -> None:
    assert s.false_alarm_z(looks, alpha) == pytest.approx(scipy_stats.norm.isf(alpha / looks), rel=1e-6)


@pytest.mark.parametrize("points", [15, 30, 100, 1000])
@pytest.mark.parametrize("z", [2.0, 3.1, 4.0])
def test_student_z_is_students_quantile(points: int, z: float) -> None:
    expected = scipy_stats.t.isf(1 - NormalDist().cdf(z), 0.37 * points)
    # an expansion of second order: below the exact quantile by up to a third far out in the tail of few points
    assert s.student_z(z, points) == pytest.approx(
        expected, rel=0.35 if points == 15 else 0.1 if points == 30 else 0.01
    )


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6, 0.8])
def test_error_of_a_level_is_that_of_newey_and_west(r: float) -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(60):
        values = autoregressive(rng, 400, r)
        line = statsmodels.add_constant(np.arange(400) - 199.5)
        fit = statsmodels.OLS(values, line).fit(cov_type="HAC", cov_kwds={"maxlags": 30})
        ratios.append(s.level(values)[1] / fit.bse[0])
    assert 0.9 <= np.median(ratios) <= 1.35  # Bartlett's weights make HAC rather small


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6, 0.8])
def test_points_per_independent_are_those_of_the_process(r: float) -> None:
    rng = np.random.default_rng(2)
    found = [s.points_per_independent(autoregressive(rng, 1000, r)) for _ in range(60)]
    assert np.median(found) == pytest.approx((1 + r) / (1 - r), rel=0.25)


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6, 0.8])
def test_memory_of_differences_is_that_of_the_process_jumps_or_not(r: float) -> None:
    rng = np.random.default_rng(3)
    jumps = np.repeat(rng.normal(0, 10, 5), 200) + np.linspace(0, 3, 1000)
    found = np.array([s.memory_of_differences(jumps + autoregressive(rng, 1000, r)) for _ in range(60)])
    assert np.median(found[:, 0]) == pytest.approx(r, abs=0.07)
    assert np.median(found[:, 1]) == pytest.approx(np.sqrt((1 + r) / (1 - r)), rel=0.15)


@FAST
@given(SEEDS, st.integers(60, 300), st.integers(1, 3), st.floats(4, 20))
def test_change_points_are_those_of_binary_segmentation_in_ruptures(
    seed: int, n: int, jumps: int, height: float
) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(np.arange(15, n - 15), jumps, replace=False))
    assume(jumps == 1 or np.diff(at).min() >= 15)
    values = rng.normal(size=n) + height * np.searchsorted(at, np.arange(n), side="right")
    _, noise = s.memory_of_differences(values)
    penalty = (s.false_alarm_z(2 * n) * noise) ** 2  # a cut gains the square of its CUSUM statistic
    cut = ruptures.Binseg(model="l2", min_size=5, jump=1).fit(values).predict(pen=penalty)
    assert s.change_points(values) == cut[:-1]


@pytest.mark.parametrize("r", [0.0, 0.3])
def test_change_points_are_those_of_pelt_where_jumps_are_clear(r: float) -> None:
    rng = np.random.default_rng(4)
    for _ in range(6):
        values = autoregressive(rng, 300, r) + np.repeat([0.0, 6.0, 1.0], 100)
        _, noise = s.memory_of_differences(values)
        best = (
            ruptures.Pelt(model="l2", min_size=5, jump=1).fit(values).predict(pen=(s.false_alarm_z(600) * noise) ** 2)
        )
        found = s.change_points(values)
        assert len(found) == len(best) - 1
        assert all(abs(ours - theirs) <= 2 for ours, theirs in zip(found, best, strict=False))


@FAST
@given(SEEDS, st.integers(20, 200), st.floats(-5, 5), st.sampled_from(["white", "heavy tails", "log-normal"]))
def test_robust_slope_is_hubers(seed: int, n: int, slope: float, kind: str) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 3, n))
    y = 1 + slope * x + NOISES[kind](rng, n)
    huber = statsmodels.RLM(y, statsmodels.add_constant(x), M=statsmodels.robust.norms.HuberT()).fit()
    found, error = robust_slope(x, y)
    # statsmodels takes the MAD about 0, not about the median: the two differ by less than an error
    assert abs(found - huber.params[1]) <= 0.3 * huber.bse[1]
    assert 0.8 * huber.bse[1] <= error
    assert error <= np.sqrt(n / 3) * huber.bse[1]


def test_robust_slope_is_close_to_theil_and_sen_with_wild_points() -> None:
    rng = np.random.default_rng(5)
    x = np.linspace(0, 1, 200)
    y = 2 - 3 * x + 0.1 * rng.normal(size=200)
    y[::20] += 50
    theil_sen = scipy_stats.theilslopes(y, x).slope
    found, error = robust_slope(x, y)
    assert found == pytest.approx(-3, abs=5 * error)
    assert found == pytest.approx(theil_sen, abs=0.15)


def test_trend_follows_a_local_regression() -> None:
    from statsmodels.nonparametric.smoothers_lowess import lowess

    rng = np.random.default_rng(6)
    curve = 2 + 3 * np.exp(-np.arange(600) / 150)
    values = curve + 0.1 * rng.normal(size=600)
    smooth = lowess(values, np.arange(600), frac=0.08, return_sorted=False)
    ours = s.trend(values)
    assert np.sqrt(np.mean((ours - curve) ** 2)) <= 1.6 * np.sqrt(np.mean((smooth - curve) ** 2))
