"""Validation worsens beyond its noise while training improves.

Finds
The validation loss ends above its lowest level by more than its own noise explains, and over the same updates the
training loss fell by more than its own. Gives the update of the best validation.

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
Prechelt, "Early stopping - but when?", 1998. Newey and West 1987 for the error of a wandering level. Seed-to-seed
standard deviations of small models: Li et al. 2025 (arXiv 2503.04715) and our own placebo trials.
"""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import fall

# 1 %: the standard deviation over seeds is 0.0014 nats for GPT-2 124M and 5-30 times that for small models, that is up
# to 0.04 of a loss near 3-4: a smaller rise is what another seed would have given.
MATERIAL_SHARE = 0.01
# From 5 % on (5 seed standard deviations) it is an error, below that a warning.
ERROR_SHARE = 0.05


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
    if not rise.beyond_noise:
        if rise.threshold == float("inf"):
            return CouldNotCheck(("5 evaluations, or the tokens per evaluation",))
        return Clear("validation rose less than its noise")
    best_update, last_update = int(val.updates[rise.best]), int(val.updates[-1])
    share = rise.rise / max(abs(rise.best_level), 1e-12)
    if share < MATERIAL_SHARE:
        return Clear("the rise is within what another seed gives")
    since = loss.between(best_update, last_update)
    train_fall, error = fall(since.values)
    if train_fall != train_fall:  # nan: too few points for an error, the trend has to do
        train_fall, error = float(case.train_at_evaluations[rise.best] - case.train_at_evaluations[-1]), 0.0
    if not train_fall > 2 * error:  # 2 standard errors: training is known to fall, with 97.5 % confidence
        return Clear("training did not improve while validation rose")
    return Found(
        title=f"Validation has risen by {rise.rise:.3g} since update {best_update} while training falls",
        evidence=(
            Evidence(
                "val/loss",
                (best_update, last_update),
                "rise over its noise",
                rise.rise,
                None if rise.threshold == float("inf") else rise.threshold,
                val.source(rise.best),
            ),
            Evidence(
                "train/loss",
                (best_update, last_update),
                "fall over the same updates",
                train_fall,
                2 * error,
                loss.source(len(loss) - 1),
            ),
        ),
        confidence=0.96 if rise.rise > rise.threshold else 0.85,
        severity="error" if share >= ERROR_SHARE else "warning",
        facts={
            "best_update": best_update,
            "best_value": float(val.values[rise.best]),
            "best_loss": float(val.values[rise.best]),
            "rise": rise.rise,
            "noise": rise.error,
            "last_update": last_update,
        },
    )
