"""What one update, one evaluation and one stop do."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import Make, last_weights, losses, rows
from unstuck.errors import UserError
from unstuck.train import checkpoint
from unstuck.train.folder import locked
from unstuck.train.metrics import MetricsWriter, repair_torn_line
from unstuck.train.run import train


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.find(folder)
    assert path is not None
    return checkpoint.read_weights(path)


def test_one_batch_of_12_is_three_of_4(tiny: Make, tmp_path: Path) -> None:
    together = train(tiny("batch_size=12"), folder=tmp_path / "a", report=False).folder
    parts = train(tiny("batch_size=4", "accumulation=3"), folder=tmp_path / "b", report=False).folder
    assert losses(together) == pytest.approx(losses(parts), rel=1e-4)
    for name, tensor in weights(together).items():
        # Muon carries the rounding of sums further than their size: compare by norm, not by element.
        other = weights(parts)[name]
        assert float((tensor - other).norm()) <= 2e-3 * float(tensor.norm()) + 1e-6, name


def test_every_event_has_the_documented_keys(tiny: Make, tmp_path: Path) -> None:
    folder = train(tiny("clip_norm=0.01"), folder=tmp_path / "r", report=False).folder
    start, *_, end = rows(folder)
    assert start["event"] == "start"
    assert start["derived"]["tokens_per_update"] == 64
    assert start["groups"]["matrices"]["algorithm"] == "muon"
    assert set(start["derived"]) == set(start["reasons"])
    update = rows(folder, "update")[-1]
    assert update["update"] == 24
    assert update["tokens"] == 24 * 64
    assert update["grad_norm/clipped_share"] == 1.0
    assert update["grad_norm/preclip"] > 0.01
    assert {"time/step_ms", "time/data_share", "throughput/tokens_per_second", "lr/matrices"} <= set(update)
    assert [row["update"] for row in rows(folder, "evaluation")] == [0, 8, 16, 24]
    assert end["stopped_by"] == "updates"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final"] == {"update": 24, "val_loss": rows(folder, "evaluation")[-1]["val/loss"]}
    assert (folder / "checkpoints" / "best" / "model.safetensors").is_file()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(tiny: Make, tmp_path: Path) -> None:
    one, two = (train(tiny(), folder=tmp_path / name, report=False).folder for name in "ab")
    other = train(tiny("seed=2"), folder=tmp_path / "c", report=False).folder
    assert losses(one) == losses(two) != losses(other)


def test_early_stopping_keeps_the_best_checkpoint(tiny: Make, tmp_path: Path) -> None:
    recipe = tiny("evaluation.every_updates=2", "evaluation.patience=2", "evaluation.min_improvement=10")
    result = train(recipe, folder=tmp_path / "r", report=False)
    assert result.summary["stopped_by"] == "early stopping"
    assert result.summary["updates"] == 4
    assert result.summary["best"]["update"] == 0


def test_old_checkpoints_go_but_the_best_stays(tiny: Make, tmp_path: Path) -> None:
    recipe = tiny("checkpoint.every_updates=2", "checkpoint.keep=2", "evaluation.min_improvement=0.9")
    folder = train(recipe, folder=tmp_path / "r", report=False).folder
    best = json.loads((folder / "summary.json").read_text())["best"]["update"]
    kept = {checkpoint.update_of(path) for path in checkpoint.complete(folder)}
    assert kept == {22, 24, best} - {0}


def test_a_loss_that_is_not_finite_stops_the_run_and_the_weights_before_it_are_kept(tiny: Make, tmp_path: Path) -> None:
    recipe = tiny("architecture=gpt2", "optimizer.kind=adamw", "learning_rate=1e30", "checkpoint.every_updates=1")
    result = train(recipe, folder=tmp_path / "r", report=False)
    assert result.summary["stopped_by"] in ("finding: loss-not-finite", "finding: gradient-exploding")
    last = rows(result.folder, "update")[-1]
    values = (last["train/loss"], last["grad_norm/preclip"])
    assert any(value in ("nan", "inf") for value in values)
    assert result.summary["updates"] == last["update"] - 1
    assert all(bool(tensor.isfinite().all()) for tensor in weights(result.folder).values())


def test_a_rule_asked_for_stops_the_run(tiny: Make, tmp_path: Path) -> None:
    recipe = tiny("warmup_share=1.0", "training.updates=200", "evaluation.every_updates=20")
    result = train(recipe, folder=tmp_path / "r", stop_on=["warmup-too-long"])
    if result.summary["stopped_by"] == "updates":
        pytest.skip("the rule warmup-too-long did not find a warm-up as long as the run")
    assert result.summary["stopped_by"] == "finding: warmup-too-long"
    assert result.summary["updates"] < 200
    assert rows(result.folder, "alert")[-1]["rule"] == "warmup-too-long"


def test_two_processes_cannot_write_one_run(tiny: Make, tmp_path: Path) -> None:
    run = train(tiny("training.updates=2"), folder=tmp_path / "r", report=False)
    with locked(run.folder), pytest.raises(UserError, match="is being written by process"):
        train(tiny("training.updates=4"), resume=run.folder, report=False)


def test_bfloat16_is_refused_where_it_is_slower(tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(UserError, match=r"0\.30 times"):
        train(tiny("training.precision=bfloat16", "training.device=cpu"), folder=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_non_finite_numbers_survive_the_record_and_a_torn_line_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write({"event": "update", "a": math.nan, "b": [math.inf, -math.inf], "c": 0.1 + 0.2})
    writer.close()
    assert json.loads(path.read_text()) == {"event": "update", "a": "nan", "b": ["inf", "-inf"], "c": 0.1 + 0.2}
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "upd')
    assert repair_torn_line(path) == 14
    assert path.read_bytes() == whole


def mount(folder: Path, options: str) -> None:
    folder.mkdir(exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a small file system cannot be mounted here ({made.stderr.strip()})")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 24 MB."""
    folder = tmp_path / "disk"
    mount(folder, "size=24m")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_from_what_was_saved(
    tiny: Make, tmp_path: Path, small_disk: Path
) -> None:
    whole = train(tiny(), folder=tmp_path / "whole", report=False).folder
    filler = small_disk / "filler"

    def fill(row: Mapping[str, Any]) -> None:
        if row["event"] == "update" and row["update"] == 12:
            room = os.statvfs(small_disk)
            filler.write_bytes(bytes(room.f_bavail * room.f_bsize - 8192))

    with pytest.raises(UserError, match=r"no space left on device.*--resume") as caught:
        train(tiny(), folder=small_disk / "r", stop_when=fill, report=False)
    assert "Checkpoints written before are intact" in str(caught.value)
    names = {path.name for path in (small_disk / "r" / "checkpoints").iterdir()}
    assert {"update-00000008", "update-00000010"} <= names
    assert not any(name.startswith(".writing") for name in names)
    filler.unlink()
    train(tiny(), resume=small_disk / "r", report=False)
    assert losses(small_disk / "r") == losses(whole)
    assert last_weights(small_disk / "r") == last_weights(whole)


def test_a_folder_that_may_not_be_written_is_one_sentence(tiny: Make, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    if os.geteuid() == 0:
        mount(folder, "size=1m,ro")
    else:
        folder.mkdir(mode=0o555)
    try:
        with pytest.raises(UserError, match="Nothing was trained"):
            train(tiny(), folder=folder / "r")
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_full_from_the_start_leaves_nothing_and_the_same_command_works_later(
    tiny: Make, small_disk: Path
) -> None:
    filler = small_disk / "filler"
    for free in (0, 4096, 8192):  # nothing fits; the lock fits; the tokenizer fits as well
        room = os.statvfs(small_disk)
        filler.write_bytes(bytes(room.f_bavail * room.f_bsize - free))
        with pytest.raises(UserError, match="the same command again"):
            train(tiny(), folder=small_disk / "r", report=False)
        assert {path.name for path in small_disk.iterdir()} == {"filler"}
        filler.unlink()
    assert train(tiny(), folder=small_disk / "r", report=False).summary["updates"] == 24


def test_what_a_kill_at_the_very_start_left_is_used_again_but_not_while_it_goes_on(tiny: Make, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="is not empty"):  # no lock: not ours
        train(tiny(), folder=folder, report=False)
    with locked(folder), pytest.raises(UserError, match="is being written"):
        train(tiny(), folder=folder, report=False)
    assert train(tiny(), folder=folder, report=False).summary["updates"] == 24
