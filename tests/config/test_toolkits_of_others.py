"""Configurations as toolkits of TensorFlow, JAX and PaddlePaddle write them: sections, names of schedules, gin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unstuck.config.dialects import canonical_settings, guess_dialect
from unstuck.config.files import edited, read_settings_file
from unstuck.config.values import read_value


def settings_of(folder: Path, name: str, text: str) -> dict[str, Any]:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    raw = read_settings_file(path)[1]
    return {key: setting.value for key, setting in canonical_settings(raw, guess_dialect(raw)).items()}


OPENNMT_TF = """
params:
  decay_type: PolynomialDecay
  decay_params: {max_step: 300, warmup_steps: 9}
  learning_rate: 0.0084
  minimum_learning_rate: 0.00084
  optimizer: AdamW
  optimizer_params: {global_clipnorm: 5.0}
train: {batch_size: 4, effective_batch_size: 32, max_step: 300}
data: {train_examples: 8000}
"""
MAXTEXT = """
learning_rate: 3.0e-5
lr_schedule_type: cosine
cosine_learning_rate_final_fraction: 0.1
warmup_steps_fraction: 0.1
gradient_clipping_threshold: 1.0
adam_b2: 0.95
"""
PADDLE_OCR = """
Global: {epoch_num: 500}
Optimizer:
  name: Adam
  lr: {name: Cosine, learning_rate: 0.001}
Train: {loader: {batch_size_per_card: 256}}
"""
MODEL_GARDEN = """
trainer:
  optimizer_config:
    learning_rate: {cosine: {initial_learning_rate: 1.6, decay_steps: 600}, type: cosine}
    optimizer: {sgd: {momentum: 0.9}, type: sgd}
    warmup: {linear: {warmup_steps: 50}, type: linear}
  train_steps: 600
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (OPENNMT_TF, {"schedule": "polynomial", "updates": 300, "horizon_updates": 300, "warmup_updates": 9,
                      "min_learning_rate": 0.00084, "clip_norm": 5.0, "batch_size": 4, "accumulation": 8,
                      "optimizer": "adamw"}),
        (MAXTEXT, {"schedule": "cosine", "lr_floor": 0.1, "warmup_share": 0.1, "clip_norm": 1.0, "beta2": 0.95}),
        (PADDLE_OCR, {"schedule": "cosine", "optimizer": "adam", "epochs": 500, "batch_size": 256}),
        (MODEL_GARDEN, {"schedule": "cosine", "optimizer": "sgd", "learning_rate": 1.6, "warmup_updates": 50}),
    ],
)  # fmt: skip
def test_sections_of_a_toolkit(text: str, expected: dict[str, Any], tmp_path: Path) -> None:
    found = settings_of(tmp_path, "config.yml", text)
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("CosineAnnealingDecay", "cosine"), ("warmup_cosine_decay_schedule", "cosine"), ("WarmupCosineLR", "cosine"),
        ("NoamDecay", "inverse_sqrt"), ("linear_warmup * rsqrt_decay", "inverse_sqrt"), ("WarmupDecayLR", "linear"),
        ("get_polynomial_decay_schedule", "polynomial"), ("CosineDecayRestarts", "restarts"),
        ("warmup_constant", "constant"),
        ("StepLR", "steplr"), ("WarmupLR", "warmuplr"), ("decay", "decay"), ("schedule_lr", "schedule_lr"),
    ],
)  # fmt: skip
def test_a_schedule_by_the_name_of_its_class_or_function(written: str, kind: str) -> None:
    assert read_value("schedule", written) == kind


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("effective_batch_size: 32", 4),
        ("effective_batch_size: 32\nworld_size: 2", 2),
        ("effective_batch_size: 36", None),  # no whole number of micro-batches
        ("effective_batch_size: 524288\nseq_len: 1024", None),  # in tokens
        ("effective_batch_size: 32\ngrad_accum: 2", 2),  # what is written wins
        ("effective_batch_size: 8", None),
    ],
)
def test_an_effective_batch_says_the_accumulation(more: str, expected: int | None, tmp_path: Path) -> None:
    assert settings_of(tmp_path, "config.yaml", f"batch_size: 8\n{more}\n").get("accumulation") == expected


def test_epochs_of_warm_up_become_updates_where_an_epoch_is_a_whole_number_of_them(tmp_path: Path) -> None:
    text = "train_data_size: 2000\nbatch_size: 80\nwarmup_epochs: 0.64\nepochs: 22\n"
    assert settings_of(tmp_path, "config.yaml", text)["warmup_updates"] == 16
    assert "warmup_updates" not in settings_of(tmp_path, "args.yaml", text.replace("2000", "2001"))


GIN = """# Macros:
TRAIN_STEPS = 10000
adamw.learning_rate = 1e-3
utils.create_schedule:
  base = 1.0
  warmup_steps = 1000  # of T5X
train/pipeline.batch_size = 128
train.train_steps = %TRAIN_STEPS
trainer.optimizer = @adafactor.Adafactor()
broken = [1,
"""


def test_gin_bindings_blocks_macros_and_references(tmp_path: Path) -> None:
    found = settings_of(tmp_path, "config.gin", GIN)
    assert found["learning_rate"] == 1e-3
    assert (found["warmup_updates"], found["updates"], found["batch_size"]) == (1000, 10000, 128)
    assert found["optimizer"] == "adafactor"
    changed = edited(tmp_path / "config.gin", {"adamw.learning_rate": 5e-4})
    assert changed == GIN.replace("1e-3", "0.0005")
