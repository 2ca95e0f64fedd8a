"""A repeat is found where it is, and chance is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.diagnose.periodic import at_period, searched
from unstuck.runs import Series


def series(values: np.ndarray) -> Series:
    updates = np.arange(1, len(values) + 1)
    return Series("train/loss", updates, values, updates, "made-up")


@pytest.mark.parametrize("kind", ["white", "heavy tails", "AR(1)"])
def test_shuffled_losses_with_the_sawtooth_of_their_epochs_do_not_repeat(kind: str):
    """300 runs: at one false alarm in a thousand, two are seen in fewer than four of a hundred such tests."""
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        n = int(rng.integers(100, 1200))
        period = int(rng.integers(12, n // 4))
        noise = rng.standard_t(3, n) if kind == "heavy tails" else rng.normal(size=n)
        if kind == "AR(1)":
            for i in range(1, n):
                noise[i] += 0.8 * noise[i - 1]
        u = np.arange(n)
        loss = series(2 + np.exp(-u / (n / 5)) - 0.1 * (u // period) - 0.05 * (u % period) / period + 0.03 * noise)
        known = at_period(loss, period)
        alarms += (known is not None and known.repeats) or searched(loss) is not None
    assert alarms <= 1


def test_the_same_batches_in_the_same_order_repeat():
    rng = np.random.default_rng(1)
    batches = rng.normal(size=50)
    u = np.arange(400)
    loss = series(1 + np.exp(-u / 100) + 0.05 * batches[u % 50] + rng.normal(0, 0.03, 400))
    found = at_period(loss, 50)
    assert found is not None
    assert found.repeats
    assert 0.5 < found.correlation < 0.9  # 0.05^2 / (0.05^2 + 0.03^2) = 0.74
    other = at_period(loss, 47)
    assert other is not None
    assert not other.repeats
    free = searched(loss)
    assert free is not None
    assert free.period == 50


def test_a_constant_or_short_loss_says_nothing():
    assert searched(series(np.ones(200))) is None
    assert at_period(series(np.ones(200)), 20) is None
    assert at_period(series(np.arange(20.0)), 5) is None
