"""The replayed plateau schedulers against PyTorch's own, and against Keras' rule written down anew."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.diagnose.plateau import PlateauScheduler, first_firings, replay

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

AHEAD = 40  # evaluations without improvement after the history, to see the next reduction


def histories(count: int):
    rng = np.random.default_rng(5)
    for _ in range(count):
        n, patience, cooldown = int(rng.integers(3, 60)), int(rng.integers(0, 8)), int(rng.integers(0, 5))
        mode = "min" if rng.random() < 0.5 else "max"
        values = 3 + np.cumsum(rng.normal(-0.05 if mode == "min" else 0.05, 0.3, n))
        if rng.random() < 0.1:
            values[rng.integers(0, n)] = np.nan
        yield values, patience, cooldown, mode, float(rng.choice([0.0, 1e-4, 0.05])), bool(rng.random() < 0.5)


def pytorchs(values, patience, cooldown, mode, threshold, relative) -> list[int]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=0.99, patience=patience, threshold=threshold,
        threshold_mode="rel" if relative else "abs", cooldown=cooldown, eps=0,
    )  # fmt: skip
    fired: list[int] = []
    rate = 1.0
    for index, value in enumerate(values):
        scheduler.step(value)
        if optimizer.param_groups[0]["lr"] != rate:
            rate = optimizer.param_groups[0]["lr"]
            fired.append(index)
    return fired


def kerass(values, patience, cooldown, mode, delta) -> list[int]:
    best, sign = np.inf, 1.0 if mode == "min" else -1.0
    wait = cooling = 0
    fired: list[int] = []
    for index, value in enumerate(sign * np.asarray(values)):
        if cooling:
            cooling, wait = cooling - 1, 0
        if value < best - delta:
            best, wait = value, 0
        elif not cooling:
            wait += 1
            if wait >= patience:
                fired.append(index)
                wait, cooling = 0, cooldown
    return fired


@pytest.mark.parametrize("counting", ["torch", "keras"])
def test_reductions_past_and_to_come_are_the_frameworks_own(counting: str):
    for values, patience, cooldown, mode, threshold, relative in histories(200):
        worst = [1e9 if mode == "min" else -1e9] * AHEAD
        whole = [*values, *worst]
        if counting == "torch":
            scheduler = PlateauScheduler(patience, "torch", threshold, relative, cooldown, mode)
            expected = pytorchs(whole, patience, cooldown, mode, threshold, relative)
        else:
            scheduler = PlateauScheduler(patience, "keras", threshold, False, cooldown, mode)
            expected = kerass(whole, patience, cooldown, mode, threshold)
        replayed = replay(values, scheduler)
        assert list(replayed.fired) == [index for index in expected if index < len(values)]
        assert replayed.next == next(index for index in expected if index >= len(values))


def test_a_smaller_patience_fires_where_its_own_replay_does():
    for values, patience, _, mode, threshold, relative in histories(200):
        scheduler = PlateauScheduler(patience, "torch", threshold, relative, 0, mode)
        for smaller, index in first_firings(replay(values, scheduler), scheduler).items():
            alone = PlateauScheduler(smaller, "torch", threshold, relative, 0, mode)
            assert replay(values, alone).fired[0] == index


def test_a_patience_beyond_any_run_costs_no_time():
    replayed = replay(np.ones(10), PlateauScheduler(10**15))
    assert replayed.fired == ()
    assert replayed.next == 10**15 + 1
