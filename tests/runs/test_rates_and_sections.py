"""Rates are no times, sections are no groups, and a resume is compared with what held before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unstuck.runs import Run, names
from unstuck.runs.readers import read_runs

STEPS = range(10, 410, 10)


def rows_to(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def trained(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "loss": 3 - step / 400, **more}


def only_run(path: Path) -> Run:
    (run,) = read_runs(path)
    return run


@pytest.mark.parametrize(
    "key",
    ["it/s", "it_per_s", "its_per_sec", "iters_per_sec", "iter/s", "steps_per_second", "steps/sec", "perf/it_per_s",
     "train/batches_per_sec", "updates_per_s", "ups", "global_step/sec", "steps_s"],
)  # fmt: skip
def test_a_rate_of_steps_gives_their_time(key: str, tmp_path: Path) -> None:
    run = only_run(rows_to(tmp_path, [trained(step, **{key: 250.0 if step < 200 else 50.0}) for step in STEPS]))
    times = run.series["time/step_ms"]
    assert (times.values[0], times.values[-1]) == (4.0, 20.0)
    assert times.unit == "ms"


def test_a_rate_of_a_minute_and_a_rate_of_nothing(tmp_path: Path) -> None:
    rates = [0.0, 120.0, -1.0, 60.0]
    rows = [trained(k, updates_per_minute=rate) for k, rate in enumerate(rates, start=1)]
    values = only_run(rows_to(tmp_path, rows)).series["time/step_ms"].values
    assert np.array_equal(values, [np.nan, 500.0, np.nan, 1000.0], equal_nan=True)


@pytest.mark.parametrize(
    ("key", "series"),
    [
        ("imgs/s", "throughput/samples_per_second"), ("perf/samples_per_s", "throughput/samples_per_second"),
        ("seqs_per_sec", "throughput/samples_per_second"), ("speed/tokens/s", "throughput/tokens_per_second"),
        ("s/it", "time/step_ms"), ("sec_per_iter", "time/step_ms"), ("perf/iter_ms", "time/step_ms"),
    ],
)  # fmt: skip
def test_other_rates_and_times(key: str, series: str) -> None:
    assert names.assign({key: 9})[key].canonical == series


@pytest.mark.parametrize("key", ["val/it_per_s", "it_s", "epochs_per_hour", "time/it/s", "it_per_s_gpu", "flops/s"])
def test_a_rate_of_something_else_is_no_time_of_a_step(key: str) -> None:
    assert key not in names.assign({key: 9})


@pytest.mark.parametrize(
    ("key", "series"),
    [
        ("optim/lr", "lr/all"), ("opt_lr", "lr/all"), ("lr_scheduler/last_lr", "lr/all"),
        ("optim/lr_body", "lr/body"), ("optimizer.lr.head", "lr/head"), ("sched/lr_0", "lr/0"),
        ("train/optim/lr/body", "lr/body"), ("opt/body_lr", "lr/body"), ("train_lr_head", "lr/head"),
        ("opt/grad_norm", "grad_norm/preclip"), ("optim/grad_norm_head", "grad_norm/preclip/head"),
    ],
)  # fmt: skip
def test_sections_of_the_optimizer_are_no_groups(key: str, series: str) -> None:
    assert names.assign({key: 9})[key].canonical == series


def test_a_rate_of_its_own_comes_before_one_below_a_section() -> None:
    given = names.assign({"optim/lr": 9, "lr": 9})
    assert {key: entry.canonical for key, entry in given.items()} == {"lr": "lr/all"}


def test_n_iter_counts_the_updates(tmp_path: Path) -> None:
    run = only_run(rows_to(tmp_path, [{"n_iter": step, "loss/train": 3 - step / 400} for step in STEPS]))
    assert run.axis == "update"
    assert run.series["train/loss"].updates[-1] == 400


def bar(done: int, total: int, rate: float, postfix: str) -> str:
    """A state of tqdm's bar (`format_meter` in tqdm/std.py): seconds an iteration where one takes longer than one."""
    speed = f"{rate:5.2f}it/s" if rate > 1 else f"{1 / rate:5.2f}s/it"
    return f"{100 * done / total:3.0f}%|{'#' * (10 * done // total):10}| {done}/{total} [00:01<00:09, {speed}{postfix}]"


def test_the_rate_of_a_progress_bar(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    states = ["  0%|          | 0/60 [00:00<?, ?it/s]"]
    states += [bar(k, 60, 4.0 if k < 30 else 0.5, f", loss={3 - k / 50:.4f}, lr=1.0e-03") for k in range(1, 61)]
    log.write_text("".join(f"\rEpoch 1: {state}" for state in states) + "\n", encoding="utf-8")
    run = only_run(log)
    times = run.series["time/step_ms"]
    assert len(times) == len(run.series["train/loss"]) == 60
    assert (times.values[0], times.values[-1]) == (250.0, 2000.0)


def test_a_time_of_its_own_comes_before_the_rate_of_a_bar(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    states = [bar(k, 60, 4.0, f", loss={3 - k / 50:.4f}, step_time=0.125s") for k in range(1, 61)]
    log.write_text("".join(f"\r{state}" for state in states) + "\n", encoding="utf-8")
    assert set(only_run(log).series["time/step_ms"].values) == {125.0}


@pytest.mark.parametrize("nested", [False, True])
def test_a_resume_is_compared_with_the_configuration_beside_the_log(nested: bool, tmp_path: Path) -> None:
    def written(lr: object) -> dict[str, Any]:
        return {"optim": {"lr": lr}, "seed": 1} if nested else {"lr": lr, "seed": 1}

    (tmp_path / "config.json").write_text(json.dumps(written(0.08)), encoding="utf-8")
    rows: list[dict[str, Any]] = [trained(step, lr=0.08) for step in STEPS if step <= 200]
    rows.append({"event": "resume", "step": 200, "config": written(0.008)})
    run = only_run(rows_to(tmp_path, [*rows, *(trained(step, lr=0.08) for step in STEPS if step > 200)]))
    (resumed,) = [event for event in run.events if event.kind == "resume"]
    assert resumed.data == {"changed": {"optim.lr" if nested else "lr": [0.08, 0.008]}}


def test_the_same_number_in_another_form_is_no_change(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("lr='1e-3'\nseed=1\n", encoding="utf-8")
    rows: list[dict[str, Any]] = [trained(step) for step in STEPS if step <= 200]
    rows.append({"event": "resume", "step": 200, "config": {"lr": 0.001, "seed": 1}})
    run = only_run(rows_to(tmp_path, [*rows, *(trained(step) for step in STEPS if step > 200)]))
    assert [event.data for event in run.events if event.kind == "resume"] == [{"changed": {}}]


CONFIGURATIONS = {
    "config.toml": "seed = 3\n[tool.ours.optim]\nlr = 0.02\n[tool.ours.data]\nhorizon = 4\nnum_train = 2560\n",
    "cfg.toml": "[tool]\nlr = 0.02\nnum_train = 2560\nseed = 3\n",
    "params.yml": "seed: 3\noptim:\n  lr: 0.02\ndata:\n  num_train: 2560\n  horizon: 4\n",
    "settings.yaml": "seed: 3\noptim.lr: 0.02\ndata.num_train: 2560\ndata.horizon: 4\n",
    "training_config.json": '{"seed": 3, "optim_lr": 0.02, "data_num_train": 2560, "data_horizon": 4}',
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations_beside_the_log(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(CONFIGURATIONS[name], encoding="utf-8")
    run = only_run(rows_to(tmp_path, [trained(step) for step in STEPS]))
    assert {key: setting.value for key, setting in run.settings.items()} == {
        "learning_rate": 0.02, "train_samples": 2560, "seed": 3,
    }  # fmt: skip
