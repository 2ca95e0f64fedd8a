"""The gap between validation and training before anything was seen twice: bounds, and error rates by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.diagnose.case import Case
from unstuck.diagnose.gap import end_of_first_epoch, gap_at_start, one_row_per_epoch
from unstuck.diagnose.statistics import Floats
from unstuck.runs import Run, Series, Setting, Source


def run_of(settings: dict[str, object], **series: tuple[Floats, Floats]) -> Case:
    run = Run("made-up", "made-up")
    for name, (updates, values) in series.items():
        name = name.replace("_", "/")
        lines = np.arange(1, len(updates) + 1)
        run.series[name] = Series(name, updates.astype(np.int64), values, lines, run.source)
    for key, value in settings.items():
        run.settings[key] = Setting(value, key, Source(run.source))
    return Case(run)


def rows(train: Floats, val: Floats, **settings: object) -> Case:
    epochs = np.arange(1.0, len(train) + 1)
    return run_of(
        settings, train_loss=(epochs * 100, train), val_loss=(epochs * 100, val), epoch=(epochs * 100, epochs)
    )


@given(
    start=st.floats(0.5, 5),
    floor=st.floats(0.01, 1),
    knee=st.floats(0.05, 20),
    exponent=st.floats(0.2, 3),
    epochs=st.integers(5, 30),
)
def test_a_convex_curve_has_no_gap_by_its_rows(
    start: float, floor: float, knee: float, exponent: float, epochs: int
) -> None:
    """Rows are means over the epoch, validation is the same curve at its end: never above the mean of two rows."""
    fine = (np.arange(100 * epochs) + 0.5) / 100
    means = (floor + start * (1 + fine / knee) ** -exponent).reshape(epochs, 100).mean(axis=1)
    ends = floor + start * (1 + np.arange(1.0, epochs + 1) / knee) ** -exponent
    case = rows(means, ends)
    assert one_row_per_epoch(case)
    gap = gap_at_start(case)
    assert gap is not None
    assert gap.early <= 1e-9 * start


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=12),
    st.integers(0, 3),
    st.sampled_from(["whole", "parts", "none"]),
)
def test_any_few_points_give_an_answer_or_none(values: list[float], offset: int, epochs: str) -> None:
    updates = np.arange(1.0, len(values) + 1) * 7
    counted = {"whole": updates // 7 - offset, "parts": updates / 20, "none": None}[epochs]
    series = {"train_loss": (updates, np.array(values[::-1])), "val_loss": (updates + offset, np.array(values))}
    if counted is not None:
        series["epoch"] = (updates, counted)
    case = run_of({}, **series)
    end = end_of_first_epoch(case)
    assert end is None or end >= 0
    gap = gap_at_start(case)
    assert gap is None or (np.isfinite(gap.early) and gap.threshold >= 0)


def shifted(gap: float, tokens: int, seed: int) -> bool:
    """Whether a run has a gap whose validation set of so many tokens has its own error, the same each time."""
    rng = np.random.default_rng(seed)
    u = np.arange(1.0, 601)
    at = np.arange(50.0, 601, 50)
    curve = 2.5 + 5 * (1 + u / 30) ** -0.6
    sample = float(rng.normal()) / np.sqrt(tokens)
    val = (np.interp(at, u, curve) + gap) * (1 + sample) + rng.normal(0, 0.01, len(at))
    known = {"train_tokens": 10**9, "batch_size": 8, "context": 64, "vocabulary": 1000, "validation_tokens": tokens}
    case = run_of(
        {**known, "task": "causal-lm"}, train_loss=(u, curve + rng.normal(0, 0.1, len(u))), val_loss=(at, val)
    )
    found = gap_at_start(case)
    return found is not None and found.early > found.threshold and not found.grows and not found.closes


@pytest.mark.parametrize("tokens", [30, 300, 100_000])
def test_a_validation_set_of_the_same_text_is_not_called_shifted_however_small(tokens: int) -> None:
    """The limit is one in a thousand; more than 3 of 500 would be seen by chance in 1 of 500 such tests."""
    assert sum(shifted(0.0, tokens, seed) for seed in range(500)) <= 3


def test_a_gap_of_a_fifth_is_seen_with_enough_tokens_and_not_with_thirty() -> None:
    assert sum(shifted(0.8, 100_000, seed) for seed in range(50)) >= 48
    assert sum(shifted(0.8, 30, seed) for seed in range(50)) <= 10


def test_epochs_are_counted_in_parts_in_whole_numbers_or_by_the_settings() -> None:
    u = np.arange(10.0, 301, 10)
    flat = np.full(len(u), 2.0)
    assert end_of_first_epoch(run_of({}, train_loss=(u, flat), epoch=(u, u / 100))) == 100
    assert end_of_first_epoch(run_of({}, train_loss=(u, flat), epoch=(u, u / 600))) == pytest.approx(600)
    assert end_of_first_epoch(run_of({}, train_loss=(u, flat), epoch=(u, 1 + (u - 1) // 100))) == 100
    assert end_of_first_epoch(run_of({}, train_loss=(u, flat), epoch=(u, 4 + u / 100))) == 0
    by_samples = {"train_samples": 6400, "batch_size": 16, "accumulation": 4}
    assert end_of_first_epoch(run_of(by_samples, train_loss=(u, flat))) == 100
    assert end_of_first_epoch(run_of({}, train_loss=(u, flat))) is None


@pytest.mark.parametrize(("epochs_to_remember", "most"), [(1.0, 0.45), (2.0, 0.03), (4.0, 0.01)])
def test_rows_of_a_model_that_remembers_are_never_surely_shifted(epochs_to_remember: float, most: float) -> None:
    """After the first pass it forgets nothing: the training loss falls by up to 95 %, validation does not notice."""
    called = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        epochs, knee, floor = int(rng.integers(8, 20)), float(rng.uniform(0.3, 4)), float(rng.uniform(0.3, 0.9))
        t = (np.arange(100 * epochs) + 0.5) / 100
        remembered = 1 - np.exp(-np.maximum(0.0, t - 1) / epochs_to_remember)
        train = (floor + (2.3 - floor) / (1 + t / knee)) * (1 - float(rng.uniform(0.4, 0.95)) * remembered)
        ends = floor + (2.3 - floor) / (1 + np.arange(1, epochs + 1) / knee)
        val = ends * np.exp(rng.normal(0, 0.03, epochs))
        gap = gap_at_start(rows(train.reshape(epochs, 100).mean(axis=1), val, task="classification"))
        if gap is not None and gap.early > gap.threshold and not gap.grows and not gap.closes:
            assert not gap.sure
            called += 1
    assert called <= most * 200


@pytest.mark.parametrize(("per_epoch", "remembers"), [(40, False), (40, True), (150, True), (900, False)])
def test_the_same_text_shows_no_gap_within_the_first_epoch_whatever_comes_after(
    per_epoch: int, remembers: bool
) -> None:
    """Evaluated every 40 updates of 600; memory from the second epoch on takes up to 95 % of the training loss."""
    called = sure = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        u, at = np.arange(5.0, 601, 5), np.arange(40.0, 601, 40)
        floor, knee = float(rng.uniform(0.3, 2.0)), float(rng.uniform(10, 100))
        remembered = 1 - np.exp(-np.maximum(0.0, u / per_epoch - 1) / float(rng.uniform(1, 6)))
        train = (floor + (3.0 - floor) / (1 + u / knee)) * (1 - remembers * float(rng.uniform(0.4, 0.95)) * remembered)
        rises = remembers * float(rng.uniform(0, 1.0)) * np.maximum(0.0, at / per_epoch - 1) / 5
        val = (floor + (3.0 - floor) / (1 + at / knee)) * (1 + rises)
        train, val = train + rng.normal(0, 0.05, len(u)), val * np.exp(rng.normal(0, 0.02, len(at)))
        gap = gap_at_start(run_of({}, train_loss=(u, train), val_loss=(at, val), epoch=(u, u / per_epoch)))
        if gap is not None and gap.early > gap.threshold and not gap.grows and not gap.closes:
            called, sure = called + 1, sure + gap.sure
    assert sure <= 2
    assert called <= 6


def test_a_gap_that_opens_within_the_first_epoch_is_seen_and_one_of_a_tenth_is_not() -> None:
    found = {0.4: 0, 0.1: 0}
    for share in found:
        for seed in range(50):
            rng = np.random.default_rng(seed)
            u, at = np.arange(5.0, 601, 5), np.arange(40.0, 601, 40)
            curve = 1.0 + 2.0 / (1 + u / 60)
            val = np.interp(at, u, curve) * (1 + share / (1 - share) * (1 - np.exp(-at / 150)))
            train = curve + rng.normal(0, 0.05, len(u))
            gap = gap_at_start(run_of({}, train_loss=(u, train), val_loss=(at, val), epoch=(u, u / 900)))
            found[share] += gap is not None and gap.early > gap.threshold and not gap.grows and not gap.closes
    assert found[0.4] >= 48
    assert found[0.1] <= 1
