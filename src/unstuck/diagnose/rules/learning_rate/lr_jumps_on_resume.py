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
Another learning rate or schedule was asked for and the step is that change, the schedule was dropped on purpose (a
fresh start from the weights), warm restarts are configured, the step is one that the schedule takes elsewhere too, or
a longer run was asked for and its stretched schedule less than doubles the rate.

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
from unstuck.diagnose.resumes import lengthened, planned_anew
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.runs import Event, Series

# A step counts when it is five times what the schedule takes around it, and at least a quarter: a resume between two
# logged points may hide one whole logging interval of decay on each side.
TIMES_LOCAL_STEP = 5.0
LEAST_STEP = math.log(1.25)
LARGE_STEP = math.log(2.0)  # ours: no published schedule doubles its rate but in a warm-up or at a restart


# A decay to 0 takes ever larger steps in the logarithm: from 3 points before its end to the next, linear, -0.4; to
# the one after that, -0.7; so a fall counts only with so many points behind it.
LEAST_AFTER_FALL = 4


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
    if not any(0 < _cut(s, e) < len(s) for e in resumes for s in lrs.values()):
        return CouldNotCheck(("lr on both sides of the resume",))
    if case.setting("schedule") == "restarts":
        return Clear("warm restarts are configured")
    for event in resumes:
        longer = lengthened(event)
        if planned_anew(event) and longer is None:
            continue
        for series in lrs.values():
            found = _jump(case, series, event, longer)
            if found is not None:
                return found
    return Clear("the learning rate is continuous at every resume, or its change was asked for")


def _by_line(series: Series, event: Event) -> int | None:
    """Index of the first point that was logged after a resume; None where the lines of the log cannot tell.

    A log by epochs may tell of a resume in updates.
    """
    known = event.source is not None and event.source.line is not None and len(series) and series.lines.all()
    if not known or event.source is None or series.later_files or event.source.file != series.file:
        return None
    return int(np.searchsorted(series.lines, event.source.line or 0))


def _cut(series: Series, event: Event) -> int:
    """Index of the first point after a resume, by its line or else by its update."""
    exact = _by_line(series, event)
    return int(np.searchsorted(series.updates, event.update or 0, side="right")) if exact is None else exact


def _jump(case: Case, series: Series, event: Event, longer: tuple[object, object] | None) -> Found | None:
    values, updates = series.values, series.updates
    cut, resumed = _cut(series, event), int(event.update or 0)
    # told by its update, the resume may be one logged interval off
    near_cut = (cut - 1, cut, cut + 1) if _by_line(series, event) is None else (cut,)
    candidates = [i for i in near_cut if 1 <= i < len(values)]
    if not candidates:
        return None
    logs = np.log(np.maximum(values, 1e-12 * float(values.max())))
    steps = np.abs(np.diff(logs))
    at = max(candidates, key=lambda i: steps[i - 1])
    step = float(logs[at] - logs[at - 1])
    near = np.concatenate([steps[max(0, at - 6) : max(0, at - 2)], steps[at + 1 : at + 5]])
    local = float(np.median(near)) if len(near) else 0.0
    limit = max(LEAST_STEP, TIMES_LOCAL_STEP * local)
    if abs(step) <= limit or (longer is not None and step <= LARGE_STEP):
        return None  # a longer plan lifts the rate a little: that much was asked for
    if step < 0 and len(values) - at < LEAST_AFTER_FALL:
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
    if longer is not None:
        title += f", because the plan went from {longer[0]} to {longer[1]} and the schedule was stretched"
    if loss is not None:
        title += f"; the loss goes from {loss[0]:.4g} to {loss[1]:.4g}"
    facts: dict[str, object] = {
        "before_lr": float(values[at - 1]),
        "after_lr": float(values[at]),
        "ratio": float(values[at] / values[at - 1]) if values[at - 1] > 0 else math.inf,
        "resumed_at": resumed,
        "group": series.name.removeprefix("lr/"),
    }
    asked_nothing = longer is None and step >= LARGE_STEP
    return Found(title, evidence, 0.93, None if asked_nothing else "warning", "", facts)


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
