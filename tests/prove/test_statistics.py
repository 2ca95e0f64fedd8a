"""The decision code against tables, against references, and on random losses."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.prove.statistics import (
    ALPHA,
    NOISE_FLOOR,
    Pair,
    design,
    judge,
    paired_interval,
    planned_detectable,
    spent,
    swapped_means,
    t_quantile,
    t_upper_tail,
)

UNTRAINED = 4.5
LOSSES = st.floats(0.5, 4.4)


def pairs_of(differences: list[float], base: float = 2.0) -> list[Pair]:
    return [Pair(i, base, base + d, UNTRAINED) for i, d in enumerate(differences)]


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    # Any printed table of Student's t, two-sided 5 % and 1 %.
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 3, 3.182),
        (0.975, 4, 2.776),
        (0.995, 5, 4.032),
        (0.975, 30, 2.042),
    ],
)
def test_t_quantiles_are_those_of_the_tables(probability: float, degrees: int, value: float):
    assert t_quantile(probability, degrees) == pytest.approx(value, abs=6e-4)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.5, 0.9999), st.integers(1, 60))
def test_t_quantile_inverts_its_tail(probability: float, degrees: int):
    assert t_upper_tail(t_quantile(probability, degrees), degrees) == pytest.approx(1 - probability, rel=1e-7)


def test_spending_is_the_published_o_brien_fleming_function():
    normal = NormalDist()
    assert spent(0.5) == pytest.approx(2 * (1 - normal.cdf(1.959964 / math.sqrt(0.5))), rel=1e-5)
    assert spent(0) == 0
    assert spent(1) == pytest.approx(ALPHA)


@given(st.integers(2, 40), st.booleans())
def test_looks_spend_the_whole_error_and_no_more(seeds: int, early: bool):
    looks = design(seeds, early=early)
    assert sum(looks.values()) == pytest.approx(ALPHA)
    assert all(error > 0 for error in looks.values())
    assert max(looks) == seeds


def test_interval_equals_the_textbook_t_interval():
    differences = [-0.10, -0.08, -0.13]
    interval = paired_interval(differences, 0.05)
    half = 4.302653 * np.std(differences, ddof=1) / math.sqrt(3)
    assert interval.mean == pytest.approx(np.mean(differences))
    assert interval.half_width == pytest.approx(half, rel=1e-6)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8), st.floats(-1, 1))
def test_interval_moves_with_the_differences_and_always_holds_their_mean(differences: list[float], shift: float):
    here = paired_interval(differences, 0.05)
    there = paired_interval([d + shift for d in differences], 0.05)
    assert here.low <= here.mean <= here.high
    assert there.mean == pytest.approx(here.mean + shift, abs=1e-9)
    assert there.half_width == pytest.approx(here.half_width, rel=1e-6, abs=1e-9)


@given(st.lists(st.tuples(LOSSES, LOSSES), min_size=1, max_size=6), st.integers(1, 6))
def test_exchanging_the_settings_exchanges_better_and_worse(losses: list[tuple[float, float]], seeds: int):
    opposite = {"better": "worse", "worse": "better"}
    forward = judge([Pair(i, a, b, UNTRAINED) for i, (a, b) in enumerate(losses)], seeds)
    backward = judge([Pair(i, b, a, UNTRAINED) for i, (a, b) in enumerate(losses)], seeds)
    assert backward.verdict == opposite.get(forward.verdict, forward.verdict)
    assert backward.interval.low == pytest.approx(-forward.interval.high)


@given(st.lists(st.tuples(LOSSES, LOSSES), min_size=2, max_size=6))
def test_a_claim_is_made_exactly_when_the_interval_excludes_zero(losses: list[tuple[float, float]]):
    judgement = judge([Pair(i, a, b, UNTRAINED) for i, (a, b) in enumerate(losses)], len(losses))
    assert judgement.final
    assert (judgement.verdict in ("better", "worse")) == judgement.interval.excludes_zero


def test_a_clear_difference_ends_after_two_of_three_pairs():
    judgement = judge(pairs_of([-0.500, -0.503]), 3)
    assert judgement.verdict == "better"
    assert judgement.final


def test_a_difference_within_its_noise_waits_for_all_pairs_and_is_not_claimed():
    assert not judge(pairs_of([-0.05, 0.03]), 3).final
    judgement = judge(pairs_of([-0.05, 0.03, -0.02]), 3)
    assert judgement.verdict == "no difference shown"
    assert judgement.interval.half_width > 0.05


def test_one_seed_cannot_tell_and_has_no_interval():
    judgement = judge(pairs_of([-1.0]), 1)
    assert judgement.final
    assert judgement.verdict == "cannot tell within the budget"
    assert judgement.interval.low == -math.inf
    assert judgement.interval.mean == -1.0


def test_stopping_before_all_pairs_cannot_tell():
    assert judge(pairs_of([-0.05, 0.03]), 5).verdict == "cannot tell within the budget"
    assert judge([], 3).verdict == "cannot tell within the budget"


def test_identical_runs_show_no_difference():
    judgement = judge(pairs_of([0.0, 0.0, 0.0]), 3)
    assert judgement.verdict == "no difference shown"
    assert judgement.interval.mean == 0
    assert judgement.interval.half_width > 0


def test_differences_that_agree_by_luck_are_not_trusted_below_the_published_noise():
    judgement = judge(pairs_of([-0.001, -0.001, -0.001]), 3)
    assert judgement.verdict == "no difference shown"
    assert judgement.interval.half_width == pytest.approx(t_quantile(1 - design(3)[3] / 2, 2) * NOISE_FLOOR / 3**0.5)


@pytest.mark.parametrize("lost", [math.nan, math.inf, 50.0])
def test_a_setting_that_diverges_in_every_seed_is_worse_and_its_cure_is_better(lost: float):
    spoiled = [Pair(i, 2.0 + 0.01 * i, lost, UNTRAINED) for i in range(3)]
    cured = [Pair(i, lost, 2.0 + 0.01 * i, UNTRAINED) for i in range(3)]
    assert judge(spoiled, 3).verdict == "worse"
    assert judge(cured, 3).verdict == "better"
    assert math.isfinite(judge(spoiled, 3).interval.half_width)


def test_two_diverged_pairs_are_too_few_to_blame_the_change():
    spoiled = [Pair(i, 2.0, math.nan, UNTRAINED) for i in range(2)]
    assert not judge(spoiled, 3).final
    assert judge(spoiled, 2).verdict == "cannot tell within the budget"


def test_one_diverged_seed_of_three_is_not_a_verdict():
    pairs = [Pair(0, 2.0, 2.01, UNTRAINED), Pair(1, 2.0, math.nan, UNTRAINED), Pair(2, 2.0, 1.99, UNTRAINED)]
    assert judge(pairs, 3).verdict == "no difference shown"


def test_both_diverging_everywhere_cannot_tell():
    assert judge([Pair(i, math.nan, math.nan, UNTRAINED) for i in range(3)], 3).verdict == (
        "cannot tell within the budget"
    )


@given(st.integers(2, 12), st.floats(0.001, 0.5))
def test_more_seeds_detect_smaller_differences(seeds: int, sd: float):
    assert planned_detectable(seeds + 1, sd) < planned_detectable(seeds, sd)
    assert planned_detectable(1, sd) == math.inf


def test_label_swaps_are_symmetric_about_zero():
    means = swapped_means([0.3, -0.1, 0.2])
    assert len(means) == 8
    assert sorted(means) == pytest.approx(sorted(-m for m in means))
    assert max(means) == pytest.approx(0.2)


@pytest.mark.parametrize("noise", ["normal", "heavy"])
def test_false_claims_stay_below_five_percent_with_early_stopping(noise: str):
    rng = np.random.default_rng(7)
    draw = rng.normal(size=(4000, 3, 2)) if noise == "normal" else rng.standard_t(3, size=(4000, 3, 2))
    claims = 0
    for losses in 2.0 + 0.01 * draw:
        pairs = [Pair(i, float(a), float(b), 1e9) for i, (a, b) in enumerate(losses)]
        judgements = (judge(pairs[:n], 3) for n in (2, 3))
        claims += next(j for j in judgements if j.final).verdict in ("better", "worse")
    # 5 % and three standard errors of 4,000 trials; the full simulation is benchmarks/calibration.py
    assert claims / 4000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
