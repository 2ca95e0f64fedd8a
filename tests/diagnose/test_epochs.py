"""Updates in an epoch by a log that counts both, and what settings in epochs are worth in its unit."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.diagnose.case import LEAST_PER_EPOCH, Case
from unstuck.diagnose.epochs import logged_updates_per_epoch
from unstuck.runs import Run, Series, Setting, Source


def _series(name: str, updates: list[int], values: list[float]) -> Series:
    return Series(name, np.array(updates), np.array(values, dtype=float), np.arange(len(updates)), "log")


def _run(steps: list[int], counted: list[float], evaluations: tuple[int, ...] = (), **settings: float) -> Run:
    run = Run("case", "made-up")
    run.series["epoch"] = _series("epoch", steps, counted)
    run.series["train/loss"] = _series("train/loss", steps, [1.0] * len(steps))
    if evaluations:
        run.series["val/loss"] = _series("val/loss", list(evaluations), [1.0] * len(evaluations))
    for name, value in settings.items():
        known = run.raw_settings if name == "warmup_epochs" else run.settings
        known[name] = Setting(value, name, Source("config"))
    return run


def test_fractions_of_an_epoch_to_their_digits() -> None:
    steps = list(range(10, 401, 10))
    assert logged_updates_per_epoch(_run(steps, [round(u / 37, 2) for u in steps])) == 37
    assert logged_updates_per_epoch(_run(steps[:2], [round(u / 37, 1) for u in steps[:2]])) is None  # 0.3, 0.5


@pytest.mark.parametrize("first", [0, 1])
def test_whole_epochs_of_every_update(first: int) -> None:
    steps = list(range(1, 101))
    assert logged_updates_per_epoch(_run(steps, [(u - 1) // 8 + first for u in steps])) == 8


def test_whole_epochs_whose_ends_the_rows_do_not_show_are_unknown_unless_an_evaluation_does() -> None:
    steps = list(range(5, 101, 5))
    epochs = [float((u - 1) // 50 + 1) for u in steps]
    assert logged_updates_per_epoch(_run(steps, epochs)) is None  # 50 to 54
    assert logged_updates_per_epoch(_run(steps, epochs, (50, 100))) == 50


def test_epochs_of_different_lengths_have_no_number() -> None:
    assert logged_updates_per_epoch(_run([10, 20, 40, 80], [1.0, 2.0, 3.0, 4.0])) is None


def test_a_plan_in_epochs_is_one_in_updates() -> None:
    steps = list(range(50, 501, 50))
    case = Case(_run(steps, [u / 50 for u in steps], tuple(steps), epochs=20, warmup_epochs=1.5))
    assert case.setting("updates") == case.planned_updates == 1000
    assert case.setting("warmup_updates") == 75


def test_a_run_that_goes_on_beyond_its_epochs_was_not_planned_by_them() -> None:
    steps = list(range(50, 501, 50))
    assert Case(_run(steps, [u / 50 for u in steps], tuple(steps), epochs=4)).setting("updates") is None


def test_a_log_of_epochs_counts_in_epochs() -> None:
    run = _run([1, 2, 3], [1.0, 2.0, 3.0], epochs=20, warmup_epochs=1.5, updates=1000, warmup_updates=75)
    run.axis = "epoch"
    case = Case(run)
    assert (case.setting("updates"), case.setting("warmup_updates")) == (20, 1.5)
    assert case.least_updates(3) == 3 * LEAST_PER_EPOCH
    assert case.step == "epoch"
