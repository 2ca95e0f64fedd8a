"""How often findings of a rule were right, and what that makes of a rule's own confidence.

`data/calibration.json` counts, for each rule, the errors and warnings that were right and wrong on the development
splits of the fault benchmark (`python -m benchmarks.faults calibrate`): small models with known faults. A rule's own
estimate counts as much as `prior` such findings; the confidence that is told is the share of right ones among all of
them (the mean of a Beta distribution). A rule that never spoke there keeps its estimate, which is then said.
"""

from __future__ import annotations

from unstuck.diagnose.tables import table

TELLING = 5  # ours: of fewer findings the share says little beside the rule's own estimate


def record_of(rule: str) -> str:
    """How findings of the rule fared where the truth was known, as a clause; empty where it never spoke there."""
    right, wrong = table("calibration")["rules"].get(rule, (0, 0))
    if right + wrong < TELLING:
        return ""
    return f"{right} of {right + wrong} such findings were right on runs with known faults"


def calibrated(rule: str, estimate: float) -> float:
    """The confidence of an error or a warning, from the rule's own estimate in (0, 1) and what was counted."""
    told = table("calibration")
    right, wrong = told["rules"].get(rule, (0, 0))
    return pooled(estimate, right, wrong, told["prior"])


def pooled(estimate: float, right: float, wrong: float, prior: float) -> float:
    """Mean of the Beta distribution with `prior` findings at the estimate, after `right` and `wrong` more."""
    return (prior * estimate + right) / (prior + right + wrong)
