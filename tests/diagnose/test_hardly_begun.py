"""Runs that have only begun, on the clock of their learning rate: found where they have, and hardly ever elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.diagnose.case import Case
from unstuck.diagnose.hardly_begun import SHARE_OF_DESCENT, STEEP, only_begun, path_of_sgd
from unstuck.diagnose.slopes import gain_ahead
from unstuck.runs import Run, Series, Setting, Source

RUNS = 200
UPDATES = 400


def series(name: str, values: np.ndarray) -> Series:
    updates = np.linspace(UPDATES / len(values), UPDATES, len(values)).round().astype(np.int64)
    return Series(name, updates, values, updates, "log")


def case_of(loss: np.ndarray, rate: np.ndarray, **settings: object) -> Case:
    logged = {"train/loss": series("train/loss", loss), "lr/all": series("lr/all", rate)}
    told = {name: Setting(value, name, Source("log")) for name, value in settings.items()}
    return Case(Run("log", "made", series=logged, settings=told))


def annealed(points: int) -> tuple[np.ndarray, np.ndarray]:
    """A linear decay to 0 and the work that it has done, 0 to 1."""
    share = np.linspace(1 / points, 1.0, points)
    return 1e-3 * (1 - share), 2 * share - share**2


@pytest.mark.parametrize("points", [10, 40, 200])
@pytest.mark.parametrize("times", [2.0, 10.0])
def test_a_curve_below_the_threshold_hardly_ever_passes(points: int, times: float):
    """L = E + A S^-1/2 whose decline at the end is 0.8 of what counts as steep; two standard errors: 2.3 %."""
    rng = np.random.default_rng(3)
    rate, work = annealed(points)
    decline = 0.8 * STEEP / (gain_ahead(times) / gain_ahead(2.0))
    loss = 1 + 2 * decline * (work**-0.5 - 1)
    passed = sum(
        only_begun(case_of(loss + 0.02 * rng.normal(size=points), rate), times) is not None for _ in range(RUNS)
    )
    assert passed <= 0.03 * RUNS


@pytest.mark.parametrize("points", [10, 40, 200])
def test_a_settled_curve_hardly_ever_passes(points: int):
    rng = np.random.default_rng(4)
    rate, work = annealed(points)
    loss = 1 + 3 * np.exp(-8 * work)
    passed = sum(
        only_begun(case_of(loss + 0.05 * rng.normal(size=points), rate), 10.0) is not None for _ in range(RUNS)
    )
    assert passed <= 0.03 * RUNS  # two standard errors: 2.3 %


@pytest.mark.parametrize("points", [10, 40, 200])
def test_a_curve_that_has_only_begun_passes(points: int):
    rate, work = annealed(points)
    noise = 0.01 * np.random.default_rng(5).normal(size=points)
    found = only_begun(case_of(4 - 1.5 * work + noise, rate), 10.0)
    assert found is not None
    assert found.decline.low > found.threshold > SHARE_OF_DESCENT
    assert found.series.updates[0] <= found.decline.first < UPDATES


def test_a_path_of_sgd_goes_with_the_rate_and_stands_where_norms_or_sizes_are_unknown():
    rate, work = annealed(40)
    settings = {"optimizer": "sgd", "task": "classification", "layers": 2, "width": 64, "start": "fresh"}
    case = case_of(2 - work, rate, **settings)
    assert path_of_sgd(case) is None
    paths = []
    for factor in (1.0, 10.0):
        case = case_of(2 - work, factor * rate, **settings)
        case.run.series["grad_norm/preclip"] = series("grad_norm/preclip", np.full(40, 0.5))
        path = path_of_sgd(case)
        assert path is not None
        paths.append(path)
    # 400 updates at 5e-4 on average, a norm of 0.5 and a momentum of 0.9, over weights of 2 x 64 x 64 x 1 / (3 x 64)
    assert paths[0] == pytest.approx(400 * 5e-4 * 0.5 * 10 / (2 * 64 / 3) ** 0.5, rel=0.05)
    assert paths[1] == pytest.approx(10 * paths[0])
