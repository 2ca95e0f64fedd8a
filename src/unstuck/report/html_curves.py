"""The curves of a proof, read from the `metrics.jsonl` of its trials."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Two evaluations make a straight line; then the training loss, noisy as it is, shows more.
LEAST_EVALUATIONS = 3


def read_curves(trials: Iterable[tuple[str, int, Path]]) -> list[dict[str, Any]]:
    """What `write_report` takes as `proof["curves"]`.

    Args:
        trials: (setting, seed, metrics.jsonl) of each; setting is `base` or `changed`. A file that is not there or a
            line that was not finished is left out.

    Returns:
        One curve per trial: of `val/loss` where every trial has enough evaluations, else of `train/loss`.
    """
    read = [(setting, seed, _rows(path)) for setting, seed, path in trials]
    read = [entry for entry in read if entry[2]]
    enough = all(len(_points(rows, "val/loss")) >= LEAST_EVALUATIONS for _, _, rows in read)
    series = "val/loss" if enough else "train/loss"
    curves = []
    for setting, seed, rows in read:
        points = _points(rows, series)
        updates, values = list(points), list(points.values())
        curves.append({"setting": setting, "seed": seed, "series": series, "updates": updates, "values": values})
    return curves


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict) and isinstance(row.get("update"), int):
                    rows.append(row)
    except OSError:
        return []
    return rows


def _points(rows: list[dict[str, Any]], series: str) -> dict[int, Any]:
    """Value by update; a resumed run writes an update again, and the later row counts."""
    return dict(sorted((row["update"], row[series]) for row in rows if series in row))
