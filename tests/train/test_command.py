"""`unstuck train` as a process: what is printed, what stops it, and what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train.conftest import Make, last_weights, losses
from unstuck.cli.main import main
from unstuck.errors import UserError
from unstuck.train.run import train

TRAIN = [sys.executable, "-m", "unstuck.cli.main", "train"]


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TRAIN, *words], cwd=cwd, capture_output=True, text=True, check=False)


def begin(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TRAIN, *words], cwd=cwd, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    )


def wait_for(path: Path, size: int, process: subprocess.Popen[str]) -> None:
    """Until the file has `size` bytes."""
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline, f"{path} did not grow"
        time.sleep(0.005)


def test_print_config_needs_no_torch(recipe_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from unstuck.cli.main import main; "
        f"status = main(['train', {str(recipe_file)!r}, 'updates=7', '--print-config']); "
        "sys.exit(status or ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "updates: 7  # from: command line" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "Name a recipe"),
        (("--resume", "nowhere"), "nowhere"),
        (("gpt-char", "--stop-on", "lr-too-hihg"), "did you mean lr-too-high"),
        (("--resume", "x", "--fresh"), "leave out"),
        (("--resume", "x", "gpt-char"), "leave out 'gpt-char'"),
        (("gpt-char", "--resume", "x", "training.updates=9"), "leave out 'gpt-char'"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(words: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not any(tmp_path.iterdir())


def test_json_prints_the_summary_alone(recipe_file: Path, tmp_path: Path) -> None:
    done = run(str(recipe_file), "--json", "training.updates=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["updates"] == 3
    assert done.stderr == ""
    folder = tmp_path / "runs" / "tiny"
    assert (folder / "findings.jsonl").is_file()
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")[:2000].lower()


def test_ctrl_c_saves_and_says_how_to_go_on(tiny: Make, recipe_file: Path, tmp_path: Path) -> None:
    words = ("training.updates=3000", "evaluation.every_updates=3000", "checkpoint.every_updates=null")
    process = begin(str(recipe_file), *words, "--folder", "r", cwd=tmp_path)
    wait_for(tmp_path / "r" / "metrics.jsonl", 6000, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "unstuck train --resume r" in err
    assert "Traceback" not in err
    stopped = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert stopped["stopped_by"] == "user"
    assert (tmp_path / "r" / "checkpoints" / f"update-{stopped['updates']:08d}").is_dir()
    assert "update 1" in err or "before training" in err
    assert "run folder r" in out


def test_killed_at_random_moments_it_ends_in_the_same_weights(tiny: Make, recipe_file: Path, tmp_path: Path) -> None:
    settings = ["training.updates=60", "checkpoint.every_updates=2", "evaluation.every_updates=30"]
    whole = train(tiny(*settings), folder=tmp_path / "whole", report=False).folder
    folder = tmp_path / "killed"
    draw = random.Random(3)
    begin_words = [str(recipe_file), *settings, "--folder", str(folder), "--quiet"]
    for _ in range(2):
        words = ["--resume", str(folder), "--quiet"] if (folder / "config.yaml").exists() else begin_words
        size = (folder / "metrics.jsonl").stat().st_size if (folder / "metrics.jsonl").exists() else 0
        process = begin(*words, cwd=tmp_path)
        wait_for(folder / "metrics.jsonl", size + 1, process)
        time.sleep(draw.random() * 0.3)
        process.kill()
        process.communicate()
    train(tiny(*settings), resume=folder, report=False)
    assert losses(folder) == losses(whole)
    assert last_weights(folder) == last_weights(whole)


def test_an_update_larger_than_the_text_is_refused_before_a_folder_is_made(recipe_file: Path, tmp_path: Path) -> None:
    done = run(str(recipe_file), "training.batch_size=99999999", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()
    largest = done.stderr.split()[-1]
    assert run(str(recipe_file), largest, "training.updates=1", "--quiet", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_no_memory_is_a_sentence_with_a_smaller_batch(
    tiny: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("unstuck.train.loop.one_update", full)
        with pytest.raises(UserError, match=r"--resume \S+ training\.batch_size=2 training\.accumulation=2"):
            train(tiny(), folder=tmp_path / "r", report=False)
    train(tiny("training.batch_size=2", "training.accumulation=2"), resume=tmp_path / "r", report=False)
    assert max(losses(tmp_path / "r")) == 24


@pytest.mark.parametrize("name", ["nofile", "some.bin", "folder", "folder/checkpoints"])
def test_resume_of_what_is_no_run_names_what_it_wants(name: str, tmp_path: Path) -> None:
    (tmp_path / "some.bin").write_bytes(bytes(2 << 20))
    (tmp_path / "folder" / "checkpoints").mkdir(parents=True)
    done = run("--resume", name, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{name} " in done.stderr
    assert "name a run folder that `unstuck train` made" in done.stderr


def test_a_file_as_the_run_folder_is_called_a_file(recipe_file: Path, tmp_path: Path) -> None:
    before = recipe_file.read_bytes()
    for fresh in ((), ("--fresh",)):
        done = run(str(recipe_file), "--folder", recipe_file.name, *fresh, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"{recipe_file.name} is a file" in done.stderr
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_a_run_folder_as_the_recipe_starts_a_new_run_and_says_so(tiny: Make, tmp_path: Path) -> None:
    first = train(tiny("training.updates=2"), report=False).folder
    record = (first / "metrics.jsonl").read_bytes()
    done = run(str(first), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    opening, folder = done.stderr.splitlines()[:2]
    assert "starts a new one with its settings" in opening
    assert opening.endswith(f": unstuck train --resume {first}")
    assert folder == f"Run folder: {first}-2"
    assert (first / "metrics.jsonl").read_bytes() == record
    assert "starts a new one" not in run("--resume", str(first), "training.updates=3", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ((), "generate"),
        (("task.kind=masked", "model.architecture=ltg-bert", "data.tokenizer=wordpiece"), "evaluate"),
    ],
)
def test_the_end_of_a_run_names_commands_that_work_on_it(
    changes: tuple[str, ...], command: str, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my run"
    words = ["train", str(recipe_file), "training.updates=2", *changes, "--folder", str(folder)]
    assert main(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Next: unstuck diagnose '{folder}', or unstuck {command} '{folder}'"
    for named in last.removeprefix("Next: ").split(", or "):
        assert main(shlex.split(named)[1:]) in (0, 1, 3), named
    capsys.readouterr()
    assert main([*words, "--fresh", "--quiet"]) == 0
    assert "Next" not in capsys.readouterr().out
