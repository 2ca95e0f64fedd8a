"""The paired, sequential comparison: pure functions of losses, no files, no torch.

The unit is the seed. Seed i gives one pair of final validation losses (base, changed) and one difference
d_i = changed - base in nats per token. After 2, 3, .. N pairs there is a look: the comparison ends at the first look
whose interval excludes zero.

Design: error spending of the O'Brien-Fleming type (Lan & DeMets 1983, Biometrika 70:659) over the share of the
planned pairs, each look a two-sided t-test on n - 1 degrees of freedom at the error spent *at that look*. The sum of
what is spent is `alpha`, so by the union bound the chance of any false claim is at most `alpha` for normal
differences, whatever the correlation of the looks (Slud & Wei 1982, JASA 77:862 spend per look in the same way).
The interval given is the repeated confidence interval of that look (Jennison & Turnbull 1989, JRSS B 51:305): all
looks' intervals cover the true difference together with probability 1 - alpha, so stopping early keeps the level.
`benchmarks/calibration.py` simulates both claims; `docs/prove.md` has the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal

from unstuck.wording import plural

Verdict = Literal["better", "worse", "no difference shown", "cannot tell within the budget"]

ALPHA = 0.05  # two-sided error of a whole comparison, all looks together: the usual 5 %

# Smallest standard deviation over seeds that has been published for a validation loss, in nats per token: 0.00135 for
# GPT-2 124M at the end of training (PERFORMANCE.md, "Noise"); small models have 5-30 times more. Two or three
# differences can agree better than that by luck, and a standard deviation of zero would make any difference
# significant, so the interval never uses less. It only widens intervals, so it cannot add false claims.
NOISE_FLOOR = 0.00135

# When one side of a pair diverged, a comparison ends only after 3 pairs: if runs diverge with probability q whatever
# the setting, all n pairs point the same way with probability 2 (q (1 - q))^n <= 2 / 4^n: 0.125 for 2, 0.031 for 3.
LEAST_PAIRS_WHEN_DIVERGED = 3

# A look that may spend less than this cannot end anything (and 1 - error / 2 would round to 1): it is left out.
LEAST_SPENT = 1e-9


@dataclass(frozen=True, slots=True)
class Interval:
    """Mean of the paired differences with its interval, nats per token; infinite limits where there is none."""

    mean: float
    low: float
    high: float
    sd: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Half the interval: a true difference clearly above this would have been shown (`detectable`)."""
        return (self.high - self.low) / 2

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the pairs so far say. `final`: no further pair is needed."""

    verdict: Verdict
    interval: Interval
    final: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Final validation losses of one seed, nats per token, not finite where the trial diverged.

    `untrained` is what a model that learned nothing has (validation loss before training, at least ln V); it stands
    in for a diverged or worse loss, because such a run is worth no more than no training.
    """

    seed: int
    base: float
    changed: float
    untrained: float

    @property
    def difference(self) -> float:
        return _usable(self.changed, self.untrained) - _usable(self.base, self.untrained)

    @property
    def diverged(self) -> bool:
        """Exactly one side diverged, so this difference is a stand-in."""
        return _lost(self.base, self.untrained) != _lost(self.changed, self.untrained)

    @property
    def both_diverged(self) -> bool:
        return _lost(self.base, self.untrained) and _lost(self.changed, self.untrained)


def _lost(loss: float, untrained: float) -> bool:
    return not math.isfinite(loss) or loss > untrained


def _usable(loss: float, untrained: float) -> float:
    return untrained if _lost(loss, untrained) else loss


def spent(share: float, alpha: float = ALPHA) -> float:
    """Error spent up to this share of the planned pairs, O'Brien-Fleming type (Lan & DeMets 1983, eq. 1).

    2 - 2 Phi(z_{alpha/2} / sqrt(share)); 0 at share 0, alpha at share 1.

    >>> round(spent(2 / 3), 4), round(spent(1.0), 4)
    (0.0164, 0.05)
    """
    if share <= 0:
        return 0.0
    normal = NormalDist()
    return 2.0 - 2.0 * normal.cdf(normal.inv_cdf(1 - alpha / 2) / math.sqrt(min(1.0, share)))


@cache
def design(seeds: int, *, early: bool = True, alpha: float = ALPHA) -> dict[int, float]:
    """Looks of a comparison planned with `seeds` pairs: number of pairs -> two-sided error spent at that look.

    A single pair gives no interval, so a plan of one seed has no look. Without `early` all error is kept for the end.

    >>> {n: round(a, 4) for n, a in design(3).items()}
    {2: 0.0164, 3: 0.0336}
    """
    if seeds < 2:
        return {}
    if not early:
        return {seeds: alpha}
    looks: dict[int, float] = {}
    so_far = 0.0
    for n in range(2, seeds + 1):
        now = spent(n / seeds, alpha)
        if now - so_far >= LEAST_SPENT:
            looks[n] = now - so_far
            so_far = now
    return looks


def paired_interval(differences: Sequence[float], alpha: float, *, floor: float = NOISE_FLOOR) -> Interval:
    """Student's t interval of the mean at level 1 - alpha; the standard deviation is at least `floor`.

    Differences that are all exactly zero are identical runs, not noise: their interval still has the floor's width.
    Below 2 differences the limits are infinite.
    """
    n = len(differences)
    mean = math.fsum(differences) / n if n else math.nan
    if n < 2:
        return Interval(mean, -math.inf, math.inf, math.nan, n)
    sd = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    half = t_quantile(1 - alpha / 2, n - 1) * max(sd, floor) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, sd, n)


def judge(pairs: Sequence[Pair], seeds: int, *, early: bool = True, floor: float = NOISE_FLOOR) -> Judgement:
    """The verdict after these pairs (in order of their seeds) of a comparison planned with `seeds` pairs.

    Not final: more pairs are planned and the interval includes zero. A caller that stops there anyway (budget spent)
    reports `cannot tell within the budget`, which is the verdict given.
    """
    looks = design(seeds, early=early)
    n = len(pairs)
    last = n >= seeds
    usable = [pair for pair in pairs if not pair.both_diverged]
    diverged = any(pair.diverged for pair in usable)
    # A look that is not planned (fewer than 2 pairs, or early looks switched off) spends nothing and claims nothing;
    # its interval is shown at the whole level.
    interval = paired_interval([pair.difference for pair in usable], looks.get(min(n, seeds), ALPHA), floor=floor)
    if pairs and not usable and last:
        return Judgement("cannot tell within the budget", interval, True, "both settings diverged in every seed")
    if len(usable) < 2:
        reason = "one pair gives no interval; two seeds or more are needed" if last else "fewer than two pairs so far"
        return Judgement("cannot tell within the budget", interval, last, reason)
    if diverged and len(usable) < LEAST_PAIRS_WHEN_DIVERGED:
        reason = (
            f"a trial diverged, and {plural(len(usable), 'pair is', 'pairs are')} too few to assign that to the change"
        )
        return Judgement("cannot tell within the budget", interval, last, reason)
    may_claim = (n in looks or last) and (last or not diverged)
    if may_claim and interval.excludes_zero:
        verdict: Verdict = "better" if interval.high < 0 else "worse"
        return Judgement(verdict, interval, True, f"the interval excludes zero after {n} of {seeds} planned pairs")
    if last:
        return Judgement("no difference shown", interval, True, "the interval includes zero after all planned pairs")
    return Judgement("cannot tell within the budget", interval, False, "the interval includes zero so far")


def planned_detectable(seeds: int, sd: float, *, early: bool = True, floor: float = NOISE_FLOOR) -> float:
    """Half width expected at the last look when paired differences have standard deviation `sd`; inf for one seed."""
    looks = design(seeds, early=early)
    if not looks:
        return math.inf
    return t_quantile(1 - looks[seeds] / 2, seeds - 1) * max(sd, floor) / math.sqrt(seeds)


def swapped_means(differences: Sequence[float]) -> list[float]:
    """Mean differences under every exchange of the two labels within pairs, 2^n values: the placebo's null.

    When both labels name the same recipe, each of these was equally likely to be the one observed.
    """
    means = [0.0]
    for difference in differences:
        means = [m + s * difference for m in means for s in (1.0, -1.0)]
    return [m / len(differences) for m in means] if differences else []


@cache
def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t with `degrees` >= 1 degrees of freedom, for 0.5 <= probability < 1.

    Exact for 1 and 2 degrees, by bisection of `t_upper_tail` above; agrees with scipy to 1e-9 (tests/prove).
    """
    if not 0.5 <= probability < 1 or degrees < 1:
        raise ValueError(f"no quantile for probability {probability} and {degrees} degrees of freedom")
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        return (2 * probability - 1) * math.sqrt(2 / (1 - (2 * probability - 1) ** 2))
    tail = 1 - probability
    high = 1.0
    while t_upper_tail(high, degrees) > tail:
        high *= 2
    low = 0.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        if t_upper_tail(middle, degrees) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def t_upper_tail(t: float, degrees: int) -> float:
    """P(T > t) for Student's t, t >= 0 and a whole number of degrees (Abramowitz & Stegun 26.7.3 and 26.7.4)."""
    theta = math.atan(t / math.sqrt(degrees))
    cosine2 = math.cos(theta) ** 2
    if degrees % 2:
        term = series = math.cos(theta) if degrees > 1 else 0.0
        for k in range(3, degrees - 1, 2):
            term *= cosine2 * (k - 1) / k
            series += term
        inside = 2 / math.pi * (theta + math.sin(theta) * series)
    else:
        term = series = 1.0
        for k in range(2, degrees - 1, 2):
            term *= cosine2 * (k - 1) / k
            series += term
        inside = math.sin(theta) * series
    return max(0.0, (1 - inside) / 2)
