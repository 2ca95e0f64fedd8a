"""Tables: what is one run, several, or none; units and x-axes settled once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from unstuck.errors import UserError
from unstuck.runs.names import said_columns
from unstuck.runs.readers import read_runs


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_lightning_writes_training_and_validation_rows_apart(tmp_path: Path) -> None:
    text = "epoch,lr-AdamW,step,train_loss_epoch,train_loss_step,val_loss\n"
    text += "0,,49,,3.5,\n0,0.001,49,,,\n0,,99,,3.1,\n0,,99,,,3.3\n0,,99,3.4,,\n1,,149,,nan,\n"
    (run,) = read_runs(_file(tmp_path, "metrics.csv", text))
    assert (run.format, run.axis) == ("lightning-csv", "update")
    assert list(run.series["train/loss"].updates) == [49, 99, 149]
    assert math.isnan(run.series["train/loss"].values[-1])  # a written nan is a value, a blank is none
    assert list(run.series["val/loss"].values) == [3.3]
    assert str(run.series["val/loss"].source(0)) == "metrics.csv:5"
    assert run.series["lr/adam_w"].at(49) == 1e-3


def test_keras_counts_epochs_from_zero_and_settings_turn_them_into_updates(tmp_path: Path) -> None:
    rows = "".join(f"{e},{2.0 / (e + 1)},{2.2 / (e + 1)}\n" for e in range(6))
    path = _file(tmp_path, "history.csv", "epoch,loss,val_loss\n" + rows)
    (run,) = read_runs(path)
    assert (run.format, run.axis) == ("keras-csv", "epoch")
    assert list(run.series["train/loss"].updates) == [1, 2, 3, 4, 5, 6]
    _file(tmp_path, "history.config.json", '{"batch_size": 10, "train_samples": 95, "epochs": 6}')
    (run,) = read_runs(path)
    assert list(run.series["val/loss"].updates) == [10, 20, 30, 40, 50, 60]


def test_rows_of_keras_without_an_epoch_are_epochs(tmp_path: Path) -> None:
    rows = "".join(f"{0.7 - e / 100},0.5,{0.7 - e / 100},0.5\n" for e in range(9))
    (run,) = read_runs(_file(tmp_path, "log.csv", "val_loss,val_accuracy,loss,accuracy\n" + rows))
    assert run.axis == "epoch"
    assert run.updates == 9


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_any_names_and_delimiters(tmp_path: Path, delimiter: str) -> None:
    header = delimiter.join(["iteration", "Train Loss", "dev_loss", "learning rate"])
    rows = [delimiter.join([str(k), str(3 - k / 100), "", "0.001"]) for k in range(0, 50, 10)]
    (run,) = read_runs(_file(tmp_path, "log.csv", "\n".join([header, *rows]) + "\n"))
    assert list(run.series["train/loss"].updates) == [0, 10, 20, 30, 40]
    assert "val/loss" not in run.series  # no cell of it was filled
    assert run.series["lr/all"].at(40) == 1e-3


def test_batches_counted_within_the_epoch_go_on(tmp_path: Path) -> None:
    rows = "".join(f"{e},{b},{3 - e / 10 - b / 1000}\n" for e in range(3) for b in range(0, 100, 10))
    (run,) = read_runs(_file(tmp_path, "log.csv", "epoch,step,loss\n" + rows))
    updates = run.series["train/loss"].updates
    assert len(updates) == 30
    assert list(updates[:3]) == [0, 10, 20]
    assert int(updates[10]) > int(updates[9])
    assert int(updates[-1]) == 2 * 91 + 90


def test_runs_side_by_side_become_runs(tmp_path: Path) -> None:
    rows = "".join(f"{4 - k / 100},{4 - k / 50}\n" for k in range(30))
    runs = read_runs(_file(tmp_path, "lrs.csv", "learning_rate_0.01,learning_rate_0.05\n" + rows))
    assert [run.setting("learning_rate") for run in runs] == [0.01, 0.05]
    assert all(len(run.series["train/loss"]) == 30 for run in runs)


def test_an_export_of_wandb_holds_one_run_a_column(tmp_path: Path) -> None:
    header = '"Step","a - train/loss","a - train/loss__MIN","a - train/loss__MAX","b - train/loss"'
    rows = "".join(f'"{k}","{3 - k / 10}","{3 - k / 10}","{3 - k / 10}","{4 - k / 10}"\n' for k in range(10))
    runs = read_runs(_file(tmp_path, "wandb_export.csv", header + "\n" + rows))
    assert [run.series["train/loss"].values[0] for run in runs] == [3.0, 4.0]


def test_runs_below_one_another_become_runs(tmp_path: Path) -> None:
    rows = "".join(f"{seed},{k},{3 + seed - k / 10}\n" for seed in (1, 2, 3) for k in range(8))
    runs = read_runs(_file(tmp_path, "all.csv", "seed,step,loss\n" + rows))
    assert [run.series["train/loss"].values[0] for run in runs] == [4.0, 5.0, 6.0]


def test_tensorboards_download_is_named_by_its_file(tmp_path: Path) -> None:
    text = "Wall time,Step,Value\n" + "".join(f"{1e9 + k},{k * 10},{2 - k / 10}\n" for k in range(8))
    (run,) = read_runs(_file(tmp_path, "run-a-tag-train_loss.csv", text))
    assert list(run.series["train/loss"].updates[:2]) == [0, 10]
    path = _file(tmp_path, "download.csv", text)
    with pytest.raises(UserError, match="--columns Value=train/loss"):
        read_runs(path)
    (run,) = read_runs(path, columns={"Value": "val/loss"})
    assert "val/loss" in run.series


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,lr,bs,layers,loss\na,1e-3,32,4,2.1\nb,2e-3,32,4,2.3\nc,1e-3,64,4,2.2\n", "table of 3 finished runs"),
        ("val_bpb\tnotes\n1.36\tbaseline\n1.35\tswiglu\n1.34\tmore layers\n", "table of 3 finished runs"),
        ("loss,flag\n" + "False,0,1,0.34,0.6\n" * 4, "2 names in its header and 5 values"),
    ],
)
def test_what_is_no_curve_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read_runs(_file(tmp_path, "table.csv", text))


def test_columns_without_a_header_need_names(tmp_path: Path) -> None:
    path = _file(tmp_path, "numbers.csv", "".join(f"{k},{3 - k / 100}\n" for k in range(40)))
    with pytest.raises(UserError, match="--columns"):
        read_runs(path)
    (run,) = read_runs(path, columns={"col1": "step", "col2": "train/loss"})
    assert run.series["train/loss"].at(10) == pytest.approx(2.9)


def test_an_accuracy_table_of_people_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read_runs(_file(tmp_path, "people.csv", "name,age,height\nAnn,31,1.7\nBob,45,1.8\n"))


def test_a_column_is_named_as_a_log_would_call_it() -> None:
    assert said_columns(["a=lr,b=val_loss", "c="]) == {"a": "lr/all", "b": "val/loss", "c": ""}
