"""Exact resume, resume with new settings, fresh start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.train.conftest import Make, last_weights, losses, rows
from unstuck.config.recipe import load_recipe
from unstuck.errors import UserError
from unstuck.train.run import train


def stop_at(update: int) -> Any:
    def stop_when(row: Mapping[str, Any]) -> str | None:
        return "user" if row["event"] == "update" and row["update"] == update else None

    return stop_when


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("model.architecture=gpt2", "model.dropout=0.2", "optimizer.kind=adamw", "training.accumulation=3"),
        ("schedule.kind=plateau", "schedule.patience=1", "evaluation.every_updates=2"),
    ],
    ids=["modern and muon", "gpt2 with dropout and accumulation", "plateau"],
)
def test_a_resumed_run_is_the_uninterrupted_run_bit_for_bit(
    tiny: Make, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    recipe = tiny(*overrides)
    whole = train(recipe, folder=tmp_path / "whole", report=False).folder
    cut = train(recipe, folder=tmp_path / "cut", stop_when=stop_at(13), report=False).folder
    assert max(losses(cut)) == 13
    train(recipe, resume=cut, report=False)
    assert losses(cut) == losses(whole)
    assert last_weights(cut) == last_weights(whole)
    evaluations = [{r["update"]: r["val/loss"] for r in rows(f, "evaluation")} for f in (whole, cut)]
    assert evaluations[0] == evaluations[1]


def test_a_run_killed_before_its_first_checkpoint_begins_again_and_is_the_same(tiny: Make, tmp_path: Path) -> None:
    whole = train(tiny(), folder=tmp_path / "whole", report=False).folder
    cut = train(tiny(), folder=tmp_path / "cut", stop_when=stop_at(3), report=False).folder
    shutil.rmtree(cut / "checkpoints")
    with open(cut / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"event": "update", "upd')  # torn by the kill
    train(tiny(), resume=cut, report=False)
    assert losses(cut) == losses(whole)
    assert last_weights(cut) == last_weights(whole)


def test_a_new_learning_rate_holds_from_the_first_update_after_the_resume(tiny: Make, tmp_path: Path) -> None:
    constant = ("schedule.kind=constant", "schedule.warmup_share=null", "optimizer.kind=adamw")
    run = train(tiny(*constant, "learning_rate=1e-3"), folder=tmp_path / "r", stop_when=stop_at(10), report=False)
    train(tiny(*constant, "learning_rate=5e-4"), resume=run.folder, report=False)
    rate = {row["update"]: row["lr/matrices"] for row in rows(run.folder, "update")}
    assert rate[10] == 1e-3
    assert rate[11] == 5e-4
    resumed = rows(run.folder, "resume")[0]
    assert resumed["changed"] == {"optimizer.learning_rate": [1e-3, 5e-4]}
    assert "optimizer moments" in resumed["kept"]
    assert resumed["dropped"] == []


def test_the_fault_of_incident_i4_keeps_the_old_rate_while_the_config_names_the_new_one(
    tiny: Make, tmp_path: Path
) -> None:
    settings = ("schedule.kind=constant", "optimizer.kind=adamw", "inject_fault=resume-keeps-old-lr")
    run = train(tiny(*settings, "learning_rate=5e-6"), folder=tmp_path / "r", stop_when=stop_at(10), report=False)
    train(tiny(*settings, "learning_rate=1e-5"), resume=run.folder, report=False)
    last = rows(run.folder, "update")[-1]
    assert (last["update"], last["lr/matrices"]) == (24, 5e-6)
    assert load_recipe(run.folder).config.optimizer.learning_rate == 1e-5


def test_the_fault_of_incident_i3_makes_a_warmup_share_zero_but_not_a_count(tiny: Make, tmp_path: Path) -> None:
    def first_rate(*overrides: str) -> float:
        recipe = tiny("schedule.kind=constant", "optimizer.kind=adamw", "learning_rate=1e-3", *overrides)
        folder = train(recipe, stop_when=stop_at(1), report=False).folder
        return float(rows(folder, "update")[0]["lr/matrices"])

    assert first_rate("warmup_share=0.5") == pytest.approx(1e-3 / 12)
    assert first_rate("warmup_share=0.5", "inject_fault=warmup-cast-to-zero") == 1e-3
    assert first_rate("warmup_updates=10", "inject_fault=warmup-cast-to-zero") == pytest.approx(1e-4)


def test_a_longer_plan_replans_the_schedule_and_says_so(tiny: Make, tmp_path: Path) -> None:
    run = train(tiny(), folder=tmp_path / "r", report=False)
    train(tiny("training.updates=40"), resume=run.folder, report=False)
    event = rows(run.folder, "resume")[0]
    assert event["update"] == 24
    assert event["updates"] == 40
    assert any("schedule" in part for part in event["dropped"])
    assert max(losses(run.folder)) == 40
    assert rows(run.folder, "update")[-1]["lr/matrices"] < rows(run.folder, "update")[-5]["lr/matrices"]


def test_changing_the_optimizer_drops_the_moments_it_cannot_use(tiny: Make, tmp_path: Path) -> None:
    run = train(tiny(), folder=tmp_path / "r", stop_when=stop_at(6), report=False)
    train(tiny("optimizer.kind=adamw"), resume=run.folder, report=False)
    event = rows(run.folder, "resume")[0]
    assert any("optimizer moments of" in part for part in event["dropped"])
    assert any("optimizer moments of" in part for part in event["kept"])


def test_another_architecture_is_refused_with_a_sentence(tiny: Make, tmp_path: Path) -> None:
    run = train(tiny(), folder=tmp_path / "r", stop_when=stop_at(6), report=False)
    before = (run.folder / "config.yaml").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"model.width=16 and cannot go on with model.width=32"):
        train(tiny("model.width=32"), resume=run.folder, report=False)
    assert (run.folder / "config.yaml").read_text(encoding="utf-8") == before


def test_a_finished_run_says_how_to_train_it_longer(tiny: Make, tmp_path: Path) -> None:
    run = train(tiny(), folder=tmp_path / "r", report=False)
    with pytest.raises(UserError, match=r"training\.updates=48"):
        train(tiny(), resume=run.folder, report=False)
    assert json.loads((run.folder / "summary.json").read_text())["updates"] == 24


def test_going_back_to_an_older_checkpoint_sets_the_later_ones_aside(tiny: Make, tmp_path: Path) -> None:
    recipe = tiny("checkpoint.keep=10")
    run = train(recipe, folder=tmp_path / "r", report=False)
    whole = losses(run.folder)
    train(recipe, resume=run.folder / "checkpoints" / "update-00000010", report=False)
    assert losses(run.folder) == whole
    assert (run.folder / "checkpoints" / "set-aside-update-00000024").is_dir()


def test_start_from_takes_the_weights_and_nothing_else(tiny: Make, tmp_path: Path) -> None:
    first = train(tiny(), folder=tmp_path / "a", report=False)
    second = train(tiny(f"start_from={first.folder}"), folder=tmp_path / "b", report=False)
    before = rows(second.folder, "evaluation")[0]
    assert before["update"] == 0
    assert before["val/loss"] == first.summary["best"]["val_loss"]
    assert rows(second.folder, "update")[0]["update"] == 1


def test_a_taken_folder_is_refused_and_fresh_takes_the_next_number(tiny: Make, tmp_path: Path) -> None:
    first = train(tiny("training.updates=2"), folder=tmp_path / "r", report=False)
    with pytest.raises(UserError, match="--resume"):
        train(tiny("training.updates=2"), folder=tmp_path / "r", report=False)
    second = train(tiny("training.updates=2"), folder=tmp_path / "r", fresh=True, report=False)
    assert (first.folder.name, second.folder.name) == ("r", "r-2")


def test_a_run_whose_text_has_changed_is_refused(tiny: Make, tmp_path: Path, text: Path) -> None:
    copy = tmp_path / "copy.txt"
    shutil.copy(text, copy)
    run = train(tiny(f"data.source={copy}"), folder=tmp_path / "r", stop_when=stop_at(6), report=False)
    copy.write_text(copy.read_text()[:-200], encoding="utf-8")
    with pytest.raises(UserError, match="is not what"):
        train(tiny(f"data.source={copy}"), resume=run.folder, report=False)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"update": 24}', '{"config": null}'])
def test_a_damaged_state_names_a_checkpoint_that_is_whole(tiny: Make, tmp_path: Path, content: str) -> None:
    recipe = tiny("training.updates=30")
    folder = train(tiny(), folder=tmp_path / "r", report=False).folder
    *_, whole, last = sorted((folder / "checkpoints").glob("update-*"))
    good = json.loads((last / "state.json").read_text(encoding="utf-8"))
    damaged = json.dumps(good | {"config": None}) if "config" in content else content
    (last / "state.json").write_text(damaged, encoding="utf-8")
    with pytest.raises(UserError, match=rf"damaged .*unstuck train --resume {whole}$"):
        train(recipe, resume=folder, report=False)
    train(recipe, resume=whole, report=False)
    assert max(losses(folder)) == 30


def test_a_damaged_state_without_another_checkpoint_may_be_deleted(tiny: Make, tmp_path: Path) -> None:
    folder = train(tiny(), folder=tmp_path / "r", stop_when=stop_at(3), report=False).folder
    (only,) = (folder / "checkpoints").glob("update-*")
    (only / "state.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=f"delete {only}, and --resume begins again"):
        train(tiny(), resume=folder, report=False)
    shutil.rmtree(only)
    train(tiny(), resume=folder, report=False)
    assert sorted(losses(folder)) == list(range(1, 25))
