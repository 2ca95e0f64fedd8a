"""The command line as a new user meets it: fast help, and one sentence for every mistake."""

from __future__ import annotations

import ast
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from unstuck import __version__
from unstuck.cli.main import OS_ERRORS, command_files, main, one_line_help
from unstuck.diagnose.engine import all_rules


def unstuck(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "unstuck.cli.main", *words], capture_output=True, text=True, cwd=cwd)


def test_help_lists_every_command_and_imports_nothing_heavy():
    code = (
        "import sys; from unstuck.cli.main import main; status = main(['--help'])\n"
        "print(status, sorted({'torch', 'numpy', 'plotly', 'pydantic', 'rich', 'yaml', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    for name in command_files():
        assert f"\n  {name} " in done.stdout


def test_help_answers_in_well_under_a_second():
    """In processor time of the whole process, interpreter included: wall time depends on what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert unstuck("--help").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("name", command_files())
def test_every_command_has_a_line_an_example_and_help_without_torch(name: str):
    assert one_line_help(command_files()[name]).endswith(".")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from unstuck.cli.main import main; main(['{name}', '--help'])\n"
         "assert not {'torch', 'plotly'} & set(sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"Usage: unstuck {name}" in done.stdout
    assert f"unstuck {name}" in done.stdout.split("Example:")[1]


def test_no_command_imports_at_its_top_what_only_its_work_needs():
    light = {"__future__", "typer", "unstuck.errors", *sys.stdlib_module_names}
    for path in command_files().values():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n not in light and n.split(".")[0] not in light], path


MISTAKES = {
    "a misspelt command": (["diagnos", "x.log"], "There is no command 'diagnos'; did you mean `unstuck diagnose`?"),
    "an unknown command": (["frobnicate"], "There is no command 'frobnicate'. See `unstuck --help`."),
    "an option before the command": (["--json", "diagnose"], "There is no option --json before the command."),
    "a misspelt option": (["rules", "--jsn"], "`unstuck rules` has no option --jsn; did you mean --json?"),
    "an unknown option": (["rules", "--frob"], "`unstuck rules` has no option --frob. See `unstuck rules --help`."),
    "an option that only its dashes make alike": (
        ["train", "gpt-char", "--out", "x"],
        "`unstuck train` has no option --out. See `unstuck train --help`.",
    ),
    "a missing argument": (["fix"], "Missing argument 'RUN'. See `unstuck fix --help`."),
    "too many arguments": (["rules", "a", "b"], "Got unexpected extra argument(s) (b). See `unstuck rules --help`."),
    "an unknown rule": (["rules", "lr-too-hihg"], "did you mean `unstuck rules lr-too-high`?"),
    "a missing file": (["diagnose", "missing.log"], "missing.log"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_with_the_next_step(mistake: str, capsys: pytest.CaptureFixture[str]):
    words, expected = MISTAKES[mistake]
    assert main(words) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert said.err.startswith("unstuck: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_path_for_a_command_leads_to_diagnose(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "train.log").touch()
    assert main([str(tmp_path / "train.log")]) == 2
    assert f"unstuck diagnose {tmp_path / 'train.log'}" in capsys.readouterr().err


def test_version_and_no_arguments():
    assert unstuck("--version").stdout == f"unstuck {__version__}\n"
    assert unstuck().stdout == unstuck("help").stdout == unstuck("-h").stdout
    assert "Usage: unstuck rules" in unstuck("help", "rules").stdout


def command_that(folder: Path, body: str) -> list[str]:
    """A real process whose only command does this."""
    (folder / "naughty.py").write_text(f'"""Do it."""\n\ndef command() -> None:\n    """Do it."""\n{body}\n')
    code = (
        "import sys; from pathlib import Path; import unstuck.cli, unstuck.cli.main as m\n"
        f"unstuck.cli.__path__.append({str(folder)!r}); m.COMMANDS_FOLDER = Path({str(folder)!r})\n"
        "sys.exit(m.main(['naughty']))"
    )
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EISDIR])
def test_what_the_machine_refuses_is_one_sentence_naming_the_file(tmp_path: Path, number: int):
    body = f"    raise OSError({number}, 'no', 'runs/x/metrics.jsonl')"
    done = subprocess.run(command_that(tmp_path, body), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"unstuck: runs/x/metrics.jsonl: {OS_ERRORS[number]}.\n"


def test_a_fault_of_ours_keeps_its_traceback(tmp_path: Path):
    done = subprocess.run(command_that(tmp_path, "    raise ZeroDivisionError"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path):
    body = "    raise ModuleNotFoundError('no', name='torch._C')"
    done = subprocess.run(command_that(tmp_path, body), capture_output=True, text=True)
    assert done.returncode == 2
    assert "pip install 'unstuck[train]'" in done.stderr


def test_ctrl_c_is_one_sentence_and_status_2(tmp_path: Path):
    body = "    import sys, time\n    print('ready', flush=True)\n    time.sleep(30)"
    process = subprocess.Popen(command_that(tmp_path, body), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "stopped by Ctrl-C" in said
    assert "Traceback" not in said


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path):
    lines = "    for _ in range(100_000):\n        print('x' * 80)"
    process = subprocess.Popen(command_that(tmp_path, lines), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    os.close(process.stdout.fileno())
    process.stdout = None
    said = process.stderr.read()
    process.wait(timeout=20)
    process.stderr.close()
    assert said == b""


def test_a_command_returns_its_status(tmp_path: Path):
    for body, status in (("    return 3", 3), ("    return None", 0), ("    import typer; raise typer.Exit(3)", 3)):
        assert subprocess.run(command_that(tmp_path, body)).returncode == status


def test_rules_shows_the_catalogue_and_one_rule(capsys: pytest.CaptureFixture[str]):
    assert main(["rules", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["rules"]
    assert [rule["name"] for rule in listed] == list(all_rules())
    assert main(["rules"]) == 0
    table = capsys.readouterr().out
    assert all(rule["code"] in table for rule in listed)
    for name in ("overfitting", "GE001"):
        assert main(["rules", name]) == 0
        assert "Why it matters" in capsys.readouterr().out


def test_a_file_that_may_not_be_read_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    recipe = tmp_path / "my.yaml"
    recipe.write_text("seed: 1\n", encoding="utf-8")

    def refused(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(recipe))

    monkeypatch.setattr(Path, "read_text", refused)  # the tests may run as root, who reads everything
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main(["train", str(recipe), "--print-config"]) == 2
    said = capsys.readouterr().err
    assert f"{recipe}: permission denied: it cannot be read" in said
    assert "write" not in said


@pytest.mark.parametrize("width", [40, 60, 100])
def test_the_rules_wrap_to_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("COLUMNS", str(width))
    for words in (["rules"], ["rules", "lr-too-high"]):
        assert main(words) == 0
        said = capsys.readouterr().out
        # Only a single long word (an address, a pattern) may be longer than the line.
        assert not [line for line in said.splitlines() if len(line) > width and " " in line.strip()]
    assert "Why it matters\n" in said
