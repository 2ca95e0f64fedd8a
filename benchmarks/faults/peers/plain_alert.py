"""What a user of Weights & Biases or TensorBoard sets up by hand: an alert on NaN and one on no improvement.

Defined once, before any run was looked at: "nan" when a logged loss is not finite; "plateau" when the validation loss
has not improved in more than 10 evaluations on end, an improvement being relative and at least 1e-4: the defaults of
PyTorch's ReduceLROnPlateau, the definition most at hand. Without validation the training loss is watched, averaged over
hundredths of the log, because single batches are too noisy for such an alert.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.runs.run import Floats, Run

NAME = "NaN/plateau alert"
SOURCE = (
    "ours, with the defaults of torch.optim.lr_scheduler.ReduceLROnPlateau "
    "(docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html): patience 10, "
    "threshold 1e-4, relative"
)

PATIENCE = 10
THRESHOLD = 1e-4
STRETCHES = 100  # ours: an alert on a curve as it looks in a plot

MEANS = {
    "nan": ("loss-not-finite", "gradient-exploding", "loss-diverged", "loss-zero-by-filter", "lr-too-high"),
    "plateau": ("loss-plateau", "loss-at-chance", "loss-diverged", "loss-oscillating", "overfitting",
                "best-checkpoint-passed", "lr-too-low", "schedule-constant", "plateau-scheduler-idle"),
}  # fmt: skip


def check(run: Run) -> list[str]:
    """The alerts; NaN first."""
    losses = [s for name in ("val/loss", "train/loss") if (s := run.get(name)) is not None and len(s)]
    alarms = ["nan"] if any(not np.isfinite(s.values).all() for s in losses) else []
    if losses:
        watched = losses[0].finite().values
        if losses[0].name == "train/loss":
            watched = np.array([part.mean() for part in np.array_split(watched, STRETCHES) if len(part)])
        if _without_improvement(watched):
            alarms.append("plateau")
    return alarms


def _without_improvement(values: Floats) -> bool:
    best, waited = math.inf, 0
    for value in values.tolist():
        if value < best * (1 - math.copysign(THRESHOLD, best)):
            best, waited = value, 0
        else:
            waited += 1
        if waited > PATIENCE:
            return True
    return False
