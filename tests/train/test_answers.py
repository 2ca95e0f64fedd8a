"""Answers as training data: exact resume, and rows that neither padding nor other examples change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.conftest import Make, last_weights, losses
from tests.train.test_resume import stop_at
from unstuck.config.recipe import Recipe, load_recipe
from unstuck.config.sections.answers import AnswersConfig
from unstuck.data.answers import prepare_answers
from unstuck.data.prepare import IGNORED
from unstuck.train.load import load_checkpoint
from unstuck.train.run import train


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"prompt": f"a small text {n}?", "response": "the large model " * (1 + n % 4)} for n in range(40)]
    path = tmp_path / "qa.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def base(tiny: Make) -> Path:
    recipe = tiny("data.tokenizer=bpe", "data.vocabulary=280", "data.chat_tokens=true", "training.updates=8")
    return train(recipe, report=False).folder


@pytest.fixture
def chat(tiny: Make, base: Path, questions: Path) -> Recipe:
    """The tiny recipe on answers."""
    path = questions.with_name("chat.yaml")
    path.write_text(
        f"name: chat\nstart_from: {base}\ndata: {{kind: answers, source: {questions}, context: 64}}\n"
        "model: {architecture: from-start}\ntraining: {updates: 14, batch_size: 4, threads: 1, precision: float32}\n"
        "evaluation: {every_updates: 7}\ncheckpoint: {every_updates: 5}\n"
    )
    return load_recipe(path, [])


def test_a_resumed_run_on_answers_is_the_uninterrupted_run_bit_for_bit(chat: Recipe, tmp_path: Path) -> None:
    whole = train(chat, folder=tmp_path / "whole", report=False).folder
    cut = train(chat, folder=tmp_path / "cut", stop_when=stop_at(8), report=False).folder
    train(load_recipe(cut), resume=cut, report=False)
    assert losses(cut) == losses(whole)
    assert last_weights(cut) == last_weights(whole)


def test_neither_padding_nor_other_examples_change_the_loss_of_an_answer(base: Path, questions: Path) -> None:
    loaded = load_checkpoint(base)
    data = prepare_answers(AnswersConfig(source=str(questions), context=64), tokenizer=loaded.tokenizer)
    inputs, targets = data.rows(np.arange(data.examples))
    with torch.no_grad():
        together = loaded.model(torch.from_numpy(inputs), torch.from_numpy(targets), "sum")
        alone = torch.zeros(())
        for row_in, row_out in zip(inputs, targets, strict=True):
            length = int(np.flatnonzero(row_out != IGNORED)[-1]) + 1
            alone += loaded.model(
                torch.from_numpy(row_in[None, :length]), torch.from_numpy(row_out[None, :length]), "sum"
            )
        noisy = np.where(
            np.arange(inputs.shape[1]) >= (data.train.starts[1:] - data.train.starts[:-1])[:, None], 7, inputs
        )
        other = loaded.model(torch.from_numpy(noisy), torch.from_numpy(targets), "sum")
    assert float(together) == pytest.approx(float(alone), rel=1e-5)
    assert float(together) == float(other)


def test_the_record_counts_answer_tokens_only(chat: Recipe, tmp_path: Path) -> None:
    result = train(chat, folder=tmp_path / "run", report=False)
    events = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    start = next(event for event in events if event["event"] == "start")
    loaded = load_checkpoint(result.folder)
    data = prepare_answers(loaded.config.data)  # type: ignore[arg-type]
    assert start["train_tokens"] == int(data.train.learned.sum())
    updates = [event for event in events if event["event"] == "update"]
    assert updates[-1]["tokens"] < 14 * 4 * 64 / 2
