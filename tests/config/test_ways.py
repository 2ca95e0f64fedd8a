"""The way to a key decides whether its last word means the setting that it spells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unstuck.config.dialects import canonical_settings, guess_dialect
from unstuck.config.files import read_settings_file
from unstuck.config.names import NAMES
from unstuck.runs import Setting, Source


def read(settings: dict[str, Any]) -> dict[str, Any]:
    """Canonical name -> value of dotted settings, in the dialect that their keys tell."""
    raw = {key: Setting(value, key, Source("config.yaml")) for key, value in settings.items()}
    return {name: found.value for name, found in canonical_settings(raw, guess_dialect(raw)).items()}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.horizon", 4), ("model.horizon", 12), ("task.horizon", 24), ("env.horizon", 1000), ("ours.horizon", 7),
        ("pde.t_max", 10), ("exploration.decay_steps", 5000),  # the length of no schedule
        ("env.max_steps", 200), ("diffusion.steps", 1000), ("model.num_steps", 8), ("data.num_steps", 35),
        ("checkpoint.steps", 500),  # not the planned updates
        ("warmup.epochs", 5), ("lr_scheduler.max_epochs", 90), ("swa.epochs", 3),
        ("data.clip", 3.0), ("model.embedding.max_norm", 2.0), ("env.clip", 10.0),
        ("metrics.precision", 16), ("metrics.smoothing", 0.6), ("data.drop", 0.1), ("scheduler.drop", 0.5),
        ("image.width", 224), ("data.depth", 16), ("model.attention.window", 64), ("data.start", "2019-01-01"),
        ("diffusion.scheduler.type", "linear"), ("noise_scheduler.name", "cosine"), ("kl.warmup", 100),
        ("val_dataloader.batch_size", 99), ("test_loader.batch_size", 99), ("sampling.batch_size", 99),
    ],
)  # fmt: skip
def test_a_word_below_another_subject_is_not_the_setting(key: str, value: Any) -> None:
    sound = {
        "train.max_steps": 5000, "train.max_epochs": 9, "lr_scheduler.t_max": 4000, "optim.clip": 1.0,
        "train.precision": "bf16", "train.smoothing": 0.2, "model.dropout": 0.3, "model.width": 32, "model.depth": 2,
        "data.window": 128, "train.start": "scratch", "sched.name": "wsd", "sched.warmup": 40,
        "train_dataloader.batch_size": 16,
    }  # fmt: skip
    assert read({key: value, **sound}) == read(sound)
    assert read({key: value}) == {}


def test_the_steps_of_a_scheduler_and_of_a_warmup_are_not_those_of_the_run() -> None:
    assert read({"scheduler.total_steps": 900}) == {"horizon_updates": 900}
    assert read({"warmup.steps": 50, "train.max_steps": 900}) == {"warmup_updates": 50, "updates": 900}


@pytest.mark.parametrize("key", ["horizon", "sched.horizon", "lr.horizon", "optim.horizon", "optimizer.lr.horizon"])
def test_the_horizon_of_a_schedule_is_still_read(key: str) -> None:
    assert read({key: 4000})["horizon_updates"] == 4000


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("model.optimizer.lr", 0.1, "learning_rate"), ("agent.optimizer.clip", 0.5, "clip_norm"),
        ("experiment.max_steps", 300, "updates"), ("trainer.max_epochs", 7, "epochs"),
        ("data.batch_size", 8, "batch_size"),
        ("model.scheduler", "cosine", "schedule"), ("lr_scheduler.total_steps", 900, "horizon_updates"),
        ("optim.warmup", 30, "warmup_updates"), ("model.decoder.depth", 6, "layers"),
    ],
)  # fmt: skip
def test_a_section_that_does_not_contradict_is_no_matter(key: str, value: Any, name: str) -> None:
    assert read({key: value})[name] == value


@pytest.mark.parametrize(
    ("train", "validation"),
    [
        ("num_train", "num_val"), ("train_rows", "valid_rows"), ("training_samples", "n_valid"),
        ("NUM_TRAIN", "NUM_VAL"), ("data.num_train", "data.num_valid"), ("train.num_samples", "val.num_samples"),
        ("n_train_samples", "validation_examples"), ("data.train_size", "data.val_size"),
    ],
)  # fmt: skip
def test_names_of_sample_counts(train: str, validation: str) -> None:
    found = read({train: 2560, validation: 320})
    assert (found["train_samples"], found["validation_samples"]) == (2560, 320)


def test_a_share_of_the_data_is_no_number_of_samples() -> None:
    assert read({"train_size": 0.8, "val_size": 0.2}) == {}


@pytest.mark.parametrize("form", ["optim.lr", "optim/lr", "optim_lr"])
def test_a_flat_file_may_write_its_sections_into_the_keys(form: str, tmp_path: Path) -> None:
    keys = {key: form.replace("optim", way).replace("lr", last) for key, way, last in (
        ("lr", "optim", "lr"), ("clip", "optim", "grad_clip"), ("warm", "sched", "warmup_steps"),
        ("seed", "train", "seed"), ("horizon", "data", "horizon"),
    )}  # fmt: skip
    path = tmp_path / "config.yaml"
    path.write_text(
        f"{keys['lr']}: 0.02\n{keys['clip']}: 1.5\n{keys['warm']}: 40\n{keys['seed']}: 3\n{keys['horizon']}: 4\n",
        encoding="utf-8",
    )
    dialect, raw = read_settings_file(path)
    found = {name: (setting.value, setting.key) for name, setting in canonical_settings(raw, dialect).items()}
    assert found == {
        "learning_rate": (0.02, keys["lr"]), "clip_norm": (1.5, keys["clip"]),
        "warmup_updates": (40, keys["warm"]), "seed": (3, keys["seed"]),
    }  # fmt: skip


def test_each_setting_stands_once_in_the_table() -> None:
    names = [name.canonical for name in NAMES]
    assert len(names) == len(set(names)) == 45
