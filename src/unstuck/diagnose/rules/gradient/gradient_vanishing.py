"""Some layers receive orders of magnitude less gradient than others, or all norms collapse while nothing is learnt.

Finds
Parameter groups whose pre-clip norm is a thousandth of the others' or less over the second half of the run; or a total
norm that fell to a thousandth of its early level, or to rounding errors, while the loss stands far from its floor.

Why it matters
With SGD the update is proportional to the gradient, so such a layer stands still; with any optimizer a gradient that is
only rounding error moves it at random. A network whose norms vanish at a high loss is dead (saturated or switched-off
activations), and no learning rate wakes it.

Evidence needed
At least 10 points of `grad_norm/preclip/<group>` for two groups, or 20 of `grad_norm/preclip` with the training loss.

Not when
Groups differ by less (a norm grows with the root of the parameters in it); a group is frozen (its learning rate is 0);
the loss has fallen, so small norms are what convergence looks like; the optimizer divides by the gradient's own size
and the loss falls: a note.

Remedy
Residual connections, normalisation, an initialisation that keeps the variance; ReLU-like instead of saturating units;
for a dead network a lower learning rate from a fresh start.

References
Glorot, Bengio 2010 (AISTATS 9:249), gradients that shrink from layer to layer. Bengio, Simard, Frasconi 1994. He et al.
2015 (arXiv 1502.01852), initialisation. Lu et al. 2019 (arXiv 1903.06733), dying ReLU.
"""

from __future__ import annotations

import math
import re

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import fall
from unstuck.runs import Series

PREFIX = "grad_norm/preclip/"
MIN_GROUP_POINTS = 10
MIN_POINTS = 20
# The norm of n independent entries of one size grows with sqrt(n): a factor of 1000 between groups would take a million
# times the parameters, more than an embedding has over a bias. Beyond it the entries themselves differ.
ORDERS = 1e3
# The gradient of a mean cross-entropy with respect to its logits is of order 1, and float32 rounds at 1.2e-7 of that
# (2^-23): a norm below ten roundings carries nothing else.
ROUNDING = 1e-6
FAR = 0.5  # of the first loss: above it nothing has converged (assumption; a dead network keeps nearly all of it)
# Their step does not grow with the gradient (Kingma, Ba 2015: Adam is invariant to its scale).
SCALE_FREE = ("adam", "lamb", "lion", "muon", "adafactor", "rmsprop")
CHANCE_SHARE = 0.97  # as loss-at-chance: a tenth of the way from ln V to the frequencies
MIN_LAYERS = 4  # numbered layers that show a trend with depth


@rule(
    code="GR002",
    stages="LPV",
    severity="warning",
    explains=("loss-at-chance", "loss-plateau", "lr-too-low", "undertrained"),
)
def check(case: Case) -> Outcome:
    groups = _groups(case)
    norms = case.grad_norm
    enough = norms is not None and len(norms) >= MIN_POINTS and case.loss is not None
    if len(groups) >= 2 and (found := _starved(case, groups)) is not None:
        return found
    if enough and (found := _collapsed(case)) is not None:
        return found
    if len(groups) >= 2:
        return Clear("no group has a thousandth of the others' norm")
    if enough:
        return Clear("the norm does not vanish while the loss is high")
    return CouldNotCheck(("grad_norm/preclip/<group>, or grad_norm/preclip and train/loss",))


def _groups(case: Case) -> dict[str, Series]:
    """Norms by group, finite points, without the groups whose learning rate is 0 throughout."""
    rates = case.run.learning_rates()
    found: dict[str, Series] = {}
    for name, series in case.run.series.items():
        if not name.startswith(PREFIX):
            continue
        group, finite = name.removeprefix(PREFIX), series.finite()
        frozen = group in rates and len(rates[group]) and not rates[group].values.any()
        if len(finite) >= MIN_GROUP_POINTS and not frozen:
            found[group] = finite
    return found


def _starved(case: Case, groups: dict[str, Series]) -> Found | None:
    """Groups far below the upper quarter of them."""
    medians = {g: float(np.median(s.values[len(s) // 2 :])) for g, s in groups.items()}
    # the upper quartile: of a chain that vanishes half of the layers may be small, and the largest may be an oddity
    reference = sorted(medians.values())[math.ceil(0.75 * (len(medians) - 1))]
    starved = {g: m for g, m in medians.items() if m * ORDERS <= reference}
    if not starved or reference <= 0:
        return None
    worst = min(starved, key=lambda g: starved[g])
    factor = reference / starved[worst] if starved[worst] > 0 else math.inf
    adaptive = str(case.setting("optimizer") or "adamw").lower().startswith(SCALE_FREE)
    stuck = _learnt_nothing(case)
    silent = starved[worst] <= ROUNDING * reference
    series = groups[worst]
    names = ", ".join(sorted(starved))
    told = "no gradient at all" if math.isinf(factor) else f"{factor:.3g} times less gradient than the others"
    detail = _depth(medians)
    if adaptive and not stuck and not silent:
        detail += " An adaptive optimizer divides by the gradient's own size, and the loss falls: look, do not worry."
    return Found(
        title=f"{names} {'receives' if len(starved) == 1 else 'receive'} {told}",
        evidence=(
            Evidence(series.name, (int(series.updates[len(series) // 2]), int(series.updates[-1])),
                     "upper quartile of the groups' norms over this one", factor, ORDERS, series.source(-1)),
        ),
        confidence=0.85 if stuck or not adaptive else 0.6,
        severity="warning" if stuck or not adaptive else "note",
        detail=detail.strip(),
        facts={"groups": tuple(sorted(starved)), "factor": factor, "typical_norm": reference},
    )  # fmt: skip


def _collapsed(case: Case) -> Found | None:
    """The total norm vanishes while the loss stands high."""
    norms, loss = case.grad_norm, case.loss
    if norms is None or loss is None:
        return None
    n = len(norms)
    early, late = float(np.median(norms.values[: max(3, n // 10)])), float(np.median(norms.values[-max(3, n // 5) :]))
    if not (late * ORDERS <= early or late <= ROUNDING) or not _stands_high(case):
        return None
    if not norms.values.any() and not _learnt_nothing(case):
        return None  # zeros throughout beside a loss that fell: the norm was not logged
    first, last = int(norms.updates[0]), int(norms.updates[-1])
    level = float(np.median(loss.values[-max(3, len(loss) // 10) :]))
    at = "the loss is no better than chance" if _at_chance(case, level) else f"the loss still stands at {level:.4g}"
    return Found(
        title=f"The gradient norm went from {early:.3g} to {late:.3g} and {at}: nothing reaches the weights any more",
        evidence=(
            Evidence("grad_norm/preclip", (first, last), "norm at the end", late, max(early / ORDERS, ROUNDING),
                     norms.source(n - 1)),
            Evidence("train/loss", (int(loss.updates[0]), int(loss.updates[-1])), "level at the end", level, None,
                     loss.source(len(loss) - 1)),
        ),
        confidence=0.85,
        facts={"early_norm": early, "late_norm": late, "level": level},
    )  # fmt: skip


def _stands_high(case: Case) -> bool:
    """The loss is above half of its first value and does not fall any more."""
    loss = case.loss
    if loss is None:
        return False
    level = float(np.median(loss.values[-max(3, len(loss) // 10) :]))
    fell, error = fall(loss.values[len(loss) // 2 :])
    return level >= FAR * float(loss.values[0]) > 0 and not fell > 2 * error


def _learnt_nothing(case: Case) -> bool:
    """The loss is at chance, or has not fallen beyond two standard errors over the whole run."""
    loss = case.loss
    if loss is None:
        return False
    fell, error = fall(loss.values)
    return _at_chance(case, float(np.median(loss.values[-max(3, len(loss) // 10) :]))) or fell <= 2 * error


def _at_chance(case: Case, level: float) -> bool:
    return case.is_token_loss and case.chance is not None and level >= CHANCE_SHARE * case.chance


def _depth(medians: dict[str, float]) -> str:
    """How the norm changes from numbered layer to numbered layer, where it does so steadily."""
    layers: dict[int, list[float]] = {}
    for group, norm in medians.items():
        number = re.search(r"\d{1,4}", group)
        if number and norm > 0:
            layers.setdefault(int(number[0]), []).append(math.log(norm))
    if len(layers) < MIN_LAYERS:
        return ""
    x = np.array(sorted(layers), dtype=np.float64)
    y = np.array([float(np.mean(layers[int(i)])) for i in x])
    slope = float(np.polyfit(x, y, 1)[0])
    steady = float(np.corrcoef(x, y)[0, 1]) ** 2 >= 0.8  # four fifths of the variance lies on the line
    if not steady or abs(slope) < math.log(2.0):  # less than a factor of 2 a layer is no chain of shrinking factors
        return ""
    return f"The norm changes {math.exp(abs(slope)):.2g}-fold from layer to layer, smaller towards the " + (
        "input." if slope > 0 else "output."
    )
