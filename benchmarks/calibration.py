"""Does `prove` keep its error rate? Simulated comparisons with the real decision code, no training.

    python benchmarks/calibration.py [--comparisons 20000] [--seed 1] [--losses placebo.json]

Prints Markdown tables (kept in docs/prove.md): how often a comparison of a recipe with itself claims `better` or
`worse`, with early stopping; how often a true difference is found, after how many pairs; and how often the interval
of the last look taken misses it. `--losses` adds the noise of real runs: the losses of
`unstuck prove RECIPE --placebo --seeds 20 --json`, drawn without replacement within each comparison.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unstuck.prove.statistics import Judgement, Pair, judge

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]
UNTRAINED = 1e9  # no simulated loss counts as diverged unless it is made infinite
SD = 0.02  # nats per token: seeds of a small model (PERFORMANCE.md: 5-30 times the 0.0018 of GPT-2 124M)


def contaminated(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Normal, but one run in ten is an outlier of ten times the spread (Tukey's contaminated normal)."""
    scale = np.where(rng.random(shape) < 0.1, 10.0, 1.0)
    return rng.normal(size=shape) * scale


def spiky(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Normal, but one run in five ends on a loss spike: skewed upwards, exponential of ten times the spread."""
    return rng.normal(size=shape) + np.where(rng.random(shape) < 0.2, rng.exponential(10.0, shape), 0.0)


def diverging(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Normal, but one run in three diverges."""
    return np.where(rng.random(shape) < 1 / 3, np.inf, rng.normal(size=shape))


NOISE: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "Student t, 3 degrees": lambda rng, shape: rng.standard_t(3, size=shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "contaminated normal (10 % at 10 sd)": contaminated,
    "spikes (20 %, upwards only)": spiky,
    "Cauchy": lambda rng, shape: rng.standard_cauchy(size=shape),
    "uniform (lighter tails)": lambda rng, shape: rng.uniform(-1, 1, size=shape),
    "one run in three diverges": diverging,
}


def compare_once(base: Floats, changed: Floats, seeds: int) -> Judgement:
    """Pairs in turn until the judgement is final."""
    pairs: list[Pair] = []
    while True:
        i = len(pairs)
        untrained = 60 * SD + 2.0 if not math.isfinite(base.sum() + changed.sum()) else UNTRAINED
        pairs.append(Pair(i, float(base[i]), float(changed[i]), untrained))
        judgement = judge(pairs, seeds)
        if judgement.final:
            return judgement


def simulate(draw: Draw, seeds: int, effect_sd: float, comparisons: int, rng: np.random.Generator) -> dict[str, float]:
    """Rates over `comparisons` simulated comparisons of `seeds` planned pairs with a true difference in sd's."""
    both = 2.0 + SD / math.sqrt(2) * draw(rng, (comparisons, 2 * seeds))
    base, changed = both[:, :seeds], both[:, seeds:] - effect_sd * SD
    verdicts = [compare_once(b, c, seeds) for b, c in zip(base, changed, strict=True)]
    truth = -effect_sd * SD
    return {
        "better": sum(v.verdict == "better" for v in verdicts) / comparisons,
        "worse": sum(v.verdict == "worse" for v in verdicts) / comparisons,
        "missed": sum(not v.interval.low <= truth <= v.interval.high for v in verdicts) / comparisons,
        "pairs": sum(v.interval.pairs for v in verdicts) / comparisons,
    }


def of_real_runs(path: Path) -> Draw:
    """Standardised losses of real runs that differ in their seed only."""
    trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
    losses = np.array([trial["val_loss"] for trial in trials], dtype=np.float64)
    losses = (losses - losses.mean()) / losses.std(ddof=1)

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
        return rng.permuted(np.tile(losses, (shape[0], 1)), axis=1)[:, : shape[1]]

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--losses", type=Path, help="document of a placebo with many seeds")
    options = parser.parse_args()
    noise = dict(NOISE)
    if options.losses:
        noise[f"real runs ({options.losses.name})"] = of_real_runs(options.losses)
    rng = np.random.default_rng(options.seed)
    n = options.comparisons

    print(f"False claims in {n} simulated comparisons of a recipe with itself, looks after every pair from the 2nd:\n")
    print("| noise | 3 seeds | 5 seeds | 8 seeds |")
    print("|---|---|---|---|")
    for name, draw in noise.items():
        rates = {seeds: simulate(draw, seeds, 0.0, n, rng) for seeds in (3, 5, 8)}
        cells = [f"{rate['better'] + rate['worse']:.2%}" for rate in rates.values()]
        print(f"| {name} | {' | '.join(cells)} |")

    print(
        "\nA true improvement found (power), normal noise; difference in standard deviations of a pair's difference:\n"
    )
    print("| difference | 3 seeds | 5 seeds | 8 seeds | pairs used of 3 | of 5 | of 8 | interval misses it, 3 seeds |")
    print("|---|---|---|---|---|---|---|---|")
    for effect in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 50.0):
        rates = {seeds: simulate(NOISE["normal"], seeds, effect, n // 4, rng) for seeds in (3, 5, 8)}
        found = " | ".join(f"{rate['better']:.0%}" for rate in rates.values())
        used = " | ".join(f"{rate['pairs']:.1f}" for rate in rates.values())
        print(f"| {effect:g} sd | {found} | {used} | {rates[3]['missed']:.2%} |")


if __name__ == "__main__":
    main()
