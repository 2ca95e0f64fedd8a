"""Runs that start from another run's weights, and trained models loaded again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.train.conftest import Make, rows
from unstuck.errors import UserError
from unstuck.train.load import load_checkpoint
from unstuck.train.run import train


@pytest.fixture
def base(tiny: Make) -> Path:
    return train(tiny("model.width=24", "training.updates=8"), report=False).folder


def test_model_and_tokenizer_are_taken_over_from_the_start(tiny: Make, base: Path) -> None:
    recipe = tiny(f"start_from={base}", "model.architecture=from-start", "data.tokenizer=from-start", "name=second")
    result = train(recipe, report=False)
    second = load_checkpoint(result.folder)
    assert second.config.model.width == 24  # type: ignore[union-attr]
    assert "start_from" in (result.folder / "config.yaml").read_text(encoding="utf-8")
    assert second.tokenizer is not None
    assert second.tokenizer.to_json() == (base / "tokenizer.json").read_text(encoding="utf-8")


def test_a_start_that_has_seen_the_validation_text_is_told_of(tiny: Make, base: Path) -> None:
    def notes(*settings: str) -> str:
        recipe = tiny(f"start_from={base}", "model.architecture=from-start", "data.tokenizer=from-start", *settings)
        return " ".join(rows(train(recipe, report=False).folder, "start")[0]["notes"])

    assert "hold out the same with data.validation_share=" in notes("data.validation_share=0.3", "name=other")
    assert "hold out the same" not in notes("seed=5", "name=same")


def test_a_start_is_asked_for_where_none_is_named(tiny: Make) -> None:
    with pytest.raises(UserError, match="start_from=RUN"):
        train(tiny("model.architecture=from-start"))


def test_a_start_without_a_checkpoint_is_one_sentence(tiny: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        train(tiny("model.architecture=from-start", f"start_from={tmp_path}"))


def test_a_trained_model_loads_from_its_run_and_from_a_checkpoint_alone(base: Path, tmp_path: Path) -> None:
    tokens = torch.arange(12).reshape(1, 12) % 20
    of_run = load_checkpoint(base, "last").model(tokens)
    alone = tmp_path / "elsewhere"
    shutil.copytree(load_checkpoint(base, "last").path, alone)
    shutil.copy(base / "tokenizer.json", alone)
    assert torch.equal(load_checkpoint(alone).model(tokens), of_run)


def test_where_training_only_did_harm_the_last_checkpoint_is_not_taken_for_the_best_in_silence(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    harmed = train(tiny("evaluation.min_improvement=9", "training.updates=8", "name=harmed"), report=False)
    assert harmed.summary["best"]["update"] == 0
    capsys.readouterr()
    assert load_checkpoint(harmed.folder).path.name == "update-00000008"
    said = capsys.readouterr().err
    assert said.count("was before training; this is its last checkpoint, of update 8.") == 1
    load_checkpoint(harmed.folder, "last")
    load_checkpoint(harmed.folder / "checkpoints" / "update-00000008")
    assert capsys.readouterr().err == ""
    second = train(tiny(f"start_from={harmed.folder}", "training.updates=1", "name=second"), report=False)
    assert any("was before training" in note for note in rows(second.folder, "start")[0]["notes"])


def test_nothing_to_load_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name a run folder"):
        load_checkpoint(tmp_path / "none")
