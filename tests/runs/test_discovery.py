"""What is read is decided by content, and what cannot be read is refused in one sentence."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from unstuck.errors import UserError
from unstuck.runs.readers import read_runs

NANOGPT = "step 0: train loss 4.3, val loss 4.3\n" + "".join(
    f"iter {k}: loss {4 - k / 100}, time 17.44ms, mfu 9.49%\n" for k in range(0, 100, 10)
)
METRICS = "".join(json.dumps({"step": k, "loss": 3.0 - k / 10}) + "\n" for k in range(8))


def refuse(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_runs(path)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_format_is_told_by_content_whatever_the_name(tmp_path):
    (tmp_path / "weights.csv").write_text(NANOGPT)
    (tmp_path / "notes.txt").write_text(METRICS)
    assert read_runs(tmp_path / "weights.csv")[0].format == "nanogpt-text"
    run = read_runs(tmp_path / "notes.txt")[0]
    assert run.format == "jsonl-metrics"
    assert 0.5 < run.format_confidence <= 1
    assert run.notes[0].startswith("Read as jsonl-metrics (")


def test_gzip_is_read_and_a_torn_gzip_as_far_as_it_goes(tmp_path):
    whole = gzip.compress(NANOGPT.encode() * 200)
    (tmp_path / "whole.log.gz").write_bytes(whole)
    (tmp_path / "torn.log.gz").write_bytes(whole[: len(whole) // 2])
    assert read_runs(tmp_path / "whole.log.gz")[0].series["train/loss"].updates[-1] == 90
    assert read_runs(tmp_path / "torn.log.gz")[0].series["train/loss"].updates[-1] == 90


def test_missing_empty_binary_and_foreign_files_are_refused(tmp_path):
    assert "does not exist" in refuse(tmp_path / "nothing.log")
    (tmp_path / "empty.log").write_text("")
    assert "is empty" in refuse(tmp_path / "empty.log")
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)) * 50)
    assert "binary" in refuse(tmp_path / "weights.bin")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    assert "pickle" in refuse(tmp_path / "model.pkl")
    (tmp_path / "prose.txt").write_text("It was a dark and stormy night; the loss was great.\n" * 20)
    assert "in no format that unstuck reads" in refuse(tmp_path / "prose.txt")


def test_special_files_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.log")
    assert "not a regular file" in refuse(tmp_path / "pipe.log")


def test_a_folder_without_a_log_is_refused(tmp_path):
    assert "holds no log" in refuse(tmp_path)
    (tmp_path / "a.txt").write_text("prose\n" * 9)
    assert "1 file looked at" in refuse(tmp_path)


def test_a_folder_is_searched_and_what_is_no_log_is_passed_over(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "train.log").write_text(NANOGPT)
    (tmp_path / "metrics.txt").write_text(METRICS)
    (tmp_path / "weights.bin").write_bytes(bytes(1000))
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert sorted(run.format for run in read_runs(tmp_path)) == ["jsonl-metrics", "nanogpt-text"]


def test_a_log_of_a_folder_that_nobody_can_read_is_named(tmp_path):
    (tmp_path / "good.log").write_text(NANOGPT)
    (tmp_path / "bad.log").write_text("this and that\nwas said\n" * 20)
    (tmp_path / "README.txt").write_text("about these runs\n")
    (run,) = read_runs(tmp_path)
    assert run.notes[0] == "Not read, in no format that unstuck knows: bad.log."


def test_a_configuration_that_was_changed_since_is_said_to_be(tmp_path):
    log, config = tmp_path / "train.log", tmp_path / "config.yaml"
    log.write_text(NANOGPT)
    config.write_text("learning_rate: 0.001\n")
    (tmp_path / "config.yaml.bak").write_text("learning_rate: 0.1\n")
    os.utime(log, (1_700_000_000, 1_700_000_000))
    assert any("config.yaml was changed after the log was written" in note for note in read_runs(log)[0].notes)
    os.utime(config, (1_600_000_000, 1_600_000_000))
    assert not any("was changed after" in note for note in read_runs(log)[0].notes)


def test_a_huge_line_is_refused(tmp_path):
    (tmp_path / "m.jsonl").write_text(METRICS + '{"step": 9, "blob": "' + "x" * (9 << 20) + '"}\n')
    assert "single line" in refuse(tmp_path / "m.jsonl")


def test_deep_nesting_and_giant_numbers_are_no_crash(tmp_path):
    (tmp_path / "m.jsonl").write_text(
        METRICS + '{"step": 9, "loss": ' + "[" * 100_000 + "\n" + '{"step": 1' + "0" * 5000 + ', "loss": 1}\n'
        '{"step": 1' + "0" * 400 + ', "loss": 1' + "0" * 400 + "}\n"
    )  # fmt: skip
    assert read_runs(tmp_path / "m.jsonl")[0].updates == 7
    (tmp_path / "trainer_state.json").write_text('{"global_step": 1, "epoch": 1, "log_history": [' + '{"a":[' * 50_000)
    assert "trainer_state.json" in refuse(tmp_path / "trainer_state.json")


def test_the_configuration_beside_the_log_is_found_by_the_logs_name(tmp_path):
    (tmp_path / "run_1.jsonl").write_text(METRICS)
    (tmp_path / "run_2.jsonl").write_text(METRICS)
    (tmp_path / "run_1.config.json").write_text('{\n "lr": 0.25,\n "batch_size": 4\n}')
    (tmp_path / "run_2.hparams.yaml").write_text("lr: 0.5\nbatch_size: 8\n")
    first, second = read_runs(tmp_path)
    assert (first.setting("learning_rate"), second.setting("learning_rate")) == (0.25, 0.5)
    assert first.settings["learning_rate"].source.line == 2
    assert first.settings["learning_rate"].key == "lr"


def test_a_shared_configuration_is_not_guessed_onto_one_of_several_logs(tmp_path):
    (tmp_path / "a.jsonl").write_text(METRICS)
    (tmp_path / "config.json").write_text('{"lr": 0.25}')
    assert read_runs(tmp_path / "a.jsonl")[0].setting("learning_rate") == 0.25
    (tmp_path / "b.jsonl").write_text(METRICS)
    run = read_runs(tmp_path / "a.jsonl")[0]
    assert run.setting("learning_rate") is None
    assert any("--config" in note for note in run.notes)


def test_a_configuration_that_was_named_must_be_readable_and_one_that_was_found_need_not(tmp_path):
    (tmp_path / "a.jsonl").write_text(METRICS)
    (tmp_path / "a.config.json").write_text("{ not json")
    run = read_runs(tmp_path / "a.jsonl")[0]
    assert any("left out" in note for note in run.notes)
    with pytest.raises(UserError):
        read_runs(tmp_path / "a.jsonl", config=tmp_path / "a.config.json")
    with pytest.raises(UserError, match="is no file"):
        read_runs(tmp_path / "a.jsonl", config=tmp_path / "missing.json")


def test_nothing_beside_a_log_is_executed(tmp_path):
    (tmp_path / "a.jsonl").write_text(METRICS)
    marker = tmp_path / "executed"
    (tmp_path / "a.config.py").write_text(f"open({str(marker)!r}, 'w')\nlearning_rate = 0.1\nmax_iters = 2\n")
    run = read_runs(tmp_path / "a.jsonl")[0]
    assert run.setting("learning_rate") == 0.1
    assert not marker.exists()


def test_reading_imports_neither_torch_nor_plotly_nor_pydantic():
    code = "import sys, unstuck.runs.readers as r; r.all_readers(); "
    code += "print({'torch', 'plotly', 'pydantic'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
