"""`unstuck diagnose` as a user runs it: a real process, its exit status, what it prints and where."""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unstuck.cli.main import main

LOGS = Path(__file__).resolve().parents[3] / "shared" / "logs"


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "unstuck.cli.main", "diagnose", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def nanogpt(path: Path, val: list[float], train: list[float]) -> Path:
    lines = ["found vocab_size = 65 (inside data/shakespeare_char/meta.pkl)", "Initializing a new model from scratch"]
    noise = np.random.default_rng(1).normal(0, 0.02, (len(train), 10))
    for k, (v, t) in enumerate(zip(val, train, strict=True)):
        lines.append(f"step {250 * k}: train loss {t:.4f}, val loss {v:.4f}")
        lines += [f"iter {250 * k + 25 * j}: loss {t + noise[k, j]:.4f}, time 35.00ms, mfu 9.00%" for j in range(10)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def healthy(path: Path) -> Path:
    falling = [1.3 + 2.87 * math.exp(-k / 3) for k in range(24)]
    return nanogpt(path, [v + 0.03 for v in falling], falling)


def overfitted(path: Path) -> Path:
    train = [0.4 + 3.7 * math.exp(-k / 6) for k in range(24)]
    return nanogpt(path, [max(4.17 * math.exp(-k / 4), 1.5) + 0.03 * max(0, k - 7) for k in range(24)], train)


def short(path: Path) -> Path:
    path.write_text("step 0: train loss 4.1807, val loss 4.1787\niter 0: loss 4.1853, time 35.00ms, mfu -100.00%\n")
    return path


def piped(log: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "unstuck.cli.main", "diagnose", "-", *words]
    return subprocess.run(command, input=log, capture_output=True, timeout=60)


def test_a_log_through_standard_input_is_diagnosed_as_its_file_is(tmp_path):
    path = overfitted(tmp_path / "s.log")
    told = piped(path.read_bytes(), "--json")
    assert told.returncode == 1
    (piped_run,) = json.loads(told.stdout)["runs"]
    (of_file,) = json.loads(run(path, "--json").stdout.replace("s.log:", "stdin:"))["runs"]
    assert piped_run["findings"] == of_file["findings"]
    assert piped_run["source"] == "stdin"


def test_standard_input_without_a_log_is_refused_in_one_sentence():
    told = piped(b"")
    assert told.returncode == 2
    assert told.stderr.startswith(b"unstuck: Standard input is empty")
    assert told.stderr.count(b"\n") == 1


def test_exit_status_says_the_verdict(tmp_path):
    assert run(healthy(tmp_path / "h.log")).returncode == 0
    assert run(overfitted(tmp_path / "s.log")).returncode == 1
    assert run(short(tmp_path / "u.log")).returncode == 3


def test_of_several_runs_the_worst_counts(tmp_path, capsys):
    well, sick, unclear = healthy(tmp_path / "h.log"), overfitted(tmp_path / "s.log"), short(tmp_path / "u.log")
    assert main(["diagnose", str(well), str(unclear)]) == 3
    assert main(["diagnose", str(well), str(unclear), str(sick)]) == 1
    capsys.readouterr()
    assert main(["diagnose", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 runs: 1 sick, 1 undetermined, 1 healthy."
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["healthy", "h.log", "-"], ["sick", "s.log", "overfitting"], ["undetermined", "u.log", "-"],
    ]  # fmt: skip


@pytest.mark.parametrize("words", [["nothing.log"], [], ["--config"], ["--jsn", "x"]])
def test_wrong_usage_is_one_sentence_on_standard_error_and_status_2(words):
    result = run(*words)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("unstuck: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("content", [b"", bytes(range(256)) * 20, b"once upon a time\n" * 50])
def test_unreadable_files_are_one_sentence_and_status_2(tmp_path, content):
    path = tmp_path / "x.log"
    path.write_bytes(content)
    result = run(path)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)


def test_json_is_one_document_and_nothing_else(tmp_path):
    result = run(overfitted(tmp_path / "s.log"), "--json")
    document = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"bare {name}"))
    assert result.stderr == ""
    assert result.returncode == 1
    one = document["runs"][0]
    assert one["verdict"] == "sick"
    assert one["format"] == "nanogpt-text"
    assert {"name": "val/loss", "points": 24, "unit": "nats/token"} in one["series"]
    first = one["findings"][0]
    assert (first["rule"], first["code"], first["rank"], first["because_of"]) == ("overfitting", "GE001", 1, None)
    assert first["evidence"][0]["source"].startswith("s.log:")
    assert {"series", "updates", "statistic", "value", "threshold", "source"} <= first["evidence"][0].keys()
    assert all({"rule", "missing"} == set(entry) for entry in one["could_not_check"])
    for remedy in first["remedies"]:
        assert {"summary", "safety", "patch"} <= remedy.keys()
        assert all({"key", "old", "new"} <= change.keys() for change in remedy["patch"])


def test_json_holds_non_finite_numbers_as_strings(tmp_path):
    path = tmp_path / "m.jsonl"
    losses = [3.0 - k / 100 for k in range(50)] + [math.nan] * 50
    path.write_text("".join(json.dumps({"step": k, "loss": loss}) + "\n" for k, loss in enumerate(losses)))
    result = run(path, "--json")
    json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"bare {name}"))
    assert result.returncode == 1


def test_terminal_output_starts_with_the_verdict_and_shows_plot_evidence_and_confidence(tmp_path):
    result = run(overfitted(tmp_path / "s.log"), COLUMNS="100")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("SICK: ")
    assert any("⠉" <= character <= "⣿" for character in result.stdout)
    assert "GE001 overfitting" in " ".join(result.stdout.split())
    assert "s.log:" in result.stdout
    assert any(line.strip().startswith("sure") for line in lines)
    assert max(len(line) for line in lines) <= 100


def test_output_is_plain_when_it_is_not_a_terminal(tmp_path):
    result = run(overfitted(tmp_path / "s.log"))
    assert "\x1b" not in result.stdout
    assert all(len(line) <= 80 and line == line.rstrip() for line in result.stdout.splitlines())


def test_a_name_with_terminal_codes_in_it_cannot_reach_the_terminal(tmp_path):
    result = run(overfitted(tmp_path / "a\x1b]0;title\x07.log"))
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout


def test_html_report_is_written_and_opens_offline(tmp_path):
    report = tmp_path / "report.html"
    result = run(overfitted(tmp_path / "s.log"), "--html", report)
    assert result.returncode == 1
    assert report.stat().st_size > 10_000
    assert "https://cdn" not in report.read_text(encoding="utf-8")


def test_diagnosis_neither_imports_torch_nor_plotly(tmp_path):
    path = overfitted(tmp_path / "s.log")
    code = (
        "import sys; from unstuck.cli.main import main; status = main(['diagnose', sys.argv[1], '--json']); "
        "print(sorted({'torch', 'plotly', 'transformers'} & set(sys.modules)), file=sys.stderr); sys.exit(status)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert result.stderr.strip() == "[]"
    assert result.returncode == 1


@pytest.mark.skipif(not LOGS.is_dir(), reason="../shared/logs is not on this machine")
def test_every_labelled_log_is_read_or_refused_in_a_sentence():
    from unstuck.diagnose.document import document
    from unstuck.diagnose.engine import diagnose
    from unstuck.errors import UserError
    from unstuck.runs import Run
    from unstuck.runs.readers import read_runs

    formats = {
        "nanogpt_stdout": "nanogpt-text",
        "hf_trainer_state": "hf-trainer-state",
        "jsonl_metrics": "jsonl-metrics",
    }
    for folder in (LOGS, LOGS / "generated"):
        for label in json.loads((folder / "labels.json").read_text(encoding="utf-8")):
            runs: list[Run] = []
            if label["format"] in formats:
                runs = read_runs(folder / label["file"])
            else:
                with contextlib.suppress(UserError):
                    read_runs(folder / label["file"])
            if runs:
                assert [run.format for run in runs] == [formats[label["format"]]] * label.get("runs", 1)
                json.dumps(document([diagnose(run) for run in runs]), allow_nan=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_cannot_show_every_character_gets_the_whole_report(tmp_path, encoding):
    result = run(overfitted(tmp_path / "a→b.log"), PYTHONIOENCODING=encoding)
    assert result.returncode == 1
    assert result.stderr == ""
    assert "sure" in result.stdout


def test_one_unreadable_path_does_not_keep_the_others_from_their_diagnosis(tmp_path):
    bad, good, report = tmp_path / "missing.log", overfitted(tmp_path / "s.log"), tmp_path / "r.html"
    result = run(bad, good, "--html", report)
    assert result.returncode == 2
    assert "GE001 overfitting" in " ".join(result.stdout.split())
    assert result.stderr.startswith("unstuck: ")
    assert result.stderr.count("\n") == 1
    assert str(bad) in result.stderr
    assert report.is_file()
    result = run(bad, good, "--json")
    assert result.returncode == 2
    document = json.loads(result.stdout)
    assert [one["source"] for one in document["runs"]] == [str(good)]
    (error,) = document["errors"]
    assert error["path"] == str(bad)
    assert f"unstuck: {error['error']}\n" == result.stderr
    assert json.loads(run(good, "--json").stdout)["errors"] == []


def test_a_path_that_may_not_be_read_does_not_either(tmp_path, monkeypatch, capsys):
    bad, good = short(tmp_path / "u.log"), overfitted(tmp_path / "s.log")
    access = os.access  # the tests may run as root, who reads everything: refuse it as the system would
    monkeypatch.setattr(os, "access", lambda path, mode, **more: str(path) != str(bad) and access(path, mode, **more))
    opened = builtins.open

    def refusing(file, *words, **more):
        if str(file) == str(bad):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *words, **more)

    monkeypatch.setattr(builtins, "open", refusing)
    monkeypatch.setattr(io, "open", refusing)
    assert main(["diagnose", str(bad), str(good)]) == 2
    said = capsys.readouterr()
    assert "GE001 overfitting" in said.out
    assert str(bad) in said.err
    assert "read" in said.err
    assert said.err.count("\n") == 1


def unfinished(path: Path) -> Path:
    rng = np.random.default_rng(1)
    rows = [f"iter {i}: loss {1.6 + 2.6 * (1 + i / 60) ** -0.6 + rng.normal(0, 0.02):.4f}, time 251.00ms, mfu 40%\n"
            for i in range(0, 1500, 10)]  # fmt: skip
    path.write_text("max_iters = 5000\nlearning_rate = 1e-3\n" + "".join(rows), encoding="utf-8")
    return path


def test_an_unfinished_run_is_projected_to_its_end_and_to_a_loss_that_is_asked_for(tmp_path: Path) -> None:
    log = unfinished(tmp_path / "train.log")
    printed = run(log, "--target", "1.8").stdout
    assert "On this course the training loss comes to 1." in printed
    assert "at update 5,000 (80% between" in printed
    assert "At this rate 1.8 is reached in" in printed
    (told,) = json.loads(run(log, "--target", "0.3", "--json").stdout)["runs"]
    ahead = told["projection"]
    assert ahead["update"] == 5000
    assert ahead["low"] < 1.6 + 2.6 * (1 + 5000 / 60) ** -0.6 < ahead["high"]
    assert "not reached: the fitted floor" in told["reach"]


def test_a_loss_that_nothing_can_be_said_of_says_why(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"iter {i}: loss {4 - i / 100:.4f}, time 9ms, mfu 1%\n" for i in range(5)), encoding="utf-8")
    (told,) = json.loads(run(log, "--target", "3", "--json").stdout)["runs"]
    assert told["projection"] is None
    assert told["reach"].startswith("3: ")


def test_a_loss_that_was_passed_is_told_with_its_update(tmp_path: Path) -> None:
    (told,) = json.loads(run(unfinished(tmp_path / "train.log"), "--target", "3", "--json").stdout)["runs"]
    assert told["reach"].startswith("3 was reached at update ")


def test_the_command_that_makes_the_change_names_the_configuration_that_was_given(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "my args.json").write_text(
        '{"max_steps": 2000, "learning_rate": 0.001}', encoding="utf-8"
    )
    path, config = overfitted(tmp_path / "s.log"), tmp_path / "elsewhere" / "my args.json"
    told = run(path, "--config", str(config)).stdout
    command = next(line for line in told.splitlines() if line.startswith("To make the change: "))
    assert command.endswith(f"unstuck fix {path} --config '{config}'")
