"""From what the rules found to what happened: causes before consequences, alternatives, and what to log next.

A rule names the rules whose findings usually follow from its own. Whether one did follow is a matter of time: an effect
does not begin before its cause, and what began before it has another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from unstuck.diagnose.rule import Found, Rule, Severity

SEVERITY_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}
# An effect shows at the earliest in the row that shows its cause; rows of other series may lie between (ours: 1 % of
# the run).
EARLIER = 0.01

# What looks like another fault while this one is there: batches of one class each throw the loss up and down at any
# learning rate, so nothing that the rules on rates and spikes see in them is evidence for their own.
EXPLAINED_AWAY: dict[str, tuple[str, ...]] = {
    "memory-exhausted": ("undertrained", "warmup-too-long"),  # the run ended before its time
    "loss-not-per-token": ("validation-shifted",),  # the two losses are not in one unit
    "order-unshuffled": ("lr-too-high", "warmup-missing", "loss-spike", "loss-diverged", "gradient-noise-dominates"),
}

Hits = Mapping[str, tuple[Rule, Found]]


def explained_away(hits: Hits) -> set[str]:
    """The rules whose findings another finding, itself more than a note, leaves without evidence."""
    return {
        other
        for name, others in EXPLAINED_AWAY.items()
        if name in hits and (hits[name][1].severity or hits[name][0].severity) != "note"
        for other in others
        if other in hits
    }


def ranked(hits: Hits, updates: int) -> list[tuple[Rule, Found, str | None]]:
    """Root causes first, each followed by what it explains; notes last.

    Causes are ordered by severity, then by confidence, each with the most that it and its consequences have: evidence
    for a consequence is evidence for its cause. At the same severity a finding on speed comes after one on learning: a
    busy machine slows a run, it does not keep it from learning.

    Args:
        hits: by rule.
        updates: length of the run.

    Returns:
        (rule, what it found, the rule whose finding caused it).
    """
    cause_of = _causes(hits, updates)
    placed: list[tuple[Rule, Found, str | None]] = []

    def place(name: str) -> None:
        rule, found = hits[name]
        placed.append((rule, found, cause_of.get(name)))
        for follower in sorted((n for n, c in cause_of.items() if c == name), key=lambda n: _order(hits, n)):
            place(follower)

    def best(name: str) -> tuple[int, int, float, str]:
        severity, slow, doubt, code = _order(hits, name)
        below = [best(follower) for follower, cause in cause_of.items() if cause == name]
        least = min([doubt, *(b[2] for b in below if b[0] <= severity)])
        return min([severity, *(b[0] for b in below)]), slow, least, code

    for root in sorted((n for n in hits if n not in cause_of), key=best):
        place(root)
    severity_of = {rule.name: found.severity or rule.severity for rule, found, _ in placed}
    placed.sort(key=lambda entry: severity_of[entry[0].name] == "note")  # stable: notes after everything else
    return placed


def _order(hits: Hits, name: str) -> tuple[int, int, float, str]:
    """What stands first; of the notes those of rules that warn elsewhere, on speed too, come before mere remarks."""
    rule, found = hits[name]
    severity = SEVERITY_ORDER[found.severity or rule.severity]
    remark = severity == SEVERITY_ORDER["note"] == SEVERITY_ORDER[rule.severity]
    later = 2 if remark else int(rule.family == "throughput")
    return severity, later, -found.confidence, rule.code


def _causes(hits: Hits, updates: int) -> dict[str, str]:
    """By consequence the rule that caused it, without circles."""
    cause_of: dict[str, str] = {}
    for name in sorted(hits, key=lambda n: _order(hits, n)):
        for explained in hits[name][0].explains:
            if explained not in hits or explained == name:
                continue
            # a note is no root cause of an error or warning
            only_a_note = _order(hits, name)[0] == SEVERITY_ORDER["note"] > _order(hits, explained)[0]
            if not only_a_note and _precedes(hits[name][1], hits[explained][1], updates):
                cause_of.setdefault(explained, name)
    for name in list(cause_of):  # two rules that explain each other: the better placed one is the cause
        seen = {name}
        cause = cause_of.get(name)
        while cause is not None:
            if cause in seen:
                cause_of.pop(min(seen, key=lambda n: _order(hits, n)), None)
                break
            seen.add(cause)
            cause = cause_of.get(cause)
    return cause_of


def _precedes(cause: Found, effect: Found, updates: int) -> bool:
    """Whether the effect's evidence does not end before the cause's begins."""
    begins = min((evidence.updates[0] for evidence in cause.evidence), default=0)
    ends = max((evidence.updates[1] for evidence in effect.evidence), default=updates)
    return begins <= ends + EARLIER * updates


def log_next(could_not_check: Mapping[str, tuple[str, ...]], most: int = 3) -> list[str]:
    """What to log or give so that most of the rules that could not look can do so, the most wanted first."""
    wanted = Counter(item for missing in could_not_check.values() for item in missing)
    return [item for item, _ in sorted(wanted.items(), key=lambda entry: (-entry[1], entry[0]))[:most]]
