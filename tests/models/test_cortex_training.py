"""CortexGPT in the training loop: streams, validation with a memory of its own, sleep, exact resumes, groups."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unstuck.cli.main import main
from unstuck.config.recipe import Recipe, load_recipe
from unstuck.data.order import StreamOrder
from unstuck.data.recall import answer_places, answers, recall_document
from unstuck.errors import UserError
from unstuck.evaluate.generate import next_logits
from unstuck.evaluate.stream import StreamValidation, stretches
from unstuck.models import build
from unstuck.models.functions import normalise
from unstuck.train.assemble import prepare_parts
from unstuck.train.load import load_checkpoint
from unstuck.train.resume import compare
from unstuck.train.run import train
from unstuck.train.tasks.task import Share

RECIPE = """
name: tiny
data: {source: %(text)s, tokenizer: char, context: 16, validation_split: tail}
model:
  architecture: cortex
  layers: 2
  heads: 2
  width: 16
  window: 8
  memory: {tokens: 64, neighbours: 4}
  columns: {count: 4}
  homeostasis: {speed: 0.02}
  slots: {count: 2}
  sleep: {every_updates: 4, updates: 2, windows: 32}
optimizer:
  groups:
    - {name: memory, pattern: memory, lr_factor: 2.0, optimizer: adamw}
    - {name: neuroscience, pattern: "columns|slots|router", lr_factor: 0.5, optimizer: adamw}
    - {name: core, pattern: .}
training: {updates: 20, batch_size: 3, accumulation: 2, threads: 1, precision: float32}
evaluation: {every_updates: 10, max_tokens: 600}
checkpoint: {every_updates: 5}
runs_folder: %(runs)s
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path / "cache"))
    draw = random.Random(7)
    words = ["the", "a", "small", "large", "model", "learns", "reads", "writes", "one", "two", "text", "token", "stops"]
    text = "\n".join(" ".join(draw.choices(words, k=8)) + "." for _ in range(300))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    file = tmp_path / "tiny.yaml"
    file.write_text(RECIPE % {"text": tmp_path / "text.txt", "runs": tmp_path / "runs"}, encoding="utf-8")

    def make(*overrides: str) -> Recipe:
        return load_recipe(file, list(overrides))

    return make


def rows(folder: Path, event: str = "update") -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == event]


def test_a_stopped_and_resumed_run_has_the_losses_and_the_memory_of_one_that_was_not(recipe: Any) -> None:
    whole = train(recipe(), report=False).folder
    # Update 11 is asleep, and memory, slots, episodes, biases and thresholds have all been at work before it.
    cut = train(recipe(), stop_when=lambda row: "here" if row.get("update") == 10 else None, report=False).folder
    train(recipe(), resume=cut, report=False)
    wanted = {row["update"]: row["train/loss"] for row in rows(whole)}
    assert {row["update"]: row["train/loss"] for row in rows(cut)} == wanted
    weights = [(max((f / "checkpoints").glob("update-*")) / "model.safetensors").read_bytes() for f in (whole, cut)]
    assert weights[0] == weights[1]


KILLED = """
import os, signal, sys
from pathlib import Path
from unstuck.config.recipe import load_recipe
from unstuck.train.run import train
kill = lambda row: os.kill(os.getpid(), signal.SIGKILL) if row.get("update") == 12 else None
train(load_recipe(sys.argv[1]), folder=Path(sys.argv[2]), stop_when=kill, report=False)
"""


def test_killed_in_its_sleep_and_resumed_it_has_the_losses_of_a_run_that_was_not(recipe: Any, tmp_path: Path) -> None:
    whole, cut = train(recipe(), report=False).folder, tmp_path / "cut"
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "tiny.yaml", cut], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not (cut / "summary.json").exists()
    train(load_recipe(cut), resume=cut, report=False)
    found = [{row["update"]: row["train/loss"] for row in rows(folder)} for folder in (whole, cut)]
    assert found[0] == found[1]
    weights = [(f / "checkpoints" / "update-00000020" / "model.safetensors").read_bytes() for f in (whole, cut)]
    assert weights[0] == weights[1]


def test_asleep_no_new_text_is_read_and_each_group_logs_its_rate(recipe: Any) -> None:
    result = train(recipe(), report=False)
    found = rows(result.folder)
    rates = {key.removeprefix("lr/") for key in found[0] if key.startswith("lr/")}
    assert {"memory", "neuroscience", "core", "core-muon"} <= rates
    at_peak = found[len(found) // 4]
    assert at_peak["lr/memory"] == pytest.approx(2 * at_peak["lr/core"])
    assert {"columns/largest_load", "homeostasis/rate"} <= found[0].keys()
    state = json.loads((max((result.folder / "checkpoints").glob("update-*")) / "state.json").read_text())
    awake = sum(update % 6 < 4 for update in range(20))
    assert state["examples"] == awake * 6


def test_a_saved_model_loads_and_predicts_the_same(recipe: Any) -> None:
    result = train(recipe("training.updates=6"), report=False)
    loaded = [load_checkpoint(result.folder, "last").model for _ in range(2)]
    seen = torch.randint(loaded[0].vocabulary, (2, 16))
    assert torch.equal(loaded[0](seen), loaded[1](seen))


def test_a_resume_with_another_batch_size_begins_with_empty_memory(recipe: Any) -> None:
    folder = train(recipe("training.updates=6"), report=False).folder
    train(recipe("training.updates=8", "training.batch_size=2"), resume=folder, report=False)
    assert rows(folder)[-1]["update"] == 8
    said = rows(folder, "resume")[0]
    assert not any("data position" in part for part in said["kept"])
    assert {part.partition(" (")[0] for part in said["dropped"]} >= {"data position", "what the streams remember"}


def test_a_resume_with_as_many_streams_in_other_parts_keeps_their_place_and_memory() -> None:
    settings = {"data.kind": "text", "model.memory.tokens": 64, "training.batch_size": 3, "training.accumulation": 2}
    said = compare(Path("run"), 6, settings, settings | {"training.batch_size": 2, "training.accumulation": 3})
    assert any("data position" in part for part in said.kept)
    assert not any("stream" in part for part in said.dropped)


def test_a_start_takes_what_was_learned_and_nothing_that_was_remembered(recipe: Any) -> None:
    folder = train(recipe("training.updates=6"), report=False).folder
    base = load_checkpoint(folder, "last").model.state_dict()
    assert base["streams.held_BM"].any()
    assert (base["episodes.surprise_R"] >= 0).any()
    begun = prepare_parts(recipe(f"start_from={folder}/checkpoints/update-00000006"), Share()).model.state_dict()
    assert not begun["streams.held_BM"].any()
    assert (begun["episodes.surprise_R"] < 0).all()
    slots = normalise(base["slots.initial_SW"]).expand_as(begun["streams.slots_BSW"])
    assert torch.equal(begun["streams.slots_BSW"], slots)
    learned = [name for name in base if not name.startswith(("streams.", "episodes."))]
    assert all(torch.equal(begun[name], base[name]) for name in learned)
    longer = train(recipe(f"start_from={folder}", "data.context=32", "training.updates=6"), report=False)
    assert rows(longer.folder)[-1]["update"] == 6


def test_a_model_that_slept_over_text_is_awake_over_answers(recipe: Any, tmp_path: Path) -> None:
    folder = train(recipe("data.tokenizer=bpe", "data.vocabulary=280", "training.updates=6"), report=False).folder
    said = [{"prompt": f"one {n}", "response": "text stops"} for n in range(40)]
    (tmp_path / "said.jsonl").write_text("\n".join(map(json.dumps, said)), encoding="utf-8")
    (tmp_path / "chat.yaml").write_text(
        f"name: chat\nstart_from: {folder}\nmodel: {{architecture: from-start}}\nruns_folder: {tmp_path}\n"
        f"data: {{kind: answers, source: {tmp_path / 'said.jsonl'}, context: 32}}\n"
        "training: {updates: 6, batch_size: 4, threads: 1, precision: float32}\n",
        encoding="utf-8",
    )
    result = train(load_recipe(tmp_path / "chat.yaml"), report=False)
    assert len(rows(result.folder)) == 6
    assert "every_updates: null  # from: answers are not replayed" in (result.folder / "config.yaml").read_text()
    asked = recipe("data.kind=answers", f"data.source={tmp_path / 'said.jsonl'}", f"data.tokenizer={folder}")
    with pytest.raises(UserError, match=r"set model\.sleep\.every_updates=null"):
        train(asked, report=False)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_long_prompt_is_said_to_be_cut_only_where_it_is(
    recipe: Any, remembers: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = () if remembers else ("model.memory.tokens=0", "model.slots.count=0", "optimizer.groups=[]")
    folder = train(recipe("training.updates=2", *alone), report=False).folder
    capsys.readouterr()
    assert main(["generate", str(folder), "the small model reads one text " * 3, "--max-tokens", "2"]) == 0
    assert ("reads the last 16" in capsys.readouterr().err) is not remembers
    model = load_checkpoint(folder).model
    seen = torch.arange(40).view(1, 40) % 7
    last = [
        next_logits(model, tokens, torch.tensor([tokens.shape[1]]), torch.device("cpu"))
        for tokens in (seen, seen[:, -16:])
    ]
    assert torch.equal(*last) is not remembers


def test_validation_with_memory_is_one_reading_of_the_source(recipe: Any) -> None:
    # As many neighbours as tokens: the order of the store then decides nothing among equally near ones.
    model_section = recipe("model.slots.count=0", "model.window=null", "model.memory.neighbours=64").config.model
    torch.manual_seed(0)
    model = build(model_section, vocabulary=20, context=16, streams=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    tokens = np.random.default_rng(0).integers(20, size=16 * 23 + 1)
    inputs, targets = tokens[:-1].reshape(-1, 16), tokens[1:].reshape(-1, 16)
    measured = StreamValidation({"it": (inputs, targets)}, warm=5, device=torch.device("cpu")).measure(model)
    with torch.no_grad(), model.eval().other_streams(1):
        read = [
            float(model(torch.from_numpy(x)[None], torch.from_numpy(y)[None], "sum", 0))
            for x, y in zip(inputs, targets, strict=True)
        ]
    assert measured.loss == pytest.approx(sum(read) / len(tokens[1:]), abs=1e-5)
    assert len(next(iter(stretches(inputs, targets, warm=5)))) == 2  # several stretches side by side, one reading


def test_streams_read_on_where_they_were_and_an_epoch_repeats_no_window() -> None:
    order = StreamOrder(windows=103, streams=4, stretch=5, seed=1)
    read = np.array([order.batch(step, 0, 4) for step in range(200)])
    once = read[: 25 - 3]  # 5 rounds of 5 windows, the last stream 3 windows ahead
    assert len(set(once.flatten().tolist())) == once.size
    assert 0 <= read.min() <= read.max() < 103
    goes_on = np.diff(read, axis=0) == 1
    assert (goes_on.mean(0) > 0.75).all()
    assert (~goes_on).sum(1).max() <= 2  # two of four streams at once, at most, go to another place
    again = StreamOrder(windows=103, streams=4, stretch=5, seed=1)
    assert (again.batch(17, 2, 2) == read[17, 2:]).all()


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.window=7", "set model.window="),
        ("model.memory.tokens=4", "set model.memory.tokens="),
        ("model.sleep.updates=9", "set model.sleep.updates="),
        ("model.sleep.windows=3", "set model.sleep.windows="),
        ("training.batch_size=2000 model.sleep.every_updates=null", "training.batch_size="),
    ],
)
def test_settings_that_cannot_work_are_a_sentence_with_the_next_step(recipe: Any, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        train(recipe(*override.split()), report=False)


def test_a_recall_document_asks_for_each_fact_once_and_out_of_reach_of_a_window() -> None:
    text = recall_document(np.random.default_rng(0), facts=8, gap=(64, 64))
    places = answer_places(text)
    assert len(places) == 8
    for place in places:
        told = text.index(text[place - 1 : place + 1])
        assert place - told >= 64
    ids = np.array([[ord(c) for c in text]])
    assert np.flatnonzero(answers(ids, question=ord("?"))[0] + 0).tolist() == [place - 1 for place in places]
