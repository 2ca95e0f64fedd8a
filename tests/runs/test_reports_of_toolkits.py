"""What toolkits print as one report after the other: dictionaries behind a bracket, tables under a header again and
again, tables whose columns are the phases, nested JSON, and files of options under names of their own.

The forms follow ParlAI's train_model.py (its pull request 1895), AllenNLP's console_logger.py, Ludwig's tables of an
evaluation and MMF's logistics callback; the numbers are made up.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unstuck.config.dialects import canonical_settings
from unstuck.runs import Run, Setting, Source, names
from unstuck.runs.readers import read_runs


def _read(folder: Path, name: str, text: str, *, beside: dict[str, str] | None = None) -> Run:
    for other, content in (beside or {}).items():
        (folder / other).write_text(content)
    (folder / name).write_text(text)
    (run,) = read_runs(folder / name)
    return run


def _points(run: Run, name: str) -> list[tuple[int, float]]:
    series = run.series[name]
    return list(zip(series.updates.tolist(), series.values.tolist(), strict=True))


def test_the_count_that_rises_is_the_step_beside_one_of_each_report(tmp_path: Path) -> None:
    lines = ["[ Main ParlAI Arguments: ] ", "[  batchsize: 32 ]", "[  learningrate: 0.04 ]", "[ training... ]"]
    for at in range(1, 9):
        lines.append(
            f"[ time:{at}.0s total_exs:{480 * at} epochs:{0.04 * at:.2f} time_left:9.0s ] {{'exs': 480, 'mean_loss': "
            f"{2.1 - at / 10:.3f}, 'gnorm': 0.2, 'updates': 15, 'lr': 0.04, 'total_train_updates': {15 * at}}}"
        )
        if at % 4 == 0:
            lines.append("[ running eval: valid ]")
            lines.append(
                f"valid:{{'exs': 96, 'accuracy': 0.5, 'mean_loss': {2.2 - at / 10:.3f}, "
                f"'lr': 0.04, 'total_train_updates': {15 * at}}}"
            )
    run = _read(tmp_path, "train_model.log", "\n".join(lines) + "\n")
    assert _points(run, "train/loss")[:2] == [(15, 2.0), (30, 1.9)]
    assert _points(run, "val/loss") == [(60, 1.8), (120, 1.4)]
    assert "val/accuracy" in run.series
    assert (run.setting("learning_rate"), run.setting("batch_size")) == (0.04, 32)


def test_a_table_below_the_name_of_a_phase_is_of_that_phase(tmp_path: Path) -> None:
    head = "    clip  exs  gnorm  loss      lr   ppl  total_train_updates  ups"
    lines = []
    for at in range(1, 5):
        lines.append(f"16:18:{at}2 INFO | time:{at}0s total_exs:{at * 220} total_steps:{at * 55} epochs:0.0{at}")
        lines.append(head)
        lines.append(f"       1 2200  8.412 {5 - at / 10:.3f} .000050 {90 - at:.2f}                  {at * 55:3d} 5.49")
        lines.append("")
    lines += ["16:18:40 INFO | running eval: valid", "16:18:41 INFO | valid:",
              "    accuracy  bleu-4  exs    f1  loss      lr   ppl  total_train_updates",
              "       .1000   .0003  500 .1230 4.401 .000050 81.53                  220", ""]  # fmt: skip
    run = _read(tmp_path, "parlai.log", "\n".join(lines))
    assert [update for update, _ in _points(run, "train/loss")] == [55, 110, 165, 220]
    assert _points(run, "val/loss") == [(220, 4.401)]
    assert "lr/val" not in run.series


@pytest.mark.parametrize(
    "prefix", ["", "2021-03-01 10:12:10,113 - INFO - allennlp.training.callbacks.console_logger - "]
)
def test_columns_may_be_the_phases(tmp_path: Path, prefix: str) -> None:
    lines = []
    for epoch in range(4):
        lines += [f"{prefix}Epoch {epoch}/3", f"{prefix}                   Training |  Validation",
                  f"{prefix}accuracy       |     0.{5 + epoch}12  |     0.{4 + epoch}51",
                  f"{prefix}gpu_0_memory_MB |  1020.123  |       N/A",
                  f"{prefix}loss           |     0.{9 - epoch}93  |     0.{9 - epoch}99"]  # fmt: skip
    run = _read(tmp_path, "out.log", "\n".join(lines) + "\n")
    assert _points(run, "train/loss") == [(1, 0.993), (2, 0.893), (3, 0.793), (4, 0.693)]
    assert _points(run, "val/accuracy")[-1] == (4, 0.751)


def test_rows_may_be_the_phases(tmp_path: Path) -> None:
    lines = []
    for at in range(1, 4):
        lines += [f"Running evaluation for step: {60 * at}, epoch: {at - 1}", "╒════════════╤════════════╤════════╕",
                  "│ label      │   accuracy │   loss │", "╞════════════╪════════════╪════════╡",
                  f"│ Training   │     0.{at}412 │ 1.{9 - at}123 │", "├────────────┼────────────┼────────┤",
                  f"│ Validation │     0.{at}312 │ 1.{9 - at}623 │",
                  "╘════════════╧════════════╧════════╛"]  # fmt: skip
    run = _read(tmp_path, "ludwig.log", "\n".join(lines) + "\n")
    assert _points(run, "train/loss") == [(60, 1.8123), (120, 1.7123), (180, 1.6123)]
    assert _points(run, "val/loss")[0] == (60, 1.8623)


def test_a_plan_behind_the_numbers_makes_no_summary(tmp_path: Path) -> None:
    row = ("2021-05-01T10:0{at}:00 | mmf.trainers.callbacks.logistics: progress: {at}00/900, train/total_loss: "
           "0.{x}912, train/total_loss/avg: 0.7, max mem: 7000.0, experiment: run, epoch: 1, num_updates: {at}00, "
           "iterations: {at}00, max_updates: 900, lr: 0.0001, ups: 1.47, "
           "time: 01m 08s 001ms, eta: 04h 10m 11s 001ms")  # fmt: skip
    run = _read(tmp_path, "mmf.log", "\n".join(row.format(at=at, x=9 - at) for at in range(1, 7)) + "\n")
    assert _points(run, "train/loss")[:2] == [(100, 0.8912), (200, 0.7912)]
    assert run.series["time/step_ms"].values[0] == pytest.approx(1000 / 1.47)


def test_json_rows_that_name_their_report(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    for at in range(1, 7):
        rows.append({"report": "train", "total_train_updates": 15 * at, "updates": 15, "mean_loss": 2 - at / 10})
        rows.append({"report": "valid", "total_train_updates": 15 * at, "mean_loss": 2.1 - at / 10, "accuracy": 0.5})
    options = json.dumps(
        {"task": "babi", "batchsize": 8, "update_freq": 4, "learningrate": 0.04, "gradient_clip": 40.0}
    )
    text = "\n".join(map(json.dumps, rows)) + "\n"
    run = _read(tmp_path, "model.trainstats.jsonl", text, beside={"model.opt": options})
    assert _points(run, "train/loss")[0] == (15, pytest.approx(1.9))
    assert _points(run, "val/loss")[-1] == (90, pytest.approx(1.5))
    assert "val/accuracy" in run.series
    assert "train/accuracy" not in run.series
    assert (run.setting("accumulation"), run.setting("clip_norm")) == (4, 40.0)


def test_reports_nested_in_a_row(tmp_path: Path) -> None:
    rows = [{"num_updates": 50 * at, "train_report": {"loss": 2.0 / at}, "valid_report": {"loss": 2.1 / at}}
            for at in range(1, 5)]  # fmt: skip
    run = _read(tmp_path, "log.jsonl", "\n".join(map(json.dumps, rows)) + "\n")
    assert _points(run, "train/loss")[1] == (100, 1.0)
    assert _points(run, "val/loss")[0] == (50, 2.1)


def test_options_in_a_row_are_settings_and_a_section_of_numbers_is_not(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"step": at, "loss": 2.0 - at / 10, "opt": {"lr": 0.1}} for at in range(1, 5)]
    assert "lr/all" in _read(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))).series
    told = {"opt": {"optimizer": "sgd", "learningrate": 0.1, "batchsize": 8}}
    rows = [told, *({"step": at, "loss": 2.0 - at / 10} for at in range(1, 5))]
    assert _read(tmp_path, "b.jsonl", "\n".join(map(json.dumps, rows))).setting("learning_rate") == 0.1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("solver.yaml", "lr: 0.1\nbatch_size: 8\nmomentum: 0.9\nmax_steps: 90\nweight_decay: 0.1\n"),
        ("train_opt.txt", "lr: 0.1\nbatch_size: 8\nmax_steps: 90\nweight_decay: 0.1\n"),
        ("run.args", '{"lr": 0.1, "batch_size": 8, "max_steps": 90, "weight_decay": 0.1}'),
        ("train.conf", "[optim]\nlr = 0.1\nweight_decay = 0.1\n[data]\nbatch_size = 8\nmax_steps = 90\n"),
    ],
)  # fmt: skip
def test_the_one_file_of_settings_beside_a_log_counts_whatever_it_is_called(
    tmp_path: Path, name: str, content: str
) -> None:
    rows = "\n".join(json.dumps({"step": at, "loss": 2.0 - at / 10}) for at in range(1, 6)) + "\n"
    run = _read(tmp_path, "metrics.jsonl", rows, beside={name: content, "vocab.json": '{"a": 1, "b": 2}'})
    assert (run.setting("learning_rate"), run.setting("batch_size")) == (0.1, 8)


def test_two_files_of_settings_beside_a_log_are_no_choice(tmp_path: Path) -> None:
    rows = "\n".join(json.dumps({"step": at, "loss": 2.0 - at / 10}) for at in range(1, 6)) + "\n"
    content = "lr: 0.1\nbatch_size: 8\nmax_steps: 90\nweight_decay: 0.1\n"
    run = _read(tmp_path, "metrics.jsonl", rows, beside={"small.yaml": content, "large.yaml": content})
    assert run.setting("learning_rate") is None


def test_names_in_one_word() -> None:
    raw = {key: Setting(value, key, Source("f", 1)) for key, value in (("learningrate", 0.1), ("numepochs", 3))}
    found = canonical_settings(raw, "plain")
    assert (found["learning_rate"].value, found["epochs"].value) == (0.1, 3)


def test_counts_in_several_words() -> None:
    for key in ("total_train_updates", "trainSteps", "train_steps_done", "num_optimizer_updates"):
        assert names.x_axis({key: 9, "loss": 9})[0] == key
    for key in ("eval_steps", "warmup_steps", "step_time", "steps_per_second", "epoch_step"):
        assert names.x_axis({key: 9, "loss": 9})[0] is None
