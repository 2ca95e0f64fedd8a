"""A long series is examined at fewer points, and nothing that a rule would call is lost."""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.statistics import lag1, noise_sd
from unstuck.diagnose.thin import MOST_POINTS, thin, thinned
from unstuck.runs import Run, Series


def _series(values: np.ndarray) -> Series:
    n = len(values)
    return Series("train/loss", np.arange(n), values, np.arange(1, n + 1), "log")


def test_short_series_stay_as_they_are() -> None:
    run = Run("log", "test", series={"train/loss": _series(np.linspace(3, 2, 1000))})
    assert thin(run) is run


def test_noise_level_and_ends_are_kept() -> None:
    rng = np.random.default_rng(0)
    values = 3 + np.exp(-np.arange(500_000) / 1e5) + rng.normal(0, 0.05, 500_000)
    short = thinned(_series(values))
    assert len(short) <= MOST_POINTS + 1
    assert (short.updates[0], short.updates[-1]) == (0, 499_999)
    assert abs(noise_sd(short.values) / 0.05 - 1) < 0.03
    assert (
        abs(lag1(short.values - np.interp(short.updates, np.arange(500_000), 3 + np.exp(-np.arange(500_000) / 1e5))))
        < 0.02
    )


def test_one_spike_and_one_nan_in_a_million_points_are_seen() -> None:
    rng = np.random.default_rng(1)
    values = 3 + rng.normal(0, 0.05, 1_000_000)
    values[123_457] = 9.0
    values[765_432] = np.nan
    short = thinned(_series(values))
    assert 123_457 in short.updates
    assert 765_432 in short.updates
    assert str(short.source(int(np.flatnonzero(short.updates == 123_457)[0]))) == "log:123458"
