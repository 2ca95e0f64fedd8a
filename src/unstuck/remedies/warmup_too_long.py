"""Shorten the warm-up to what Adam needs, at most a tenth of the run."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, horizon, key, prescribe, short_warmup, warmup_change
from unstuck.wording import plural


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    wanted = short_warmup(case)
    if wanted is None:
        return (advice("Shorten the warm-up to 2 / (1 - beta2) updates, at most a tenth of the run."),)
    updates, why = wanted
    share, total = case.setting("warmup_share"), horizon(case)
    now = case.setting("warmup_updates") or (share * total if share and total else fact(found, "warmup_applied"))
    if now and now <= updates:
        return (advice(f"Plan more updates: {now:g} of warm-up suit a run of {10 * now:,.0f}.", why),)
    changes = warmup_change(case, updates)
    name = key(case, next(iter(changes)))
    return (prescribe(case, changes, f"Warm up over {plural(updates, 'update')} ({name}).", "safe", why),)
