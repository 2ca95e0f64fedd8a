"""W&B's datastore and summary. Files are written by `tests.runs.trackers` (see there how it was checked). The reader
was also run on offline runs of wandb 0.15.12, 0.19.11 and 0.31.0 (own steps, `define_metric`, nested values, values of
40 kB, NaN and Infinity, killed and failed programs): every value and setting as logged."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.runs.trackers import datastore, ended, history, integer, message, printed, run, text
from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import read_runs

LOGS = Path("/work/shared/logs")
NAME = "run-abc123.wandb"


def rows(count: int, nested: bool = True, **more: float) -> list[bytes]:
    """Records of a loss, with W&B's own keys."""
    return [
        history(
            {"train/loss": 4 - k / count, **more, "_step": k, "_timestamp": 1.7e9 + 0.25 * k, "_runtime": k}, nested
        )
        for k in range(count)
    ]


def only(path: Path) -> Run:
    (found,) = read_runs(path)
    return found


@pytest.mark.parametrize("nested", [True, False])
def test_history_settings_and_end(tmp_path: Path, nested: bool) -> None:
    config = {"learning_rate": 3e-4, "optimizer": {"name": "adamw", "betas": [0.9, 0.95]}, "_wandb": {"t": 1}}
    late = message(5, message(1, text(1, "batch_size") + text(16, "16")))
    records = [run(config), *rows(300, nested), late, printed("done\n"), ended(0)]
    found = only(datastore(tmp_path / NAME, records))
    assert (found.format, found.axis, found.updates) == ("wandb-binary", "update", 299)
    loss = found.series["train/loss"]
    assert loss.updates.tolist() == list(range(300))
    assert loss.values[150] == 3.5
    assert set(found.series) == {"train/loss", "time/step_ms"}
    assert found.series["time/step_ms"].values == pytest.approx(np.full(299, 250.0))
    assert found.setting("learning_rate") == 3e-4
    assert found.setting("batch_size") == 16
    assert found.raw_settings["optimizer.name"].value == "adamw"
    assert not any(key.startswith("_wandb") for key in found.raw_settings)
    assert str(found.settings["learning_rate"].source) == NAME
    (end,) = found.events_of("end")
    assert end.data["exit_code"] == 0
    (start,) = found.events_of("start")
    assert start.data["time"] == 1.7e9


def test_a_setting_that_is_removed(tmp_path: Path) -> None:
    removed = message(5, message(2, text(1, "seed")))
    found = only(datastore(tmp_path / NAME, [run({"seed": 1, "lr": 0.1}), removed, *rows(20)]))
    assert set(found.raw_settings) == {"lr"}


@pytest.mark.parametrize("key", ["train/global_step", "iteration", "trainer/global_step", "iter"])
def test_the_programs_own_step_is_the_axis(tmp_path: Path, key: str) -> None:
    records = [history({"loss": 3.0, key: 50 * k, "_step": k}) for k in range(40)]
    records.insert(20, history({"eval/loss": 3.0, "_step": 20}))  # logged without it: at the step before
    found = only(datastore(tmp_path / NAME, records))
    assert found.series["train/loss"].updates.tolist() == [50 * k for k in range(40)]
    assert found.series["val/loss"].updates.tolist() == [950]
    assert key not in found.series


def test_define_metric_names_the_axis(tmp_path: Path) -> None:
    defined = message(12, text(2, "*") + text(4, "my_counter"))
    records = [defined, *(history({"loss": 3.0, "my_counter": 7 * k, "_step": k}) for k in range(40))]
    assert only(datastore(tmp_path / NAME, records)).series["train/loss"].updates[-1] == 273


def test_one_record_for_each_epoch(tmp_path: Path) -> None:
    records = [history({"loss": 3.0, "val_loss": 3.1, "epoch": k, "_step": k}) for k in range(30)]
    assert only(datastore(tmp_path / NAME, records)).axis == "epoch"


def test_nested_values_and_what_is_no_number(tmp_path: Path) -> None:
    values = {"loss": {"ce": 1.5, "deep": {"aux": 2}}, "note": "hello", "image": {"_type": "image-file", "width": 3}}
    records = [
        history({**values, "train_loss": 2.0, "_step": k}, nested) for k in range(20) for nested in (True, False)
    ]
    found = only(datastore(tmp_path / NAME, records))
    assert {"loss.ce", "loss.deep.aux"} <= {series.logged_as for series in found.series.values()}
    assert not {"note", "image.width"} & set(found.series)


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    records = [
        history({"loss": value, "_step": k}) for k, value in enumerate([1.0, math.nan, math.inf, -math.inf, 2.0])
    ]
    records.append(history({"loss": "NaN", "_step": 5}))
    values = only(datastore(tmp_path / NAME, records)).series["train/loss"].values
    np.testing.assert_equal(values, [1.0, math.nan, math.inf, -math.inf, 2.0, math.nan])


def test_values_that_are_not_json_text(tmp_path: Path) -> None:
    # HistoryItem of 0.31: number (double), integer (sint64), boolean, json
    item = text(2, "loss") + b"\x31" + struct.pack("<d", 2.5)
    other = text(2, "tokens") + integer(5, 2 * 10**12)  # zigzag of 10^12
    records = [message(2, message(1, item) + message(1, other)) for _ in range(5)]
    found = only(datastore(tmp_path / NAME, records))
    assert found.series["train/loss"].values.tolist() == [2.5] * 5
    assert found.series["tokens"].values.tolist() == [1e12] * 5


def test_records_over_several_blocks(tmp_path: Path) -> None:
    records = [history({"loss": 1.0 * k, "big": "x" * (100_000 if k % 7 == 0 else k), "_step": k}) for k in range(50)]
    path = datastore(tmp_path / NAME, records)
    assert path.stat().st_size > 20 * 32768
    assert only(path).series["train/loss"].values.tolist() == [1.0 * k for k in range(50)]


def test_a_torn_end_keeps_what_is_before(tmp_path: Path) -> None:
    path = datastore(tmp_path / NAME, rows(100))
    whole = path.read_bytes()
    for cut in (1, 10, 100):
        path.write_bytes(whole[:-cut])
        found = only(path)
        assert 98 <= len(found.series["train/loss"]) <= 99
        assert not list(found.events_of("end"))
    path.write_bytes(whole + bytes(5000))  # reserved, or zeros after a power cut
    assert len(only(path).series["train/loss"]) == 100


def test_damage_loses_its_block_only(tmp_path: Path) -> None:
    path = datastore(tmp_path / NAME, rows(3000))
    data = bytearray(path.read_bytes())
    data[40_000] ^= 255
    path.write_bytes(bytes(data))
    found = only(path)
    assert 2000 < len(found.series["train/loss"]) < 3000
    assert found.updates == 2999
    assert any("checksum" in note for note in found.notes)


def test_a_failed_run_says_how_it_ended(tmp_path: Path) -> None:
    lines = ["Traceback (most recent call last):\n", "  File 'x.py', line 1\n",
             "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"]  # fmt: skip
    found = only(datastore(tmp_path / NAME, [*rows(30), *map(printed, lines), ended(1)]))
    (error,) = found.events_of("error")
    assert error.text.startswith("torch.OutOfMemoryError: CUDA out of memory")
    assert next(found.events_of("end")).data["exit_code"] == 1


def test_a_resumed_run_begins_with_a_resume(tmp_path: Path) -> None:
    records = [history({"loss": 3.0, "_step": 500 + k}) for k in range(30)]
    found = only(datastore(tmp_path / NAME, [run({}, starting_step=500), *records]))
    assert [event.update for event in found.events_of("resume")] == [500]


def test_a_run_folder_is_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "wandb" / "run-20260101_000000-abc123"
    datastore(folder / NAME, [run({"learning_rate": 0.1}), *rows(50), ended(0)])
    (folder / "files").mkdir()
    (folder / "files" / "wandb-summary.json").write_text(json.dumps({"train/loss": 3.0, "_step": 49, "_runtime": 5}))
    (folder / "files" / "output.log").write_text("step 1 loss 3.0\n")
    for named in (folder, tmp_path / "wandb"):
        found = only(named)
        assert Path(found.source) == folder
        assert found.format == "wandb-binary"


def test_without_metrics_the_sentence_says_what_to_name(tmp_path: Path) -> None:
    error = printed("ValueError: no such file\n")
    path = datastore(tmp_path / "run-1-abc" / NAME, [run({"lr": 0.1}), error, ended(1)])
    with pytest.raises(UserError, match=r"no metric.*exit code 1: ValueError: no such file.*output\.log"):
        read_runs(path)
    (path.parent / "files").mkdir()
    (path.parent / "files" / "output.log").write_text("hello\n")
    with pytest.raises(UserError, match=r"diagnose .*run-1-abc/files/output\.log"):
        read_runs(path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    path = datastore(tmp_path / NAME, rows(3))
    data = bytearray(path.read_bytes())
    data[6] = 9
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match="version"):
        read_runs(path)


def test_nesting_and_giant_fields_are_bounded(tmp_path: Path) -> None:
    deep = message(2, message(1, text(2, "x") + text(16, '{"a":' * 50_000 + "1" + "}" * 50_000)))
    giant = message(2, b"\x0a\xff\xff\xff\xff\x0f")  # an item of 4 GiB
    found = only(datastore(tmp_path / NAME, [*rows(20), deep, giant]))
    assert len(found.series["train/loss"]) == 20


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_give_runs_or_a_sentence(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    records = [run({"lr": 0.1, "o": {"a": 1}}), *rows(40), *rows(40, nested=False), printed("x\n"), ended(1)]
    for _ in range(int(random.integers(1, 12))):  # inside the records, behind right checksums
        place = int(random.integers(len(records)))
        content = bytearray(records[place])
        content[int(random.integers(len(content)))] = int(random.integers(256))
        records[place] = bytes(content)
    data = bytearray(datastore(tmp_path / NAME, records).read_bytes())
    if seed % 2:
        data[int(random.integers(7, len(data)))] ^= 255
    (tmp_path / NAME).write_bytes(bytes(data))
    try:
        runs = read_runs(tmp_path / NAME)
    except UserError:
        return
    assert all(len(series) for found in runs for series in found.series.values())


def test_a_summary_is_one_point(tmp_path: Path) -> None:
    path = tmp_path / "wandb-summary.json"
    values = {"train/loss": "NaN", "val": {"loss": 3.0}, "plot": {"_type": "table-file", "rows": 3}, "_step": 700,
              "_timestamp": 1.7e9, "_runtime": 60.5, "_wandb": {"runtime": 60}}  # fmt: skip
    path.write_text(json.dumps(values))
    found = only(path)
    assert found.format == "wandb-summary"
    assert {name: (series.updates.tolist(), len(series)) for name, series in found.series.items()} == {
        "train/loss": ([700], 1),
        "val/loss": ([700], 1),
    }
    assert any("last value" in note and ".wandb" in note for note in found.notes)


def test_a_summary_names_the_record_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "files" / "wandb-summary.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"loss": 3.0, "_step": 700, "_runtime": 60.5}))
    (path.parent / "output.log").write_text("hello\n")
    with pytest.raises(UserError, match=r"diagnose .*output\.log"):
        read_runs(path)
    datastore(tmp_path / NAME, rows(3))
    with pytest.raises(UserError, match=r"diagnose .*run-abc123\.wandb"):
        read_runs(path)


@pytest.mark.skipif(not LOGS.is_dir(), reason="the labelled logs are not on this machine")
def test_real_files() -> None:
    with pytest.raises(UserError, match="no metric"):  # 97 records, none of them of the history
        read_runs(LOGS / "wandb_run_binary" / "run_01.wandb")
    found = only(LOGS / "wandb_summary" / "summary_01.json")
    assert found.series["train/loss"].updates.tolist() == [62509]
