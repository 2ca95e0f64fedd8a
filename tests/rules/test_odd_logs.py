"""Logs with values that a rule may divide by, or that overflow: every rule answers, none raises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unstuck.diagnose.case import Case
from unstuck.diagnose.document import document
from unstuck.diagnose.engine import all_rules, diagnose
from unstuck.runs.readers import read_runs

Row = dict[str, Any]
ROWS = range(1, 61)


def falling(u: int) -> float:
    return 3.0 + 7.0 / u


ODD: dict[str, tuple[Callable[[int], Row], dict[str, Any]]] = {
    "one time per update beside tokens": (
        lambda u: {"loss": falling(u), "tokens": 100 * u} | ({"step_ms": 12.0} if u == 1 else {}),
        {},
    ),
    "a vocabulary of one": (lambda u: {"loss": falling(u), "val_loss": 3.0}, {"vocab_size": 1}),
    "smoothing of one": (lambda u: {"loss": 9.0 + falling(u)}, {"label_smoothing": 1.0, "vocab_size": 65}),
    "losses near the end of float64": (
        lambda u: {"loss": 1e300 * u, "val_loss": 1e300 * (1 + abs(u - 9) + 0.3 * (-1) ** u)},
        {},
    ),
    "a rate that stays at 0 under a blow-up": (
        lambda u: {"loss": 2.0 + 9.0 * (u > 2), "lr": 0.0},
        {"optimizer": "adamw", "vocab_size": 50257, "start": "fresh"},
    ),
    "every row at the same step": (lambda u: {"step": 0, "loss": falling(u), "lr": 1e-3 / u if u < 30 else 0.0}, {}),
    "a tiny loss and a known batch": (
        lambda u: {"loss": 1e-90 * u},
        {"batch_size": 8, "context": 128, "vocab_size": 65},
    ),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ODD)
def test_every_rule_answers_on_odd_values(name: str, tmp_path: Path):
    row, config = ODD[name]
    lines: list[Row] = [{"config": config}] if config else []
    lines += [{"step": u} | row(u) for u in ROWS]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    for run in read_runs(path):
        for rule in all_rules().values():  # one by one: `diagnose` would turn a rule's fault into "could not check"
            rule.check(Case(run))
        assert json.dumps(document([diagnose(run)]), allow_nan=False)
