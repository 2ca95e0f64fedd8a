"""What the clock of a log tells about its steps."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.runs.clock import Track, counted_on, epochs_only, reference, step_times, steps_by_clock


def track(steps: list[int] | range, seconds_per_step: float = 1.0, start: float = 1.7e9) -> Track:
    return Track(np.array(steps), start + seconds_per_step * np.arange(len(steps)))


def test_the_reference_is_what_training_logs_most_often() -> None:
    tracks = {"val_loss": track(range(500)), "loss": track(range(20)), "lr": track(range(200)), "x": track(range(900))}
    assert reference(tracks) == "lr"
    assert reference({"x": track(range(9)), "val_x": track(range(99)), "epoch": track(range(50))}) == "x"
    assert reference({"val_loss": track(range(9))}) is None


def test_steps_that_agree_are_left_alone() -> None:
    loss = track(range(0, 1000, 10))
    late = Track(loss.steps[9::10], loss.walls[9::10] + 0.4)  # an evaluation, logged a moment later
    early = Track(loss.steps, loss.walls - 0.01)  # written just before the loss of the same update
    sparse = Track(loss.steps[:3], loss.walls[:3])
    assert steps_by_clock({"loss": loss, "a": late, "b": early, "c": sparse}, "loss") == {}


def test_epochs_and_samples_are_put_at_their_update() -> None:
    loss = track(range(0, 10_000, 10))
    epochs = Track(np.arange(10), loss.walls[99::100] + 0.1)
    samples = Track(loss.steps * 256, loss.walls + 0.001)
    found = steps_by_clock({"loss": loss, "val": epochs, "by samples": samples}, "loss")
    assert found["val"].tolist() == list(range(990, 10_000, 1000))
    assert found["by samples"].tolist() == loss.steps.tolist()


def test_times_that_tell_nothing_change_nothing() -> None:
    loss = Track(np.arange(0, 1000, 10), np.full(100, 1.7e9))
    epochs = Track(np.arange(10), np.full(10, 1.7e9))
    assert steps_by_clock({"loss": loss, "val": epochs}, "loss") == {}
    first_all, then_all = track(range(0, 1000, 10), 1e-5), track(range(10), 1e-5, start=1.7e9 + 1)
    assert steps_by_clock({"loss": first_all, "val": then_all}, "loss") == {}  # written one after the other


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([0, 5, 10] * 3, [0, 5, 10, 15, 20, 25, 30, 35, 40]),
        ([0, 5, 10, 0, 5, 10, 0, 5], [0, 5, 10, 15, 20, 25, 30, 35]),  # still running
        ([0, 5, 10, 0, 5, 10], None),  # may be a second training in the same notebook
        ([0, 5, 10, 0, 5, 0, 5, 10], None),
        ([0, 5, 10, 15], None),
        ([10, 0, 10, 0], None),
    ],
)
def test_steps_that_begin_again_with_each_epoch(steps: list[int], expected: list[int] | None) -> None:
    found = counted_on(np.array(steps))
    assert (None if found is None else found.tolist()) == expected


def test_step_times_leave_interruptions_and_restarts_out() -> None:
    walls = np.array([0.0, 1, 2, 12, 13, 14, 15])
    found = step_times(Track(np.array([0, 10, 20, 30, 40, 5, 15]), walls), [np.array([11.5])])
    assert found is not None
    ends, milliseconds = found
    assert ends.tolist() == [1, 2, 4, 6]
    assert milliseconds == pytest.approx([100.0] * 4)


def test_values_written_in_bursts_have_no_step_time() -> None:
    walls = np.concatenate([epoch * 60 + 1e-3 * np.arange(50) for epoch in range(4)])
    assert step_times(Track(np.arange(200), walls), []) is None


def test_a_validation_at_every_step_means_epochs() -> None:
    both = {"train_loss": track(range(20)), "val_loss": track(range(20))}
    assert epochs_only(both)
    assert not epochs_only({**both, "epoch": track(range(20))})  # then the step is something else
    assert not epochs_only({"train_loss": track(range(20)), "val_loss": track(range(0, 20, 5))})
    assert not epochs_only({"train_loss": track(range(0, 100, 5)), "val_loss": track(range(0, 100, 5))})
