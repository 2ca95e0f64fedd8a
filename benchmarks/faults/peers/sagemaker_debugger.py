"""Amazon SageMaker Debugger's built-in rules with their default parameters.

The rules run side by side without a ranking; alarms are given in the order of Amazon's list. Losses and gradients are
saved every 500 steps by default; a run that leaves fewer than three such points is judged by every point that it
logged, because its owner would have saved more often. AllZero and UnchangedTensor need to be told their tensors: they
are given the losses, which a log has.

A log does not give it: activations (DeadRelu, SaturatedActivation, PoorWeightInitialization), inputs and labels
(CheckInputImages, NLPSequenceRatio, ClassImbalance, Confusion), and gradient and weight tensors. VanishingGradient asks
for the mean absolute gradient, for which a norm gives an upper bound; WeightUpdateRatio is read where ratios were
logged. TensorVariance has no default thresholds, SimilarAcrossRuns compares two runs.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from benchmarks.faults.peers._points import at_least_apart, counts_epochs, epochs
from unstuck.runs.logfile import number
from unstuck.runs.run import Run, Series

NAME = "SageMaker Debugger"
SOURCE = (
    "Amazon SageMaker developer guide, List of Debugger built-in rules (docs.aws.amazon.com/sagemaker/latest/dg/"
    "debugger-built-in-rules.html; text read in github.com/awsdocs/amazon-sagemaker-developer-guide at 1c4d5ff, "
    "doc_source/debugger-built-in-rules.md); github.com/awslabs/sagemaker-debugger-rulesconfig at afeb292, "
    "ruleConfigs.json"
)

SAVE_INTERVAL = 500  # ruleConfigs.json: save_interval of losses, gradients and weights
FEWEST_SAVED = 3  # ours: UnchangedTensor compares three; see above
VANISHED = 1e-7  # VanishingGradient: threshold of the mean absolute gradient
RATIO_HIGH, RATIO_LOW = 10.0, 1e-8  # WeightUpdateRatio: large_threshold, small_threshold
NUM_STEPS = 10  # LossNotDecreasing: num_steps
OVERFIT_RATIO, OVERFIT_PATIENCE = 0.1, 1  # Overfit: ratio_threshold, patience
PATIENCE_TRAIN, PATIENCE_VALIDATION, DELTA = 5, 10, 0.1  # Overtraining
UNCHANGED_STEPS = 3  # UnchangedTensor: num_steps; tolerances are numpy.allclose's own
STALLED_MS = 1800e3  # StalledTrainingRule: threshold, 1800 s

MEANS = {
    "ExplodingTensor": ("loss-not-finite", "gradient-exploding", "loss-diverged", "loss-zero-by-filter", "lr-too-high"),
    "VanishingGradient": ("gradient-vanishing", "loss-zero-by-filter"),
    "WeightUpdateRatio": ("lr-too-high", "lr-too-low", "lr-group-starved", "warmup-missing"),
    "AllZero": ("loss-zero-by-filter",),
    "LossNotDecreasing": ("loss-plateau", "loss-at-chance", "loss-diverged", "loss-oscillating", "lr-too-low"),
    "Overfit": ("overfitting", "validation-shifted", "best-checkpoint-passed"),
    "Overtraining": ("best-checkpoint-passed", "overfitting", "loss-plateau"),
    "StalledTrainingRule": ("throughput-falls", "data-bound"),
    "UnchangedTensor": ("loss-plateau", "loss-at-chance", "loss-zero-by-filter", "parameter-unmoved"),
}


def check(run: Run) -> list[str]:
    """The alarms, in the order of Amazon's list."""
    losses = [saved(run, s) for name in ("val/loss", "train/loss") if (s := run.get(name)) is not None and len(s)]
    steps = run.get("time/step_ms")
    raised = {
        "ExplodingTensor": any(not np.isfinite(s.values).all() for s in run.series.values()),
        "VanishingGradient": _gradient_vanished(run),
        "WeightUpdateRatio": _update_ratio_off(run),
        "AllZero": any(np.any(loss.values == 0.0) for loss in losses),
        "LossNotDecreasing": bool(losses) and _not_decreasing(run, losses[0]),
        "Overfit": _overfit(run),
        "Overtraining": _overtrained(run),
        "StalledTrainingRule": steps is not None and bool(np.any(steps.values >= STALLED_MS)),
        "UnchangedTensor": any(_unchanged(loss) for loss in losses),
    }
    return [rule for rule, found in raised.items() if found]


def saved(run: Run, series: Series) -> Series:
    """The points that the default configuration would have saved; every point of a run too short for it."""
    if counts_epochs(run):
        return series
    thinned = at_least_apart(series, SAVE_INTERVAL)
    return thinned if len(thinned) >= FEWEST_SAVED else series


def _gradient_vanished(run: Run) -> bool:
    """The mean of |g| is at most norm / sqrt(n) for n gradients (Cauchy, Schwarz), so a norm this small proves it."""
    parameters = number(run.setting("parameters")) or 1.0
    whole = run.get("grad_norm/preclip")
    if whole is not None and np.any(saved(run, whole).values / math.sqrt(parameters) < VANISHED):
        return True
    groups = [s for name, s in run.series.items() if name.startswith("grad_norm/preclip/")]
    return any(bool(np.any(saved(run, s).values < VANISHED)) for s in groups)


def _update_ratio_off(run: Run) -> bool:
    ratios = [saved(run, s).values for name, s in run.series.items() if name.startswith("update_ratio/")]
    return any(bool(np.any((values > RATIO_HIGH) | (values < RATIO_LOW))) for values in ratios)


def _not_decreasing(run: Run, loss: Series) -> bool:
    """Not lower than at the last check, at least NUM_STEPS before; the evaluation's loss where there is one."""
    checked = loss.finite() if counts_epochs(run) else at_least_apart(loss.finite(), NUM_STEPS)
    return any(now >= before for before, now in pairwise(checked.values.tolist()))


def _overfit(run: Run) -> bool:
    exceeded = 0
    for epoch in epochs(run):
        over = epoch.train_loss > 0 and (epoch.val_loss - epoch.train_loss) / epoch.train_loss > OVERFIT_RATIO
        exceeded = exceeded + 1 if over else 0
        if exceeded > OVERFIT_PATIENCE:
            return True
    return False


def _overtrained(run: Run) -> bool:
    """Neither loss improves any more; where only one was logged, that one."""
    stopped = [
        _without_improvement(saved(run, series).finite(), patience)
        for name, patience in (("train/loss", PATIENCE_TRAIN), ("val/loss", PATIENCE_VALIDATION))
        if (series := run.get(name)) is not None
    ]
    return bool(stopped) and all(stopped)


def _without_improvement(loss: Series, patience: int) -> bool:
    best, waited = math.inf, 0
    for value in loss.values.tolist():
        if value < best - DELTA:
            best, waited = value, 0
        else:
            waited += 1
        if waited >= patience:
            return True
    return False


def _unchanged(loss: Series) -> bool:
    values = loss.values
    return any(
        np.allclose(values[at - UNCHANGED_STEPS + 1 : at + 1], values[at])
        for at in range(UNCHANGED_STEPS - 1, len(values))
    )
