"""A neural operator in the one loop: it learns, resumes, loads, is read and judged in its own unit."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.conftest import last_weights, losses, rows
from unstuck.cli.main import main
from unstuck.config.recipe import Recipe, load_recipe
from unstuck.errors import UserError
from unstuck.evaluate.operator_losses import relative_l2
from unstuck.evaluate.rollout import rollout
from unstuck.models import build
from unstuck.report.html_rollout import write_rollout
from unstuck.runs.readers import read_runs
from unstuck.train.distributed import spread
from unstuck.train.gradient_stats import layer_norms, layer_of
from unstuck.train.load import load_checkpoint
from unstuck.train.progress import Progress
from unstuck.train.run import train
from unstuck.train.tasks.operator import Operator
from unstuck.train.tasks.task import Share

pytest.importorskip("neuralop")

TINY = (
    "data.points=16", "data.steps=8", "data.step=2", "data.train_trajectories=8", "data.validation_trajectories=3",
    "data.test_trajectories=2", "data.pairs_per_trajectory=4", "data.solver_dt=0.1", "model.modes=6", "model.width=8",
    "model.layers=2", "training.updates=100", "training.batch_size=4", "training.threads=1",
    "schedule.warmup_updates=6", "optimizer.learning_rate=5e-3", "evaluation.every_updates=25",
    "checkpoint.every_updates=5",
)  # fmt: skip


def tiny(*overrides: str) -> Recipe:
    return load_recipe("navier-stokes", [*TINY, *overrides])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("UNSTUCK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return train(tiny(), folder=tmp_path_factory.mktemp("operator") / "run").folder


def stop_at(update: int) -> Any:
    def stop_when(row: Mapping[str, Any]) -> str | None:
        return "user" if row["event"] == "update" and row["update"] == update else None

    return stop_when


def test_an_operator_learns_more_than_giving_its_input_back(trained: Path) -> None:
    start = rows(trained, "start")[0]
    best = min(row["val/loss"] for row in rows(trained, "evaluation"))
    assert best < 0.5 * start["baseline_loss"]
    assert start["unit"] == "relative L2"
    assert start["parameters"] == sum(
        p.numel() * (2 if p.is_complex() else 1) for p in load_checkpoint(trained).model.parameters()
    )


def test_the_loss_is_a_mean_over_fields_however_the_update_is_divided(tmp_path: Path) -> None:
    first = []
    for size, parts in ((4, 1), (2, 2)):
        recipe = tiny("training.updates=1", f"training.batch_size={size}", f"training.accumulation={parts}")
        first.append(rows(train(recipe, folder=tmp_path / str(parts), report=False).folder, "update")[0])
    assert first[0]["train/loss"] == pytest.approx(first[1]["train/loss"], rel=1e-5)
    assert first[0]["grad_norm/preclip"] == pytest.approx(first[1]["grad_norm/preclip"], rel=1e-3)
    task = Operator(tiny().config, torch.device("cpu"), Share())
    inputs, targets = task.micro_batches(0, 0).batches[0]
    measured = task.loss(torch.nn.Identity(), (inputs, targets))
    torch.testing.assert_close(measured.summed / 4, relative_l2(inputs, targets).mean())


def test_processes_share_the_fields_of_an_update() -> None:
    config = tiny("data.symmetries=true").config
    whole = Operator(tiny("training.batch_size=8").config, torch.device("cpu"), Share()).micro_batches(16, 2)
    parts = [Operator(config, torch.device("cpu"), Share(rank, 2)).micro_batches(16, 2) for rank in (0, 1)]
    torch.testing.assert_close(torch.cat([p.batches[0][0] for p in parts]), whole.batches[0][0])
    assert {p.targets for p in parts} == {whole.targets} == {8}


def test_fsdp_refuses_complex_weights_in_one_sentence() -> None:
    config = tiny().config
    task = Operator(config, torch.device("cpu"), Share(0, 2))
    model = build(config.model, **task.model_arguments())
    with pytest.raises(UserError, match=r"use training\.sharding=ddp"):
        spread(model, "fsdp", task.share, task.device, False)


@pytest.mark.parametrize("variant", ["", ":plateau", ":restarts", ":h1"])
def test_a_resumed_operator_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path, variant: str) -> None:
    changes = [*TINY, "training.updates=16", "evaluation.every_updates=4", "schedule.patience=1"]
    recipe = load_recipe(f"navier-stokes{variant}", changes)
    whole = train(recipe, folder=tmp_path / "whole", report=False).folder
    cut = train(recipe, folder=tmp_path / "cut", stop_when=stop_at(8), report=False).folder
    train(recipe, resume=cut, report=False)
    assert losses(cut) == losses(whole)
    assert last_weights(cut) == last_weights(whole)


def test_a_loaded_operator_predicts_fields_in_their_own_units(trained: Path) -> None:
    loaded = load_checkpoint(trained)
    task = Operator(tiny().config, torch.device("cpu"), Share())
    best = min(row["val/loss"] for row in rows(trained, "evaluation"))
    with torch.no_grad():
        found = loaded.model(torch.from_numpy(task.data.validation_inputs))
    error = float(relative_l2(found, torch.from_numpy(task.data.validation_targets)).mean())
    assert error == pytest.approx(best, rel=1e-4)


def test_every_layer_has_its_gradient_norm_at_every_evaluation(trained: Path) -> None:
    logged = {row["update"]: row for row in rows(trained, "update") if any("grad_norm/layer" in key for key in row)}
    assert sorted(logged) == [25, 50, 75, 100]
    for row in logged.values():
        layers = [value for key, value in row.items() if key.startswith("grad_norm/layer/")]
        assert len(layers) >= 10
        assert sum(value**2 for value in layers) ** 0.5 == pytest.approx(row["grad_norm/preclip"], rel=1e-4)


def test_a_layer_is_named_up_to_its_first_number() -> None:
    assert layer_of("blocks.3.mlp.up.weight") == "blocks.3"
    assert layer_of("head.weight") == "head"
    assert layer_of("scale") == "scale"
    table = torch.nn.Embedding(9, 4, sparse=True)
    table(torch.tensor([1, 1])).sum().backward()
    assert layer_norms([("table.weight", table.weight)]) == {"grad_norm/layer/table": pytest.approx(4.0)}


def test_a_run_is_read_shown_and_judged_in_relative_error(trained: Path) -> None:
    run = read_runs(trained)[0]
    assert run.series["train/loss"].unit == run.series["val/loss"].unit == "relative L2"
    assert run.setting("task") == "regression"
    assert run.setting("vocabulary") is None
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["tokens"] is summary["tokens_per_second"] is None
    assert summary["examples"] == 100 * 4
    assert set(summary["findings"]) <= {
        "gradient-norm-preclip",
        "throughput-falls",
    }  # the second: other tests beside it
    report = (trained / "report.html").read_text()
    assert '"unit":"relative L2"' in report
    assert "nats per token" not in report
    stream = io.StringIO()
    progress = Progress(stream, live=False)
    for row in rows(trained):
        progress.event(row)
    assert "examples/s" in stream.getvalue()
    assert "tokens/s" not in stream.getvalue()


def test_a_rollout_goes_on_from_its_own_predictions(trained: Path, tmp_path: Path) -> None:
    loaded = load_checkpoint(trained)
    found = rollout(loaded, 4)
    data = Operator(tiny().config, torch.device("cpu"), Share()).data
    assert found.starts == (0, 1, 2, 3, 4)
    assert found.errors.shape == (10, 4)
    with torch.no_grad():
        twice = loaded.model(loaded.model(torch.from_numpy(data.test[:, 0])))
    expected = relative_l2(twice, torch.from_numpy(data.test[:, 2])).numpy()
    np.testing.assert_allclose(found.errors[:2, 1], expected, rtol=1e-4)
    assert found.to_json()["per_step"][0]["mean"] == pytest.approx(found.one_step)
    write_rollout(tmp_path / "rollout.html", found, title="tiny <run>")
    page = (tmp_path / "rollout.html").read_text()
    assert "tiny &lt;run&gt;" in page
    assert "<script src" not in page.replace('<script src="data:', "")


def test_evaluate_measures_the_test_trajectories_and_writes_the_rollout(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unit"] == "relative L2"
    assert document["test"]["targets"] == 2 * 8
    assert 0 < document["test"]["loss"] < 1
    assert main(["evaluate", str(trained), "--rollout", "3", "--html", str(tmp_path / "r.html")]) == 0
    assert capsys.readouterr().out.splitlines()[2 + 3 :] == [f"Report: {tmp_path / 'r.html'}"]
    assert (tmp_path / "r.html").stat().st_size > 1_000_000
    assert main(["evaluate", str(trained), "--html", "r.html"]) == 2


def test_a_rollout_longer_than_the_trajectories_is_one_sentence(trained: Path) -> None:
    with pytest.raises(UserError, match=r"have 8 steps; set --rollout to 1 \.\. 8"):
        rollout(load_checkpoint(trained), 9)


def test_token_limits_and_odd_grids_are_the_users_mistakes() -> None:
    for override, words in (
        ("evaluation.max_tokens=100", "fields have none"),
        ("data.points=18", "multiple of 4"),
    ):
        with pytest.raises(UserError, match=words):
            Operator(tiny(override).config, torch.device("cpu"), Share())
