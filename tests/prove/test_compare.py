"""Real comparisons of tiny recipes: worker processes, trials on disk, Ctrl-C, placebo."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs unstuck[train]")

from unstuck.config.recipe import Recipe, load_recipe
from unstuck.config.schema import Config
from unstuck.errors import UserError
from unstuck.prove.compare import TRIALS_FOLDER, compare
from unstuck.prove.progress import Progress
from unstuck.prove.trial import changed_updates, lengths, shortened, trial_key
from unstuck.report.html_proof import proof_body

TINY = [
    "data.max_characters=60000", "data.context=16", "model.layers=1", "model.width=16", "model.heads=2",
    "training.updates=60", "training.batch_size=4", "evaluation.max_tokens=1024", "optimizer.kind=adamw",
    "learning_rate=2e-3", "optimizer.groups=[]", "model.ngrams=1",
]  # fmt: skip


def tiny(folder: Path, *more: str) -> Config:
    return load_recipe("gpt-char", [*TINY, f"runs_folder={folder}", *more]).config


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder whose finished trials several tests use: each costs a start of Python and torch."""
    return tmp_path_factory.mktemp("shared")


def test_a_hundredfold_learning_rate_error_is_found_from_real_runs_and_the_trials_are_reused(shared: Path):
    base = tiny(shared, "learning_rate=1e-5")
    changed = tiny(shared, "learning_rate=1e-2")
    proof = compare(base, changed, seeds=2, updates=20, named=["learning_rate"])
    document = json.loads(json.dumps(proof.document(), allow_nan=False))
    assert document["verdict"] == "better"
    assert document["difference"]["high"] < 0
    assert document["changes"] == [{"key": "learning_rate", "old": 1e-5, "new": 1e-2}]
    assert [(t["setting"], t["seed"], t["updates"]) for t in document["trials"]] == [
        ("base", 1, 20), ("changed", 1, 20), ("base", 2, 20), ("changed", 2, 20),
    ]  # fmt: skip
    assert document["cost"]["tokens"] == 4 * 20 * 4 * 16
    assert set(document) == {"verdict", "difference", "detectable", "changes", "trials", "cost"}

    started = time.monotonic()
    again = compare(base, changed, seeds=2, updates=20, named=["learning_rate"])
    assert all(trial.reused for trial in again.trials)
    assert time.monotonic() - started < 1
    assert again.document()["difference"] == document["difference"]


def test_a_placebo_repeats_bit_for_bit_and_shows_no_difference(shared: Path):
    proof = compare(tiny(shared, "learning_rate=1e-2"), seeds=2, updates=20)
    assert proof.placebo is not None
    assert proof.placebo["repeatability"] == "identical"
    assert proof.placebo["repeated_difference"] == 0
    assert proof.verdict == "no difference shown"
    assert [t.seed for t in proof.trials] == [1, 2, 3, 4]
    assert len({t.val_loss for t in proof.trials}) == 4  # the noise is real
    assert proof.judgement.interval.low < 0 < proof.judgement.interval.high


def test_one_seed_cannot_tell(shared: Path):
    base, changed = tiny(shared, "learning_rate=1e-5"), tiny(shared, "learning_rate=1e-2")
    proof = compare(base, changed, seeds=1, updates=20)
    document = proof.document()
    assert document["verdict"] == "cannot tell within the budget"
    assert document["difference"]["low"] == "-inf"
    assert math.isfinite(document["difference"]["mean"])


def test_a_budget_too_small_for_any_trial_says_so_instead_of_guessing(tmp_path: Path):
    proof = compare(tiny(tmp_path), tiny(tmp_path, "learning_rate=1e-2"), budget_seconds=0.01)
    assert proof.verdict == "cannot tell within the budget"
    assert "larger --budget" in proof.judgement.reason


def test_ctrl_c_kills_the_children_and_keeps_no_half_trial(tmp_path: Path):
    command = [sys.executable, "-m", "unstuck.cli.main", "prove", "gpt-char", "--updates", "50000", "--seeds", "2"]
    command += ["--change", "learning_rate=1e-2", "--against", str(_recipe_file(tmp_path))]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        folder = tmp_path / "runs" / TRIALS_FOLDER
        _wait_for(lambda: list(folder.glob("*/run/metrics.jsonl")))
        children = _children(process.pid)
        assert children
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    assert not any(_alive(child) for child in children)
    assert not [p for p in folder.iterdir() if p.is_dir()]


def test_killing_the_parent_outright_ends_the_children_too(tmp_path: Path):
    command = [sys.executable, "-m", "unstuck.cli.main", "prove", "gpt-char", "--updates", "50000", "--placebo"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        _wait_for(lambda: list((tmp_path / "runs" / TRIALS_FOLDER).glob("*/spec.json")))
        children = _children(process.pid)
        process.kill()
    _wait_for(lambda: not any(_alive(child) for child in children))


def test_schedules_shrink_with_the_trial_and_faults_keep_their_proportion(tmp_path: Path):
    config = tiny(tmp_path, "schedule.horizon_updates=600", "schedule.warmup_updates=30", "training.updates=60")
    trial = shortened(config, updates=20, planned=60, seed=7, folder=tmp_path)
    assert trial.schedule.horizon_updates == 200  # ten times the run stays ten times the trial
    assert trial.schedule.warmup_updates == 10
    assert (trial.training.updates, trial.training.threads, trial.seed) == (20, 1, 7)
    share = shortened(tiny(tmp_path, "schedule.warmup_share=0.1"), updates=20, planned=60, seed=1, folder=tmp_path)
    assert share.schedule.warmup_share == 0.1


def test_a_short_trial_sleeps_as_often_as_the_run(tmp_path: Path):
    settings = ("model.architecture=cortex", "model.sleep.every_updates=30", "model.sleep.updates=6")
    trial = shortened(tiny(tmp_path, *settings), updates=20, planned=60, seed=1, folder=tmp_path)
    assert (trial.model.sleep.every_updates, trial.model.sleep.updates) == (10, 2)
    awake = shortened(tiny(tmp_path, settings[0]), updates=20, planned=60, seed=1, folder=tmp_path)
    assert awake.model.sleep.every_updates is None


def test_a_changed_batch_trains_on_the_same_tokens(tmp_path: Path):
    base, changed = lengths(tiny(tmp_path)), lengths(tiny(tmp_path, "training.accumulation=4"))
    assert changed_updates(base, changed, 40, length_changed=False) == 10


def test_trials_on_disk_are_told_apart_by_what_is_trained_only(tmp_path: Path):
    base = tiny(tmp_path)
    assert trial_key(base) == trial_key(tiny(tmp_path, "name=other"))
    assert trial_key(base) != trial_key(tiny(tmp_path, "learning_rate=1e-2"))
    assert trial_key(base) != trial_key(tiny(tmp_path, "seed=2"))


def test_a_tokenizer_that_was_written_again_is_another_trial(tmp_path: Path):
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    base = tiny(tmp_path, f"data.tokenizer={tokenizer}")
    before = trial_key(base)
    tokenizer.write_text('{"merges": []}')
    assert trial_key(base) != before


@pytest.mark.parametrize("change", ["data.tokenizer=bpe", "evaluation.max_tokens=512"])
def test_losses_on_different_text_are_refused(tmp_path: Path, change: str):
    with pytest.raises(UserError, match="cannot be compared"):
        compare(tiny(tmp_path), tiny(tmp_path, change), updates=5)


def test_comparing_a_recipe_with_itself_by_mistake_is_said(tmp_path: Path):
    with pytest.raises(UserError, match="--placebo"):
        compare(tiny(tmp_path), tiny(tmp_path), updates=5)


def test_a_trial_that_cannot_run_gives_its_own_sentence(tmp_path: Path):
    nowhere = f"data.source={tmp_path / 'nowhere'}"
    with pytest.raises(UserError, match="nowhere"):
        compare(tiny(tmp_path, nowhere), tiny(tmp_path, nowhere, "learning_rate=1e-2"), updates=5)


def _recipe_file(folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(load_recipe("gpt-char", ["training.updates=60000"]).to_yaml(), encoding="utf-8")
    return path


def _children(process_id: int) -> list[int]:
    listing = Path(f"/proc/{process_id}/task/{process_id}/children")
    if not listing.exists():
        pytest.skip("needs /proc to list child processes")
    return [int(word) for word in listing.read_text().split()]


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def _wait_for(condition, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("change", [{"task.kind": "masked"}, {"data.sources": "files"}, {"evaluation.max_tokens": 9}])
def test_losses_that_mean_different_things_are_not_compared(tmp_path: Path, change: dict[str, object]):
    base = tiny(tmp_path)
    changed = Recipe(base, {}).with_changes(change, "test").config
    with pytest.raises(UserError, match="cannot be compared"):
        compare(base, changed, updates=1)


def test_a_length_in_tokens_is_the_length_of_a_trial(tmp_path: Path):
    base = tiny(tmp_path, "training.batch_size=4", "training.tokens_per_update=640")
    context = base.data.context  # type: ignore[union-attr]
    half = tiny(tmp_path, "training.batch_size=4", "training.tokens_per_update=320")
    assert lengths(base).tokens_per_update == round(640 / (4 * context)) * 4 * context
    assert lengths(half).tokens_per_update < lengths(base).tokens_per_update


def test_fields_are_counted_where_there_are_no_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("neuralop")
    base = load_recipe("navier-stokes", [
        "data.points=16", "data.steps=4", "data.step=2", "data.train_trajectories=4", "data.validation_trajectories=2",
        "data.test_trajectories=2", "data.pairs_per_trajectory=4", "data.solver_dt=0.1", "model.modes=4",
        "model.width=4", "model.layers=1", "training.updates=20", "training.batch_size=4", f"runs_folder={tmp_path}",
    ])  # fmt: skip
    changed = base.with_changes({"optimizer.learning_rate": 1e-5}, "test")
    proof = compare(base.config, changed.config, seeds=1, updates=20)
    cost = json.loads(json.dumps(proof.document()))["cost"]
    assert (cost["tokens"], cost["examples"]) == (None, 2 * 20 * 4)
    Progress().show(proof)
    assert capsys.readouterr().out.endswith("2 trials, 160 fields.\n")
    page = proof_body(proof.document())
    assert "160 fields. Same start, data order and fields in each pair" in page
    assert "token" not in page
