"""Lower the learning rate to one at which this run was stable, else to a quarter."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import STEP_LAW, fact, lower_rate, prescribe, short_warmup, two_digits, warmup_change
from unstuck.wording import plural

# Eight times the optimum diverges and four times costs 0.097 nats (Step Law): a quarter of a rate that is visibly too
# high lands between the optimum and twice the optimum.
DIVISOR = 4.0


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    published, base = fact(found, "published_lr"), case.setting("learning_rate")
    divisor, source = DIVISOR, f"8x the optimum diverges, 4x costs 0.097 nats ({STEP_LAW})"
    if published and base and 1.5 <= base / published <= 10:
        divisor, source = (
            base / published,
            f"{two_digits(published):g} is the published scale for this optimizer and size",
        )
    elif published and base and base / published > 10:
        divisor = base / published
        source = f"{two_digits(published):g} is the published scale; nothing between it and this rate was measured here"
    answer = [lower_rate(case, found, "", divisor=divisor, source=source)]
    warmup = short_warmup(case)
    if warmup is not None and case.setting("warmup_updates") == 0:
        updates, why = warmup
        summary = f"Warm up over {plural(updates, 'update')}."
        answer.append(prescribe(case, warmup_change(case, updates), summary, "safe", why))
    return tuple(answer)
