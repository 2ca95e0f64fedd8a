"""One JSON document with a whole history, rows wrapped by a structured logger, and names with units."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import read_runs

LOSS = [2.7, 2.3, 2.0, 1.8]
VAL = [2.8, 2.4, 2.1, 1.9]


def only_run(path: Path, text: str) -> Run:
    path.write_text(text, encoding="utf-8")
    (run,) = read_runs(path, beside=False)
    return run


ROWS = [{"epoch": e, "train": {"loss": t}, "val": {"loss": v}} for e, (t, v) in enumerate(zip(LOSS, VAL, strict=True))]


@pytest.mark.parametrize(
    "document",
    [
        {"loss": LOSS, "val_loss": VAL, "lr": [1e-3] * 4},
        {"config": {"lr": 1e-3}, "history": {"loss": LOSS, "val_loss": VAL}},
        {"train": {"loss": LOSS}, "val": {"loss": VAL}},
        {"best_epoch": 3, "history": ROWS},
        ROWS,
    ],
    ids=["Keras", "below a key", "by phase", "rows below a key", "rows"],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_with_a_history(document: Any, indent: int | None, tmp_path: Path) -> None:
    run = only_run(tmp_path / "history.json", json.dumps(document, indent=indent))
    assert (run.format, run.axis) == ("json-history", "epoch")
    assert run.series["train/loss"].values.tolist() == LOSS
    assert run.series["val/loss"].values.tolist() == VAL


def test_shorter_lists_are_filled_every_few_rows(tmp_path: Path) -> None:
    document = {"step": [10, 20, 30, 40], "train_losses": [0] * 3, "train_loss": LOSS, "val_loss": [2.5, 1.9]}
    run = only_run(tmp_path / "log.json", json.dumps(document))
    assert run.series["train/loss"].updates.tolist() == [10, 20, 30, 40]
    assert run.series["val/loss"].updates.tolist() == [20, 40]


@pytest.mark.parametrize(
    "document",
    [{"loss": 2.3, "val_loss": 2.4}, {"lr": [1e-3, 1e-4], "loss": "mse"},
     [{"lr": 1e-3, "loss": 2}, {"lr": 3e-3, "loss": 1}]],
    ids=["one result", "a configuration", "finished runs"],
)  # fmt: skip
def test_what_is_no_history_is_not_taken(document: Any, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(UserError):
        read_runs(path, beside=False)


def test_rows_in_the_payload_of_a_structured_logger(tmp_path: Path) -> None:
    rows = [{"level": "info", "data": {"iteration": 10 * k, "metrics": {"loss": loss}, "optim": {"lr": 1e-3}}}
            for k, loss in enumerate(LOSS, start=1)]  # fmt: skip
    run = only_run(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert run.series["train/loss"].updates.tolist() == [10, 20, 30, 40]
    assert run.series["lr/all"].values.tolist() == [1e-3] * 4


def test_units_in_the_header_of_a_table(tmp_path: Path) -> None:
    head = "Epoch [-];Train loss [nats];Val loss [nats];LR [1/step];Step time [ms];Grad norm [L2]\n"
    rows = "".join(f"{e};{t};{v};1e-3;31.2;1.1\n" for e, (t, v) in enumerate(zip(LOSS, VAL, strict=True), start=1))
    run = only_run(tmp_path / "log.csv", head + rows)
    assert run.series["train/loss"].values.tolist() == LOSS
    assert {"val/loss", "lr/all", "grad_norm/preclip"} <= run.series.keys()
    assert run.series["time/step_ms"].values.tolist() == [31.2] * 4


@pytest.mark.parametrize(("values", "taken"), [([1e-3, 9e-4, 8e-4, 7e-4], True), ([0.5, 0.4, 0.3, 0.2], False),
                                               ([0.03, 0.02, 0.01, 0.0], False)])  # fmt: skip
@pytest.mark.parametrize("key", ["rate", "eta"])
def test_a_rate_is_one_of_learning_where_its_values_are(
    key: str, values: list[float], taken: bool, tmp_path: Path
) -> None:
    rows = [{"step": 10 * k, "loss": t, key: v} for k, (t, v) in enumerate(zip(LOSS, values, strict=True), start=1)]
    run = only_run(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert ("lr/all" in run.series) == taken


def test_an_accuracy_without_a_phase_is_validations_beside_losses_that_have_one(tmp_path: Path) -> None:
    rows = "".join(f"{e},{t},{v},0.{e}\n" for e, (t, v) in enumerate(zip(LOSS, VAL, strict=True)))
    run = only_run(tmp_path / "history.csv", "epoch,train_loss,valid_loss,accuracy\n" + rows)
    assert run.series["val/accuracy"].values.tolist() == [0.0, 0.1, 0.2, 0.3]
    run = only_run(tmp_path / "log.csv", "epoch,loss,val_loss,accuracy\n" + rows)
    assert "train/accuracy" in run.series
