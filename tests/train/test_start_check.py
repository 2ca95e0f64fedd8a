from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM

from tests.models.hf_forms import (
    CONTEXT,
    VOCABULARY,
    byte_level_tokenizer,
    save_as_on_the_hub,
    sentences,
    trained_gpt2,
    wordpiece_tokenizer,
    write_questions,
)
from tests.train.conftest import last_weights, losses, rows
from unstuck.cli.main import main
from unstuck.config.recipe import Recipe, load_recipe
from unstuck.errors import UserError
from unstuck.models import build
from unstuck.models.pretrained import Pretrained
from unstuck.runs.readers import read_runs
from unstuck.train import tasks
from unstuck.train.load import load_checkpoint
from unstuck.train.run import train
from unstuck.train.start_check import StartCheck, check_start
from unstuck.train.tasks.task import MicroBatches, Share, Task

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 in the hub's form that has learned its texts."""
    folder = tmp_path_factory.mktemp("base")
    texts = sentences(400)
    tokenizer = byte_level_tokenizer(texts)
    save_as_on_the_hub(trained_gpt2(tokenizer, texts), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def untrained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder with random weights."""
    folder = tmp_path_factory.mktemp("untrained")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(base).config)
    save_as_on_the_hub(model, byte_level_tokenizer(sentences(400)), folder)
    return folder


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_questions(tmp_path / "questions.jsonl")


def _recipe(base: Path, questions: Path, runs: Path, *overrides: str) -> Recipe:
    settings = [
        f"model.path={base}", f"data.source={questions}", f"runs_folder={runs}", f"data.context={CONTEXT}",
        "model.adapter.rank=4", "learning_rate=5e-3", "training.epochs=null", "training.updates=12",
        "training.batch_size=4", "training.threads=1", "training.precision=float32", "evaluation.every_updates=6",
        "checkpoint.every_updates=3", *overrides,
    ]  # fmt: skip
    return load_recipe("gpt2-qa-lora", settings)


class Altered:
    """A task whose batches were spoiled by somebody's data set."""

    def __init__(self, task: Task, change: Any) -> None:
        self.task, self.change, self.examples = task, change, task.examples

    def micro_batches(self, position: int, update: int) -> MicroBatches:
        data = self.task.micro_batches(position, update)
        return replace(data, batches=[self.change(*batch) for batch in data.batches])


def _later(tokens_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Shifted a second time: token t + 2 (incident I4)."""
    return tokens_BT, torch.cat([targets_BT[:, 1:], torch.full_like(targets_BT[:, :1], -100)], dim=1)


def _earlier(tokens_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Not shifted at all: the token itself."""
    return tokens_BT, torch.cat([torch.full_like(targets_BT[:, :1], -100), targets_BT[:, :-1]], dim=1)


def _other_ids(tokens_BT: Tensor, targets_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Another tokenizer's ids for the same text."""
    other = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(0))
    return other[tokens_BT], torch.where(targets_BT == -100, targets_BT, other[targets_BT.clamp(min=0)])


def _checked(base: Path, questions: Path, change: Any = None, **settings: str) -> tuple[StartCheck, nn.Module]:
    recipe = _recipe(base, questions, questions.parent, *(f"{key}={value}" for key, value in settings.items()))
    task: Any = tasks.make(recipe.config, CPU, Share())
    torch.manual_seed(1)
    model = build(recipe.config.model, **task.model_arguments())
    found = check_start(task if change is None else Altered(task, change), model, nullcontext)
    assert found is not None
    return found, model


def test_silent_on_a_healthy_start(base: Path, questions: Path):
    found, _ = _checked(base, questions)
    assert found.problem() is None
    assert found.losses[0] == min(found.losses.values()) < 0.5 * found.chance
    assert found.adapters == 8
    assert "8 of 8 adapter tensors" in found.line()


def test_a_base_that_is_sure_of_the_wrong_text_is_taken_for_one_with_other_ids(base: Path, tmp_path: Path):
    """A false alarm that is known: the start is right, but the base learned its few sentences by heart and does worse
    than guessing on these. Bases that have read more do not (docs/systems/gpt2-qa.md)."""
    lines = [f"We {verb} a large {noun} in our house" for verb in ("saw", "had", "built", "want") for noun in
             ("garden", "window", "chimney", "table", "mirror", "cellar", "door", "kitchen")]  # fmt: skip
    with open(tmp_path / "other.jsonl", "w") as file:
        for line in lines:
            file.write(json.dumps({"question": line[:12], "answer": line[12:]}) + "\n")
    found, _ = _checked(base, tmp_path / "other.jsonl")
    assert found.losses[0] > 1.05 * found.chance
    assert "worse than a guess" in (found.problem() or "")
    assert "tokens later" not in (found.problem() or "")
    assert replace(found, own_ids=True).problem() is None  # start_from knows that the ids are the model's


@pytest.mark.parametrize(("change", "where"), [(_later, "1 token later"), (_earlier, "1 token earlier")])
def test_labels_shifted_wrong_are_found_before_any_update(base: Path, questions: Path, change: Any, where: str):
    found, _ = _checked(base, questions, change)
    assert where in (found.problem() or "")


def test_random_weights_are_named(untrained: Path, questions: Path):
    found, _ = _checked(untrained, questions)
    assert "look random" in (found.problem() or "")


def test_another_tokenizers_ids_are_named(base: Path, questions: Path):
    found, _ = _checked(base, questions, _other_ids)
    assert "data.tokenizer=from-model" in (found.problem() or "")


def test_a_known_model_far_above_its_published_loss_is_named():
    shifts = dict.fromkeys((-2, -1, 1, 2), 9.0)
    start = StartCheck({0: 7.5} | shifts, dict.fromkeys((-2, -1, 0, 1, 2), 0.1), 5.0, 50257, 900, published=3.12)
    assert "known for 3.12" in (start.problem() or "")
    assert replace(start, published=None).problem() is None


def test_a_base_computed_without_gradient_is_found(base: Path, questions: Path):
    """LA001: only the adapters behind the last such layer would learn."""
    recipe = _recipe(base, questions, questions.parent)
    task = tasks.make(recipe.config, CPU, Share())
    model = build(recipe.config.model, **task.model_arguments())
    assert isinstance(model, Pretrained)
    block = model.inner.transformer.h[0]
    block.forward = torch.no_grad()(block.forward)
    found = check_start(task, model, nullcontext)
    assert found is not None
    assert len(found.unreached) == 4
    assert "No gradient reaches 4 of 8 adapter tensors" in (found.problem() or "")


def test_the_check_leaves_no_trace(base: Path, questions: Path):
    recipe = _recipe(base, questions, questions.parent, "model.dropout=0.1")
    task = tasks.make(recipe.config, CPU, Share())
    model = build(recipe.config.model, **task.model_arguments()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    random_state = torch.get_rng_state()
    check_start(task, model, nullcontext)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


class Follows(nn.Module):
    """Knows that in its text every token is the one before it and one."""

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return 6.0 * nn.functional.one_hot((tokens_BT.roll(1, 1) + 1) % VOCABULARY, VOCABULARY).float()


class Hidden:
    """Masked batches: targets lie in place, where the input is hidden."""

    examples = 1000

    def __init__(self, displaced: int) -> None:
        self.displaced = displaced

    def micro_batches(self, position: int, update: int) -> MicroBatches:
        text_BT = torch.arange(8)[:, None] * 30 + torch.arange(60)[None]
        hidden_BT = (torch.arange(60)[None] + torch.arange(8)[:, None]) % 5 == 0
        targets_BT = torch.where(hidden_BT, text_BT % VOCABULARY, -100).roll(self.displaced, 1)
        batch = SimpleNamespace(inputs_BT=torch.where(hidden_BT, 0, text_BT % VOCABULARY), targets_BT=targets_BT)
        return MicroBatches([batch], int(hidden_BT.sum()), 8, None)


@pytest.mark.parametrize(("displaced", "found"), [(0, None), (1, "1 token earlier"), (-1, "1 token later")])
def test_a_masked_model_is_checked_where_its_tokens_are_hidden(displaced: int, found: str | None):
    start = check_start(Hidden(displaced), Follows(), nullcontext)  # type: ignore[arg-type]
    assert start is not None
    assert start.problem() is None if found is None else found in (start.problem() or "")


def _command(base: Path, questions: Path, runs: Path, *more: str) -> int:
    return main(
        ["train", "gpt2-qa-lora", f"model.path={base}", f"data.source={questions}", f"runs_folder={runs}", "-q",
         f"data.context={CONTEXT}", "training.epochs=null", "training.updates=2", "training.threads=1", *more]
    )  # fmt: skip


def test_a_bad_start_trains_nothing_and_leaves_no_folder(
    untrained: Path, questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert _command(untrained, questions, tmp_path / "runs") == 2
    assert "Nothing was trained. The weights look random" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_bad_start_can_be_reported_instead(untrained: Path, questions: Path, tmp_path: Path):
    assert _command(untrained, questions, tmp_path / "runs", "model.start_check=report") == 0
    start = rows(tmp_path / "runs" / "gpt2-qa-lora", "start")[0]
    assert any("look random" in note for note in start["notes"])


@pytest.mark.parametrize("kind", ["lora", "none"])
def test_a_run_is_recorded_resumed_bit_for_bit_and_exported(
    base: Path, questions: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
):
    recipe = _recipe(base, questions, tmp_path, f"model.adapter.kind={kind}", "model.adapter.dropout=0.1")
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(recipe, folder=whole, report=False)
    train(recipe, folder=parted, report=False, stop_when=lambda row: "enough" if row.get("update") == 7 else None)
    assert max(losses(parted)) == 7
    train(recipe, resume=parted, report=False)
    assert losses(parted) == losses(whole)
    assert last_weights(parted) == last_weights(whole)

    start = rows(whole, "start")[0]
    assert start["start_loss"] == start["start_loss_shifts"]["0"] == min(start["start_loss_shifts"].values())
    settings = read_runs(whole)[0].settings
    assert settings["start"].value == "pretrained"
    assert ("lora_rank" in settings) == (kind == "lora")
    validated = [row["val/loss"] for row in rows(whole, "evaluation")]
    assert validated[-1] < validated[0] - 0.1

    assert main(["export", str(whole), str(tmp_path / "exported"), "--last"]) == 0
    tokens_BT = torch.randint(VOCABULARY, (2, 20))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")(tokens_BT).logits
    assert torch.allclose(theirs, load_checkpoint(whole, "last").model(tokens_BT), atol=2e-5)
    assert main(["export", str(whole), str(tmp_path / "adapter"), "--adapter"]) == (0 if kind == "lora" else 2)
    assert (f"Its base model is expected in {base}" in capsys.readouterr().out) == (kind == "lora")
    assert main(["export", str(whole), str(tmp_path / "exported")]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_a_run_of_ours_can_be_fine_tuned(tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]):
    """unstuck train gpt2-base, then model.path=runs/gpt2-base."""
    text = tmp_path / "text.txt"
    text.write_text("\n".join(sentences(800)), encoding="utf-8")
    settings = ["data.vocabulary=300", f"data.context={CONTEXT}", "model.width=32", "model.layers=1", "model.heads=2"]
    further = ["training.updates=60", "training.threads=1", "evaluation.max_tokens=500", "data.validation_split=tail"]
    train(
        load_recipe("gpt2-base", [f"data.source={text}", *settings, *further]), folder=tmp_path / "base", report=False
    )
    train(_recipe(tmp_path / "base", questions, tmp_path), folder=tmp_path / "tuned", report=False)
    start = rows(tmp_path / "tuned", "start")[0]
    assert start["start_loss"] < 0.7 * 5.7
    assert rows(tmp_path / "tuned", "evaluation")[-1]["val/loss"] < start["start_loss"]
    assert main(["export", str(tmp_path / "tuned"), str(tmp_path / "adapter"), "--adapter"]) == 0
    assert f"is the run {tmp_path / 'base'}; peft needs that exported: unstuck export" in capsys.readouterr().out


def test_a_run_goes_on_where_its_base_has_moved_and_not_on_another(
    base: Path, untrained: Path, questions: Path, tmp_path: Path
):
    train(_recipe(base, questions, tmp_path), folder=tmp_path / "run", report=False)
    moved = shutil.copytree(base, tmp_path / "moved")
    longer = ["training.updates=16"]
    train(_recipe(moved, questions, tmp_path, *longer), resume=tmp_path / "run", report=False)
    assert max(losses(tmp_path / "run")) == 16
    with pytest.raises(UserError, match="trained on another model"):
        train(_recipe(untrained, questions, tmp_path, "training.updates=20"), resume=tmp_path / "run", report=False)


def test_a_masked_model_learns_hidden_tokens_with_adapters(tmp_path: Path):
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(sentences(500)), encoding="utf-8")
    tokenizer = wordpiece_tokenizer(sentences(200))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=CONTEXT, pad_token_id=0,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    tokenizer.save(str(tmp_path / "bert" / "tokenizer.json"))
    recipe = tmp_path / "masked.yaml"
    recipe.write_text(
        "task: {kind: masked, causal_share: 0}\n"
        f"data: {{kind: text, source: {text}, tokenizer: from-model, context: 32, validation_split: tail}}\n"
        "model: {architecture: pretrained, start_check: report, adapter: {kind: lora}, "
        f"path: {tmp_path / 'bert'}}}\n"
        "optimizer: {kind: adamw, learning_rate: 1e-2}\n"
        "training: {updates: 20, batch_size: 8, threads: 1}\n"
        "evaluation: {every_updates: 20, max_tokens: 1000}\n"
    )
    train(load_recipe(recipe), folder=tmp_path / "run", report=False)
    start = rows(tmp_path / "run", "start")[0]
    assert any("6 of 6 adapter tensors" in note for note in start["notes"])
    validated = [row["val/loss"] for row in rows(tmp_path / "run", "evaluation")]
    assert validated[-1] < validated[0] - 0.1
