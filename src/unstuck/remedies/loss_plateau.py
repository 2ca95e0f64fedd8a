"""Where the learning rate never falls, let it; else measure another learning rate instead of guessing."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies import schedule_constant
from unstuck.remedies._common import advice, fact, key


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    answer: list[Remedy] = []
    if case.setting("schedule") == "constant":
        answer += schedule_constant.remedies(case, found)
    since = fact(found, "since")
    stop = f"Stop at update {since:,.0f}, or measure" if since else "Measure"
    name = key(case, "learning_rate")
    answer.append(
        advice(
            f"{stop} another {name} in short paired runs: unstuck prove RECIPE --change {name}=...",
            "a plateau has several causes (rate too high or too low, capacity, data); the curve alone does not tell",
        )
    )
    return tuple(answer)
