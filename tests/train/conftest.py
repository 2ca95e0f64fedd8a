"""A recipe that trains in a fraction of a second, on text written here."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unstuck.config.recipe import Recipe, load_recipe

TINY = """
name: tiny
data: {source: %(text)s, tokenizer: char, context: 16, validation_split: tail}
model: {architecture: modern, layers: 1, heads: 2, width: 16}
schedule: {kind: wsd, warmup_share: 0.1}
training: {updates: 24, batch_size: 4, threads: 1, precision: float32}
evaluation: {every_updates: 8, max_tokens: 400}
checkpoint: {every_updates: 5}
runs_folder: %(runs)s
"""

Make = Callable[..., Recipe]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text with structure to learn: random sentences from few words."""
    draw = random.Random(7)
    words = ["the", "a", "small", "large", "model", "learns", "reads", "writes", "one", "two", "text", "token", "stops"]
    lines = [" ".join(draw.choices(words, k=8)) + "." for _ in range(400)]
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def recipe_file(tmp_path: Path, text: Path) -> Path:
    """The tiny recipe as a YAML file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY % {"text": text, "runs": tmp_path / "runs"}, encoding="utf-8")
    return path


@pytest.fixture
def tiny(recipe_file: Path) -> Make:
    """Makes the tiny recipe with `key=value` overrides."""

    def make(*overrides: str) -> Recipe:
        return load_recipe(recipe_file, list(overrides))

    return make


def rows(folder: Path, event: str | None = None) -> list[dict[str, Any]]:
    """Events of a run folder's metrics.jsonl."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [row for row in found if event is None or row["event"] == event]


def losses(folder: Path) -> dict[int, float]:
    """Training loss by update; what was trained again after a resume replaces what a kill took back."""
    return {row["update"]: row["train/loss"] for row in rows(folder, "update")}


def last_weights(folder: Path) -> bytes:
    """The bytes of the newest checkpoint's weights."""
    newest = max((folder / "checkpoints").glob("update-*"))
    return (newest / "model.safetensors").read_bytes()
