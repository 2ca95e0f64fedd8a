"""The run went on long after its best validation.

Finds
The lowest validation loss lies in the first two thirds of the run, and the level at the end is above it by more than
noise.

Why it matters
The last checkpoint is not the one to use, and the time since the best bought nothing.

Evidence needed
At least 5 evaluations.

Not when
Validation is as good at the end as at its best within noise; or the best is recent.

Remedy
Use the checkpoint of the best update; stop early next time.

References
Prechelt, "Early stopping - but when?", 1998: training on after the minimum pays rarely and little.
"""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

# A third of the run: Prechelt's slowest criterion (UP 8) stops after about that share of a typical run past the best.
LONG_SHARE = 1 / 3
# 1 %: see overfitting.MATERIAL_SHARE, what another seed gives.
MATERIAL_SHARE = 0.01


@rule(code="GE004", stages="L", severity="warning")
def check(case: Case) -> Outcome:
    val = case.val
    if val is None:
        return CouldNotCheck(("val/loss",))
    if len(val) < 5:
        return CouldNotCheck(("at least 5 evaluations",))
    rise = case.val_rise
    if rise is None or rise.rise <= 0:
        return Clear("validation ends at its best level")
    best_update, last_update = int(val.updates[rise.best]), int(val.updates[-1])
    length = last_update - int(val.updates[0])
    if length <= 0 or (last_update - best_update) / length < LONG_SHARE:
        return Clear("the best evaluation is recent")
    if not rise.beyond_noise or rise.rise < MATERIAL_SHARE * abs(rise.best_level):
        return Clear("the end is as good as the best, within noise")
    share = (last_update - best_update) / length
    return Found(
        title=f"Best validation {val.values[rise.best]:.4g} was at update {best_update}; "
        f"{share:.0%} of the run came after it",
        evidence=(
            Evidence(
                "val/loss",
                (best_update, last_update),
                rise.said,
                rise.rise,
                rise.threshold if rise.rise > rise.threshold else None,
                val.source(rise.best),
            ),
        ),
        confidence=0.9,
        facts={
            "best_update": best_update,
            "best_value": float(val.values[rise.best]),
            "best_loss": float(val.values[rise.best]),
            "rise": rise.rise,
            "noise": rise.error,
            "wasted_share": share,
        },
    )
