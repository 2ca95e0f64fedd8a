"""`unstuck evaluate RUN`: on the data, the tokenizer and the checkpoints of the run, or one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.train.conftest import Make, losses, rows
from tests.train.test_resume import stop_at
from unstuck.cli.main import main
from unstuck.config.recipe import load_recipe
from unstuck.errors import UserError
from unstuck.train.run import train


@pytest.fixture
def own_text(text: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copy(text, tmp_path / "own.txt")


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    return found


def test_changed_text_is_measured_only_where_it_is_asked_for(
    tiny: Make, own_text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tiny(f"data.source={own_text}"), report=False).folder
    before = evaluated(capsys, str(run))
    # Letters before all others: a tokenizer made from this text would give every character another id.
    own_text.write_text(own_text.read_text().replace("small", "!#$"))
    assert main(["evaluate", str(run)]) == 2
    assert f"--data {own_text}" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", str(own_text)]) == 2  # characters that the model never had
    assert "does not know" in capsys.readouterr().err
    own_text.write_text(own_text.read_text().replace("!#$", "large"))
    again = evaluated(capsys, str(run), "--data", str(own_text))
    assert again["loss"] == pytest.approx(before["loss"], rel=0.1)


def test_a_run_keeps_its_ids_where_today_the_text_would_give_other_ones(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tiny("data.tokenizer=bpe", "data.vocabulary=280", "training.updates=4"), report=False).folder
    expected = evaluated(capsys, str(run))
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("unstuck.data.tokenizer.END_OF_TEXT", "<|over|>")  # as another version might
    assert evaluated(capsys, str(run)) == expected


MASKED = ("data.tokenizer=wordpiece", "task.kind=masked", "model.architecture=ltg-bert")


@pytest.mark.parametrize("kind", [(), MASKED])
def test_all_validation_tokens_are_measured_not_those_of_the_run(
    tiny: Make, kind: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tiny("evaluation.max_tokens=100", "training.updates=1", *kind), report=False).folder
    targets = evaluated(capsys, str(run))["targets"]
    assert targets > 1.5 * rows(run, "start")[0]["validation_tokens"]
    for limit in (100, targets - 1, *[targets + 1] * (kind == MASKED)):  # of masked tokens only a part are targets
        run = train(tiny(f"evaluation.max_tokens={limit}", "training.updates=1", *kind), report=False).folder
        assert main(["evaluate", str(run)]) == 0
        assert f"a sample of them (evaluation.max_tokens={limit})" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [(), MASKED])
@pytest.mark.parametrize("limit", ["null", "90000"])
def test_a_sample_is_not_spoken_of_where_training_measured_all(
    tiny: Make, kind: tuple[str, ...], limit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(tiny("training.updates=1", f"evaluation.max_tokens={limit}", *kind), report=False)
    assert main(["evaluate", str(result.folder)]) == 0
    best = result.summary["best"]["val_loss"]
    assert f"loss {best:.4f}" in (said := capsys.readouterr().out)
    assert "a sample" not in said


def test_the_document_is_json_proper_whatever_the_loss(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tiny("training.updates=2"), report=False).folder
    for weights in (run / "checkpoints").glob("update-*/model.safetensors"):
        save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights)
    found = evaluated(capsys, str(run))
    assert found["loss"] == "nan"


def test_a_fine_tuned_run_needs_its_predecessor_no_more(
    tiny: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = train(tiny("training.updates=8"), folder=tmp_path / "pre", report=False).folder
    second = tiny(f"start_from={before}", "data.tokenizer=from-start")
    whole = train(second, folder=tmp_path / "whole", report=False).folder
    cut = train(second, folder=tmp_path / "cut", stop_when=stop_at(12), report=False).folder
    expected = evaluated(capsys, str(whole))
    before.rename(tmp_path / "elsewhere")
    assert evaluated(capsys, str(whole)) == expected
    train(load_recipe(cut), resume=cut, report=False)
    assert losses(cut) == losses(whole)
    assert f"tokenizer: {before}" in (cut / "config.yaml").read_text()


def test_a_checkpoint_of_another_version_is_one_sentence(tiny: Make, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(tiny("training.updates=2", "checkpoint.keep=1"), report=False).folder
    state = next((run / "checkpoints").glob("update-*")) / "state.json"
    good = json.loads(state.read_text())
    for key in ("recipe", "model_arguments"):
        state.write_text(json.dumps({name: value for name, value in good.items() if name != key}))
        assert main(["evaluate", str(run)]) == 2
        assert f"'{key}' is missing" in capsys.readouterr().err
    state.write_text(json.dumps(good | {"recipe": good["recipe"] | {"model": {"architecture": "mamba"}}}))
    for command in ("evaluate", "generate"):
        assert main([command, str(run), *["a"] * (command == "generate")]) == 2
        assert "this version of unstuck cannot read (model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (("data.kind=answers", "data.tokenizer=char"), "start_from=RUN data.tokenizer=from-start"),
        (("data.kind=answers", "data.tokenizer=from-model"), "data.tokenizer=from-start, or model.arch"),
        (("data.tokenizer=from-model",), "data.tokenizer=bpe, or model.architecture=pretrained"),
        (
            ("data.tokenizer=from-model", "task.kind=masked", "model.architecture=ltg-bert"),
            "this model is ltg-bert; set data.tokenizer=wordpiece",
        ),
    ],
)
def test_a_tokenizer_that_the_recipe_has_not_is_one_sentence(
    tmp_path: Path, changes: tuple[str, ...], sentence: str
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("name: none\ntraining: {updates: 2}\n")
    with pytest.raises(UserError) as refused:
        train(load_recipe(path, list(changes)), folder=tmp_path / "run", report=False)
    assert sentence in str(refused.value)
