"""The run ended while the loss was still falling steeply.

Finds
The loss was falling at the end much faster than a run of a sensible length does, with the learning rate still high
or the planned updates not reached. Projects what the planned updates, or twice as many, would give, with an interval.

Why it matters
No setting repairs too few updates; comparing such runs compares how far they got.

Evidence needed
8 points of the training loss or 8 evaluations; the learning rate, to tell an unfinished run from a finished one.

Not when
The learning rate was annealed and the planned updates reached: a finished, if short, run. Validation has begun to
rise (overfitting).

Remedy
Train for more updates, with the schedule stretched over them.

References
Hoffmann et al. 2022 (arXiv 2203.15556), L = 1.69 + 406 / N^0.34 + 410 / D^0.28: at 20 tokens a parameter the loss
falls by 0.08 of itself per e-fold of tokens. Kaplan et al. 2020 (arXiv 2001.08361). The projection is measured in
docs/projection.md.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.projection import Projection, project, rates_of
from unstuck.diagnose.rate_course import RateCourse
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.slopes import decline_per_e_fold
from unstuck.runs import Series
from unstuck.wording import plural

# Share of the loss lost per e-fold of updates at a compute-optimal end: N = 124M, D = 2.5e9 in Hoffmann et al. gives
# 0.28 x 410 / D^0.28 = 0.27 of 3.3 nats. Twice that is steep.
OPTIMAL_DECLINE = 0.08
STEEP = 2 * OPTIMAL_DECLINE
# Annealing the learning rate gives a fall of its own, up to about 0.1 of the loss over the last fifth of a run (WSD,
# Hu et al. 2024): where no learning rate is known the decline must be twice as steep again.
STEEP_LR_UNKNOWN = 2 * STEEP
# The decline must also be a real share of what the run has learnt at all: losses near 0 halve for ever.
SHARE_OF_DESCENT = 0.10
MIN_POINTS = 8  # then 5 may lie in the last half, the least for a slope with an error
REACHED = 0.9  # below 90 % of the plan the run was cut short; the last 10 % may be a log interval


# Adam moves a weight by about its learning rate at each update, never much more (Kingma, Ba, arXiv 1412.6980, section
# 2.1): ten updates at 1e-3 move it by a hundredth, and with a warm-up of any length by less.
HANDFUL = 10


@rule(code="GE005", stages="LC", severity="warning")
def check(case: Case) -> Outcome:
    if (few := _handful(case)) is not None:
        return few
    series = case.val if case.val is not None and len(case.val) >= MIN_POINTS else case.loss
    if series is None or len(series) < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of train/loss or val/loss",))
    rise = case.val_rise
    if rise is not None and rise.rise > 0 and rise.beyond_noise:
        return Clear("validation has begun to rise")
    after = series.where(series.updates >= 1)
    updates, losses = after.updates.astype(np.float64), after.values
    plans = [int(n) for n in (case.setting("updates"), case.setting("horizon_updates")) if n]
    planned = max(plans, default=None)
    cut_short = planned is not None and case.run.updates < REACHED * planned
    decline, error = decline_per_e_fold(updates, losses)
    if math.isnan(decline) and (cut_short or case.annealed is False):
        # few points: the last half, where it is known that the schedule had not brought the run to its end
        decline, error = decline_per_e_fold(updates, losses, share=1 / 2)
    if math.isnan(decline):
        return CouldNotCheck(("5 points in the last third of the run",))
    end = float(losses[-max(1, len(losses) // 20) :].mean())
    descent = float(series.values[0]) - end
    # cut short: whatever a run of sensible length would still gain is lost; else it takes twice that to say so
    share = OPTIMAL_DECLINE if cut_short else STEEP_LR_UNKNOWN if case.annealed is None else STEEP
    threshold = max(share * abs(end), SHARE_OF_DESCENT * descent)
    if decline - 2 * error <= threshold:
        return Clear("the loss had flattened by the end")
    if case.annealed and not cut_short:
        return Clear("the run ended as planned with its learning rate annealed")
    last = int(series.updates[-1])
    target = planned if planned is not None and planned > last else 2 * last
    rates = rates_of(case)
    if rates is not None and not cut_short:
        rates = rates.held(last)  # longer than planned: at the learning rate of the end
    ahead = project(updates, losses, target, rates)
    projection: dict[str, object] = {}
    if isinstance(ahead, Projection):
        projection = {"projected_loss": ahead.loss, "projected_low": ahead.low, "projected_high": ahead.high}
        said, detail = f"; projected: {ahead}", _assumed(rates)
    else:
        said, detail = "", f"No projection: {ahead.reason}."
    # a log that stops before its plan may belong to a run that is still going
    goal = case.setting("updates")
    running = bool(goal) and last < REACHED * int(goal or 0) and not any(case.run.events_of("end"))
    if running:
        why = f"is at {last} of {planned} updates"
    else:
        why = f"ended at {last} of {planned} updates" if cut_short else f"ended at update {last}"
    return Found(
        title=f"The run {why} while the loss still fell by {decline:.2g} per e-fold{said}",
        evidence=(_evidence(series, decline, threshold),),
        confidence=0.8 if case.annealed is False or cut_short else 0.6,
        severity="note" if running else "warning",
        detail=detail,
        facts={
            "last_update": last,
            "decline": decline,
            "target_updates": target,
            "more_updates": target - last,
            "level": end,
            **projection,
        },
    )


def _assumed(rates: RateCourse | None) -> str:
    """What the projection takes the learning rate to do."""
    if rates is not None and rates.known_to == math.inf:
        return "The learning rate is taken to go on as planned, or as at the end where nothing is planned."
    return "How the rate goes on is not known: the interval holds both that it is annealed by then and that it is not."


def _evidence(series: Series, decline: float, threshold: float) -> Evidence:
    last = int(series.updates[-1])
    return Evidence(
        series.name,
        (int(last * 2 / 3), last),
        "decline per e-fold of updates over the last third",
        decline,
        threshold,
        series.source(len(series) - 1),
    )


def _handful(case: Case) -> Found | None:
    """A run that said it ended after fewer updates than move a weight."""
    end = next(case.run.events_of("end"), None)
    last = case.run.updates
    if end is None or case.run.axis != "update" or not 1 <= last < HANDFUL or any(case.run.events_of("error")):
        return None
    return Found(
        title=f"The run ended after {plural(last, 'update')}: weights have hardly moved",
        evidence=(Evidence("updates", (0, last), "updates made", float(last), float(HANDFUL), end.source),),
        confidence=0.85,
        detail="Fewer samples per update (a smaller batch or accumulation) or more epochs give more updates.",
        facts={"last_update": last, "more_updates": HANDFUL * 10 - last, "target_updates": HANDFUL * 10},
    )
