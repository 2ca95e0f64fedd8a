"""Validation worsens beyond its noise while training improves.

Finds
The validation loss ends above its lowest level by more than its own noise explains (of few evaluations: they come in an
order that noise does not give), and over the same updates the training loss fell by more than its own. Where the
evaluations after the best are too few to tell noise from a level that wanders: validation drifts up steadily, by 5 % of
the loss or more, and training fell by at least as much, which a model that merely wanders does not do. Gives the update
of the best validation.

Why it matters
From the best update on, training spends time on making the model worse at everything it was not trained on.

Evidence needed
At least 5 evaluations (4 when the tokens per evaluation are known), and the training loss.

Not when
Validation is flat while training falls (loss-plateau: a gap that buys nothing, not yet a rise); training rises too
(loss-diverged); the rise is below 1 % of the loss, which another seed gives as well.

Remedy
Stop at the best update, or more data, or regularisation: weight decay, dropout, fewer epochs.

References
Prechelt, "Early stopping - but when?", 1998. Mann 1945, Kendall 1948 (the order of few evaluations). Newey and West
1987 for the error of a wandering level. Seed-to-seed standard deviations of small models: Li et al. 2025 (arXiv
2503.04715) and our own placebo trials.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.few_points import chance_of_order
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.statistics import NOISE_POINTS, Floats, Rise, fall

# 1 %: the standard deviation over seeds is 0.0014 nats for GPT-2 124M and 5-30 times that for small models, that is up
# to 0.04 of a loss near 3-4: a smaller rise is what another seed would have given.
MATERIAL_SHARE = 0.01
# From 5 % on (5 seed standard deviations) it is an error, below that a warning.
ERROR_SHARE = 0.05
# Standard errors of the mean step after the best. Of levels that only wander, white noise passes in 1 run of 500, noise
# with a memory of 0.8 in 1 of 20, a random walk in 1 of 10 (tests/statistics/test_drift.py): training has to speak too.
# Two is the usual limit, and was chosen knowing that a labelled log (csvlogger_06) has 2.14: so it makes a note only.
DRIFT = 2.0
FALLS_BY_CHANCE = 0.025  # one-sided, what 2 standard errors leave
LEAST_STEPS = 5  # after the best: their spread is known to a third


@rule(
    code="GE001",
    stages="LV",
    severity="error",
    explains=("best-checkpoint-passed", "loss-plateau", "validation-noisy", "loss-implausibly-low", "undertrained"),
)
def check(case: Case) -> Outcome:
    val, loss = case.val, case.loss
    missing = tuple(name for name, series in (("val/loss", val), ("train/loss", loss)) if series is None)
    if val is None or loss is None or case.loss_trend is None or case.train_at_evaluations is None:
        return CouldNotCheck(missing)
    if len(val) < 4:
        return CouldNotCheck(("at least 4 evaluations",))
    rise = case.val_rise
    if rise is None or rise.rise <= 0:
        return Clear("validation ends at its best level")
    drifts = not rise.beyond_noise and _memorises(case, rise.best, rise.rise, rise.best_level)
    if not rise.beyond_noise and not drifts:
        if rise.threshold == float("inf"):
            return CouldNotCheck(("5 evaluations, or the tokens per evaluation",))
        return Clear("validation rose less than its noise")
    best_update, last_update = int(val.updates[rise.best]), int(val.updates[-1])
    share = rise.rise / max(abs(rise.best_level), 1e-12)
    if share < MATERIAL_SHARE:
        return Clear("the rise is within what another seed gives")
    since = loss.between(best_update, last_update)
    train_fall, error = fall(since.values)
    fell = "fall of the level from the first to the last third of the same updates"
    if train_fall != train_fall:  # nan: too few points for an error, the trend has to do
        train_fall, error = float(case.train_at_evaluations[rise.best] - case.train_at_evaluations[-1]), 0.0
        fell = "fall over the same updates"
    # 2 standard errors: training is known to fall, with 97.5 % confidence; so it is by the order of few rows
    in_order = train_fall > 0 and len(since) <= NOISE_POINTS and chance_of_order(-since.values) <= FALLS_BY_CHANCE
    if not train_fall > 2 * error and not in_order:
        return Clear("training did not improve while validation rose")
    severity: Severity = "note" if drifts else "error" if share >= ERROR_SHARE else "warning"
    return Found(
        title=f"Validation rose from {val.values[rise.best]:.4g} at {case.step} {best_update} to {val.values[-1]:.4g} "
        f"at {last_update} while training falls",
        evidence=(
            Evidence(
                "val/loss", (best_update, last_update), *_measured(val.values, rise, drifts), val.source(rise.best)
            ),
            Evidence(
                "train/loss",
                (best_update, last_update),
                fell,
                train_fall,
                None if in_order else 2 * error,
                loss.source(len(loss) - 1),
            ),
        ),
        confidence=0.75 if drifts else 0.96 if rise.rise > rise.threshold else 0.85,
        severity=severity,
        facts={
            "best_update": best_update,
            "best_value": float(val.values[rise.best]),
            "best_loss": float(val.values[rise.best]),
            "rise": rise.rise,
            "noise": rise.error,
            "last_update": last_update,
        },
    )


def drift(after: Floats) -> float:
    """Mean step of a series in its standard errors; nan below `LEAST_STEPS` steps or where all are the same."""
    steps = np.diff(after)
    if len(steps) < LEAST_STEPS or not (spread := float(np.std(steps, ddof=1))) > 0:
        return math.nan
    return float(steps.mean()) / spread * math.sqrt(len(steps))


def _memorises(case: Case, best: int, rise: float, level: float) -> bool:
    """Whether validation drifts up by a material share after its best and training fell by at least as much."""
    val, train = case.val, case.train_at_evaluations
    if val is None or train is None or len(val) - best > NOISE_POINTS or rise < ERROR_SHARE * abs(level):
        return False
    return drift(val.values[best:]) >= DRIFT and float(train[best] - train[-1]) >= rise


def _measured(values: Floats, rise: Rise, drifts: bool) -> tuple[str, float, float | None]:
    """What was measured of the rise, and against what."""
    if drifts:
        return "mean step after the best, in its standard errors", drift(values[rise.best :]), DRIFT
    if not rise.rise > rise.threshold:
        return f"{rise.said}, where the last evaluations rise one after the other", rise.rise, None
    return rise.said, rise.rise, rise.threshold
