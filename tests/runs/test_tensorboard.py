"""TensorBoard event files and folders as runs. Files are written by `tests.runs.trackers`, see there how that was
checked. The reader was also run on what transformers' Trainer 5 wrote (a run, its evaluation, a resume)."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from benchmarks.read_speed import records, tensorboard_events, varint

from tests.runs.trackers import event, event_file, hparams, message, simple, string, tensor, text
from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import read_runs
from unstuck.runs.tfrecord import masked_crc32c

LOGS = Path("/work/shared/logs")
NAME = "events.out.tfevents.1700000000.host.1.0"
START = 1.7e9


def losses(count: int, first: int = 0, every: int = 10, wall: float = START, tag: str = "train/loss") -> list[bytes]:
    """Events of a loss every tenth step, a quarter of a second per step."""
    steps = range(first, first + count * every, every)
    return [event(wall + 0.25 * (step - first), step, simple(tag, 4 - step / 1000)) for step in steps]


def only(path: Path) -> Run:
    (run,) = read_runs(path)
    return run


def test_scalars_become_series(tmp_path: Path) -> None:
    events = [e for step in range(0, 2000, 10)
              for e in (event(START + step, step, simple("train/loss", 4 - step / 1000)),
                        event(START + step, step, simple("train/learning_rate", 1e-3)))]  # fmt: skip
    events += [event(START + step, step, simple("eval/loss", 5.0)) for step in (1000, 1990)]
    run = only(event_file(tmp_path / NAME, events))
    assert (run.format, run.axis, run.updates) == ("tensorboard-events", "update", 1990)
    loss = run.series["train/loss"]
    assert loss.updates.tolist() == list(range(0, 2000, 10))
    assert loss.values[100] == pytest.approx(3.0, rel=1e-6)
    assert len(run.series["lr/all"]) == 200
    assert run.series["val/loss"].updates.tolist() == [1000, 1990]
    assert str(loss.source(3)) == NAME


def test_settings_of_hparams_and_texts(tmp_path: Path) -> None:
    arguments = '{\n  "learning_rate": 0.001,\n  "per_device_train_batch_size": 8,\n  "max_steps": 400\n}'
    events = [
        event(START, 0, string("args", arguments)),
        event(START, 0, hparams({"seed": 7, "name": "x", "amp": True})),
    ]
    run = only(event_file(tmp_path / NAME, [*events, *losses(40)]))
    assert run.setting("learning_rate") == 0.001
    assert run.setting("batch_size") == 8
    assert run.dialect == "huggingface"
    assert run.raw_settings["seed"].value == 7
    assert run.raw_settings["amp"].value is True
    assert str(run.raw_settings["seed"].source) == NAME


@pytest.mark.parametrize(
    "texts",
    [
        [string("hyperparameters", "|param|value|\n|-|-|\n|learning_rate|0.002|\n|batch_size|16|")],
        [string("sys.argv", "train.py data --learning-rate 0.002 --batch-size 16 --fp16")],
        [string("config", "learning_rate = 0.002\nbatch_size = 16\n")],
        [string("config", "```json\n{\"learning_rate\": 0.002, \"batch_size\": 16}\n```")],
        [string("learning_rate", "0.002"), string("batch_size", "16"), string("sample", "Once upon a time")],
    ],
)  # fmt: skip
def test_forms_of_settings_in_texts(tmp_path: Path, texts: list[bytes]) -> None:
    run = only(event_file(tmp_path / NAME, [*(event(START, 0, value) for value in texts), *losses(40)]))
    assert run.setting("learning_rate") == 0.002
    assert run.setting("batch_size") == 16
    assert "sample" not in run.raw_settings


def test_a_torn_end_keeps_what_is_before(tmp_path: Path) -> None:
    whole = event_file(tmp_path / NAME, losses(50)).read_bytes()
    for cut in (1, 5, 20, 45, 50):
        (tmp_path / NAME).write_bytes(whole[:-cut])
        run = only(tmp_path / NAME)
        assert len(run.series["train/loss"]) == 49 if cut < 50 else 48
        assert any("torn" in note for note in run.notes)


def test_damage_in_the_middle_loses_only_what_it_hits(tmp_path: Path) -> None:
    data = bytearray(event_file(tmp_path / NAME, losses(100)).read_bytes())
    at = len(data) // 2
    data[at : at + 200] = bytes(200)
    (tmp_path / NAME).write_bytes(bytes(data))
    run = only(tmp_path / NAME)
    assert 90 <= len(run.series["train/loss"]) < 100
    assert run.updates == 990
    assert any("damaged" in note or "decoded" in note for note in run.notes)


def test_zeros_at_the_end_after_a_power_cut(tmp_path: Path) -> None:
    path = event_file(tmp_path / NAME, losses(50))
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert len(only(path).series["train/loss"]) == 50


def test_a_giant_length_allocates_nothing(tmp_path: Path) -> None:
    path = event_file(tmp_path / NAME, losses(50))
    length = struct.pack("<Q", 2**62)
    path.write_bytes(path.read_bytes() + length + struct.pack("<I", masked_crc32c(length)) + b"\x09")
    assert len(only(path).series["train/loss"]) == 50
    inner = b"\x09" + struct.pack("<d", START) + b"\x2a" + varint(2**40) + b"\x0a"  # a summary longer than its event
    event_file(path, [*losses(50), inner])
    run = only(path)
    assert len(run.series["train/loss"]) == 50
    assert any("could not be decoded" in note for note in run.notes)


def test_refusals_name_the_next_thing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of them a scalar"):
        read_runs(event_file(tmp_path / NAME, [event(START, 0, string("notes", "hello"))]))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / NAME).write_bytes(b"")
    with pytest.raises(UserError, match="empty"):
        read_runs(tmp_path / "empty" / NAME)
    examples = tmp_path / "data.tfrecord"  # tf.train.Example, not events
    examples.write_bytes(b"".join(records([b"\x0a\x10" + bytes(range(16))] * 20)))
    with pytest.raises(UserError, match="binary"):
        read_runs(examples)


def test_a_folder_with_a_restart_is_one_run(tmp_path: Path) -> None:
    event_file(tmp_path / "run" / "events.out.tfevents.1700000000.a", losses(100))
    event_file(tmp_path / "run" / "events.out.tfevents.1700009000.a", losses(50, 800, wall=START + 9000), START + 9000)
    run = only(tmp_path / "run")
    loss = run.series["train/loss"]
    assert loss.updates.tolist() == list(range(0, 800, 10)) + list(range(800, 1300, 10))
    (resume,) = run.events_of("resume")
    assert resume.update == 800
    times = run.series["time/step_ms"]
    assert times.values == pytest.approx(np.full(len(times), 250.0), rel=1e-3)  # the pause is in none of them


def test_a_session_start_supersedes_what_came_after(tmp_path: Path) -> None:
    val = [event(START + 249, 995, simple("val/loss", 3.0))]
    again = [event(START + 300, 800, session_start=True), *losses(5, 800, wall=START + 300)]
    run = only(event_file(tmp_path / NAME, [*losses(100), *val, *again]))
    assert run.updates == 840
    assert "val/loss" not in run.series or run.series["val/loss"].updates[-1] < 800
    (resume,) = run.events_of("resume")
    assert resume.update == 800


def test_an_evaluation_after_the_training_is_no_restart(tmp_path: Path) -> None:
    # transformers' Trainer writes `evaluate()` after `train()` to a file of its own, with the epoch
    first = [e for step in range(10, 500, 10)
             for e in (event(START + step, step, simple("train/loss", 3.0)),
                       event(START + step, step, simple("train/epoch", step / 100)))]  # fmt: skip
    event_file(tmp_path / "run" / "events.out.tfevents.1.a", first)
    later = [event(START + 900, 490, simple("eval/loss", 3.1)), event(START + 900, 490, simple("train/epoch", 4.9))]
    event_file(tmp_path / "run" / "events.out.tfevents.2.a", later, START + 900)
    run = only(tmp_path / "run")
    assert not list(run.events_of("resume"))
    assert len(run.series["train/loss"]) == 49
    assert run.series["val/loss"].updates.tolist() == [490]


def test_starting_anew_in_the_same_folder_is_another_run(tmp_path: Path) -> None:
    for place, wall in enumerate((START, START + 9000)):
        event_file(tmp_path / "run" / f"events.out.tfevents.{place}.a", losses(30, wall=wall), wall)
    assert [len(run.series["train/loss"]) for run in read_runs(tmp_path / "run")] == [30, 30]


def test_keras_folders_are_one_run_by_epoch(tmp_path: Path) -> None:
    value = {"train": 2.0, "validation": 2.5}
    for split, level in value.items():
        events = [event(START + 10 * k + (split == "train"), k,
                        tensor("epoch_loss", message(2, b"") + message(4, struct.pack("<f", level - k / 10))))
                  for k in range(12)]  # fmt: skip
        event_file(tmp_path / "logs" / split / "events.out.tfevents.1.a.v2", events)
    run = only(tmp_path / "logs")
    assert run.axis == "epoch"
    assert len(run.series["train/loss"]) == len(run.series["val/loss"]) == 12


def test_keras_evaluations_give_the_updates_of_an_epoch(tmp_path: Path) -> None:
    train = [event(START + 10 * k + 1, k, simple("epoch_loss", 2.0)) for k in range(8)]
    val = [e for k in range(8) for e in (
        event(START + 10 * k, 150 * (k + 1), simple("evaluation_loss_vs_iterations", 2.5)),
        event(START + 10 * k + 1, k, simple("epoch_loss", 2.5)))]  # fmt: skip
    event_file(tmp_path / "logs" / "train" / "events.out.tfevents.1.a.v2", train)
    event_file(tmp_path / "logs" / "validation" / "events.out.tfevents.1.a.v2", val)
    run = only(tmp_path / "logs")
    assert run.series["train/loss"].updates.tolist() == run.series["val/loss"].updates.tolist()
    assert run.series["val/loss"].updates.tolist() == [150 * (k + 1) for k in range(8)]


def test_add_scalars_and_add_hparams_folders_belong_to_their_run(tmp_path: Path) -> None:
    event_file(tmp_path / "run" / NAME, losses(50, tag="lr"))
    for line in ("train", "val"):
        folder = tmp_path / "run" / f"Loss_{line}"
        event_file(folder / NAME, [event(START + s, s, simple("Loss", 2.0)) for s in range(0, 500, 10)])
    settings = event(START + 600, 0, hparams({"batch_size": 4}), simple("hparam/accuracy", 0.5))
    event_file(tmp_path / "run" / "1700000600.123" / NAME, [settings])
    run = only(tmp_path / "run")
    assert {"lr/all", "train/loss", "val/loss"} <= set(run.series)
    assert run.setting("batch_size") == 4
    assert "hparam/accuracy" not in run.series


def test_runs_in_sub_folders_stay_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        event_file(tmp_path / "runs" / name / NAME, losses(30))
    assert sorted(Path(run.source).name for run in read_runs(tmp_path / "runs")) in (["a", "b"], [NAME, NAME])


def test_fairseq_folders(tmp_path: Path) -> None:
    inner = [event(START + s, s, simple("nll_loss", 4.0), simple("loss", 5.0), simple("lr", 1e-3), simple("clip", 25))
             for s in range(100, 2000, 100)]  # fmt: skip
    event_file(tmp_path / "tb" / "train_inner" / NAME, inner)
    event_file(tmp_path / "tb" / "train" / NAME, [event(START + 2000, 1900, simple("nll_loss", 4.5))])
    event_file(tmp_path / "tb" / "valid" / NAME, [event(START + 2001, 1900, simple("nll_loss", 4.2))])
    run = only(tmp_path / "tb")
    assert run.series["train/loss"].values[0] == pytest.approx(4.0 * math.log(2))  # base 2
    assert run.series["train/objective"].values[0] == pytest.approx(5.0 * math.log(2))
    assert run.series["val/loss"].values[0] == pytest.approx(4.2 * math.log(2))
    assert run.series["grad_norm/clipped_share"].values[0] == 0.25
    assert len(run.series["train/loss"]) == len(inner)


def test_validation_by_epoch_is_put_at_its_update(tmp_path: Path) -> None:
    events = losses(1000, every=10)  # a quarter of a second per update: an epoch of 1000 updates takes 250 s
    events += [event(START + 250 * (k + 1), k, simple("val/loss", 3.0 - k / 10)) for k in range(10)]
    run = only(event_file(tmp_path / NAME, events))
    assert run.series["val/loss"].updates.tolist() == [*(1000 * (k + 1) for k in range(9)), 9990]
    assert any("val/loss" in note and "another count" in note for note in run.notes)


def test_copies_over_another_axis_are_left_out(tmp_path: Path) -> None:
    events = [e for s in range(100, 1000, 100)
              for e in (event(START + s, s, simple("lm-loss-training/lm loss", 3.0)),
                        event(START + s, 256 * s, simple("lm-loss-training/lm loss vs samples", 3.0)))]  # fmt: skip
    run = only(event_file(tmp_path / NAME, events))
    assert list(run.series) == ["train/loss", "time/step_ms"]
    assert run.updates == 900


def test_batch_numbers_that_begin_again_are_counted_on(tmp_path: Path) -> None:
    events = [event(START + 100 * epoch + k, k, simple("loss", 3.0)) for epoch in range(4) for k in range(0, 100, 10)]
    run = only(event_file(tmp_path / NAME, events))
    assert run.series["train/loss"].updates.tolist() == list(range(0, 400, 10))


def test_times_per_update_leave_out_validations(tmp_path: Path) -> None:
    events, wall = [], START
    for step in range(0, 1000, 10):
        if step % 100 == 0 and step:
            wall += 60
            events.append(event(wall, step, simple("val/loss", 3.0)))
        wall += 2.5
        events.append(event(wall, step, simple("train/loss", 3.0)))
    times = only(event_file(tmp_path / NAME, events)).series["time/step_ms"]
    assert times.unit == "ms"
    assert times.values == pytest.approx(np.full(len(times), 250.0))


def test_times_of_a_copied_log_say_nothing(tmp_path: Path) -> None:
    events = [event(START + 1e-6 * k, 10 * k, simple("train/loss", 3.0)) for k in range(200)]
    assert "time/step_ms" not in only(event_file(tmp_path / NAME, events)).series


def test_the_summary_of_a_training_is_no_point_of_a_curve(tmp_path: Path) -> None:
    final = (
        event(START + 999, 490, simple("train/train_runtime", 990.0)),
        event(START + 999, 490, simple("train/train_loss", 3.5)),
    )
    run = only(event_file(tmp_path / NAME, [*losses(50), *final]))
    assert "train/train_loss" not in run.series
    (end,) = run.events_of("end")
    assert end.data["train_runtime"] == 990.0


def test_the_log_of_the_benchmark(tmp_path: Path) -> None:
    run = only(tensorboard_events(tmp_path, 6000))
    assert len(run.series["train/loss"]) == 600
    assert run.series["val/loss"].updates.tolist() == [0, 500]
    assert run.series["time/step_ms"].values == pytest.approx(np.full(598, 250.0), rel=1e-3)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_give_runs_or_a_sentence(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = [simple("train/loss", 1.0), tensor("val/loss", message(4, struct.pack("<f", 2.0))), hparams({"lr": 0.1}),
              string("args", '{"lr": 0.1}'), message(1, text(1, "x") + message(5, bytes(60)))]  # fmt: skip
    events = [event(START + s, s, values[s % len(values)]) for s in range(60)]
    data = bytearray(event_file(tmp_path / NAME, events).read_bytes())
    for _ in range(int(random.integers(1, 30))):
        at = int(random.integers(len(data)))
        match int(random.integers(3)):
            case 0:
                data[at] = int(random.integers(256))
            case 1:
                del data[at : at + int(random.integers(1, 40))]
            case 2:
                data[at:at] = random.bytes(int(random.integers(1, 40)))
    (tmp_path / NAME).write_bytes(bytes(data))
    try:
        runs = read_runs(tmp_path / NAME)
    except UserError:
        return
    assert all(len(series) for run in runs for series in run.series.values())


@pytest.mark.skipif(not LOGS.is_dir(), reason="the labelled logs are not on this machine")
def test_real_files() -> None:
    run = only(LOGS / "tensorboard_tfevents" / "events.out.tfevents.01")  # transformers, one update
    assert run.updates == 1
    assert run.setting("learning_rate") == 0.001
    assert run.setting("accumulation") == 8
    run = only(LOGS / "generated" / "lightning" / "events.out.tfevents.run_011")  # nan from update 709 on
    loss = run.series["train/loss"]
    assert loss.updates[np.flatnonzero(~np.isfinite(loss.values))[0]] == 709
    assert run.setting("learning_rate") == 0.002  # hparams.yaml beside it
