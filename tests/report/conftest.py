"""Reports are made from runs that were read from real files by the readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstuck.diagnose.engine import Diagnosis, Finding, diagnose
from unstuck.diagnose.rule import Clear, Evidence, Found, Remedy, Rule, Severity
from unstuck.runs import Run, Setting, Source
from unstuck.runs.run import series_from_points

DOC = "One line.\n\nFinds\nA pattern.\n\nWhy it matters\nBecause <b>time</b>\nis lost.\n\nRemedy\nMend it.\n"


@pytest.fixture
def make_run() -> Callable[..., Run]:
    """A run with a falling loss over `updates` updates, and what else is given as {series: values}."""

    def make(updates: int = 400, **series: Any) -> Run:
        run = Run("runs/one", "jsonl-metrics")
        loss = 4 * np.exp(-np.arange(updates) / updates) + 0.05 * np.sin(np.arange(updates))
        for name, values in {"train/loss": loss, "lr/all": np.full(updates, 1e-3), **series}.items():
            points = [(i + 1, float(v), i + 1) for i, v in enumerate(values)]
            run.series[name] = series_from_points(name, points, "runs/one/metrics.jsonl")
        run.settings["learning_rate"] = Setting(1e-3, "lr", Source("runs/one/args.yaml", 4))
        return run

    return make


@pytest.fixture
def make_finding() -> Callable[..., Finding]:
    """A finding of a rule made up for the test."""

    def make(
        name: str = "loss-spike",
        rank: int = 1,
        title: str = "The loss jumped",
        evidence: tuple[Evidence, ...] = (Evidence("train/loss", (100, 120), "jump over its noise", 12.0, 6.0),),
        remedies: tuple[Remedy, ...] = (),
        because_of: str | None = None,
        severity: Severity = "error",
    ) -> Finding:
        rule = Rule("LO004", name, "loss", "L", severity, (), DOC, lambda case: Clear())
        return Finding(rule, Found(title, evidence, 0.9), severity, rank, because_of, remedies)

    return make


@pytest.fixture
def logged(tmp_path: Path) -> Callable[..., Diagnosis]:
    """Write rows as a JSON-lines log, read it back with the readers and diagnose it."""

    def log(rows: list[dict[str, Any]], name: str = "metrics.jsonl") -> Diagnosis:
        from unstuck.runs.readers import read_runs

        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (run,) = read_runs(path)
        return diagnose(run)

    return log
