"""AutoTrainer's monitor: gradient vanish, gradient explode, dying ReLU, oscillating loss, slow convergence.

The definitions are those of the version that belongs to the paper (commit aafa2a4 of March 2021), with the thresholds
of its `reproduce.py`, which the repository calls those of the paper. It looks every 3 epochs, stops at its first
problem, and repairs gradient problems and ReLUs before the other two.

A log does not give it: gradients of single layers (norms of parameter groups stand in where they were logged, in the
order of the log, first against last), so gradient vanish and explode are mostly out of reach; the share of zero
gradients, so dying ReLU is; weights, so NaN weights are seen as NaN losses and norms. Its judgement of convergence
needs an accuracy: without one in the log, slow convergence and oscillating loss cannot be computed, and the gradient
rules, which it applies to models of low accuracy only, are applied anyway.
"""

from __future__ import annotations

import numpy as np

from benchmarks.faults.peers._points import Epoch, epochs
from unstuck.runs.logfile import number
from unstuck.runs.run import Run

NAME = "AutoTrainer"
SOURCE = (
    "X. Zhang, J. Zhai, S. Ma, C. Shen: AUTOTRAINER: An Automatic DNN Training Problem Detection and Repair System, "
    "ICSE 2021, doi 10.1109/ICSE43902.2021.00043; github.com/shiningrain/AUTOTRAINER at aafa2a4: "
    "AutoTrainer/utils/monitor.py, AutoTrainer/utils/modules.py, AutoTrainer/reproduce.py"
)

# reproduce.py: params. Its alpha_1..3 = 0: one check that shows a gradient problem is enough.
BETA_1 = 1e-3  # gradient vanish: first layer's norm / last layer's below this ...
BETA_2 = 1e-4  # ... and the first layer's norm below this
BETA_3 = 70.0  # gradient explode: first layer's norm / last layer's above this
ZETA, ETA = 0.03, 0.2  # oscillating: swings of the accuracy of this size, in this share of the epochs
DELTA = 0.01  # slow convergence: the accuracy never gained this much from one epoch to the next
THETA = 0.6  # an accuracy below this is not satisfying
CHECK_EVERY = 3  # epochs; reproduce.py: --check_interval
JUDGED_FROM = 0.3  # share of the planned epochs; monitor.py: judgment_point
LARGE_LOSS = 1e5  # monitor.py: loss_issue

MEANS = {
    # Its repairs are clipping, another activation and batch normalisation.
    "gradient explode": ("gradient-exploding", "loss-not-finite", "loss-diverged", "loss-zero-by-filter", "lr-too-high",
                         "clip-never-active"),
    "gradient vanish": ("gradient-vanishing", "parameter-without-gradient", "lora-gradient-blocked"),
    # Its repairs are another optimizer, a higher learning rate and other initial weights.
    "slow convergence": ("lr-too-low", "loss-plateau", "loss-at-chance", "undertrained", "warmup-too-long"),
    # Its repairs are Adam, a lower learning rate, momentum and a larger batch.
    "oscillating loss": ("loss-oscillating", "lr-too-high", "loss-spike", "gradient-noise-dominates"),
}  # fmt: skip


def check(run: Run) -> list[str]:
    """The problems of the first check that shows any, gradient problems first."""
    history = epochs(run)
    planned = number(run.setting("epochs")) or len(history)
    for count in range(1, len(history) + 1, CHECK_EVERY):
        if problems := _problems(run, history[:count], planned):
            return problems
    return _problems(run, history, planned)


def _problems(run: Run, history: list[Epoch], planned: float) -> list[str]:
    """What one check shows of the epochs so far."""
    last = history[-1].update if history else run.updates
    if _not_finite(run, last):
        return ["gradient explode"]
    train = np.array([e.train_accuracy for e in history])
    val = np.array([e.val_accuracy for e in history])
    known = [curve for curve in (train, val) if np.isfinite(curve).any()]
    gradient = _gradient_problem(run, last)
    if not known:
        return gradient
    if len(history) < JUDGED_FROM * planned:
        return []
    low = any(np.nanmax(curve) < THETA for curve in known)
    slow = all(np.nanmax(np.append(np.diff(curve), 0.0)) < DELTA for curve in known) and len(history) > 1
    if low or slow:
        return gradient or (["slow convergence"] if slow else [])
    return ["oscillating loss"] if _oscillates(known[0]) else []


def _not_finite(run: Run, last: int) -> bool:
    for name in ("train/loss", "val/loss", "grad_norm/preclip"):
        series = run.get(name)
        if series is None:
            continue
        values = series.values[series.updates <= last]
        if not np.isfinite(values).all() or (name == "val/loss" and len(values) and values[-1] >= LARGE_LOSS):
            return True
    return False


def _gradient_problem(run: Run, last: int) -> list[str]:
    groups = [s for name, s in run.series.items() if name.startswith("grad_norm/preclip/")]
    if len(groups) < 2:
        return []
    first, final = groups[0], groups[-1]
    found: set[str] = set()
    for update, low in zip(first.updates.tolist(), first.values.tolist(), strict=True):
        high = final.at(update)
        if update > last or not high:
            continue
        if low / high > BETA_3:
            found.add("gradient explode")
        elif low / high < BETA_1 and low < BETA_2:
            found.add("gradient vanish")
    return sorted(found)[:1]  # explode is asked before vanish


def _oscillates(accuracy: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    """Pairs of the n-th local maximum and the n-th local minimum that lie ZETA apart."""
    left, middle, right = accuracy[:-2], accuracy[1:-1], accuracy[2:]
    maxima = middle[(middle >= left) & (middle >= right)]
    minima = middle[(middle <= left) & (middle <= right)]
    pairs = min(len(maxima), len(minima))
    return pairs > 0 and int(np.sum(maxima[:pairs] - minima[:pairs] >= ZETA)) >= ETA * len(accuracy)
