"""Training over validation loss, with the lag of an epoch's mean taken out."""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.guessing import SATURATED, classes_that_fit
from unstuck.diagnose.loss_ratios import at_evaluations, before_memorising, over_epochs
from unstuck.runs import Run, Series


def case_of(**series: tuple[np.ndarray, np.ndarray]) -> Case:
    run = Run("train.log", "made-up")
    for name, (updates, values) in series.items():
        plain = name.replace("_", "/")
        run.series[plain] = Series(plain, updates.astype(np.int64), values, updates.astype(np.int64), "train.log")
    return Case(run)


def test_the_mean_of_an_exponential_epoch_is_in_step_with_validation():
    updates = np.arange(0.0, 1001.0, 100.0)
    val = 2.3 * np.exp(-updates / 250)
    means = 2.3 * 250 / 100 * (np.exp(-(updates[1:] - 100) / 250) - np.exp(-updates[1:] / 250))
    case = case_of(train_loss=(updates[1:], means), val_loss=(updates, val))
    assert np.allclose(over_epochs(case).values, 1.0)
    assert at_evaluations(case).values.min() > 1.2  # beside the evaluation at its end every mean is too high
    assert len(before_memorising(case).values) == 5


def test_single_batches_leave_their_noise():
    rng = np.random.default_rng(1)
    updates = np.arange(5.0, 401.0, 5.0)
    case = case_of(
        train_loss=(updates, 2.0 + rng.normal(0, 0.2, len(updates))),
        val_loss=(updates[9::10], np.full(8, 2.0)),
    )
    found = at_evaluations(case)
    assert 0.02 < found.noise < 0.09  # 10 % over the root of five points, as the noise of 40 is known
    assert np.abs(found.values - 1).max() < 4 * found.noise


def test_rows_of_training_alone_are_no_epochs():
    updates = np.arange(5.0, 401.0, 5.0)
    case = case_of(train_loss=(updates, np.full(80, 2.0)), val_loss=(updates[9::10], np.full(8, 2.0)))
    assert len(over_epochs(case).values) == 0


def test_guessing_needs_loss_and_accuracy_to_agree():
    assert classes_that_fit(2.3026, 0.1) == 10
    assert classes_that_fit(2.3026, 0.6) is None
    assert classes_that_fit(1.9, 0.15) is None


def test_the_clipped_logarithms_of_zero():
    # keras 2.x, binary_crossentropy and categorical_crossentropy at epsilon 1e-7, as many issues print them
    assert [round(cost, 4) for cost in SATURATED] == [16.1181, 15.9424, 15.4249, 15.3332, 100.0]
