"""Warm up over what Adam needs, at most a tenth of the run."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, counted_warmup, key, prescribe, short_warmup, warmup_change
from unstuck.wording import plural


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    wanted = short_warmup(case)
    if wanted is None:
        return (advice("Warm up over 2 / (1 - beta2) updates, at most a tenth of the run."),)
    updates, why = wanted
    asked = case.setting("warmup_updates") or 0
    share = case.setting("warmup_share") or 0
    if asked >= 1 or share > 0:  # configured, and yet not applied: a value would not help
        counted = counted_warmup(case)
        return (
            *(() if counted is None else (counted,)),
            advice(
                "Apply the warm-up that is configured: it does not reach the optimizer (is a share cast to int?).", why
            ),
        )
    changes = warmup_change(case, updates)
    name = key(case, next(iter(changes)))
    return (prescribe(case, changes, f"Warm up over {plural(updates, 'update')} ({name}).", "safe", why),)
