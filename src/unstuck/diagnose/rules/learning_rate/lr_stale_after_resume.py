"""After a resume the old learning rate goes on although another one was asked for.

Finds
A resume that asked for a learning rate (in its header, its arguments or the configuration) and a logged learning rate
that goes on along the old schedule instead.

Why it matters
`optimizer.load_state_dict` brings back the parameter groups with their old learning rate and the scheduler brings
back its old base, so the new value is printed at the start and never used. Every conclusion drawn from the new
learning rate is then about the old one.

Evidence needed
`lr/<group>`, and for a resume the value asked for: the changed setting in the resume's event or header, or the
configured learning rate of a log that begins at the resume.

Not when
No other learning rate was asked for, the new value is reached after a short warm-up, or the schedule has simply
decayed below the new peak.

Remedy
After loading the state set the learning rate of every group, and the base of the scheduler, to the new value; in
unstuck: resume with new settings, which says what it kept and what it dropped.

References
Incident I4 (1e-5 in the header, 5e-06 in every line). PyTorch `Optimizer.load_state_dict` (restores `param_groups`,
learning rate included). pytorch/examples issue 816 and mapbox/robosat issue 169 (the saved learning rate
overrides the one on the command line).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.lr_curve import FIT_RESIDUAL, applied, fit_decay, moments
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.resumes import LR_IN_TEXT, sets_learning_rate
from unstuck.diagnose.rule import Clear, CouldNotCheck, Found, Outcome, rule
from unstuck.runs import Event, Series

# Two learning rates are told apart when they differ by more than printed digits do (two digits: 5 %).
DIFFERENT = 0.05
# A fitted decay lies within a hundredth (`FIT_RESIDUAL`) of every point: what is five times as far is not on it.
OFF_CURVE = 5 * FIT_RESIDUAL
MET = math.log(1.25)  # as a step in lr-jumps-on-resume: nearer to each other two schedules may meet between two rows
ON_EACH_SIDE = 3  # points: two are on many curves


@rule(code="LR004", stages="LC", severity="error", explains=("lr-not-as-configured", "lr-too-low", "lr-too-high"))
def check(case: Case) -> Outcome:
    lrs = applied(case)
    resumes = [e for e in case.run.events_of("resume") if e.update is not None]
    begins_late = _begins_at_a_resume(case)
    if not resumes and not begins_late:
        return Clear("nothing was resumed")
    if not lrs:
        return CouldNotCheck(("lr",))
    if not resumes:
        first = min(int(s.updates[0]) for s in lrs.values())
        resumes = [Event("resume", first)]
    asked_any = False
    for event in resumes:
        for key, old, new in _asked(case, event, last=event is resumes[-1]):
            asked_any = True
            for series in _plainest_first(case, lrs):
                muon = case.algorithm_of(series.name.removeprefix("lr/")) == "muon"
                if muon != key.endswith("muon_learning_rate"):
                    continue  # Muon's groups have a rate of their own
                found = _stale(case, series, event.update or 0, old, new)
                if found is not None:
                    return found
    if not asked_any and not case.setting("learning_rate"):
        return CouldNotCheck(("learning_rate",))
    return Clear(
        "the learning rate after the resume is the one asked for" if asked_any else "no other LR was asked for"
    )


def _plainest_first(case: Case, lrs: Mapping[str, Series]) -> list[Series]:
    """Groups with factor 1 first: their numbers are the ones that were asked for."""
    factors = case.setting("group_lr_factors") or {}
    return [lrs[g] for g in sorted(lrs, key=lambda g: float(factors.get(g, 1.0)) != 1.0)]


def _begins_at_a_resume(case: Case) -> bool:
    """The log holds only what came after a resume: it starts from a checkpoint, far from update 0."""
    firsts = [int(s.updates[0]) for s in case.run.series.values() if len(s)]
    return case.setting("start") == "checkpoint" and bool(firsts) and min(firsts) > 20


def _asked(case: Case, event: Event, *, last: bool) -> Iterator[tuple[str, float | None, float]]:
    """(key, old, new) of the learning rates that a resume asked for; old is None where the log does not say.

    An event that lists what changed asked for nothing else, even when the list is empty.
    """
    changed = event.data.get("changed")
    told = isinstance(changed, Mapping)
    if isinstance(changed, Mapping):
        for key, pair in changed.items():
            if sets_learning_rate(str(key)) and isinstance(pair, list | tuple) and len(pair) == 2:
                old, new = _positive(pair[0]), _positive(pair[1])
                if new is not None:
                    yield str(key), old, new
    if not told and (match := LR_IN_TEXT.search(event.text)) and (new := _positive(match[1])) is not None:
        told = True
        yield "learning_rate", None, new
    configured = _positive(case.setting("learning_rate"))
    if not told and last and configured is not None:
        yield "learning_rate", None, configured


def _positive(value: Any) -> float | None:
    try:
        number_ = float(value)
    except (TypeError, ValueError):
        return None
    return number_ if math.isfinite(number_) and number_ > 0 else None


def _stale(case: Case, series: Series, resumed: int, old: float | None, new: float) -> Found | None:
    """The old learning rate goes on in this group after the resume at update `resumed`."""
    before, after = series.values[series.updates <= resumed], series.values[series.updates > resumed]
    if not len(after):
        after = series.values[series.updates >= resumed]
    if not len(after):
        return None
    factor = float((case.setting("group_lr_factors") or {}).get(series.name.removeprefix("lr/"), 1.0))
    asked, new = new, new * factor
    if new <= 0:
        return None
    constant = float(after.max() - after.min()) <= 0.01 * float(after.max())
    at = int(np.argmax(series.updates > resumed)) if (series.updates > resumed).any() else len(series) - 1
    if len(before):
        peak_before = float(before.max())
        reference = old * factor if old is not None else peak_before
        if abs(reference / new - 1) <= DIFFERENT:
            return None
        if new < reference:
            stale = float(np.median(after)) > new * (1 + DIFFERENT) and _continues(before, after)
        else:
            # a higher value was asked for: stale when nothing ever exceeds the old level and the joint is smooth
            stale = float(after.max()) < new * (1 - DIFFERENT) and _continues(before, after)
            stale = stale and float(after.max()) <= peak_before * (1 + DIFFERENT) and constant
        stale = stale or _on_one_curve(case, series, len(before), new, reference)
        old_level = float(before[-1])
    else:
        # the log begins at the resume: only a constant schedule says that the value cannot be a decayed one
        flat_schedule = case.setting("schedule") in (None, "constant")
        stale = constant and flat_schedule and abs(float(after[0]) / new - 1) > DIFFERENT and len(after) >= 3
        old_level = float(after[0])
    if not stale:
        return None
    goes_on = f"goes on from {number(old_level)} to " if len(before) and not constant else "is "
    title = (
        f"Resumed at update {resumed:,} with a learning rate of {number(asked)} asked for, but {series.name} {goes_on}"
        f"{number(float(after[0]))} after it{f' instead of {number(new)}' if factor != 1.0 else ''}"
    )
    confidence = 0.95 if len(before) else 0.85
    facts: dict[str, object] = {
        "asked_lr": asked,
        "applied_lr": float(after[0]),
        "old_lr": old_level,
        "ratio": float(after[0]) / new,
        "resumed_at": resumed,
        "group": series.name.removeprefix("lr/"),
    }
    evidence = (moments(series, at, "learning rate after the resume, against the one asked for", new),)
    detail = "The optimizer's or the scheduler's state brought the learning rate of the checkpoint back."
    return Found(title, evidence, confidence, None, detail, facts)


def _on_one_curve(case: Case, series: Series, cut: int, new: float, old: float) -> bool:
    """One linear or cosine decay runs through the points on both sides of the resume.

    The rate asked for would leave it: scaled in place by `new / old`, by more than `OFF_CURVE`; begun anew, at once,
    unless the old one had just come down to the new peak (`MET`).
    """
    values, peak = series.values, float(series.values.max())
    last_peak = len(values) - 1 - int(np.argmax(values[::-1] >= peak * (1 - 1e-9)))
    if min(cut - last_peak, len(values) - cut) < ON_EACH_SIDE or not _continues(values[:cut], values[cut:]):
        return False
    if abs(math.log(float(values[cut - 1]) / new)) < MET or float(values[cut]) / peak * abs(1 - new / old) < OFF_CURVE:
        return False
    floor, lowest = case.setting("lr_floor"), case.setting("min_learning_rate")
    absolute = (float(lowest) / peak,) if lowest and lowest < peak else ()  # the peak may be that of before
    decay = fit_decay(series, (floor, *absolute) if floor else (0.0, 0.1, min(0.5, float(values[-1]) / peak)))
    # a fit ends where the decay does
    return decay is not None and float(values[cut + ON_EACH_SIDE - 1]) / peak > decay.floor + 1e-3


def _continues(before: np.ndarray, after: np.ndarray) -> bool:
    """The joint is no larger a step than a schedule takes between two logged points (or 10 %)."""
    steps = np.abs(np.diff(np.log(np.maximum(before[-6:], 1e-30))))
    allowed = max(0.1, 3 * float(steps.max()) if len(steps) else 0.1)
    return abs(math.log(max(float(after[0]), 1e-30)) - math.log(max(float(before[-1]), 1e-30))) <= allowed
