"""transformers' trainer_state.json."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from unstuck.errors import UserError
from unstuck.runs.readers import read_runs


def state(rows: list[dict[str, object]], **more: object) -> str:
    whole = {"best_metric": None, "epoch": 1.0, "global_step": 40, "is_world_process_zero": True, "log_history": rows,
             "max_steps": 600, "num_train_epochs": 1, "train_batch_size": 16, **more}  # fmt: skip
    return json.dumps(whole, indent=2)


ROWS: list[dict[str, object]] = [
    {"epoch": 0.1, "grad_norm": 2.28, "learning_rate": 1.8e-4, "loss": 4.08, "step": 10},
    {"epoch": 0.2, "grad_norm": math.nan, "learning_rate": 3.8e-4, "loss": 0.0, "step": 20},
    {"epoch": 0.2, "eval_loss": 3.9, "eval_accuracy": 0.1, "eval_runtime": 7.2, "step": 20},
    {"epoch": 0.3, "grad_norm": math.inf, "learning_rate": 5.8e-4, "loss": 3.1, "step": 30},
    {"epoch": 0.3, "train_loss": 3.7, "train_runtime": 12.5, "total_flos": 1e15, "step": 30},
]


def write(folder: Path, text: str, name: str = "trainer_state.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_training_and_evaluation_rows_become_series_with_their_lines(tmp_path):
    text = state(ROWS)
    run = read_runs(write(tmp_path, text))[0]
    assert run.format == "hf-trainer-state"
    assert run.series["train/loss"].values.tolist() == [4.08, 0.0, 3.1]
    assert run.series["val/loss"].updates.tolist() == [20]
    assert run.series["val/accuracy"].values.tolist() == [0.1]
    lines = text.splitlines()
    line = int(run.series["val/loss"].lines[0])
    assert lines[line - 1].strip() == "{"
    assert '"eval_loss": 3.9' in "".join(lines[line : line + 4])


def test_nan_and_infinity_survive(tmp_path):
    norm = read_runs(write(tmp_path, state(ROWS)))[0].series["grad_norm/preclip"]
    assert math.isnan(norm.values[1])
    assert norm.values[2] == math.inf


def test_the_summary_row_is_an_event_and_no_point(tmp_path):
    run = read_runs(write(tmp_path, state(ROWS)))[0]
    assert len(run.series["train/loss"]) == 3
    assert "eval_runtime" not in run.series
    assert next(run.events_of("end")).data["train_loss"] == 3.7


def test_the_state_gives_the_planned_updates_where_the_arguments_say_minus_one(tmp_path):
    arguments = {"max_steps": -1, "num_train_epochs": 3, "per_device_train_batch_size": 8, "max_grad_norm": 0.5}
    write(tmp_path, json.dumps(arguments), "training_args.json")
    run = read_runs(write(tmp_path, state(ROWS)))[0]
    assert run.setting("updates") == 600
    assert run.settings["updates"].key == "max_steps"
    assert run.setting("batch_size") == 8
    assert run.setting("clip_norm") == 0.5
    assert run.dialect == "huggingface"


def test_a_torn_file_is_read_as_far_as_its_last_complete_row(tmp_path):
    text = state(ROWS)
    cut = text[: text.index('"loss": 3.1')]
    run = read_runs(write(tmp_path, cut))[0]
    assert run.series["train/loss"].updates.tolist() == [10, 20]
    assert any("torn" in note for note in run.notes)


def test_only_the_newest_of_the_checkpoints_of_one_run_is_read(tmp_path):
    write(tmp_path / "checkpoint-90", state(ROWS[:1]))
    write(tmp_path / "checkpoint-100", state(ROWS))
    runs = read_runs(tmp_path)
    assert len(runs) == 1
    assert "checkpoint-100" in runs[0].source


def test_a_norm_that_stops_at_the_limit_is_the_norm_after_clipping(tmp_path):
    rows = [{"loss": 3.0, "grad_norm": 0.5 if k % 2 else 0.3, "step": k} for k in range(1, 30)]
    write(tmp_path, json.dumps({"max_grad_norm": 0.5, "per_device_train_batch_size": 8}), "training_args.json")
    run = read_runs(write(tmp_path, state(rows)))[0]
    assert "grad_norm/preclip" not in run.series
    assert "grad_norm/postclip" in run.series


def test_an_empty_history_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="nothing was logged yet"):
        read_runs(write(tmp_path, state([])))
