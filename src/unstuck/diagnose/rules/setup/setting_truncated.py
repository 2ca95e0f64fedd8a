"""A value that a cast or a unit turns into zero or into something else.

Finds
A warm-up share that became zero updates (int(0.1) is 0) or was written into a key that counts steps; a count in a key
that takes a share; a fraction where only whole numbers make sense; a floor of the learning rate that lies above its
peak, so a share in an absolute key; a warm-up longer than the run; a patience that no number of evaluations can reach.

Why it matters
The program runs without an error, and another value than the one in the configuration applies. In incident I3 the
warm-up share 0.1 was cast to an integer, and every run started at its full learning rate.

Evidence needed
The configuration; for a lost warm-up the learning rate of the first updates as well.

Not when
The program reads a value below 1 in a steps key as a share (transformers 5 does): the ramp in the log shows it, and
without a logged rate it is a note at most. A share in per cent by its name. Evaluation intervals below 1
(transformers, Lightning) are shares of the run by design.

Remedy
Write the value in the unit that the key counts in: updates for a steps key, a share of the horizon for a share key.

References
Incident I3 (int(0.1)). transformers `training_args.py` (get_warmup_steps: below 1 a share since version 5, warmup_ratio
before). nanoGPT `train.py` (min_lr is absolute).
"""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.lr_curve import answers
from unstuck.diagnose.lr_readings import number
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.rules.schedule.warmup_missing import FIRST_UPDATES, FROM_THE_START
from unstuck.diagnose.rules.schedule.warmup_too_long import LEAST_UPDATES
from unstuck.runs import Setting
from unstuck.runs.names import normalise
from unstuck.wording import plural

COUNTING_WORDS = frozenset({"step", "steps", "iter", "iters", "iteration", "iterations", "update", "updates"})
NOTE: Severity = "note"
PERCENT_WORDS = frozenset({"pct", "percent", "percentage"})
# Settings of which half a one does not exist; `int()` cuts them.
WHOLE = {"batch_size": "batch size", "accumulation": "accumulation", "layers": "layers", "heads": "heads",
         "width": "width", "context": "context", "lora_rank": "rank"}  # fmt: skip
CHECKED = ("warmup_updates", "warmup_share", "min_learning_rate", "lr_floor", "patience", *WHOLE)

LENGTHS = ("learning_rate", "updates", "horizon_updates", "epochs", "evaluation_every", "batch_size", "beta2")
MOST = 1e15  # ours: no count and no rate is beyond it; infinity and the digits of a hash are


@rule(code="SE002", stages="C", severity="warning", explains=("warmup-missing",))
def check(case: Case) -> Outcome:
    if not any(name in case.run.settings for name in CHECKED):
        return CouldNotCheck(("warmup_updates or warmup_share", "the configuration"))
    if not all(_is_finite(case.setting(name)) for name in (*CHECKED, *LENGTHS) if name in case.run.settings):
        return CouldNotCheck(("finite numbers in the configuration",))
    return (
        _lost_share(case)
        or _share_as_count(case)
        or _count_as_share(case)
        or _floor_above_peak(case)
        or _fraction(case)
        or _longer_than_the_run(case)
        or _unreachable_patience(case)
        or Clear("every setting applies as it is written")
    )


def _is_finite(value: object) -> bool:
    return not isinstance(value, int | float) or abs(value) < MOST


def _planned(case: Case) -> float | None:
    planned = case.setting("horizon_updates") or case.setting("updates")
    return float(planned) if planned else None


def _starts_at_peak(case: Case, warmup: float | None) -> bool | None:
    """Whether the first logged rate is the peak already; None where the log begins too late to tell or at a resume."""
    series = case.lr
    if series is None or len(series) < 3 or not series.values.max() > 0:
        return None
    first = int(series.updates[0])
    if any(case.run.events_of("resume")) or first > (FIRST_UPDATES if not warmup else max(1.0, 0.25 * warmup)):
        return None
    return bool(series.values[0] >= FROM_THE_START * series.values.max())


def _lost_share(case: Case) -> Found | None:
    setting, planned = case.run.settings.get("warmup_share"), _planned(case)
    if setting is None or not 0 < setting.value < 1 or "warmup_updates" in case.run.settings:
        return None
    meant = setting.value * planned if planned else None
    if meant is not None and meant < 2:
        return None  # a share of so short a run is one update, which no log can show
    by_arithmetic = any(
        len(a.answer.explanations) == 1 and "warmup/zero" in a.answer.explanations[0].faults
        for a in answers(case).values()
    )
    if not by_arithmetic and not (meant and _starts_at_peak(case, meant)):
        return None
    series = case.lr
    first = float(series.values[0]) if series is not None else float("nan")
    wanted = f" where {setting.value:g} x {planned:,.0f} = {meant:,.0f} were meant" if meant and planned else ""
    title = (
        f"{setting.key} {setting.value:g} became a warm-up of 0 updates{wanted} (int({setting.value:g}) is 0): "
        f"the learning rate is {number(first)} from the first logged update on"
    )
    facts: dict[str, object] = {"warmup_share": setting.value, "warmup_updates": meant}
    return _found(case, setting, title, "warm-up in updates, as applied", 0.0, meant, 0.9, None, facts)


def _share_as_count(case: Case) -> Found | None:
    """`warmup_steps: 0.1`: a share to transformers 5, zero to everything that counts."""
    for name in ("warmup_updates", "warmup_share"):
        setting = case.run.settings.get(name)
        value = None if setting is None else setting.value
        if setting is None or not isinstance(value, int | float) or not 0 < value < 1:
            continue
        if not COUNTING_WORDS & set(normalise(setting.key).split("_")):
            continue
        planned = _planned(case)
        meant = value * planned if planned else None
        seen = _starts_at_peak(case, meant)
        if seen is False or (seen is None and case.run.dialect == "huggingface"):
            return None
        told = f"; as a share of {planned:,.0f} updates it would be {meant:,.0f}" if planned and meant else ""
        says = (
            "there is no warm-up"
            if seen
            else "unless the program reads a value below 1 as a share, there is no warm-up"
        )
        title = f"{setting.key} is {value:g}, and it counts updates: {says}{told}"
        facts: dict[str, object] = {"warmup_share": value, "warmup_updates": meant}
        # axolotl and others hand a plain `warmup_steps: 0.1` to transformers 5: without a log of the rate only a note
        sure, severity = (0.95, None) if seen else (0.5, NOTE)
        return _found(case, setting, title, "warm-up in updates", value, 1.0, sure, severity, facts)
    return None


def _count_as_share(case: Case) -> Found | None:
    setting = case.run.settings.get("warmup_share")
    if setting is None or setting.value <= 1:
        return None
    if PERCENT_WORDS & set(normalise(setting.key).split("_")) and setting.value <= 100:
        return None
    title = f"{setting.key} is {setting.value:g}, and it is a share of the run: the warm-up never ends"
    facts: dict[str, object] = {"warmup_updates": setting.value}
    return _found(
        case, setting, title, "warm-up as a share of the horizon", float(setting.value), 1.0, 0.85, None, facts
    )


def _floor_above_peak(case: Case) -> Found | None:
    floor = case.run.settings.get("min_learning_rate") or case.run.settings.get("lr_floor")
    peak, share = case.setting("learning_rate"), case.setting("lr_floor")
    if floor is None or not peak or not isinstance(share, int | float) or share <= 1:
        return None
    absolute = "lr_floor" not in case.run.settings or floor.key == case.run.settings["lr_floor"].key
    low = float(share) * float(peak)
    if case.lr is not None and len(case.lr) >= 3 and float(case.lr.values[-1]) < 0.5 * min(low, peak):
        return None  # the rate fell below it: another reading of the key applies
    meant = f"; as a share it would be {number(low * peak)}" if absolute and low < 1 else ""
    title = f"{floor.key} sets a floor of {number(low)}, above the learning rate {number(float(peak))}{meant}"
    facts: dict[str, object] = {"min_learning_rate": low * peak if low < 1 else None}
    return _found(case, floor, title, "floor over the peak", float(share), 1.0, 0.8, None, facts)


def _fraction(case: Case) -> Found | None:
    for name, called in WHOLE.items():
        setting = case.run.settings.get(name)
        if setting is None or not isinstance(setting.value, float) or setting.value.is_integer() or setting.value <= 0:
            continue
        whole = int(setting.value)
        title = f"{setting.key} is {setting.value:g}, and there is no fraction of a {called}: int() makes it {whole}"
        return _found(
            case, setting, title, "as written, against its whole part", setting.value, float(whole), 0.7, None
        )
    return None


def _longer_than_the_run(case: Case) -> Found | None:
    """Only a note: `warmup-too-long` judges it; this names the unit that may have been meant."""
    setting, planned = case.run.settings.get("warmup_updates"), case.setting("updates")
    if setting is None or not planned or planned < LEAST_UPDATES or setting.value <= planned:
        return None
    if case.setting("horizon_updates") not in (None, planned):
        return None  # the warm-up belongs to the horizon, which `schedule-wrong-horizon` judges
    accumulation = case.setting("accumulation") or 1
    counted = setting.value / accumulation
    meant = f"; counted in micro-batches it would be {counted:,.0f} updates" if counted <= 0.5 * planned else ""
    title = f"{setting.key} is {setting.value:,} and the run has {plural(int(planned), 'update')}{meant}"
    return _found(case, setting, title, "warm-up over planned updates", setting.value / planned, 1.0, 0.6, "note")


def _unreachable_patience(case: Case) -> Found | None:
    """Only a note: a patience as long as the run is also how people switch it off."""
    if case.setting("schedule") != "plateau":
        return None
    setting, updates = case.run.settings.get("patience"), case.setting("updates")
    every, epochs = case.setting("evaluation_every"), case.setting("epochs")
    evaluations = updates / every if updates and every and every >= 1 else epochs
    if setting is None or not evaluations or evaluations < 2:
        return None
    if not isinstance(setting.value, int) or setting.value < evaluations:
        return None
    if updates and setting.value > updates:
        return None  # no unit makes sense of it: switched off
    count = plural(int(evaluations), "evaluation")
    title = f"{setting.key} {setting.value:,} counts evaluations, and the run has {count}"
    return _found(
        case, setting, title, "patience over planned evaluations", setting.value / evaluations, 1.0, 0.5, "note"
    )


def _found(
    case: Case,
    setting: Setting,
    title: str,
    statistic: str,
    value: float,
    threshold: float | None,
    confidence: float,
    severity: Severity | None,
    facts: dict[str, object] | None = None,
) -> Found:
    last = int(case.setting("updates") or case.run.updates)
    evidence = (Evidence(setting.key, (0, last), statistic, float(value), threshold, setting.source),)
    return Found(title, evidence, confidence, severity, "", {"key": setting.key, **(facts or {})})
