"""The warm-up takes too large a share of the run.

Finds
A warm-up of more than a third of the updates planned or run, or a run that is still warming up after far more updates
than an optimizer needs while its loss has barely moved.

Why it matters
During a linear warm-up the mean learning rate is half of the peak, and a run that ends in it has never used the rate
that its owner chose. In incident I1 the run was judged, and "fixed", at 0.55 % of its warm-up.

Evidence needed
`lr/<group>` with a visible ramp, or the configured warm-up; the planned updates, or a run long enough to judge.

Not when
A one-cycle schedule (30 % up by design) or a triangular one; a warm-up that is short in updates though long in share,
in a run that is itself a short test; a run that has only just begun and whose ramp is as planned.

Remedy
Set the warm-up to 2 / (1 - beta2) updates, at most 10 % of the run.

References
Ma, Yarats, arXiv 1910.04209 (2 / (1 - beta2) updates of linear warm-up are enough for Adam). Smith, Topin,
arXiv 1708.07120 (one cycle; PyTorch's OneCycleLR rises for 30 %). Incident I1.
"""

from __future__ import annotations

import numpy as np

from unstuck.diagnose import statistics
from unstuck.diagnose.case import Case
from unstuck.diagnose.expected_lr import plans
from unstuck.diagnose.lr_curve import applied, ramp
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.runs import Series

TOO_LARGE_SHARE = 0.35  # one cycle's 0.3 (PyTorch's default pct_start) and rounding
TRIANGULAR_SHARE = 0.55  # a triangular schedule of unknown name rises for half of the run (Smith, arXiv 1506.01186)
DEFAULT_BETA2 = 0.999
# Still in it: this many times the warm-up that Adam needs (arXiv 1910.04209) have gone by.
TIMES_NEEDED = 2.0
ANNEALED = 0.1  # the usual floor of a cosine (Hoffmann et al., arXiv 2203.15556, decay to a tenth)
LEAST_UPDATES = 50  # in a run shorter than this a share of a third is a handful of updates
BARELY = 0.05  # of ln V, or of the first loss: what a sound language-model run covers in its first tens of updates


@rule(
    code="SC001",
    stages="LC",
    severity="error",
    explains=("lr-too-low", "loss-at-chance", "loss-plateau", "undertrained", "schedule-constant"),
)
def check(case: Case) -> Outcome:
    lrs = applied(case)
    planned = case.setting("updates") or _by_epochs(case)
    warmup = _configured(case)
    if not lrs and warmup is None:
        return CouldNotCheck(("lr",))
    series = case.lr
    climb = ramp(series) if series is not None else None
    if climb is None and warmup is None and series is not None and len(series) < 3:
        return CouldNotCheck(("3 points of lr",))
    length = float(planned or 0.0)
    span = float(climb.end) if climb is not None and not climb.open else warmup
    if climb is not None and climb.open and series is not None:
        span = max(span or 0.0, float(series.updates[-1]))
    if not length and climb is not None and not climb.open and series is not None:
        length = float(series.updates[-1])  # the ramp is over: the rest of the log is what it is a share of
    if span is None:
        return Clear("there is no warm-up")
    if climb is not None and climb.open and not length and series is not None:
        return _still_in_it(case, series)
    if case.least_updates(int(length)) < LEAST_UPDATES:
        return Clear("a run this short is a test")
    known = case.setting("schedule") is not None
    limit = TOO_LARGE_SHARE if known else TRIANGULAR_SHARE
    if not planned and not known and series is not None and int(series.updates[-1]) < 2 * span and not _whole(series):
        return Clear("how long the run is to be is not known")
    share = span / length
    if share <= limit:
        return Clear(f"the warm-up takes {100 * share:.0f} % of the run")
    return _found(case, series, span, length, share, limit)


def _by_epochs(case: Case) -> float | None:
    """The updates planned, where epochs are planned and counted; None where they are not, or of none that is whole."""
    epoch, planned = case.run.get("epoch"), case.setting("epochs")
    if epoch is None or not len(epoch) or not planned or not epoch.values[-1] >= 1:
        return None
    return max(float(epoch.updates[-1]), float(epoch.updates[-1] * planned / epoch.values[-1]))


def _whole(series: Series) -> bool:
    """Whether the log shows the whole schedule: after its peak the rate came down to a tenth of it."""
    return float(series.values[-1]) <= ANNEALED * float(series.values.max())


def _configured(case: Case) -> float | None:
    """Warm-up in updates as configured; None where nothing says."""
    count, share = case.setting("warmup_updates"), case.setting("warmup_share")
    if count is not None:
        return float(count)
    horizon = case.setting("horizon_updates") or case.setting("updates")
    if share and horizon:
        return float(share) * float(horizon)
    plan = next(iter(plans(case, "all")), None)
    return plan.warmup if plan is not None and plan.warmup > 0 else None


def _needed(case: Case) -> float:
    beta2 = float(case.setting("beta2") or DEFAULT_BETA2)
    return 2 / max(1e-6, 1 - beta2)


def _still_in_it(case: Case, series: Series) -> Outcome:
    """The ramp is not over and nobody says when it is: judged by what Adam needs and by the loss."""
    if str(case.setting("optimizer") or "adam").startswith(("sgd", "momentum")):
        return CouldNotCheck(("updates",))
    last = int(series.updates[-1])
    needed = _needed(case)
    if last < TIMES_NEEDED * needed:
        return Clear(f"{last:,} updates into a warm-up that is still rising")
    if case.loss is None or len(case.loss) < 12:
        return CouldNotCheck(("train/loss",))
    fall, error = statistics.fall(case.loss.values)
    reference = case.chance or float(case.loss.values[0])
    if fall > max(BARELY * reference, statistics.false_alarm_z(1) * error):
        return Clear("still warming up, and the loss falls")
    return _found(case, series, float(last), float(last), 1.0, TOO_LARGE_SHARE)


def _found(case: Case, series: Series | None, span: float, length: float, share: float, limit: float) -> Found:
    needed = min(_needed(case), 0.1 * length)
    if share >= 1:
        title = f"The warm-up of {span:,.0f} updates is longer than the run of {length:,.0f}"
        if series is not None and span <= length * 1.001:
            title = f"After {length:,.0f} updates the run is still in its warm-up"
    else:
        title = f"The warm-up takes {span:,.0f} of {length:,.0f} updates, {100 * share:.0f} % of the run"
    if series is not None:
        title += f"; the learning rate is {number(float(series.values[-1]))} at update {int(series.updates[-1]):,}"
        at = int(np.argmax(series.values))
        reach = (int(series.updates[0]), int(series.updates[at]))
        evidence = Evidence(series.name, reach, "warm-up as a share of the run",
                            share, limit, series.source(at))  # fmt: skip
    else:
        told = (case.run.settings.get(name) for name in ("warmup_updates", "warmup_share"))
        written = (setting for key, setting in case.run.raw_settings.items() if "warmup" in key.lower())
        source = next((setting.source for setting in (*told, *written) if setting is not None), None)
        evidence = Evidence("warmup_updates", (0, int(length)), "warm-up as a share of the run", share, limit, source)
    facts: dict[str, object] = {
        "warmup_applied": span,
        "warmup_share": share,
        "warmup_updates": int(max(1, round(needed))),
        "planned_updates": length,
    }
    return Found(title, (evidence,), 0.92, "error" if share >= 0.5 else "warning", "", facts)
