import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.data import DataOrder


@settings(max_examples=60, deadline=None)
@given(windows=st.integers(1, 40), batch=st.integers(1, 50), seed=st.integers(0, 2**32), epochs=st.integers(1, 3))
def test_every_window_is_seen_exactly_once_an_epoch(windows: int, batch: int, seed: int, epochs: int) -> None:
    order = DataOrder(windows, batch, seed)
    steps = -(-windows * epochs // batch)
    seen = np.concatenate([order.batch(step) for step in range(steps)])
    for epoch in range(epochs):
        assert sorted(seen[epoch * windows : (epoch + 1) * windows]) == list(range(windows))


def test_a_batch_depends_on_its_position_alone() -> None:
    straight = DataOrder(1000, 12, seed=3)
    batches = [straight.batch(step) for step in range(300)]
    resumed = DataOrder(1000, 12, seed=3)
    for step in (299, 0, 150, 83, 84, 250):
        assert np.array_equal(resumed.batch(step), batches[step])


def test_epochs_and_seeds_have_different_orders() -> None:
    order = DataOrder(100, 100, seed=1)
    assert not np.array_equal(order.batch(0), order.batch(1))
    assert not np.array_equal(order.batch(0), DataOrder(100, 100, seed=2).batch(0))
    assert not np.array_equal(order.batch(0), np.arange(100))
