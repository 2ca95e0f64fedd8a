"""A record printed in many styles is read as the same record, and its configuration in many forms as the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.faults.restyle_configs import FORMS
from benchmarks.faults.restyle_layouts import Row
from benchmarks.faults.restyle_logs import STYLES

from unstuck.config.dialects import canonical_settings, guess_dialect, in_dialect
from unstuck.config.files import edited, read_settings_file
from unstuck.config.patch import Change
from unstuck.runs import Run, Setting, Source, names
from unstuck.runs.readers import read_runs

STEPS = range(10, 310, 10)
EVALUATED = range(50, 301, 50)
FACTS = {
    "lr": 3e-3, "optimizer": "adamw", "beta2": 0.95, "weight_decay": 0.1, "schedule": "cosine", "warmup": 20,
    "floor": 0.1, "updates": 300, "batch_size": 16, "accumulation": 4, "clip": 0.5, "smoothing": 0.1, "dropout": 0.2,
    "vocabulary": 96, "context": 32, "train_samples": 5000, "val_samples": 200, "eval_every": 50, "shuffle": False,
}  # fmt: skip
SETTINGS = {
    "learning_rate": 3e-3, "optimizer": "adamw", "weight_decay": 0.1, "schedule": "cosine", "warmup_updates": 20,
    "lr_floor": 0.1, "updates": 300, "batch_size": 16, "accumulation": 4, "clip_norm": 0.5, "label_smoothing": 0.1,
    "vocabulary": 96, "context": 32, "train_samples": 5000, "validation_samples": 200,
}  # fmt: skip
# What a style cannot say: "wait" alone may be for anything, and a name without a unit may be in any.
UNSAID = {"two-lines": {"time/data_ms"}}


def rows() -> list[Row]:
    """Updates, each fifth followed by an evaluation at the same step."""
    told: list[Row] = []
    for step in STEPS:
        told.append({
            "step": step, "loss": 4.0 - 0.5 * np.log10(step), "lr": 3e-3 * (1 - step / 400), "norm": 1.0 + 0.001 * step,
            "step_s": 0.05 + 1e-5 * step, "data_s": 0.02 + 1e-5 * step,
        })  # fmt: skip
        if step in EVALUATED:
            told.append({"step": step, "val": 4.1 - 0.5 * np.log10(step)})
    return told


def series(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    return {name: (s.updates.tolist(), s.values.tolist()) for name, s in run.series.items()}


@pytest.mark.parametrize("style", STYLES)
def test_a_record_reads_the_same_in_every_style(style: str, tmp_path: Path) -> None:
    log = tmp_path / f"train{STYLES[style].suffix}"
    log.write_text("\n".join(STYLES[style].printer(rows(), 300)) + "\n", encoding="utf-8")
    read = series(read_runs(log)[0])
    every = {"train/loss": "loss", "lr/all": "lr", "grad_norm/preclip": "norm", "time/step_ms": "step_s",
             "time/data_ms": "data_s", "val/loss": "val"}  # fmt: skip
    for name in every.keys() - UNSAID.get(style, set()):
        key = every[name]
        wanted = [(row["step"], row[key] * (1e3 if name.startswith("time/") else 1.0)) for row in rows() if key in row]
        assert name in read
        assert read[name][0] == [step for step, _ in wanted]
        np.testing.assert_allclose(read[name][1], [value for _, value in wanted], rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_a_configuration_reads_the_same_in_every_form(form: str, tmp_path: Path) -> None:
    written = FORMS[form].write(FACTS)
    lines = list(STYLES["logfmt"].printer(rows(), 300))
    log = tmp_path / "train.log"
    if FORMS[form].file:
        (tmp_path / FORMS[form].file).write_text(written + "\n", encoding="utf-8")
    else:
        lines = [*written.splitlines(), *lines]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = read_runs(log)[0]
    assert {name: run.setting(name) for name in SETTINGS} == pytest.approx(SETTINGS)


@pytest.mark.parametrize(
    ("key", "series"),
    [
        ("t_data", "time/data_ms"), ("loader_ms", "time/data_ms"), ("fetch_s", "time/data_ms"),
        ("perf/data_time", "time/data_ms"), ("s/it", "time/step_ms"), ("train/step_time", "time/step_ms"),
        ("step_sec", "time/step_ms"), ("|g|", "grad_norm/preclip"), ("held-out/loss", "val/loss"),
        ("acc_val", "val/accuracy"),
    ],
)  # fmt: skip
def test_names_by_their_words(key: str, series: str) -> None:
    assert names.assign({key: 9})[key].canonical == series


@pytest.mark.parametrize("key", ["it_s", "wait_s", "io", "data", "batch", "epoch_time", "val_step_time"])
def test_a_name_that_may_be_something_else_stays_unknown(key: str) -> None:
    assert key not in names.assign({key: 9})


def test_a_table_tells_empty_columns_by_their_place(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    body = [f"{step:6d}  {3 - step / 100:8.4f}  {'':8}" if step % 20 else f"{step:6d}  {'':8}  {3.1 - step / 100:8.4f}"
            for step in range(10, 200, 10)]  # fmt: skip
    log.write_text("\n".join([f"{'step':>6}  {'loss':>8}  {'val_loss':>8}", *body]) + "\n", encoding="utf-8")
    read = series(read_runs(log)[0])
    assert read["train/loss"][0] == list(range(10, 200, 20))
    assert read["val/loss"][0] == list(range(20, 200, 20))


def test_betas_are_changed_as_the_pair_that_the_user_wrote() -> None:
    raw = {"optim.betas": Setting([0.9, 0.999], "optim.betas", Source("config.yaml", 3))}
    run = Run("", "", settings=canonical_settings(raw, guess_dialect(raw)), raw_settings=raw, dialect="plain")
    assert run.setting("beta2") == 0.999
    assert in_dialect(Change("beta2", 0.999, 0.95), run) == Change("optim.betas", [0.9, 0.999], [0.9, 0.95])


def test_one_value_of_an_ini_file_is_edited_in_place(tmp_path: Path) -> None:
    path = tmp_path / "config.ini"
    path.write_text("; ours\n[optimizer]\nlr = 0.003\nname: adamw\n\n[training]\nclip = 1.0\n", encoding="utf-8")
    assert {key: s.value for key, s in read_settings_file(path)[1].items()} == {
        "optimizer.lr": 0.003, "optimizer.name": "adamw", "training.clip": 1.0,
    }  # fmt: skip
    assert edited(path, {"optimizer.lr": 0.001}) == path.read_text(encoding="utf-8").replace("0.003", "0.001")
