"""The run ended while the loss was still falling steeply.

Finds
The loss was falling at the end much faster than a run of a sensible length does, with the learning rate still high
or the planned updates not reached. Projects what the planned updates, or twice as many, would give, with an interval.
Also: a run over after a handful of updates, and a language model that ended where token frequencies alone are, after
fewer updates than those take. A note where the plan was reached after 200 updates or more and the curve had not only
just begun: more can be bought there, and whether to is the user's choice.

Why it matters
No setting repairs too few updates; comparing such runs compares how far they got.

Evidence needed
5 points of the training or validation loss in the last third of the updates (in the last two thirds where the rate is
known not to have been annealed); the learning rate, to tell an unfinished run from a finished one.

Not when
The learning rate was annealed and the planned updates reached: a finished, if short, run. Validation has begun to
rise (overfitting). The learning rate went up again: what falls then is the rise that it made.

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
from unstuck.diagnose.hardly_begun import BEGUN, OPTIMAL_DECLINE, SHARE_OF_DESCENT, STEEP, descent_of
from unstuck.diagnose.lr_curve import near_frequencies
from unstuck.diagnose.projection import FARTHEST, Projection, project, rates_of
from unstuck.diagnose.rate_course import RateCourse
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.slopes import LEAST_POINTS, Decline, decline_at_end, gain_ahead
from unstuck.runs import Series
from unstuck.wording import plural

# Annealing the learning rate gives a fall of its own, up to about 0.1 of the loss over the last fifth of a run (WSD,
# Hu et al. 2024): where no learning rate is known the decline must be twice as steep again.
STEEP_LR_UNKNOWN = 2 * STEEP
# A run of fewer updates is a test: frequencies alone take half of them (below), and loss-at-chance says nothing before.
SHORT = 200
WINDOWS = (1 / 3, 1 / 2, 2 / 3)  # of the updates, for the slope at the end: the first that holds enough points
REACHED = 0.9  # below 90 % of the plan the run was cut short; the last 10 % may be a log interval


# Adam moves a weight by about its learning rate at each update, never much more (Kingma, Ba, arXiv 1412.6980, section
# 2.1): ten updates at 1e-3 move it by a hundredth, and with a warm-up of any length by less.
HANDFUL = 10
# Token frequencies alone take about 100 updates at any sensible rate (loss-at-chance, docs/scales.md), and what depends
# on the context comes after them: a run that ends before, still there, has shown nothing but its own shortness.
FREQUENCY_UPDATES = 100


@rule(code="GE005", stages="LC", severity="warning")
def check(case: Case) -> Outcome:
    if (few := _handful(case) or _at_frequencies(case)) is not None:
        return few
    rise = case.val_rise
    if rise is not None and rise.rise > 0 and rise.beyond_noise:
        return Clear("validation has begun to rise")
    planned, last, rates = _planned(case), case.run.updates, rates_of(case)
    if rates is not None and rates.restarted(last):
        return Clear("the learning rate went up again: the loss falls because of that")
    cut_short = planned is not None and last < REACHED * planned
    # of few points the last half or two thirds, where it is known that the schedule had not brought the run to its end
    shares = WINDOWS if cut_short or case.annealed is False else WINDOWS[:1]
    slopes = [(series, decline) for series, decline in _declines(case, shares) if decline is not None]
    if not slopes:
        return CouldNotCheck((f"{LEAST_POINTS} points of train/loss or val/loss in the last third of the run",))
    series, decline = min(slopes, key=lambda pair: pair[1].high - pair[1].value)  # the one that is known best
    end = float(series.values[-max(1, len(series) // 20) :].mean())
    # what a doubling would bring, or the rest of the plan
    ahead = gain_ahead(planned / last if planned is not None and cut_short else 2.0) / gain_ahead(2.0)
    short = case.run.axis == "update" and last < SHORT and case.annealed is False
    # too short for certain: whatever a run of sensible length would still gain is lost; else it takes twice that
    share = OPTIMAL_DECLINE if cut_short or short else STEEP_LR_UNKNOWN if case.annealed is None else STEEP
    threshold, descent = share * abs(end) / ahead, descent_of(case, series, end)
    if cut_short and case.start in ("pretrained", "checkpoint"):
        threshold = SHARE_OF_DESCENT * descent / ahead  # most of the level was learnt before this run
    steep = decline.low > threshold and decline.value * ahead > SHARE_OF_DESCENT * descent
    if not steep or any(other.high <= threshold for _, other in slopes):
        return Clear("the loss had flattened by the end")
    if case.annealed and not cut_short:
        return Clear("the run ended as planned with its learning rate annealed")
    target = planned if planned is not None and cut_short else 2 * last
    if rates is not None and not cut_short:
        rates = rates.held(last)  # longer than planned: at the learning rate of the end
    said, detail, projection = _projected(case, series, target, rates)
    counted = "epoch" if case.run.axis == "epoch" else "update"
    # a log that stops before its plan may belong to a run that is still going
    goal = case.setting("updates")
    running = bool(goal) and last < REACHED * int(goal or 0) and not any(case.run.events_of("end"))
    if running:
        why = f"is at {last} of {planned} {counted}s"
    else:
        why = f"ended at {last} of {planned} {counted}s" if cut_short else f"ended at {counted} {last}"
    return Found(
        title=f"The run {why} while the loss still fell by {decline.value:.2g} per e-fold{said}",
        evidence=(_evidence(series, decline, threshold),),
        confidence=0.8 if case.annealed is False or cut_short else 0.6,
        # of a plan that was reached at a length where others stop as well, more may be bought: the user's choice
        severity="warning" if (cut_short or short or decline.value > BEGUN * descent) and not running else "note",
        detail=detail,
        facts={
            "last_update": last,
            "decline": decline.value,
            "target_updates": target,
            "more_updates": target - last,
            "level": end,
            **projection,
        },
    )


def _planned(case: Case) -> int | None:
    """The longest plan that the settings tell: updates, or the schedule's horizon."""
    plans = [int(n) for n in (case.setting("updates"), case.setting("horizon_updates")) if n]
    return max(plans, default=None)


def _declines(case: Case, shares: tuple[float, ...]) -> list[tuple[Series, Decline | None]]:
    """Validation and training loss, each with its decline at the end."""
    started = [series.where(series.updates >= 1) for series in (case.val, case.loss) if series is not None]
    return [(s, decline_at_end(s.updates.astype(np.float64), s.values, shares)) for s in started]


def _projected(case: Case, series: Series, target: int, rates: RateCourse | None) -> tuple[str, str, dict[str, object]]:
    """What the updates missing would bring: words for the title, detail, facts; by the series that carries a curve.

    As far as a projection goes where the target is farther.
    """
    reason, target = "", min(target, int(FARTHEST * series.updates[-1]))
    for curve in (series, *(other for other in (case.val, case.loss) if other is not None)):
        ahead = project(curve.updates.astype(np.float64), curve.values, target, rates)
        if isinstance(ahead, Projection):
            facts: dict[str, object] = {
                "projected_loss": ahead.loss,
                "projected_low": ahead.low,
                "projected_high": ahead.high,
            }
            return f"; projected: {ahead}", f"{_assumed(rates)} Projected: {curve.name}.", facts
        reason = reason or ahead.reason
    return "", f"No projection: {reason}.", {}


def _assumed(rates: RateCourse | None) -> str:
    """What the projection takes the learning rate to do."""
    if rates is not None and rates.known_to == math.inf:
        return "The learning rate is taken to go on as planned, or as at the end where nothing is planned."
    return "How the rate goes on is not known: the interval holds both that it is annealed by then and that it is not."


def _evidence(series: Series, decline: Decline, threshold: float) -> Evidence:
    return Evidence(
        series.name,
        (decline.first, int(series.updates[-1])),
        "decline per e-fold of updates at the end, less two standard errors",
        decline.low,
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


def _at_frequencies(case: Case) -> Found | None:
    """A language model from scratch that stopped before it could have learnt more than token frequencies, and had not.

    A note where the log stops before its plan: the run may still be going.
    """
    last, goal, loss = case.run.updates, case.setting("updates"), case.val if case.val is not None else case.loss
    if loss is None or not goal or case.run.axis != "update" or not HANDFUL <= last < FREQUENCY_UPDATES:
        return None
    level = float(np.median(loss.values[-3:]))
    fresh = case.start not in ("pretrained", "checkpoint")
    if not fresh or any(case.run.events_of("error")) or not near_frequencies(case, level):
        return None
    running = last < REACHED * int(goal) and not any(case.run.events_of("end"))
    why = f"is at {last} of {goal} updates" if running else f"ended after {last} updates"
    return Found(
        title=f"The run {why} at a loss of {level:.4g}, no better than token frequencies give",
        evidence=(
            Evidence(loss.name, (1, last), "updates made; frequencies alone take about as many as the threshold",
                     float(last), float(FREQUENCY_UPDATES), loss.source(len(loss) - 1)),
        ),
        confidence=0.7,
        severity="note" if running else "warning",
        detail="What depends on the context comes after the frequencies: this run was too short to tell anything else.",
        facts={"last_update": last, "level": level, "target_updates": 2 * FREQUENCY_UPDATES,
               "more_updates": 2 * FREQUENCY_UPDATES - last},
    )  # fmt: skip
