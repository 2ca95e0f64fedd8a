"""What a person sees while a run trains, from rows alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from unstuck.config.recipe import load_recipe
from unstuck.train.progress import Progress, planned_rates


def run_folder(path: Path, *overrides: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(load_recipe("gpt-char", overrides).to_yaml(), encoding="utf-8")
    return path


def shown(folder: Path, losses: list[float], planned: int) -> str:
    """The plain lines of a run of these losses, with an evaluation at the end."""
    stream = io.StringIO()
    progress = Progress(stream, live=False)
    progress.event({"event": "start", "folder": str(folder), "updates": planned, "derived": {}, "reasons": {}})
    for update, loss in enumerate(losses, start=1):
        row = {"event": "update", "update": update, "train/loss": loss, "lr/all": 1e-3}
        progress.event({**row, "grad_norm/preclip": 1.0, "grad_norm/clipped_share": 0.0})
    progress.event({"event": "evaluation", "val/loss": losses[-1]})
    progress.close()
    return stream.getvalue()


def falling(count: int) -> list[float]:
    noise = 0.02 * np.random.default_rng(1).normal(size=count)
    return list(1.5 + 3.0 * np.arange(1, count + 1) ** -0.5 + noise)


def test_the_line_tells_the_projected_end_with_its_interval(tmp_path: Path) -> None:
    text = shown(run_folder(tmp_path / "run", "schedule.kind=constant"), falling(200), 400)
    said = text.rpartition("projected ")[2].split()
    loss, low, high = float(said[0]), float(said[1].strip("(")), float(said[3].strip(")"))
    assert low < 1.5 + 3.0 * 400**-0.5 < high
    assert low < loss < high


def test_the_decay_still_to_come_is_in_the_projection(tmp_path: Path) -> None:
    ends = [
        float(
            shown(run_folder(tmp_path / kind, f"schedule.kind={kind}"), falling(200), 400)
            .rpartition("projected ")[2]
            .split()[0]
        )
        for kind in ("constant", "wsd")
    ]
    assert ends[1] < ends[0]


@pytest.mark.parametrize("losses", [[3.0] * 200, falling(10), [float("nan")] * 200])
def test_nothing_is_projected_where_the_curve_carries_nothing(tmp_path: Path, losses: list[float]) -> None:
    assert "  projected " not in shown(run_folder(tmp_path / "run"), losses, 400)


def test_the_planned_rate_is_that_of_the_configuration(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run", "schedule.kind=wsd", "schedule.decay_share=0.5", "schedule.warmup_share=0.1")
    rates = planned_rates(folder, 1000)
    assert rates is not None
    np.testing.assert_allclose(rates.at(np.array([50.0, 300.0, 751.0, 1000.0])), [0.5, 1.0, 0.5, 0.002], atol=0.01)
    assert planned_rates(tmp_path / "none", 1000) is None
    assert planned_rates(run_folder(tmp_path / "open", "schedule.kind=plateau"), 1000) is None
