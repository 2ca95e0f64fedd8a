"""What remedies share: which settings may be patched, how their keys read, amounts of two digits."""

from __future__ import annotations

import math
from typing import Any

from unstuck.config.dialects import key_in_dialect
from unstuck.config.patch import Change
from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy, Safety

# Step Law (arXiv 2503.04715, 1,911 language models): the median cost in nats of a learning rate off its optimum is
# 0.007 at half, 0.021 at a quarter, 0.041 at an eighth; 0.019 at twice, 0.097 at four times; eight times diverges.
STEP_LAW = "Step Law, arXiv 2503.04715"


def known(case: Case, name: str) -> bool:
    """Whether the setting may be patched: its old value was read, or it is one of our own keys, which all have one."""
    theirs = key_in_dialect(name, case.run)
    ours = case.run.dialect == "unstuck" and theirs != name
    return name in case.run.settings or theirs in case.run.raw_settings or ours


def key(case: Case, name: str) -> str:
    """The setting's key in the user's dialect."""
    return key_in_dialect(name, case.run)


def fact(found: Found, name: str) -> float | None:
    """A fact that is a finite number; None where the rule does not know it."""
    value = found.facts.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def two_digits(value: float) -> float:
    """The value with two significant digits: more would pretend to know more."""
    return float(f"{value:.1e}") if value else 0.0


def prescribe(case: Case, changes: dict[str, Any], summary: str, safety: Safety, reason: str) -> Remedy:
    """A remedy with a patch where every setting is known, else the same advice without one.

    A change to the value that is there already is left out.
    """
    wanted = {name: new for name, new in changes.items() if case.setting(name) != new}
    if not wanted or not all(known(case, name) for name in wanted):
        return Remedy(summary, "advice", (), reason)
    patch = tuple(Change(name, case.setting(name), new) for name, new in wanted.items())
    return Remedy(summary, safety, patch, reason)


def advice(summary: str, reason: str = "") -> Remedy:
    """What no setting expresses."""
    return Remedy(summary, "advice", (), reason)


def planned_updates(case: Case, found: Found) -> int | None:
    """The updates that the run was to have."""
    planned = fact(found, "planned_updates") or case.setting("updates") or fact(found, "horizon_expected")
    return round(planned) if planned else None


def horizon(case: Case) -> int | None:
    """The length of the schedule in updates, as configured; the planned updates where it has none of its own."""
    value = case.setting("horizon_updates") or case.planned_updates
    return round(value) if value else None


def short_warmup(case: Case) -> tuple[int, str] | None:
    """A warm-up that is long enough, in updates, and why; None when the length of the run is unknown.

    2 / (1 - beta2) updates are what Adam's second moment needs (Ma & Yarats, arXiv 1910.04209); a tenth of the run
    bounds it for short runs (the longest share in common use: warmup_proportion of google-research/bert is 0.1).
    """
    total = horizon(case) or case.run.updates or None
    if not total:
        return None
    beta2 = case.setting("beta2")
    needed = 2 / (1 - beta2) if isinstance(beta2, (int, float)) and 0 < beta2 < 1 else math.inf
    updates = max(1, round(min(needed, 0.1 * total)))
    if needed <= 0.1 * total:
        return updates, f"2 / (1 - beta2) = {updates} updates let Adam's second moment settle (arXiv 1910.04209)"
    return updates, f"a tenth of {total:,} updates is the longest share in common use (BERT fine-tuning)"


def warmup_change(case: Case, updates: int) -> dict[str, Any]:
    """A warm-up of that many updates, in the setting that the user has: a count or a share."""
    total = horizon(case)
    share = case.setting("warmup_share")
    if share is not None and total and "warmup_share" in case.run.settings:
        return {"warmup_share": two_digits(updates / total)}
    return {"warmup_updates": updates}


def counted_warmup(case: Case) -> Remedy | None:
    """The warm-up share that was lost, as a count of updates: a cast to an integer leaves a count as it is.

    None where the configuration has no share, or no key for a count.
    """
    share, total = case.setting("warmup_share"), horizon(case)
    if not share or not total or not known(case, "warmup_updates"):
        return None
    updates = max(1, round(share * total))
    said = f"Give the warm-up as {key(case, 'warmup_updates')} = {updates} instead of a share"
    changes: dict[str, Any] = {"warmup_updates": updates}
    if key(case, "warmup_share") != key(case, "warmup_updates"):  # `warmup_steps: 0.1` is one key for both
        changes["warmup_share"] = None
    return prescribe(case, changes, f"{said}.", "safe", f"{share:g} of {total:,} updates, as was asked for")


def scaled_rates(case: Case, factor: float) -> dict[str, float]:
    """All base learning rates of the run times a factor: AdamW's, and Muon's where Muon trains the matrices."""
    rates = ["learning_rate", *(["muon_learning_rate"] if case.setting("optimizer") == "muon" else [])]
    return {name: two_digits(value * factor) for name in rates if (value := case.setting(name))}


def lower_rate(case: Case, found: Found, why: str, *, divisor: float, source: str) -> Remedy:
    """Divide the learning rates; where the rule knows a rate at which the loss was stable, go there instead.

    Args:
        divisor: used when no stable rate is known; also the most that one step divides by is 10.
        source: where the divisor comes from.
    """
    stable, applied = fact(found, "stable_lr"), fact(found, "applied_lr")
    base = case.setting("learning_rate")
    safety: Safety = "unsafe"
    if stable and applied and 0 < stable < applied:
        divisor = min(applied / stable, 10.0)  # one decade at a time: too low costs little, but it costs (Step Law)
        safety = "safe" if divisor < 10.0 else "unsafe"
        source = f"the loss was stable at {stable:.3g} and not at {applied:.3g} in this very run"
    changes = scaled_rates(case, 1 / divisor)
    to = f" to {changes['learning_rate']:.2g}" if "learning_rate" in changes and base else f" by {divisor:.3g}"
    return prescribe(case, changes, f"Lower {key(case, 'learning_rate')}{to}{why}.", safety, source)
