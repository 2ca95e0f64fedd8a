"""The learning rate is discontinuous where the run was resumed.

Finds
A step in the learning rate at a resume that the schedule does not take anywhere near: the scheduler was not in the
checkpoint and began again, or its horizon changed and the curve was stretched under the run.

Why it matters
A model that has been annealed is thrown back to the peak: the loss jumps and the annealing is paid for twice. In
incident I3 every restart began the schedule again.

Evidence needed
`lr/<group>` on both sides of a resume.

Not when
Another learning rate was asked for and the step is that change, the schedule was dropped on purpose (a fresh start
from the weights), warm restarts are configured, or the step is one that the schedule takes elsewhere too.

Remedy
Save the scheduler's state, or compute the learning rate from the update counter alone, and keep the horizon of the
first start.

References
Incident I3 (the scheduler is not in the checkpoint). transformers Trainer saves `scheduler.pt` for this reason.
Ibrahim et al., arXiv 2403.08763 (re-warming makes the loss rise before it falls).
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.lr_curve import applied, moments
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.resumes import planned_anew
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.runs import Series

# A step counts when it is five times what the schedule takes around it, and at least a quarter: a resume between two
# logged points may hide one whole logging interval of decay on each side.
TIMES_LOCAL_STEP = 5.0
LEAST_STEP = math.log(1.25)
LARGE_STEP = math.log(2.0)


@rule(
    code="LR005",
    stages="L",
    severity="error",
    explains=("schedule-restarts-unplanned", "loss-spike", "lr-not-as-configured", "schedule-wrong-horizon"),
)
def check(case: Case) -> Outcome:
    resumes = [e for e in case.run.events_of("resume") if e.update]
    if not resumes:
        return Clear("nothing was resumed")
    lrs = applied(case)
    if not lrs:
        return CouldNotCheck(("lr",))
    updates = [e.update for e in resumes if e.update is not None]
    if not any((s.updates <= u).any() and (s.updates > u).any() for u in updates for s in lrs.values()):
        return CouldNotCheck(("lr on both sides of the resume",))
    if case.setting("schedule") == "restarts":
        return Clear("warm restarts are configured")
    for event in resumes:
        if planned_anew(event):
            continue
        for series in lrs.values():
            found = _jump(case, series, int(event.update or 0))
            if found is not None:
                return found
    return Clear("the learning rate is continuous at every resume, or its change was asked for")


def _jump(case: Case, series: Series, resumed: int) -> Found | None:
    values, updates = series.values, series.updates
    cut = int(np.searchsorted(updates, resumed, side="right"))
    # the resume may be logged one interval off: the largest step within one point of it
    candidates = [i for i in (cut - 1, cut, cut + 1) if 1 <= i < len(values)]
    if not candidates:
        return None
    logs = np.log(np.maximum(values, 1e-12 * float(values.max())))
    steps = np.abs(np.diff(logs))
    at = max(candidates, key=lambda i: steps[i - 1])
    step = float(logs[at] - logs[at - 1])
    near = np.concatenate([steps[max(0, at - 6) : max(0, at - 2)], steps[at + 1 : at + 5]])
    local = float(np.median(near)) if len(near) else 0.0
    limit = max(LEAST_STEP, TIMES_LOCAL_STEP * local)
    if abs(step) <= limit:
        return None
    loss = _loss_step(case, int(updates[at]))
    times = math.exp(abs(step))
    way = "up" if step > 0 else "down"
    title = (
        f"{series.name} jumps {way} by a factor of {times:.3g} at the resume at update {resumed:,}: "
        f"{number(float(values[at - 1]))} before, {number(float(values[at]))} after"
    )
    evidence: tuple[Evidence, ...] = (
        moments(series, at, "learning rate after the resume, against the one before", float(values[at - 1])),
    )
    if loss is not None:
        title += f"; the loss goes from {loss[0]:.4g} to {loss[1]:.4g}"
    facts: dict[str, object] = {
        "before_lr": float(values[at - 1]),
        "after_lr": float(values[at]),
        "ratio": float(values[at] / values[at - 1]) if values[at - 1] > 0 else math.inf,
        "resumed_at": resumed,
        "group": series.name.removeprefix("lr/"),
    }
    severity = None if step > 0 and abs(step) >= LARGE_STEP else "warning"
    return Found(title, evidence, 0.93, "warning" if severity else None, "", facts)


def _loss_step(case: Case, update: int) -> tuple[float, float] | None:
    """Training loss around the resume (medians of 3 points before and of the highest 3 of 8 after), where it rose."""
    if case.loss is None:
        return None
    before = case.loss.values[case.loss.updates < update][-3:]
    after = case.loss.values[case.loss.updates >= update][:8]
    if len(before) < 3 or len(after) < 3:
        return None
    old, new = float(np.median(before)), float(np.median(np.sort(after)[-3:]))
    return (old, new) if new > old + 3 * max(case.loss_noise, 0.0) else None
