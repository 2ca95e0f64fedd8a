"""UMLAUT's heuristics at the end of each epoch: NaN loss, learning rate, overfitting, validation accuracy; dropout.

From the released source, whose order is kept. It has no heuristic for an accuracy that does not increase. Its NaN check
reports a NaN loss only when the input holds NaN; here a NaN loss is enough.

A log does not give it: the model's layers (missing activations, missing softmax, an activation on the last layer) and
the input tensors (not normalised, not floating, wrong shape, NaN). Epochs are the evaluations of the log.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.faults.peers._points import epochs
from unstuck.runs.logfile import number
from unstuck.runs.run import Run

NAME = "UMLAUT"
SOURCE = (
    "E. Schoop, F. Huang, B. Hartmann: UMLAUT: Debugging Deep Learning Programs using Program Structure and Model "
    "Behavior, CHI 2021, doi 10.1145/3411764.3445538; github.com/BerkeleyHCI/umlaut at 68c2a02: umlaut/heuristics.py, "
    "umserver/errors.py"
)

# umlaut/heuristics.py
HIGH_DROPOUT = 0.5
LR_HIGH, LR_LOW = 0.01, 1e-7
FIRST_JUDGED_EPOCH = 3  # validation accuracy before that is noise
HIGH_ACCURACY = 0.95
ACCURACY_ABOVE_TRAINING = 0.05

MEANS = {
    "high_dropout_rate": ("loss-plateau", "loss-at-chance"),
    "nan_loss": ("loss-not-finite", "gradient-exploding", "loss-diverged", "loss-zero-by-filter", "lr-too-high"),
    "lr_high": ("lr-too-high", "warmup-missing", "lr-not-as-configured", "lr-jumps-on-resume",
                "schedule-restarts-unplanned", "loss-diverged", "loss-oscillating"),
    "lr_low": ("lr-too-low", "lr-group-starved", "lr-not-as-configured", "lr-stale-after-resume", "warmup-too-long",
               "schedule-wrong-horizon", "lora-lr-like-full"),
    "overfitting": ("overfitting", "best-checkpoint-passed"),
    "overconfident_val": ("splits-overlap", "validation-shifted", "loss-implausibly-low"),
}  # fmt: skip


def check(run: Run) -> list[str]:
    """The alarms, in the order in which UMLAUT applies its heuristics."""
    history = epochs(run)
    rates = _learning_rates(run, [epoch.update for epoch in history])
    late = history[FIRST_JUDGED_EPOCH:]
    raised = {
        "high_dropout_rate": (number(run.setting("dropout")) or 0.0) > HIGH_DROPOUT,
        "nan_loss": any(bool(np.isnan(s.values).any()) for n in ("train/loss", "val/loss") if (s := run.get(n))),
        "lr_high": any(rate > LR_HIGH for rate in rates),
        "lr_low": any(rate < LR_LOW for rate in rates),
        "overfitting": any(
            now.val_loss > before.val_loss and now.train_loss <= before.train_loss for before, now in pairwise(history)
        ),
        "overconfident_val": any(
            e.val_accuracy > HIGH_ACCURACY or e.val_accuracy - e.train_accuracy > ACCURACY_ABOVE_TRAINING for e in late
        ),
    }
    return [name for name, found in raised.items() if found]


def _learning_rates(run: Run, marks: list[int]) -> list[float]:
    """The rate of every group at each epoch's end; the configured one where none was logged."""
    logged = run.learning_rates().values()
    rates = [rate for s in logged for mark in marks or [run.updates] if (rate := s.at(mark)) is not None]
    configured = number(run.setting("learning_rate"))
    return rates or ([configured] if configured is not None else [])
