"""Count how often each rule's errors and warnings were right, and keep it for `unstuck.diagnose.calibration`.

The weight of a rule's own estimate is the one of `PRIORS` that predicts the findings of each setup best from those of
all others (log loss): a setup's runs are alike, so that single runs would tell each other too much.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.faults.scored import Scored
from unstuck.diagnose import calibration, tables

# The rules were mended with these runs in view, so that shares of right findings are better than elsewhere: an estimate
# counts as ten findings at least (assumption).
PRIORS = (10.0, 20.0, 50.0, 100.0)
PATH = tables.FOLDER / "calibration.json"
ROUNDED = 0.01  # a confidence of 1 has no logarithm


def judged(runs: Iterable[Scored]) -> list[tuple[str, str, float, bool]]:
    """(setup, rule, the rule's own estimate, right) of every error and warning on runs whose label is clear."""
    return [
        (f"{run.family}/{run.trainer}/{run.view}", rule, run.estimates[rule], run.is_right(rule))
        for run in runs
        if run.label.verdict in ("faulty", "healthy")
        for rule, severity, _ in run.findings
        if severity != "note"
    ]


def log_loss(findings: list[tuple[str, str, float, bool]], prior: float) -> float:
    """Mean log loss of each setup's findings, given the counts of all other setups."""
    counts: dict[str, Counter[tuple[str, bool]]] = defaultdict(Counter)
    for setup, rule, _, right in findings:
        counts[setup][rule, right] += 1
    every: Counter[tuple[str, bool]] = Counter()
    for counter in counts.values():
        every.update(counter)
    total = 0.0
    for setup, rule, estimate, right in findings:
        good, bad = (every[rule, is_right] - counts[setup][rule, is_right] for is_right in (True, False))
        told = min(1 - ROUNDED, max(ROUNDED, calibration.pooled(estimate, good, bad, prior)))
        total -= math.log(told if right else 1 - told)
    return total / max(1, len(findings))


def calibrate(runs: Iterable[Scored], path: Path = PATH) -> str:
    """Write the counts and the best prior; what was found, in lines."""
    findings = judged(runs)
    losses = {prior: log_loss(findings, prior) for prior in PRIORS}
    best = min(losses, key=lambda prior: losses[prior])
    rules: dict[str, list[int]] = {}
    for _, rule, _, right in findings:
        rules.setdefault(rule, [0, 0])[0 if right else 1] += 1
    told = {
        "source": "python -m benchmarks.faults calibrate, every split but held-out",
        "prior": best,
        "rules": dict(sorted(rules.items())),
    }
    path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    rows = [f"prior {prior:g}: log loss {loss:.4f}" for prior, loss in losses.items()]
    return "\n".join([f"{len(findings)} errors and warnings", *rows, f"written: {path}, prior {best:g}"])
