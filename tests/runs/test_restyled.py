"""A record printed in many styles is read as the same record, and its configuration in many forms as the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.faults.restyle_configs import FORMS
from benchmarks.faults.restyle_layouts import Row
from benchmarks.faults.restyle_logs import STYLES
from benchmarks.faults.restyle_programs import PROGRAMS, About

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
UNSAID = {"two-lines": {"time/data_ms"}, "maxtext": {"time/step_ms"}}


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


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_record_reads_the_same_as_a_program_prints_it(program: str, accumulation: int, tmp_path: Path) -> None:
    about = About(total=300, per_epoch=50, batch=16, accumulation=accumulation)
    held = [{**row, "acc": 0.3 + row["step"] / 1000} if "val" in row else row for row in rows()]
    held = [{**row, "step_s": 0.05 + 0.001 * (row["step"] % 70)} if "step_s" in row else row for row in held]
    log = tmp_path / f"train{PROGRAMS[program].suffix}"
    log.write_text("\n".join(PROGRAMS[program].printed(held, about)) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps({
        "lr": 3e-3, "batch_size": 16, "gradient_accumulation_steps": accumulation, "max_steps": 300,
        "n_train": 50 * 16 * accumulation,
    }), encoding="utf-8")  # fmt: skip
    read = series(read_runs(log)[0])
    every = {"train/loss": "loss", "lr/all": "lr", "grad_norm/preclip": "norm", "time/step_ms": "step_s",
             "time/data_ms": "data_s", "val/loss": "val", "val/accuracy": "acc"}  # fmt: skip
    for name, key in every.items():
        if key not in PROGRAMS[program].shows() or name in UNSAID.get(program, ()):
            continue
        wanted = [(row["step"], row[key] * (1e3 if name.startswith("time/") else 1.0)) for row in held if key in row]
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


def test_a_rate_in_units_of_a_power_of_ten() -> None:
    for key in ("lr(1e-4)", "lr [1e-4]", "LR x1e4", "learning rate (x1e-4)"):
        assert names.assign({key: 9})[key].converted(np.array([0.15])).tolist() == [1.5e-5]
    assert names.assign({"lr_1e-4": 9}).get("lr_1e-4", names.by_canonical("")).canonical != "lr/all"


def test_an_evaluation_in_the_middle_of_an_epoch_is_not_its_end(tmp_path: Path) -> None:
    """icefall validates every so many batches and prints the epoch alone."""
    lines = [f"Epoch {e}, batch {b}, loss={5 - e - b / 100:.3f}, lr: 0.01" for e in (1, 2) for b in range(10, 110, 10)]
    for place, epoch in ((15, 2), (10, 1), (5, 1)):
        lines.insert(place, f"Epoch {epoch}, validation: loss={4 - place / 10}")
    (tmp_path / "train.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert series(read_runs(tmp_path / "train.log")[0])["val/loss"][0] == [50, 100, 150]


def test_per_cent_become_shares_and_other_lines_that_begin_with_iter_are_read_whole(tmp_path: Path) -> None:
    lines = []
    for step in range(10, 210, 10):
        lines.append(f"iter {step}: loss {5 - step / 100}, lr [0.01], 0.05 s/it")
        if step % 50 == 0:
            lines.append(f"iter {step}: dev loss 4.1, dev acc {step / 4}")
    (tmp_path / "train.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = read_runs(tmp_path / "train.log")[0]
    assert series(run)["val/accuracy"] == ([50, 100, 150, 200], [0.125, 0.25, 0.375, 0.5])
    assert series(run)["lr/all"][1][0] == 0.01
    assert run.setting("task") is None


def test_updates_that_a_file_says_win_over_those_of_the_printed_epochs(tmp_path: Path) -> None:
    lines = [f"Epoch:[1/1]({step}/2229) loss:{5 - step / 100} lr:0.01" for step in range(10, 310, 10)]
    (tmp_path / "train.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"max_steps": 300, "lr": 0.01}', encoding="utf-8")
    assert read_runs(tmp_path / "train.log")[0].setting("updates") == 300
