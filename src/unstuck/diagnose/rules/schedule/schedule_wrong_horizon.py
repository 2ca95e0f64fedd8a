"""The schedule advances at another rate than the updates.

Finds
A decaying schedule whose length does not fit the run: the horizon is counted in micro-batches or samples of all
devices (it never anneals), it is stepped once per micro-batch (it ends early and the rest trains at its floor), once
per epoch (it never starts), or it was made for fewer updates and repeats.

Why it matters
A schedule that never anneals loses what the low-LR phase gives; a warm-up that is a share of a horizon many times too
long keeps the whole run at a small fraction of its learning rate (incident I1: 0.55 % through warm-up after 1,405
micro-batches); a schedule that ends at 0 too early trains nothing afterwards.

Evidence needed
Configuration: the schedule's horizon and the planned updates. Or the log: a learning rate that stays at 0 for a
quarter of the run or heads for a horizon that planned updates and accumulation contradict.

Not when
The run was stopped early, a WSD run is in its stable phase, a plateau scheduler has lowered the rate, a floor is held
after a decay that ended as planned, or warm restarts are configured.

Remedy
Count the horizon in optimizer updates: planned micro-batches divided by accumulation (and by devices).

References
Incidents I1 and I3. nanoGPT `train.py`: lr_decay_iters "should be ~= max_iters per Chinchilla". Hu et al., MiniCPM,
arXiv 2404.06395 (what the decay phase gives). Loshchilov, Hutter, SGDR, arXiv 1608.03983.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.expected_lr import DECAYING, Convention, Plan, micro_batches_per_epoch, multiplier, plans
from unstuck.diagnose.lr_curve import answers, applied, comeback, dead_tail, fit_decay, moments
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.runs import Series
from unstuck.wording import plural

# A horizon off by less than half leaves a cosine with 15 % of its peak at the end (cos at 2/3 of the way: 25 %), which
# nanoGPT's own floor of 10 % is close to; beyond it most of the annealing is missing.
LEAST_RATIO = 1.5
# Without a counting mistake that explains it, a long horizon may be a run that was meant to be short.
UNEXPLAINED_RATIO = 3.0
# Share of the run spent at a learning rate of 0: a cosine spends its last 10 % below 2.5 % of its peak by design, so
# a quarter of the run is no schedule's own cool-down.
DEAD_SHARE = 0.25
DEAD_LEVEL = 1e-3  # of the peak: no update moves anything
MATCH = 0.02  # a ratio is a whole number of micro-batches when it is within 2 % (rounding of short runs)
# A schedule ends between two rows of the log. Between rows that are a tenth apart the share of the run is known as well
# as a short run's rounding allows; up to twice apart it fits a count by chance now and then, and is less sure (ours).
CLOSE_ROWS, FAR_ROWS = 1.1, 2.0


@rule(
    code="SC004",
    stages="LC",
    severity="error",
    explains=(
        "lr-not-as-configured",
        "warmup-too-long",
        "lr-too-low",
        "schedule-constant",
        "schedule-restarts-unplanned",
        "loss-at-chance",
        "loss-plateau",
        "undertrained",
    ),
)
def check(case: Case) -> Outcome:
    lrs = applied(case)
    planned, horizon = _planned(case), case.setting("horizon_updates")
    kind = case.setting("schedule")
    if not lrs and not (planned and horizon):
        return CouldNotCheck(("lr",) if not lrs else ("updates", "horizon_updates"))
    if kind in ("constant", "plateau", "inverse_sqrt") and not (horizon and case.setting("warmup_share")):
        return Clear(f"a {kind} schedule has no horizon")
    if (explained := _by_arithmetic(case)) is not None:
        return explained
    configured = _by_configuration(case, planned, float(horizon)) if planned and horizon else None
    logged = next((found for s in lrs.values() if (found := _by_log(case, s, planned))), None)
    if configured is not None and logged is not None and planned and horizon and horizon < planned:
        return _both(configured, logged)
    return configured or logged or _verdict_without_pattern(case, lrs, planned)


def _both(configured: Found, logged: Found) -> Found:
    """What the configuration plans too short, with what the log shows that it did."""
    return replace(
        configured,
        title=f"{configured.title}: {logged.title[:1].lower()}{logged.title[1:]}",
        evidence=(*logged.evidence, *configured.evidence),
        confidence=max(configured.confidence, logged.confidence),
        severity=logged.severity,
    )


def _verdict_without_pattern(case: Case, lrs: dict[str, Series], planned: float | None) -> Outcome:
    if planned is None and not any(len(s) >= 10 for s in lrs.values()):
        return CouldNotCheck(("updates", "10 points of lr"))
    return Clear("the schedule fits the run")


def _planned(case: Case) -> float | None:
    updates = case.setting("updates")
    if updates:
        return float(updates)
    epochs, per_epoch = case.setting("epochs"), micro_batches_per_epoch(case)
    return float(epochs * per_epoch / (case.setting("accumulation") or 1)) if epochs and per_epoch else None


@dataclass(frozen=True, slots=True)
class Cause:
    """What makes a horizon `ratio` times too long or too short; None of it: not explained."""

    says: str
    sure: bool


def _cause(case: Case, ratio: float) -> Cause:
    """The counting mistake behind horizon / planned updates = ratio (or its inverse)."""
    n, devices = int(case.setting("accumulation") or 1), int(case.setting("world_size") or 1)
    if ratio <= 0:
        return Cause("", False)
    times = ratio if ratio >= 1 else 1 / ratio
    unit = "micro-batches" if ratio >= 1 else "updates, and the schedule advances once per micro-batch"
    if n > 1 and abs(times / n - 1) < MATCH:
        return Cause(f"it is counted in {unit}, {n} to an update", True)
    if devices > 1 and abs(times / devices - 1) < MATCH:
        return Cause(f"it counts every one of {devices} devices", True)
    if n > 1 and devices > 1 and abs(times / (n * devices) - 1) < MATCH:
        return Cause(f"it counts the {n} micro-batches of {devices} devices", True)
    epochs = case.setting("epochs")
    whole = round(times / n)
    if ratio > 1 and n > 1 and whole > 1 and abs(times / (n * whole) - 1) < MATCH / whole:
        of = " epochs" if epochs and abs(epochs - whole) < 0.5 else ""
        return Cause(f"{n} micro-batches to an update, times {whole:,}{of}", True)
    if ratio > 1 and epochs and epochs > 1 and abs(times / epochs - 1) < MATCH:
        return Cause(f"it is the number of updates times {epochs:g} epochs", True)
    per_epoch = micro_batches_per_epoch(case)
    passes = ratio * (_planned(case) or 0.0) / per_epoch if per_epoch else 0.0
    # a whole number of epochs to within the windows that a split may lose at its end
    if ratio > 1 and n > 1 and round(passes) >= 1 and abs(passes - round(passes)) < min(0.05, MATCH * round(passes)):
        return Cause(f"it is {plural(round(passes), 'epoch')} counted in micro-batches, {n} to an update", True)
    return Cause("", False)


def _cause_between(case: Case, low: float, high: float) -> Cause:
    """The counting mistake that ends a schedule between two shares of the run, the rows before and at its end."""
    exact = _cause(case, high)
    n = int(case.setting("accumulation") or 1)
    if exact.sure or n < 2 or not low <= 1 / n <= high or high > FAR_ROWS * low:
        return exact
    if case.run.setting("horizon_updates"):
        return exact  # its end is where the configuration says, or is judged by that
    says = f"as one does that advances once per micro-batch, {n} to an update"
    return Cause(says, high <= CLOSE_ROWS * low)


def _by_arithmetic(case: Case) -> Found | None:
    for answer in answers(case).values():
        best = answer.answer.explanations[0] if answer.answer.explanations else None
        if best is None or answer.answer.correct:
            continue
        clock = [f for f in best.faults if f.startswith(("horizon/", "step/")) and f != "step/resume"]
        if not clock or len({_clock(e.faults) for e in answer.answer.explanations}) > 1:
            continue
        ratio = float(str(best.facts.get("clock_ratio", 1.0)))
        if 1 / LEAST_RATIO < ratio < LEAST_RATIO:
            continue
        speed = f"{ratio:.3g} times as fast as" if ratio > 1 else f"{1 / ratio:.3g} times slower than"
        end = int(answer.series.updates[-1])
        title = f"The schedule advances {speed} the updates: {best.sentence}"
        facts: dict[str, object] = {**best.facts, "ratio": ratio, "accumulation": answer.plan.accumulation}
        facts |= {"warmup_share": answer.plan.warmup_share, "warmup_updates": answer.plan.warmup}
        expected = float(answer.plan.expected(np.array([float(end)]))[0])
        facts["expected_lr"] = expected
        evidence = (
            moments(answer.series, len(answer.series) - 1, "learning rate, against the one configured", expected),
        )
        return Found(title, evidence, 0.96, None, "", facts)
    return None


def _clock(faults: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f for f in faults if f.startswith(("horizon/", "step/")))


def _by_configuration(case: Case, planned: float, horizon: float) -> Found | None:
    ratio = horizon / planned
    if 1 / LEAST_RATIO < ratio < LEAST_RATIO:
        return None
    cause = _cause(case, ratio)
    kind = str(case.setting("schedule") or "cosine")
    if kind == "wsd" and ratio > 1 and not cause.sure:
        return None  # a stable phase that goes on beyond this run is what WSD is for
    known = answers(case)
    if known and not any(a.answer.correct for a in known.values()):
        return None  # the log does not follow the configured horizon: judged by the log
    if not cause.sure and ratio < 1 and (case.setting("min_learning_rate") or case.setting("lr_floor")):
        return None  # a floor held after a decay that ended early on purpose
    setting = case.run.settings["horizon_updates"]
    group = max(known, key=lambda g: float(known[g].series.values.max())) if known else ""
    plan = known[group].plan if known else next(iter(plans(case, "all")), None)
    share = _share_at(plan, planned) if plan else float("nan")
    where = _where(plan, planned, share) if plan else ""
    because = f": {cause.says}" if cause.sure else ""
    title = (
        f"The schedule spans {horizon:,.0f} updates where {planned:,.0f} are planned, "
        f"{ratio:.3g} times as many{because}{where}"
    )
    limit = LEAST_RATIO if ratio > 1 else 1 / LEAST_RATIO
    evidence = [
        Evidence("horizon_updates", (0, int(planned)), "horizon / planned updates", ratio, limit, setting.source)
    ]
    for answer in known.values():
        evidence.append(moments(answer.series, len(answer.series) - 1, "learning rate applied", None))
    confidence = 0.97 if cause.sure else 0.7
    if not known:
        confidence -= 0.1
    severity: Severity | None = None
    if not cause.sure:
        severity = "warning" if ratio >= UNEXPLAINED_RATIO or ratio <= 1 / UNEXPLAINED_RATIO else "note"
        if ratio >= UNEXPLAINED_RATIO and plan is not None and plan.warmup >= planned:
            severity, confidence = None, 0.95  # no run is planned to end inside its warm-up
        if case.start not in (None, "fresh"):
            severity = "note"
    facts: dict[str, object] = {
        "factor": ratio,
        "ratio": ratio,
        "horizon_applied": horizon,
        "horizon_expected": planned,
        "accumulation": int(case.setting("accumulation") or 1),
        "warmup_share": case.setting("warmup_share"),
        "warmup_updates": plan.warmup if plan else case.setting("warmup_updates"),
        "share_of_peak_at_end": share,
        "group": group,
    }
    return Found(title, tuple(evidence), confidence, severity, "", facts)


def _share_at(plan: Plan, update: float) -> float:
    return float(multiplier(plan.shape(), np.array([update]), Convention(-1))[0])


def _where(plan: Plan, planned: float, share: float) -> str:
    if plan.warmup > planned:
        return f"; its last update is {100 * planned / plan.warmup:.2g} % through the warm-up of {plan.warmup:,.0f}"
    return f"; its last update is made at {100 * share:.0f} % of the peak learning rate"


def _by_log(case: Case, series: Series, planned: float | None) -> Found | None:
    kind = case.setting("schedule")
    if kind in ("plateau", "restarts", "constant", "inverse_sqrt"):
        return None
    last = int(series.updates[-1])
    length = planned or float(max(1, last))
    back = comeback(series)
    if back is not None and back.smooth:
        title = (
            f"The learning rate reaches its lowest point at update {back.low_update:,} and goes up again: the schedule "
            f"was made for {back.low_update:,} of {length:,.0f} updates and repeats"
        )
        facts = _facts(case, back.low_update, length)
        return Found(
            title, (moments(series, back.index, "rises after its end, share of the peak", 0.2),), 0.9, None, "", facts
        )
    tail = dead_tail(series)
    if tail is not None and tail.share >= DEAD_SHARE and back is None:
        index = int(np.searchsorted(series.updates, tail.first_update))
        before = float(series.updates[index - 1])
        cause = _cause_between(case, before / length, tail.first_update / length)
        if tail.level <= DEAD_LEVEL or cause.says:
            idle = last - tail.first_update
            told = f": {cause.says}" if cause.says else ""
            at = "0" if tail.level <= DEAD_LEVEL else number(float(series.values[-1]))
            title = (
                f"The schedule ended at {case.step} {tail.first_update:,} of {length:,.0f}{told}; "
                f"the last {plural(idle, case.step)} ran at a learning rate of {at}"
            )
            statistic = "share of the run at the end of the schedule"
            span = (tail.first_update, last)
            evidence = (Evidence(series.name, span, statistic, tail.share, DEAD_SHARE, series.source(index)),)
            sure = cause.sure or tail.level <= DEAD_LEVEL
            confidence = 0.96 if cause.sure else 0.88 if sure else 0.75
            severity: Severity | None = None if sure else "warning"
            return Found(title, evidence, confidence, severity, "", _facts(case, tail.first_update, length))
    return _by_fit(case, series, planned)


def _by_fit(case: Case, series: Series, planned: float | None) -> Found | None:
    if planned is None or case.setting("schedule") not in (None, *DECAYING):
        return None
    decay = fit_decay(series, (0.0, 0.1, 0.01, 0.05))
    if decay is None:
        return None
    ratio = decay.horizon / planned
    if 1 / LEAST_RATIO < ratio < LEAST_RATIO:
        return None
    cause = _cause(case, ratio)
    last = int(series.updates[-1])
    share = float(series.values[-1] / series.values.max())
    finished = last >= 0.98 * planned
    if not cause.sure and not (finished and ratio > 1 and share >= 0.5):
        return None
    title = (
        f"The learning rate is heading for its end at update {decay.horizon:,.0f} where {planned:,.0f} are planned"
        f"{': ' + cause.says if cause.sure else ''}; at update {last:,} it is at {100 * share:.0f} % of its peak"
    )
    evidence = (
        Evidence(series.name, (int(series.updates[0]), last), "fitted horizon / planned updates", ratio, LEAST_RATIO,
                 series.source(len(series) - 1)),
    )  # fmt: skip
    severity: Severity | None = None if cause.sure else "warning"
    return Found(title, evidence, 0.92 if cause.sure else 0.75, severity, "", _facts(case, decay.horizon, planned))


def _facts(case: Case, applied_horizon: float, expected: float) -> dict[str, object]:
    ratio = applied_horizon / expected
    return {
        "factor": ratio,
        "ratio": ratio,
        "horizon_applied": float(applied_horizon),
        "horizon_expected": float(expected),
        "accumulation": int(case.setting("accumulation") or 1),
        "warmup_share": case.setting("warmup_share"),
        "warmup_updates": case.setting("warmup_updates"),
    }
