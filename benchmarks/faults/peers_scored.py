"""Other tools' rules on the same runs: each of `peers/<name>.py`, scored by the same measures.

A peer says an alarm in its own words, the most urgent first, and a table of its module says which rules of ours that
counts as. An alarm without an entry names nothing and is an alarm all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.faults.measures import Share, faulty, healthy, share
from benchmarks.faults.peers import all_peers
from benchmarks.faults.scored import TOP, Scored


@dataclass(slots=True)
class PeerScore:
    """One peer: faults it names among its first three alarms, runs it alarms on at all, alarms on healthy runs."""

    name: str
    source: str
    found: Share
    first: Share
    alarmed: Share
    healthy_alarmed: Share


def score_peers(runs: Sequence[Scored]) -> list[PeerScore]:
    scores = []
    for peer in all_peers().values():
        said = {run.id: list(dict.fromkeys(peer.check(run.run))) if run.run is not None else [] for run in runs}
        means = {alarm: frozenset(rules) for alarm, rules in peer.MEANS.items()}

        def names(
            run: Scored, rules: tuple[str, ...], top: int, said: dict[str, list[str]] = said,
            means: dict[str, frozenset[str]] = means,
        ) -> bool:  # fmt: skip
            return any(means.get(alarm, frozenset()) & set(rules) for alarm in said[run.id][:top])

        sick, well = faulty(runs), healthy(runs)
        scores.append(
            PeerScore(
                peer.NAME, peer.SOURCE,
                share(names(run, rules, TOP) for run in sick for rules in run.label.expected),
                share(any(names(run, rules, 1) for rules in run.label.expected) for run in sick),
                share(bool(said[run.id]) for run in sick),
                share(bool(said[run.id]) for run in well),
            )
        )  # fmt: skip
    return scores
