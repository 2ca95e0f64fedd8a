"""Clipping that never acts in a run that would have needed it.

Finds
Updates whose pre-clip norm is ten times the usual one (and the lowest level before them) or more, after which the loss
is worse beyond its noise, while none of them was clipped: the limit is off, lies above them, or is configured and not
applied. A note where the loss is back within 20 points.

Why it matters
Clipping exists for exactly these updates: one of them moves the weights as far as ten ordinary ones, and the loss pays
for it. A limit that nothing ever reaches gives the feeling of protection only.

Evidence needed
The clip limit, at least 10 points of the pre-clip norm, and the training loss.

Not when
The run is stable (a limit that is never needed is no fault); norms fall as the loss does, so that the first half lies
ten times above the median; the large norms belong to the first updates; the loss does not mind them; the learning
rate was raised again just before; the limit does act on them; the norm is not finite (overflow, bad data), which no
limit mends.

Remedy
A limit at about twice the usual norm, so that sound updates keep their size.

References
Pascanu, Mikolov, Bengio 2013 (arXiv 1211.5063). Seetharaman et al. 2020 (arXiv 2007.14469), AutoClip. Incident I3:
`clip_grad_norm_` was commented out while the configuration still named a limit.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import Floats, false_alarm_z, noise_sd, student_z
from unstuck.runs import Series
from unstuck.wording import plural

MIN_POINTS = 10  # five of them are the usual, and the loss's noise before is judged by how many points there are
# As gradient-exploding: one order of magnitude. Norms of sound updates spread about a factor of 2 (AutoClip, figure 1).
ORDER = 10.0
BEFORE = 20  # points of the loss whose level and noise the reaction is judged against
LEAST_BEFORE = 5  # ours: points of which a level is the median
AFTER = 5  # points in which the loss reacts: a spike from one update is over after a few
TWICE = 2.0  # ours: no schedule that comes down doubles its rate but at a restart or a resume
MOST_LOOKED_AT = 200  # ours: bounded work; more such updates than this show no more
PRINTED = 1.01  # a norm that equals the limit is printed within a hundredth of it


@rule(code="GR004", stages="LC", severity="warning", explains=("loss-spike",))
def check(case: Case) -> Outcome:
    limit, norms = case.setting("clip_norm"), case.run.get("grad_norm/preclip")
    missing = tuple(
        name
        for name, there in (
            ("clip_norm", isinstance(limit, int | float)),
            ("grad_norm/preclip", norms is not None and len(norms) > 0),
            ("train/loss", case.loss is not None),
        )
        if not there
    )
    if missing or norms is None or case.loss is None:
        return CouldNotCheck(missing)
    if len(norms) < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of grad_norm/preclip",))
    ceiling = float(limit) if isinstance(limit, int | float) and limit > 0 else math.inf
    skipped = _skipped(case, ceiling)
    shares = case.run.get("grad_norm/clipped_share")
    if not skipped and shares is not None and np.nansum(shares.values) > 0:
        return Clear("some updates are clipped")
    first = len(norms) // 10  # the first updates of a fresh model have norms of their own
    settled = norms.values[first:][np.isfinite(norms.values[first:])]
    if not len(settled):
        return CouldNotCheck(("finite norms",))
    # of the earlier half, or of all where that is lower: an end that blows up is not the usual
    typical = float(min(np.median(settled[: max(1, len(settled) // 2)]), np.median(settled)))
    # no limit mends a norm that is not finite: the gradient holds inf or nan, and scaling leaves nan
    late = norms.values[first:]
    usual = np.maximum(typical, _lowest_before(norms.values)[first:])
    surges = first + np.flatnonzero(np.isfinite(late) & (late >= ORDER * usual))
    if not len(surges) or typical <= 0:
        return Clear("no update stands out by an order of magnitude")
    looked_at = surges[:MOST_LOOKED_AT].tolist()
    z = false_alarm_z(AFTER * len(looked_at))
    harmful = [
        i
        for i in looked_at
        if _hurt(case, int(norms.updates[i]), z) and not _rate_came_back(case, int(norms.updates[i]))
    ]
    if not harmful:
        return Clear("the loss does not react to the large norms")
    at = harmful[0]
    if not skipped and norms.values[at] > ceiling:
        return Clear("the limit acts on the updates that the loss reacts to")
    lasting = any(not _recovers(case, int(norms.updates[i])) for i in harmful)
    return replace(_found(norms, harmful, typical, ceiling, skipped), severity=None if lasting or skipped else "note")


def _lowest_before(norms: Floats) -> Floats:
    """The lowest level of the norms before each of them, 0 where too few are.

    Norms fall with the loss: those of the first half of a run that learns may be ten times its median and no surge.
    """
    levels = np.full(len(norms), np.inf)
    for at in range(LEAST_BEFORE, len(norms)):
        before = norms[max(0, at - BEFORE) : at]
        before = before[np.isfinite(before)]
        if len(before) >= LEAST_BEFORE:
            levels[at] = float(np.median(before))
    lowest = np.minimum.accumulate(levels)
    return np.where(np.isfinite(lowest), lowest, 0.0)


def _skipped(case: Case, ceiling: float) -> bool:
    """Norms measured after clipping that pass the limit: clipping is configured and not applied."""
    after = case.run.get("grad_norm/postclip")
    return after is not None and len(after) > 0 and float(np.nanmax(after.values)) > PRINTED * ceiling


def _hurt(case: Case, update: int, z: float) -> bool:
    """Whether the loss at or just after the update lies above its level before by z of its noise, or is not finite.

    In logarithms where all are positive: a loss near zero scatters in shares of itself.
    """
    loss = case.run.get(case.loss.name) if case.loss is not None else None
    if loss is None:
        return False
    at = int(np.searchsorted(loss.updates, update))
    before, after = loss.values[max(0, at - BEFORE) : at], loss.values[at : at + AFTER]
    before = before[np.isfinite(before)]
    if len(before) < 5 or not len(after):
        return False
    if not np.isfinite(after).all():
        return True
    if min(float(before.min()), float(after.min())) > 0:
        before, after = np.log(before), np.log(after)
    noise = noise_sd(before)
    # the median of the last 5 before it: its own error widens the difference by 1.15 (see statistics.spikes)
    return float(after.max() - np.median(before[-5:])) > student_z(z, len(before)) * 1.15 * noise


def _rate_came_back(case: Case, update: int) -> bool:
    """Whether the learning rate, once higher and come down, was raised again just before: its jump is the cause."""
    if case.lr is None:
        return False
    at = int(np.searchsorted(case.lr.updates, update, side="right"))
    low = max(0, at - 1 - AFTER) + int(np.argmin(case.lr.values[max(0, at - 1 - AFTER) : at])) if at else 0
    lowest = float(case.lr.values[low])
    earlier = float(case.lr.values[:low].max(initial=0.0))
    return at > 0 and float(case.lr.values[low:at].max()) >= TWICE * lowest and earlier >= TWICE * lowest


def _recovers(case: Case, update: int) -> bool:
    """Whether the loss is at its level before again by the end of the next `BEFORE` points."""
    loss = case.loss
    if loss is None:
        return False
    at = int(np.searchsorted(loss.updates, update))
    before, after = loss.values[max(0, at - AFTER) : at], loss.values[at : at + BEFORE]
    return len(before) >= AFTER and len(after) >= AFTER and bool(np.median(after[-AFTER:]) <= np.median(before))


def _found(norms: Series, harmful: list[int], typical: float, ceiling: float, skipped: bool) -> Found:
    worst = max(harmful, key=lambda i: float(norms.values[i]))
    height = float(norms.values[worst])
    first = int(norms.updates[harmful[0]])
    if skipped:
        state = f"the limit of {ceiling:g} is configured and not applied"
    elif math.isinf(ceiling):
        state = "clipping is off"
    else:
        state = f"the limit of {ceiling:g} lies above them"
    title = (
        f"{plural(len(harmful), 'update')} from {first:,} on with up to {height / typical:.3g} times the usual "
        f"gradient norm of {typical:.3g} made the loss worse, and {state}"
    )
    return Found(
        title=title,
        evidence=(
            Evidence("grad_norm/preclip", (first, int(norms.updates[harmful[-1]])), "norm over the usual one",
                     height / typical, ORDER, norms.source(worst)),
        ),
        confidence=0.8,
        facts={
            "typical_norm": typical, "highest_norm": height, "first_update": first, "updates": len(harmful),
            "clip_norm": None if math.isinf(ceiling) else ceiling, "skipped": skipped,
        },
    )  # fmt: skip
