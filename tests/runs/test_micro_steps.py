"""Batches that are no updates, waits of one batch, and epochs that a log tells twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from unstuck.config.dialects import canonical_settings
from unstuck.runs import Run, names
from unstuck.runs.readers import read_runs
from unstuck.runs.run import Setting, Source

EPOCHS, BATCHES, EACH, EVERY = 6, 60, 2, 20
UPDATES = EPOCHS * BATCHES // EACH
# The keys of ESPnet's `config.yaml` (espnet2/tasks/abs_task.py).
CONFIG = {
    "max_epoch": EPOCHS, "num_iters_per_epoch": BATCHES, "accum_grad": EACH, "grad_clip": -1, "batch_size": 8,
    "resume": True, "optim": "adam", "optim_conf": {"lr": 0.002}, "model_conf": {"lsm_weight": 0.1},
}  # fmt: skip


def rate(update: float, warmup: int = 30, total: int = UPDATES) -> float:
    return 0.002 * min(update / warmup, (total - update) / (total - warmup) + 0.01)


def loss(batch: int) -> float:
    return 3 * float(np.exp(-batch / 200)) + 0.5


def scalars(folder: Path, config: dict[str, object], *, last: int = EPOCHS * BATCHES, each: int = EACH) -> Run:
    """ESPnet's TensorBoard scalars, at counts of batches."""
    rows = []
    for batch in range(EVERY, last + 1, EVERY):
        rows.append({
            "step": batch, "train/loss": loss(batch), "train/iter_time": 0.02, "train/train_time": 0.1,
            "train/optim0_lr0": rate(batch / each, total=last // each),
        })  # fmt: skip
        if batch % BATCHES == 0:
            rows.append({"step": batch, "valid/loss": loss(batch)})
    (folder / "scalars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (run,) = read_runs(folder / "scalars.jsonl")
    return run


def test_batches_of_epochs_become_updates(tmp_path: Path) -> None:
    run = scalars(tmp_path, CONFIG)
    assert run.updates == UPDATES
    assert run.series["val/loss"].updates.tolist() == [30, 60, 90, 120, 150, 180]


def test_a_plan_of_updates_that_the_rate_follows_to_the_end(tmp_path: Path) -> None:
    plan = {"accumulation": EACH, "lr": 0.002, "scheduler": "linear", "scheduler_conf": {"total_steps": UPDATES}}
    assert scalars(tmp_path, plan).updates == UPDATES


def test_a_schedule_that_is_over_at_half_of_the_updates_stays_one(tmp_path: Path) -> None:
    plan = {"accumulation": EACH, "lr": 0.002, "scheduler": "linear", "scheduler_conf": {"total_steps": UPDATES}}
    rows = [
        {"step": step, "train/loss": loss(step), "lr": max(rate(min(step, UPDATES)), 2e-5)}
        for step in range(EVERY, 2 * UPDATES + 1, EVERY)
    ]
    (tmp_path / "scalars.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    (run,) = read_runs(tmp_path / "scalars.jsonl")
    assert run.updates == 2 * UPDATES


def test_updates_stay_updates(tmp_path: Path) -> None:
    """Of epochs of so many updates, and evaluations behind each."""
    run = scalars(tmp_path, {**CONFIG, "num_iters_per_epoch": BATCHES * EACH}, each=1)
    assert run.updates == EPOCHS * BATCHES


def test_wenet_counts_batches(tmp_path: Path) -> None:
    """WeNet's executor prints the batch of the epoch, and its `warmup_steps` are of updates."""
    lines = [
        f"2024-01-02 10:{epoch:02d}:{batch // 50:02d},000 DEBUG TRAIN Batch {epoch}/{batch} loss {loss(count):.6f} "
        f"loss_att {loss(count):.6f} loss_ctc {loss(count):.6f} lr {warm(count / 4):.8f} rank 0"
        for epoch in range(4)
        for batch in range(0, 1000, 50)
        for count in [epoch * 1000 + batch]
    ]
    (tmp_path / "train.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = {"accum_grad": 4, "optim_conf": {"lr": 0.002}, "scheduler": "warmuplr",
                "scheduler_conf": {"warmup_steps": 400}}  # fmt: skip
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (run,) = read_runs(tmp_path / "train.log")
    assert run.updates == 3950 // 4
    assert run.setting("schedule") == "inverse_sqrt"


def warm(update: float, warmup: int = 400) -> float:
    return 0.002 * min((max(update, 1) / warmup) ** -0.5, update / warmup)


def test_the_wait_of_a_batch_is_not_the_time_of_an_update(tmp_path: Path) -> None:
    run = scalars(tmp_path, CONFIG)
    assert run.series["time/step_ms"].values[0] == pytest.approx(100.0)
    assert run.series["time/data_ms"].values[0] == pytest.approx(2 * 20.0)
    assert run.series["time/data_share"].values[0] == pytest.approx(0.4)


def test_iter_time_alone_is_the_time_of_a_step() -> None:
    given = names.assign({"step": 9, "loss": 9, "iter_time": 9, "train_time": 9})
    assert given["iter_time"].canonical == "time/step_ms"


def test_rates_of_numbered_optimizers() -> None:
    one = names.assign({"step": 9, "train/loss": 9, "train/optim0_lr0": 9})
    assert one["train/optim0_lr0"].canonical == "lr/all"
    two = names.assign({"optim0_lr0": 9, "optim1_lr0": 9})
    assert [two[key].canonical for key in two] == ["lr/0", "lr/optim1_0"]


def test_the_means_of_epochs_are_no_further_points(tmp_path: Path) -> None:
    lines = []
    for epoch in range(1, 7):
        rows = [loss((epoch - 1) * 60 + batch) for batch in (20, 40, 60)]
        lines += [
            f"[node01] 2024-01-02 10:0{epoch}:0{k},123 (trainer:793) INFO: {epoch}epoch:train:"
            f"{20 * k + 1}-{20 * k + 20}batch: iter_time=1.2e-04, loss={value:.3f}, optim0_lr0=1.000e-03, "
            "train_time=0.150"
            for k, value in enumerate(rows)
        ]
        lines.append(
            f"[node01] 2024-01-02 10:0{epoch}:09,123 (trainer:373) INFO: {epoch}epoch results: [train] "
            f"iter_time=1.2e-04, loss={np.mean(rows):.3f}, optim0_lr0=1.000e-03, train_time=0.150, time=9.0 seconds, "
            f"total_count={60 * epoch}, [valid] loss={rows[-1]:.3f}, total_count={5 * epoch}"
        )
    (tmp_path / "train.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (run,) = read_runs(tmp_path / "train.log")
    train = run.series["train/loss"]
    assert train.updates.tolist() == list(range(20, 361, 20))
    assert train.values == pytest.approx([loss(int(u)) for u in train.updates], abs=1e-3)
    assert len(run.series["val/loss"]) == 6


def test_the_names_of_speech_toolkits() -> None:
    raw = {key: Setting(value, key, Source("config.yaml")) for key, value in {
        "max_epoch": 6, "num_iters_per_epoch": 60, "accum_grad": 2, "grad_clip": -1, "resume": True,
        "model_conf.lsm_weight": 0.1, "scheduler": "warmupcosinelr", "scheduler_conf.total_steps": 180,
        "optim_conf.lr": 0.002,
    }.items()}  # fmt: skip
    found = {name: setting.value for name, setting in canonical_settings(raw, "plain").items()}
    assert found["label_smoothing"] == 0.1
    assert found["horizon_updates"] == found["updates"] == 180
    assert (found["epochs"], found["clip_norm"], found["learning_rate"]) == (6, 0.0, 0.002)
    assert "start" not in found  # a switch goes on where there is something to go on from


def test_deepspeed_warms_up_to_a_constant_rate() -> None:
    for written, kind in (("warmuplr", "inverse_sqrt"), ("WarmupLR", "warmuplr")):
        raw = {"scheduler": Setting(written, "scheduler", Source("config.yaml"))}
        assert canonical_settings(raw, "plain")["schedule"].value == kind


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (("train/current_loss", "train/tot_loss", "train/valid_loss"), ("train/loss", None, "val/loss")),  # icefall
        (("TrainIterStats/loss", "TrainIterStats/loader_time", "EvalStats/avg_loss"),
         ("train/loss", "time/data_ms", "val/loss")),  # Coqui
        (("train/train_loss", "train/loss_att", "cv/cv_loss"), ("train/loss", None, "val/loss")),  # WeNet
        (("train_loss", "train_step_timing", "val_loss"), ("train/loss", "time/step_ms", "val/loss")),  # NeMo
    ],
)  # fmt: skip
def test_tags_of_speech_toolkits(tags: tuple[str, ...], expected: tuple[str | None, ...]) -> None:
    given = names.assign({"step": 9, **dict.fromkeys(tags, 9)})
    assert tuple(given[tag].canonical if tag in given else None for tag in tags) == expected
