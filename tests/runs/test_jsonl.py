"""JSON lines with any key names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.readers import read_runs


def write(folder: Path, rows: list[Any], name: str = "metrics.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("key", "canonical"),
    [
        ("loss", "train/loss"),
        ("train_loss", "train/loss"),
        ("trainLoss", "train/loss"),
        ("train/loss", "train/loss"),
        ("Training Loss", "train/loss"),
        ("valid.loss", "val/loss"),
        ("eval/loss", "val/loss"),
        ("val_loss", "val/loss"),
        ("lr", "lr/all"),
        ("train/learning_rate", "lr/all"),
        ("lr_body", "lr/body"),
        ("lr-head", "lr/head"),
        ("embed_lr", "lr/embed"),
        ("gnorm", "grad_norm/preclip"),
        ("train/grad_norm", "grad_norm/preclip"),
        ("grad_norm_clipped", "grad_norm/postclip"),
        ("gnorm_head", "grad_norm/preclip/head"),
        ("tok/s", "throughput/tokens_per_second"),
        ("step_time_ms", "time/step_ms"),
        ("eval_books_loss", "val/loss/books"),
    ],
)
def test_key_names_are_inferred(key: str, canonical: str):
    assert names.assign({key: 10})[key].canonical == canonical


@pytest.mark.parametrize(
    "key", ["min_lr", "base_lr", "lr_scale", "loss_scale", "grad_norm_clip", "eval_loss_std", "foo"]
)
def test_names_that_only_look_alike_are_not_claimed(key: str):
    assert key not in names.assign({key: 10})


def test_the_spelling_with_the_most_points_is_the_series():
    given = names.assign({"loss": 100, "train_loss": 1})
    assert given["loss"].canonical == "train/loss"
    assert "train_loss" not in given


def test_nan_and_infinity_survive_as_tokens_and_as_strings(tmp_path):
    rows = [
        '{"step": 1, "loss": NaN}\n',
        '{"step": 2, "loss": "inf"}\n',
        '{"step": 3, "loss": "-Infinity"}\n',
        '{"step": 4, "loss": 2}\n',
    ]
    values = read_runs(write(tmp_path, rows))[0].series["train/loss"].values.tolist()
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, 2.0]


def test_lines_are_remembered_and_torn_lines_left_out_with_a_note(tmp_path):
    rows = [{"step": k, "loss": 3.0 - k / 10} for k in range(5)]
    run = read_runs(write(tmp_path, [rows[0], "\n", rows[1], rows[2], '{"step": 3, "lo']))[0]
    assert run.series["train/loss"].lines.tolist() == [1, 3, 4]
    assert any("1 line that is no JSON object was left out" in note for note in run.notes)


def test_a_first_line_of_configuration_becomes_settings(tmp_path):
    rows: list[Any] = [{"config": {"lr": 0.01, "warmup_steps": 100, "steps": 400, "grad_clip": 1.0}}]
    rows += [{"step": k, "loss": 3.0, "lr": 0.001} for k in range(3)]
    run = read_runs(write(tmp_path, rows))[0]
    assert run.setting("learning_rate") == 0.01
    assert str(run.settings["learning_rate"].source) == "metrics.jsonl:1"
    assert run.setting("clip_norm") == 1.0


def test_nested_objects_lists_of_rates_and_splits_find_their_place(tmp_path):
    rows = [
        {"iter": k, "train": {"loss": 3.0}, "lr": [1e-3, 1e-4], "val": {"loss": 3.1}} for k in range(3)
    ]  # fmt: skip
    run = read_runs(write(tmp_path, rows))[0]
    assert {"train/loss", "val/loss", "lr/0", "lr/1"} <= run.series.keys()
    split = [{"split": "train", "step": 1, "loss": 3.0}, {"split": "val", "step": 1, "loss": 3.2}] * 2
    run = read_runs(write(tmp_path, split, "split.jsonl"))[0]
    assert set(run.series["val/loss"].values.tolist()) == {3.2}
    assert set(run.series["train/loss"].values.tolist()) == {3.0}


def test_a_resume_says_what_changed_and_the_later_rows_count(tmp_path):
    rows: list[Any] = [{"config": {"lr": 0.003, "steps": 500, "warmup_steps": 50}}]
    rows += [{"step": k, "loss": 2.0, "lr": 1e-5} for k in range(0, 501, 10)]
    rows += [
        {"config": {"lr": 0.003, "steps": 1000, "warmup_steps": 0}},
        {"event": "resumed from checkpoint at step 480"},
    ]
    rows += [{"step": k, "loss": 2.5, "lr": 3e-3} for k in range(480, 601, 10)]
    runs = read_runs(write(tmp_path, rows))
    assert len(runs) == 1
    run = runs[0]
    event = next(run.events_of("resume"))
    assert event.update == 480
    assert event.data["changed"] == {"steps": [500, 1000], "warmup_steps": [50, 0]}
    assert run.setting("updates") == 1000
    assert run.series["train/loss"].at(490) == 2.5
    assert run.series["train/loss"].at(470) == 2.0


def test_a_resume_in_rows_per_epoch_stands_at_its_update_and_finds_a_setting_under_another_name(tmp_path):
    rows: list[Any] = [{"epoch": k, "train_loss": 2.0 / k, "lr": 1e-3} for k in (1, 2, 3)]
    rows += [{"message": "resumed", "config": {"lr_max": 0.0002, "bs": 40}}]
    rows += [{"epoch": k, "train_loss": 2.0 / k, "lr": 1e-3} for k in (4, 5, 6)]
    write(tmp_path, [{"max_lr": 0.001, "bs": 40, "n_train": 2000, "n_epochs": 6}], "config.json")
    run = read_runs(write(tmp_path, rows))[0]
    event = next(run.events_of("resume"))
    assert (event.update, event.text) == (200, "resumed")
    assert event.data["changed"] == {"lr_max": [0.001, 0.0002]}
    assert run.setting("learning_rate") == 0.0002  # the log's word, though the file has another for it


def test_steps_that_begin_again_are_another_run(tmp_path):
    rows = [{"step": k, "loss": 3.0} for k in range(0, 50, 10)] + [{"step": k, "loss": 4.0} for k in range(0, 30, 10)]
    runs = read_runs(write(tmp_path, rows))
    assert [len(run.series["train/loss"]) for run in runs] == [5, 3]
    assert runs[1].series["train/loss"].lines.tolist() == [6, 7, 8]


def test_micro_steps_are_converted_only_when_the_accumulation_is_known(tmp_path):
    rows = [{"micro_step": k, "loss": 3.0} for k in range(0, 90, 3)]
    unknown = read_runs(write(tmp_path, rows))[0]
    assert unknown.updates == 87
    assert any("accumulation is unknown" in note for note in unknown.notes)
    known = read_runs(write(tmp_path, [{"config": {"grad_accum": 3, "lr": 1e-3, "batch_size": 4}}, *rows], "b.jsonl"))[
        0
    ]
    assert known.updates == 29
    assert any("divided by 3" in note for note in known.notes)


def test_epochs_are_converted_only_when_the_settings_settle_it(tmp_path):
    rows = [{"epoch": k, "train_loss": 3.0, "val_loss": 3.1} for k in range(1, 5)]
    assert read_runs(write(tmp_path, rows))[0].updates == 4
    known = [{"config": {"train_samples": 100, "batch_size": 8, "grad_accum": 2}}, *rows]
    assert read_runs(write(tmp_path, known, "b.jsonl"))[0].updates == 4 * 7


def test_a_loss_is_the_logarithm_of_a_logged_perplexity(tmp_path):
    run = read_runs(write(tmp_path, [{"step": k, "ppl": math.exp(2.0)} for k in range(3)]))[0]
    assert run.series["train/loss"].values == pytest.approx([2.0] * 3)
    assert any("logarithm" in note for note in run.notes)


def test_json_lines_without_a_loss_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="without a loss"):
        read_runs(write(tmp_path, [{"name": "x", "value": k} for k in range(5)]))
