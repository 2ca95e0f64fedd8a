"""The learning rate goes back up past the end of its schedule.

Finds
A learning rate that had come down to a tenth of its peak and rises again to a fifth or more: a cosine stepped beyond
its T_max, which mirrors, or a schedule that a resume began anew. Of a schedule that only falls, or where what follows
repeats the course from the start, a rise from the midst of the descent counts as well: the log of a restarted job need
not say that it was restarted.

Why it matters
What annealing gained is lost, and the second descent is paid for with updates that were not planned.

Evidence needed
`lr/<group>`, 5 points; the schedule's name, or the shape of the rise: a schedule past its end rises smoothly, a
restart jumps.

Not when
Warm restarts or cycles are configured; a resume planned the schedule anew (a longer run, another rate); a stage began
there; the rises repeat at equal distances (a cyclic schedule whose name the log does not give).

Remedy
Give the schedule its real horizon, or stop stepping it at its end.

References
PyTorch CosineAnnealingLR (its formula is periodic with 2 T_max). Loshchilov, Hutter, SGDR, arXiv 1608.03983 (planned
restarts).
"""

from __future__ import annotations

from unstuck.diagnose.begun_anew import FALLING, LEAST_RISE, Anew, begun_anew, mirrored
from unstuck.diagnose.case import Case
from unstuck.diagnose.lr_curve import RISE_LEVEL, applied, comeback, moments
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.planned import switched_between
from unstuck.diagnose.resumes import planned_anew
from unstuck.diagnose.rule import Clear, CouldNotCheck, Found, Outcome, Severity, rule
from unstuck.runs import Series

LEAST_POINTS = 5  # the peak, its fall to the end, and a rise


@rule(code="SC006", stages="L", severity="error", explains=("loss-plateau", "loss-spike", "best-checkpoint-passed"))
def check(case: Case) -> Outcome:
    lrs = applied(case)
    if not any(len(s) >= LEAST_POINTS for s in lrs.values()):
        return CouldNotCheck((f"{LEAST_POINTS} points of lr",))
    kind, cycles = case.setting("schedule"), case.setting("schedule_cycles")
    if kind == "restarts" or (cycles and cycles > 1):
        return Clear("warm restarts are configured")
    resumed = [e for e in case.run.events_of("resume") if e.update is not None]
    resumes = [e.update for e in resumed if e.update is not None]
    planned = {e.update for e in resumed if planned_anew(e)}
    for series in lrs.values():
        back = comeback(series)
        if back is None:
            anew = begun_anew(series)
            if anew is not None and (found := _anew(case, series, anew)) is not None:
                return found
            continue
        if back.times > 1 and kind is None:
            continue  # it repeats: cyclic by design, as far as the log can tell
        jump = int(series.updates[back.jump_index])
        previous = int(series.updates[back.jump_index - 1])
        at_resume = any(previous <= r <= jump for r in resumes)
        if any(previous <= r <= jump for r in planned if r is not None):
            continue
        if not back.smooth and kind is None and not at_resume:
            return CouldNotCheck(("schedule",))
        how = "smoothly, past the end of its schedule" if back.smooth else f"in one step at update {jump:,}"
        if at_resume:
            how += ", where the run was resumed"
        title = (
            f"{series.name} came down by update {back.low_update:,} and goes up again {how}, to "
            f"{number(float(series.values[back.index]))}, {100 * back.share:.0f} % of its peak"
        )
        facts: dict[str, object] = {
            "restart_update": jump,
            "horizon_applied": back.low_update,
            "horizon_expected": case.setting("updates") or case.run.updates,
            "share_of_peak": back.share,
        }
        evidence = (
            moments(series, back.index, "learning rate after the end", RISE_LEVEL * float(series.values.max())),
        )
        return Found(title, evidence, 0.9, None, "", facts)
    return Clear("the learning rate does not come back")


def _anew(case: Case, series: Series, anew: Anew) -> Found | None:
    """A rise from the midst of a descent; None where nothing tells it from one that was planned."""
    values, updates = series.values, series.updates
    first, last = int(updates[anew.jump - 1]), int(updates[anew.jump])
    kind = case.setting("schedule")
    resumes = [e for e in case.run.events_of("resume") if e.update is not None and first <= e.update <= last]
    if any(planned_anew(e) for e in resumes) or switched_between(case, first, last):
        return None
    alone = kind is None and not resumes and mirrored(series, anew.low)
    if not (kind in FALLING or anew.retraced or alone):
        return None
    where = " where the run was resumed" if resumes else ""
    why = f"a {kind} schedule does not rise" if kind in FALLING else "and then goes the way it went from the start"
    if alone and not anew.retraced:
        why = "it goes back up the way it came down, as torch's CosineAnnealingLR does beyond T_max"
    title = (
        f"{series.name} was down to {number(float(values[anew.low]))} at update {int(updates[anew.low]):,} and is "
        f"{number(float(values[anew.top]))} at update {int(updates[anew.top]):,}{where}: {why}"
    )
    facts: dict[str, object] = {
        "restart_update": last,
        "horizon_applied": first,
        "horizon_expected": case.setting("updates") or case.run.updates,
        "share_of_peak": float(values[anew.top] / values.max()),
    }
    evidence = (moments(series, anew.top, "learning rate after the rise", LEAST_RISE * float(values[anew.low])),)
    severity: Severity = "note" if alone and not anew.retraced else "warning"  # cycles may be meant
    return Found(title, evidence, 0.9 if kind in FALLING else 0.8, severity, "", facts)
