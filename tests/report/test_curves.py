from __future__ import annotations

import json
from pathlib import Path

from unstuck.report.html_curves import read_curves
from unstuck.report.html_figures import proof_charts


def _metrics(path: Path, evaluations: int, worst: object = 4.0) -> Path:
    rows = [{"event": "start", "updates": 30}]
    rows += [{"event": "update", "update": u, "train/loss": 4 - u / 10} for u in range(1, 31)]
    rows += [
        {"event": "evaluation", "update": 10 * e, "val/loss": worst if e == 1 else 3.5} for e in range(evaluations)
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + '\n{"event": "upd', encoding="utf-8")
    return path


def test_curves_of_trials_become_one_chart_of_base_against_changed(tmp_path: Path) -> None:
    base, changed = _metrics(tmp_path / "a", 4), _metrics(tmp_path / "b", 4, worst="nan")
    curves = read_curves([("base", 1, base), ("changed", 1, changed), ("base", 2, tmp_path / "missing")])
    assert [(c["setting"], c["series"], c["updates"]) for c in curves] == [
        ("base", "val/loss", [0, 10, 20, 30]),
        ("changed", "val/loss", [0, 10, 20, 30]),
    ]
    (chart,) = proof_charts({"curves": curves})
    assert chart["series"][0]["y"] == [3.5, 4.0, 3.5, 3.5]
    assert chart["series"][1]["y"] == [3.5, 3.5, 3.5]
    assert chart["bad"][0]["x"] == [10]


def test_with_too_few_evaluations_the_training_loss_is_shown(tmp_path: Path) -> None:
    curves = read_curves([("base", 1, _metrics(tmp_path / "a", 4)), ("changed", 1, _metrics(tmp_path / "b", 2))])
    assert {c["series"] for c in curves} == {"train/loss"}
    assert curves[0]["updates"] == list(range(1, 31))
