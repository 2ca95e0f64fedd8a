"""Whether a run that trains its weights from their start has only begun by the work its learning rate has done.

The clock is the learning rate added up (Tissue et al., arXiv 2408.11029; Luo et al., arXiv 2503.12811), in updates at
the peak. What a higher rate would bring is then what going on at this one would, as long as no weight is far from where
it began: later the noise of the steps and the curvature decide, and no rate stands for more updates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.projection import rates_of
from unstuck.diagnose.slopes import Decline, decline_at_end, gain_ahead
from unstuck.diagnose.unmoved import initial_size
from unstuck.runs import Series

# Share of the loss lost per e-fold at a compute-optimal end: N = 124M, D = 2.5e9 in Hoffmann et al. (arXiv 2203.15556)
# gives 0.28 x 410 / D^0.28 = 0.27 of 3.3 nats. Twice that is steep, where no more than a doubling lies ahead.
OPTIMAL_DECLINE = 0.08
STEEP = 2 * OPTIMAL_DECLINE
# The decline must also be a real share of what the run has learnt at all: losses near 0 halve for ever.
SHARE_OF_DESCENT = 0.10
# A third of the whole descent in an e-fold: the curve has only begun (1 / (1 + u / t) is there at u = 2 t).
BEGUN = 1 / 3
# Root mean square of Adam's steps in units of the learning rate: 0.2 to 0.4 (Liu et al., arXiv 2502.16982, section 2.2)
STEP_RMS = 0.3
# Of the updates, in units of the peak rate: the first that holds enough points for a slope.
WINDOWS = (1 / 3, 1 / 2, 2 / 3)
FINE = 1e4  # units of the clock: `decline_at_end` rounds to half of one
MOMENTUM = 0.9  # of every published recipe of SGD with momentum; without any the bound is ten times the path


@dataclass(frozen=True, slots=True)
class Begun:
    """The loss that shows it, its decline per e-fold of the accumulated rate, and what that was measured against."""

    series: Series
    decline: Decline
    threshold: float


def only_begun(case: Case, times: float) -> Begun | None:
    """The decline at the end, where it is steep on the clock of the learning rate; None where it is not, or unknown.

    Of both losses the one whose decline is known better; two standard errors are taken off.

    Args:
        times: the work that the run would have done at a sensible rate, over what it did; at least 1.
    """
    rates, seen = rates_of(case), []
    if rates is None:
        return None
    for series in (case.val, case.loss):
        if series is None or not len(series := series.where(series.updates >= 1)):
            continue
        work = rates.worked(series.updates.astype(np.float64))
        if not work[-1] > 0:
            continue
        clock = work / work[-1] * FINE
        found = decline_at_end(clock, series.values, WINDOWS)
        if found is not None:
            began = int(series.updates[np.searchsorted(clock, found.first)])
            seen.append((found.high - found.value, series, replace(found, first=began)))
    if not seen:
        return None
    _, series, decline = min(seen, key=lambda one: one[0])
    end = float(series.values[-max(1, len(series) // 20) :].mean())
    descent = descent_of(case, series, end)
    ahead = gain_ahead(max(2.0, times)) / gain_ahead(2.0)
    steep = max(STEEP * abs(end) / ahead, SHARE_OF_DESCENT * descent)
    threshold = min(steep, BEGUN * descent)
    return Begun(series, decline, threshold) if descent > 0 and decline.low > threshold else None


def descent_of(case: Case, series: Series, end: float) -> float:
    """How far a loss came down since the start, in its own unit; a late first evaluation as training had it then."""
    first, loss, trend = float(series.values[0]), case.loss, case.loss_trend
    if loss is not None and trend is not None and loss.updates[0] < series.updates[0]:
        then = float(np.interp(series.updates[0], trend.updates, trend.values))
        first *= max(1.0, float(loss.values[0]) / then) if then > 0 else 1.0
    return first - end


def path_of_sgd(case: Case) -> float | None:
    """How far SGD can have come, over the norm of all weights at their start; None where one of them is not known.

    Learning rate times gradient norm of all updates, clipped or not, added up, with the momentum in which a gradient
    acts 1 / (1 - 0.9) times: no more than this if every step went the same way.
    """
    norms, size = case.grad_norm, initial_size(case)
    if norms is None or case.lr is None or size is None or len(norms) < 2:
        return None
    x = norms.updates.astype(np.float64)
    steps = norms.values * np.interp(x, case.lr.updates.astype(np.float64), case.lr.values)
    path = float(np.dot(0.5 * (steps[1:] + steps[:-1]), np.diff(x)) + steps[0] * x[0])
    ratio = path / (1 - MOMENTUM) / size
    return ratio if math.isfinite(ratio) else None
