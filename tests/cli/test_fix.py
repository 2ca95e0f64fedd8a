"""`unstuck fix`: the root cause's change in the user's own file and words, written only on request and safely."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from unstuck import ledger
from unstuck.cli.main import main
from unstuck.config.files import read_settings_file
from unstuck.config.recipe import load_recipe

UPDATES = 300


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own: the ledger of a foreign run's change is in `runs` of the working folder."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


def cosine(update: int, horizon: int) -> float:
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, update / horizon)))


def loss(update: int) -> float:
    return 1.5 + 2.7 * math.exp(-update / 60) + 0.02 * math.sin(12.9 * update)


def run_folder(folder: Path, *overrides: str, horizon: int = UPDATES) -> Path:
    """A run folder as the loop writes it, of a run whose schedule spans `horizon` updates."""
    folder.mkdir(parents=True)
    settings = ["schedule=cosine", "warmup_share=null", "warmup_updates=0", "schedule.floor=0.05", *overrides]
    recipe = load_recipe("gpt-char", [*settings, f"training.updates={UPDATES}", f"schedule.horizon_updates={horizon}"])
    (folder / "config.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    rate = recipe.config.optimizer.learning_rate
    rows: list[dict[str, Any]] = [
        {"event": "start", "time": 0, "unstuck": "0.1.0", "updates": UPDATES, "vocabulary": 96, "parameters": 800_000,
         "unigram_entropy": 3.3, "train_tokens": 10**6, "micro_batches_per_update": 1, "derived": {},
         "groups": {"all": {"algorithm": "adamw", "base_lr": rate, "lr_factor": 1.0, "parameters": 800_000}}},
        {"event": "evaluation", "update": 0, "val/loss": 4.56, "val/tokens": 10_000},
    ]  # fmt: skip
    for update in range(1, UPDATES + 1):
        lr = rate * cosine(update - 1, horizon)
        rows.append(
            {"event": "update", "update": update, "train/loss": loss(update), "lr/all": lr, "tokens": 768 * update}
        )
    rows.append({"event": "end", "stopped_by": "updates"})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def nanogpt_run(folder: Path, horizon: int = 3000) -> tuple[Path, Path]:
    """A nanoGPT log of 300 updates with its config beside it; lines as train.py prints them."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "run.config.py"
    config.write_text(
        "# small\nlearning_rate = 1e-3\nmax_iters = 300\n"
        f"lr_decay_iters = {horizon}  # as in the big run\nwarmup_iters = 0\nmin_lr = 5e-5\n"
        "block_size = 64\nbatch_size = 12\ngradient_accumulation_steps = 1\neval_interval = 100\n",
        encoding="utf-8",
    )
    lines = []
    for update in range(0, UPDATES + 1, 10):
        if update % 100 == 0:
            lines.append(f"step {update}: train loss {loss(update):.4f}, val loss {loss(update) + 0.05:.4f}")
        lines.append(f"iter {update}: loss {loss(update):.4f}, time 40.00ms, mfu 1.00%")
    log = folder / "run.log"
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return log, config


def test_a_run_of_ours_gets_a_recipe_that_trains_with_the_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_folder(tmp_path / "gpt-char", horizon=3 * UPDATES)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert main(["fix", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "SC004 schedule-wrong-horizon" in shown or "LR003 lr-not-as-configured" in shown
    assert "-  horizon_updates: 900" in shown
    assert "+  horizon_updates: 300" in shown
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before, "showing writes nothing"
    assert main(["fix", str(folder), "--apply"]) == 0
    said = capsys.readouterr().out
    assert f"unstuck train {folder / 'fixed.yaml'}" in said
    assert "schedule.horizon_updates came from: command line" in said
    fixed, old = load_recipe(folder / "fixed.yaml"), load_recipe(folder)
    assert fixed.config.schedule.horizon_updates == UPDATES
    assert fixed.with_changes({"horizon_updates": 900}, "").config == old.config, "nothing else changed"
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "fixed.yaml"} == before, "the record stays"


def test_the_fixed_recipe_has_nothing_left_to_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_folder(tmp_path / "healthy")
    assert main(["fix", str(folder), "--apply"]) == 0
    assert "Nothing to fix" in capsys.readouterr().out
    assert not (folder / "fixed.yaml").exists()


def test_a_nanogpt_config_is_changed_in_its_line_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log, config = nanogpt_run(tmp_path)
    old = config.read_text(encoding="utf-8")
    config.chmod(0o640)
    assert main(["fix", str(log), "--apply"]) == 0
    said = capsys.readouterr().out
    assert "-lr_decay_iters = 3000  # as in the big run" in said
    assert "+lr_decay_iters = 300  # as in the big run" in said
    assert "--lr_decay_iters=300" in said
    assert config.read_text(encoding="utf-8") == old.replace("3000", "300")
    assert (tmp_path / "run.config.py.bak").read_text(encoding="utf-8") == old
    assert config.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.config.py", "run.config.py.bak", "run.log"]


def test_an_applied_change_is_in_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = run_folder(tmp_path / "runs" / "gpt-char", horizon=3 * UPDATES)
    log, _ = nanogpt_run(tmp_path / "foreign")
    for source, runs in ((folder, tmp_path / "runs"), (log, Path("runs"))):
        assert main(["fix", str(source), "--apply"]) == 0
        entry = ledger.read(runs).entries[-1]
        assert (entry["kind"], entry["run"]) == ("change", str(source))
        assert [(c["old"], c["new"]) for c in entry["changes"]] == [(900, 300) if source == folder else (3000, 300)]


def test_an_older_copy_is_never_overwritten(tmp_path: Path):
    log, _ = nanogpt_run(tmp_path)
    (tmp_path / "run.config.py.bak").write_text("precious", encoding="utf-8")
    assert main(["fix", str(log), "--apply"]) == 0
    assert (tmp_path / "run.config.py.bak").read_text(encoding="utf-8") == "precious"
    assert "3000" in (tmp_path / "run.config.py.bak2").read_text(encoding="utf-8")


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    log, config = nanogpt_run(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(config))

    monkeypatch.setattr(os, "fsync", full)  # where a full disk shows at the latest
    assert main(["fix", str(log), "--apply"]) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_json_is_one_document_with_the_users_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log, config = nanogpt_run(tmp_path)
    assert main(["fix", str(log), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rule"] == "schedule-wrong-horizon"
    assert document["remedy"]["patch"] == [{"key": "lr_decay_iters", "old": 3000, "new": 300}]
    assert document["remedy"]["safety"] == "safe"
    assert document["file"] == str(config)
    assert document["applied"] is False
    assert "+lr_decay_iters = 300" in document["diff"]


def test_settings_that_only_the_log_shows_become_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log, config = nanogpt_run(tmp_path / "a")
    settings = tmp_path / "b" / "settings.py"
    settings.parent.mkdir()
    config.rename(settings)
    lines = [f"Overriding: {key} = {setting.value}" for key, setting in read_settings_file(settings)[1].items()]
    log.write_text("\n".join(lines) + "\n" + log.read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["fix", str(log)]) == 0
    assert "--lr_decay_iters=300" in capsys.readouterr().out
    assert main(["fix", str(log), "--apply"]) == 2
    assert "change them where the run is started: --lr_decay_iters=300" in capsys.readouterr().err
    assert main(["fix", str(log), "--config", str(settings), "--apply"]) == 0
    assert "lr_decay_iters = 300 " in settings.read_text(encoding="utf-8")


def test_an_unsafe_change_is_written_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        {"step": u, "loss": loss(u), "lr": 1e-3, "grad_norm": 2.0 + 0.3 * math.sin(u)} for u in range(1, UPDATES + 1)
    ]
    log = tmp_path / "run.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = tmp_path / "run.config.json"
    config.write_text(
        '{\n "lr": 1e-3,\n "grad_clip": 0.02,\n "optimizer": "sgd",\n "steps": 300\n}\n', encoding="utf-8"
    )
    arguments = ["fix", str(log), "--rule", "clip-saturated", "--apply"]
    assert main(arguments) == 2
    assert "unstuck prove" in capsys.readouterr().err
    assert '"grad_clip": 0.02' in config.read_text(encoding="utf-8")
    assert main([*arguments, "--unsafe"]) == 0
    changed = read_settings_file(config)[1]["grad_clip"].value
    assert 0.02 < changed <= 2.3
    assert main(["fix", str(log), "--rule", "overfitting"]) == 2
    assert "has no finding 'overfitting'" in capsys.readouterr().err


@pytest.mark.parametrize("foreign", [False, True])
def test_a_change_that_is_made_already_is_not_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], foreign: bool
):
    if foreign:
        (tmp_path / "elsewhere").mkdir()
        log, config = nanogpt_run(tmp_path)
        config = config.rename(tmp_path / "elsewhere" / "settings.py")  # the run's own record still says 3000
        lines = [f"Overriding: {key} = {setting.value}" for key, setting in read_settings_file(config)[1].items()]
        log.write_text("\n".join(lines) + "\n" + log.read_text(encoding="utf-8"), encoding="utf-8")
        words, ledger_of = ["fix", str(log), "--config", str(config)], Path("runs")
    else:
        words = ["fix", str(run_folder(tmp_path / "runs" / "gpt-char", horizon=3 * UPDATES))]
        ledger_of = tmp_path / "runs"
    assert main([*words, "--apply"]) == 0
    assert "Wrote " in capsys.readouterr().out
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()}
    entries = len(ledger.read(ledger_of).entries)
    for more in (["--apply"], []):
        assert main([*words, *more]) == 0
        said = capsys.readouterr().out
        assert "Already applied" in said
        assert "Wrote" not in said
        assert "--apply" not in said
    assert main([*words, "--apply", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["applied"], document["already_applied"], document["kept"]) == (False, True, None)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.rglob("*") if p.is_file()} == before
    assert len(ledger.read(ledger_of).entries) == entries


def test_a_value_that_is_written_otherwise_is_already_applied_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    log, config = nanogpt_run(tmp_path)
    settings = tmp_path / "settings.py"
    settings.write_text(config.read_text(encoding="utf-8").replace("3000", "3 * 100"), encoding="utf-8")
    lines = [f"Overriding: {key} = {setting.value}" for key, setting in read_settings_file(config)[1].items()]
    log.write_text("\n".join(lines) + "\n" + log.read_text(encoding="utf-8"), encoding="utf-8")
    assert main(["fix", str(log), "--config", str(settings), "--apply"]) == 0
    assert "Already applied" in capsys.readouterr().out
    assert "3 * 100" in settings.read_text(encoding="utf-8")
