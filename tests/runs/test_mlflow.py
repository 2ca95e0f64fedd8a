"""MLflow's file store. The layout and lines are those of a run of mlflow 3.17 (`log_metric`, `log_params`), which the
reader was checked against."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import read_runs

META = """artifact_uri: file:///x
end_time: {end}
run_id: 754c9ebe27c4494db03cf6f03dfee1a3
run_name: hello
status: {status}
"""


def store(root: Path, metrics: dict[str, str], params: dict[str, str] | None = None, status: int = 3) -> Path:
    folder = root / "mlruns" / "0" / "754c9ebe27c4494db03cf6f03dfee1a3"
    for kind, files in (("metrics", metrics), ("params", params or {})):
        for key, content in files.items():
            path = folder / kind / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    (folder / "meta.yaml").write_text(META.format(end=1700000999000, status=status))
    return folder


def lines(count: int, every: int = 10, ms: int = 2500) -> str:
    return "".join(f"{1700000000000 + ms * k} {4 - k / count} {every * k}\n" for k in range(count))


def only(path: Path) -> Run:
    (found,) = read_runs(path)
    return found


def test_a_run_folder(tmp_path: Path) -> None:
    params = {"learning_rate": "0.0003", "optimizer": "adamw", "batch_size": "32"}
    folder = store(tmp_path, {"train/loss": lines(100), "val_loss": lines(10, 100, 25000)}, params)
    for named in (folder, tmp_path / "mlruns", folder / "metrics" / "train" / "loss"):
        run = only(named)
        assert (run.format, run.source, run.updates) == ("mlflow", str(folder), 990)
        assert len(run.series["train/loss"]) == 100
        assert run.series["val/loss"].updates.tolist() == list(range(0, 1000, 100))
        assert run.setting("learning_rate") == 0.0003
        assert run.setting("batch_size") == 32
        assert str(run.settings["learning_rate"].source) == "params/learning_rate"
        (end,) = run.events_of("end")
        assert end.data["status"] == "finished"


def test_a_running_run_has_no_end(tmp_path: Path) -> None:
    run = only(store(tmp_path, {"loss": lines(20)}, status=1))
    assert not list(run.events_of("end"))


def test_other_forms_of_a_line(tmp_path: Path) -> None:
    five = "".join(f"170000000{k}000 {v} {k} data 1a2b\n" for k, v in enumerate(("1.0", "nan", "inf", "2.0")))
    values = only(store(tmp_path, {"loss": five})).series["train/loss"].values
    assert values[0] == 1.0
    assert math.isnan(values[1])
    assert math.isinf(values[2])


def test_without_steps_values_are_counted(tmp_path: Path) -> None:
    run = only(store(tmp_path, {"loss": "".join(f"170000000{k}000 {3 - k} 0\n" for k in range(9))}))
    assert run.series["train/loss"].updates.tolist() == list(range(9))
    assert any("without a step" in note for note in run.notes)


def test_validation_by_epoch_is_put_at_its_update(tmp_path: Path) -> None:
    run = only(store(tmp_path, {"loss": lines(1000), "val_loss": lines(10, 1, 250_000)}))
    assert run.series["val/loss"].updates.tolist() == [1000 * k for k in range(10)]


def test_a_torn_line_and_a_foreign_file(tmp_path: Path) -> None:
    run = only(store(tmp_path, {"loss": lines(20) + "1700000", "model": "not a metric\n"}))
    assert len(run.series["train/loss"]) == 20
    assert any("could not be read" in note for note in run.notes)


def test_no_metric_is_a_sentence(tmp_path: Path) -> None:
    folder = store(tmp_path, {"loss": "hello\n"})
    with pytest.raises(UserError, match="no metric"):
        read_runs(folder)
    lonely = tmp_path / "metrics"
    lonely.write_text(lines(20))
    with pytest.raises(UserError):
        read_runs(lonely)
