"""Healthy noise of the kinds that losses have, for simulations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unstuck.diagnose.statistics import Floats

Noise = Callable[[np.random.Generator, int], Floats]


def autoregressive(rng: np.random.Generator, n: int, r: float) -> Floats:
    """AR(1) of standard deviation 1: each value is r times the one before, and something new."""
    new = rng.normal(size=n + 100) * np.sqrt(1 - r * r)
    values = np.empty(n + 100)
    values[0] = rng.normal()
    for i in range(1, n + 100):
        values[i] = r * values[i - 1] + new[i]
    return values[100:]


NOISES: dict[str, Noise] = {
    "white": lambda rng, n: rng.normal(size=n),
    "AR(1) 0.3": lambda rng, n: autoregressive(rng, n, 0.3),
    "AR(1) 0.6": lambda rng, n: autoregressive(rng, n, 0.6),
    "uniform": lambda rng, n: rng.uniform(-1.7, 1.7, n),
    "heavy tails": lambda rng, n: rng.standard_t(4, n),
    "mean of 4 exponentials": lambda rng, n: rng.gamma(4, 1, n) / 2,
    "log-normal": lambda rng, n: np.exp(rng.normal(0, 0.5, n)) * 1.7,
    "printed with two digits": lambda rng, n: np.round(rng.normal(size=n) * 2) / 2,
}


def rate(test: Callable[[Floats], bool], noise: Noise, n: int, runs: int, seed: int = 0) -> float:
    """Share of simulated series of n points on which the test says yes."""
    rng = np.random.default_rng(seed)
    return float(np.mean([test(noise(rng, n)) for _ in range(runs)]))
