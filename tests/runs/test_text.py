"""Free text: logs in many styles are read by their own grammar, and what is no log is refused."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path

import numpy as np
import pytest

from tests.runs.text_logs import CASES, NOT_LOGS, Case
from tests.runs.text_many_fields import MANY_FIELDS
from tests.runs.text_toolkits import TOOLKITS
from unstuck.errors import UserError
from unstuck.runs.beside import Beside
from unstuck.runs.logfile import LogFile
from unstuck.runs.readers import read_runs, text
from unstuck.runs.run import Run
from unstuck.runs.text_found import Found
from unstuck.runs.text_grammar import template_of
from unstuck.runs.text_lines import HOLE, pattern_of, rows_of, shape_of


def written(folder: Path, name: str, content: str) -> LogFile:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return LogFile(path)


def read(folder: Path, content: str, columns: dict[str, str] | None = None) -> list[Run]:
    return text.read(written(folder, "train.log", content), Beside(columns=columns or {}))


def rows(count: int, first: int = 0) -> str:
    return "".join(f"step {k} | loss {3 - k / 100:.4f} | lr 1.0e-03\n" for k in range(first, first + 10 * count, 10))


@pytest.mark.parametrize("case", [*CASES, *TOOLKITS, *MANY_FIELDS], ids=lambda case: case.name)
def test_styles(case: Case, tmp_path: Path) -> None:
    log = written(tmp_path, "train.log", case.text)
    assert text.match(log).confidence >= 0.5
    (run,) = text.read(log, Beside())
    assert (run.format, run.axis) == (case.format, case.axis)
    for name, (updates, values) in case.series.items():
        assert name in run.series, f"{name} not in {list(run.series)}"
        assert run.series[name].updates.tolist() == updates, name
        np.testing.assert_allclose(run.series[name].values, values, rtol=1e-5, err_msg=name)
    for name, value in case.settings.items():
        assert run.setting(name) == value
    assert not set(case.absent) & set(run.series)


def test_rows_whose_names_say_nothing_wait_for_the_user(tmp_path: Path) -> None:
    content = "".join(f"step {k} foo: {3 - k / 100:.4f} zork: 0.1{k:02d}\n" for k in range(10, 60, 10))
    match = text.match(written(tmp_path, "train.log", content))
    assert match.confidence == text.NAMELESS
    assert "foo, zork" in match.reason
    (run,) = read(tmp_path, content, {"foo": "train/loss"})
    assert run.series["train/loss"].values.tolist() == [2.9, 2.8, 2.7, 2.6, 2.5]


def test_letters_wait_for_the_user_and_are_named_to_him(tmp_path: Path) -> None:
    content = "".join(f"[it {k:05d}] L={3 - k / 100:.4f} |g|=0.3{k} (98.7 ms/it)\n" for k in range(10, 60, 10))
    assert text.match(written(tmp_path, "train.log", content)).reason.endswith("their columns are L, grad_norm, ms/it")
    (run,) = read(tmp_path, content, {"L": "train/loss"})
    assert run.series["train/loss"].updates.tolist() == [10, 20, 30, 40, 50]
    assert run.series["train/loss"].values.tolist() == [2.9, 2.8, 2.7, 2.6, 2.5]


def test_commas_divide_columns_that_the_user_names(tmp_path: Path) -> None:
    content = "start\n" + "".join(f"{k}, {3 - k / 100:.4f}, 0.1{k:02d}\n" for k in range(10, 60, 10))
    (run,) = read(tmp_path, content, {"1": "step", "2": "train/loss"})
    assert run.series["train/loss"].updates.tolist() == [10, 20, 30, 40, 50]
    assert run.series["train/loss"].values.tolist() == [2.9, 2.8, 2.7, 2.6, 2.5]


@pytest.mark.parametrize("name", NOT_LOGS)
def test_what_is_no_log_is_not_taken(name: str, tmp_path: Path) -> None:
    assert text.match(written(tmp_path, name, NOT_LOGS[name])).confidence < 0.5


def test_the_grammar_is_told_with_two_lines_and_how_to_correct_it(tmp_path: Path) -> None:
    (run,) = read(tmp_path, "some banner\n" + rows(5))
    told = next(note for note in run.notes if note.startswith("Read by its own grammar"))
    assert '"step {step} | loss {train/loss} | lr {lr/all}"' in told
    assert "line 2: step 0 | loss 3.0000" in told
    assert "line 3: step 10 | loss 2.9000" in told
    assert any("--columns" in note and "step, loss, lr" in note for note in run.notes)
    assert str(run.series["train/loss"].source(0)) == "train.log:2"


@pytest.mark.parametrize(
    ("content", "columns", "name", "updates", "values"),
    [
        (rows(4), {"loss": "val/loss"}, "val/loss", [0, 10, 20, 30], [3, 2.9, 2.8, 2.7]),
        (rows(4), {"LOSS": "val/loss"}, "val/loss", [0, 10, 20, 30], [3, 2.9, 2.8, 2.7]),
        ("0 0.9 1\n5 0.8 2\n10 0.7 3\n", {"1": "step", "2": "val/loss"}, "val/loss", [0, 5, 10], [0.9, 0.8, 0.7]),
        ("7 0.9 0\n7 0.8 5\n7 0.7 10\n", {"col3": "step", "2": "val/loss"}, "val/loss", [0, 5, 10], [0.9, 0.8, 0.7]),
        ("q 1 | cost 0.9\nq 2 | cost 0.8\nq 9 | cost 0.7\n", {"q": "step"}, "train/loss", [1, 2, 9], [0.9, 0.8, 0.7]),
    ],
)  # fmt: skip
def test_the_user_names_columns(
    content: str, columns: dict[str, str], name: str, updates: list[int], values: list[float], tmp_path: Path
) -> None:
    (run,) = read(tmp_path, content, columns)
    assert run.series[name].updates.tolist() == updates
    np.testing.assert_allclose(run.series[name].values, values)


def test_a_column_is_left_out_on_request(tmp_path: Path) -> None:
    (run,) = read(tmp_path, rows(4), {"lr": ""})
    assert set(run.series) == {"train/loss"}


def test_a_column_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no column los; the nearest are loss"):
        read(tmp_path, rows(4), {"los": "train/loss"})


def test_rows_without_names_wait_for_the_user(tmp_path: Path) -> None:
    log = written(tmp_path, "train.log", "0 0.9 0.1\n5 0.8 0.2\n10 0.7 0.3\n")
    assert 0.2 <= text.match(log).confidence < 0.5
    with pytest.raises(UserError, match="--columns 1=step"):
        text.read(log, Beside())


HEADERS = (
    "Namespace(lr=0.001, batch_size=32, betas=(0.9, 0.95), optimizer='adamw', note=None)\n",
    'config: {"lr": 0.001, "batch_size": 32, "optimizer": "adamw"}\n',
    "config = {'lr': 0.001, 'batch_size': 32, 'optimizer': 'adamw'}\n",
    "2024-01-01 12:00:00,123 INFO train: args: lr=0.001 batch_size=32 optimizer=adamw\n",
    "lr = 0.001\nbatch_size = 32\noptimizer = adamw\n",
    "[INFO] lr: 1e-3\n[INFO] batch size: 32\n[INFO] optimizer: AdamW\n",
    "train:\n  lr: 0.001\n  batch_size: 32\n  optimizer: adamw\neval:\n  batch_size: 512\n",
    '{\n  "lr": 0.001,\n  "batch_size": 32,\n  "optimizer": "adamw"\n}\n',
    "+------------+-------+\n| batch_size | 32    |\n| learning rate (LR) | 1e-3 |\n| optimizer | adamw |\n",
    "  lr ............... 0.001\n  batch_size ....... 32\n  optimizer ........ adamw\n",
    "LEARNING_RATE=1e-3 \\\nBATCH_SIZE=32 \\\nOPTIMIZER=adamw \\\npython train.py\n",
    "+ python train.py --lr 1e-3 --batch_size=32 --optimizer adamw\n",
    "Learning rate: 0.001, Batch size: 32, Optimizer: AdamW\n",
    "lr: 1e-3, batch_size: 32, optimizer: AdamW, scheduler: ReduceLROnPlateau(patience=5, factor=0.5)\n",
    "Optimizer: AdamW (lr=1e-3, weight_decay=1e-4), batch size: 32\n",
)


@pytest.mark.parametrize("header", HEADERS)
def test_settings_of_the_header(header: str, tmp_path: Path) -> None:
    (run,) = read(tmp_path, header + rows(5))
    assert (run.setting("learning_rate"), run.setting("batch_size"), run.setting("optimizer")) == (0.001, 32, "adamw")
    assert run.settings["batch_size"].source.file == "train.log"
    assert 1 <= (run.settings["batch_size"].source.line or 0) <= header.count("\n")
    assert run.series["train/loss"].updates.tolist() == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(
    ("header", "settings"),
    [
        ("Scheduler: ReduceLROnPlateau(patience=5)\n", {"schedule": "plateau", "patience": 5}),
        ("Using ReduceLROnPlateau(opt, 'min', patience=5, factor=0.1) from now on\n",
         {"schedule": "plateau", "patience": 5, "plateau_factor": 0.1}),
        ("lr: 2e-5, clip: 2.0, scheduler: CosineAnnealingLR(T_max=50, eta_min=1e-6)\n",
         {"learning_rate": 2e-5, "clip_norm": 2.0, "schedule": "cosine", "horizon_updates": 50}),
        ("INFO - built AdamW(lr=3e-4, weight_decay=0.1)\n",
         {"optimizer": "adamw", "learning_rate": 3e-4, "weight_decay": 0.1}),
    ],
)  # fmt: skip
def test_calls_of_schedulers_and_optimizers_are_settings(header: str, settings: dict[str, object], tmp_path: Path):
    (run,) = read(tmp_path, header + rows(5))
    assert {name: run.setting(name) for name in settings} == settings


def test_calls_of_other_things_are_no_settings(tmp_path: Path) -> None:
    (run,) = read(tmp_path, "Linear(in_features=8, out_features=2)\nEarlyStopping(patience=3)\n" + rows(5))
    assert run.settings == {}


def test_counts_and_totals_become_settings_with_their_line(tmp_path: Path) -> None:
    content = "Total parameters: 124,439,808\nVocabulary size: 50,257 tokens\n" + "".join(
        f"[{k}/5000] loss {3 - k / 1000:.3f}\n" for k in (10, 20, 30)
    )
    (run,) = read(tmp_path, content)
    told = {name: run.settings[name] for name in ("parameters", "vocabulary", "updates")}
    assert [(told[name].value, told[name].source.line) for name in told] == [(124439808, 1), (50257, 2), (5000, 3)]


def test_a_header_printed_again_opens_a_resume_or_another_run(tmp_path: Path) -> None:
    header = "lr = {lr}\nbatch_size = 32\nseed = 1\n"
    (run,) = read(tmp_path, header.format(lr=0.001) + rows(5) + header.format(lr=0.0005) + rows(5, first=50))
    (resume,) = run.events_of("resume")
    assert (resume.update, resume.data["changed"]) == (50, {"lr": [0.001, 0.0005]})
    assert run.series["train/loss"].updates.tolist() == list(range(0, 100, 10))
    first, second = read(tmp_path, header.format(lr=0.001) + rows(5) + header.format(lr=0.0005) + rows(5))
    assert (first.setting("learning_rate"), second.setting("learning_rate")) == (0.001, 0.0005)


def test_a_message_that_it_resumes_is_a_resume(tmp_path: Path) -> None:
    (run,) = read(tmp_path, rows(6) + "Killed\nResuming from checkpoint at step 40\n" + rows(4, first=40))
    assert [event.kind for event in run.events] == ["error", "resume"]
    assert run.series["train/loss"].updates.tolist() == [0, 10, 20, 30, 40, 40, 50, 60, 70]
    # the second 50 has taken the place of the first
    assert run.series["train/loss"].lines.tolist()[5:7] == [9, 10]


def test_epochs_that_begin_again_are_another_run(tmp_path: Path) -> None:
    fold = "".join(f"Epoch {e}/3 | train loss {2 / e:.3f} | val loss {2.2 / e:.3f}\n" for e in (1, 2, 3))
    runs = read(tmp_path, "".join(f"Fold {k}\n{fold}" for k in (1, 2, 3)))
    assert [run.series["val/loss"].updates.tolist() for run in runs] == [[1, 2, 3]] * 3


def test_generated_text_between_the_lines_is_no_data(tmp_path: Path) -> None:
    sample = (
        "In step 7 the king had a loss of 3 men, and 12 more by epoch 4.\n**Step 1: add 2 and 3 to get 5 steps**\n"
        "LOSS: the play is in 5 acts. Accuracy 9 of 10.\n   loss 5 loss\n"
    )
    (run,) = read(tmp_path, "".join(rows(1, first=10 * k) + sample for k in range(8)))
    assert set(run.series) == {"train/loss", "lr/all"}
    assert run.series["train/loss"].updates.tolist() == list(range(0, 80, 10))


def test_what_happened(tmp_path: Path) -> None:
    content = (
        rows(2) + "Saved checkpoint to out/step_10.pt\n" + rows(2, first=20) + "Early stopping after 3 epochs\n"
        "Traceback (most recent call last):\n  File \"train.py\", line 3, in <module>\n"
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
    )  # fmt: skip
    (run,) = read(tmp_path, content)
    assert [(event.kind, event.update) for event in run.events] == [("note", 10), ("note", 30), ("error", 30)]
    assert run.events[-1].source is not None
    assert run.events[-1].source.line == 9


def test_an_epoch_told_behind_its_batches(tmp_path: Path) -> None:
    content = "".join(
        f"batch {b}/40 loss {3 - e - b / 100:.2f}\n" + (f"Epoch {e} done: val loss {2.5 - e}\n" if b == 40 else "")
        for e in (1, 2) for b in (20, 40)
    )  # fmt: skip
    (run,) = read(tmp_path, content)
    assert run.series["train/loss"].updates.tolist() == [20, 40, 60, 80]
    assert run.series["val/loss"].updates.tolist() == [40, 80]


def test_a_bar_counts_its_own_updates_beside_evaluations_that_name_their_step(tmp_path: Path) -> None:
    content = "".join(
        f"\rtraining: {k:3d}%|#   | {k}/100 [00:01<00:09, 41.1{k % 10}it/s, loss={3 - k / 100:.4f}, lr=1.0{k % 10}e-03]"
        + (f"\nstep {k} - validation loss {3.1 - k / 100:.4f}\n" if k % 20 == 0 else "")
        for k in range(5, 101, 5)
    )
    (run,) = read(tmp_path, content)
    assert run.axis == "update"
    assert run.series["train/loss"].updates.tolist() == list(range(5, 101, 5))
    assert run.series["val/loss"].updates.tolist() == list(range(20, 101, 20))


def test_words_that_differ_from_row_to_row_are_no_names(tmp_path: Path) -> None:
    names = [f"{chr(97 + k % 26)}{chr(97 + k // 26)}" for k in range(200)]
    content = "".join(f"step {k} file: {name}.wav loss: {3 - k / 100:.2f}\n" for k, name in enumerate(names))
    (run,) = read(tmp_path, content)
    assert set(run.series) == {"train/loss"}
    assert run.series["train/loss"].updates.tolist() == list(range(200))


def test_zeros_that_only_rounding_made(tmp_path: Path) -> None:
    (run,) = read(tmp_path, "".join(f"step {k} | loss 2.5 | lr {3e-4 * k / 9:.4f}\n" for k in range(10)))
    assert 0 not in run.series["lr/all"].values  # 0.0000 is anything below the one digit that is shown
    assert any("lr is printed to 0.0001 only" in note for note in run.notes)
    (run,) = read(tmp_path, "".join(f"step {k} | loss {2.5 if k < 5 else 0:.3f}\n" for k in range(10)))
    assert run.series["train/loss"].values[-1] == 0  # other values show that it is resolved
    content = "".join(f"{{'step': {k}, 'loss': 0.0, 'grad_norm': nan}}\n" for k in range(10))
    (run,) = read(tmp_path, content)
    assert run.series["train/loss"].values.tolist() == [0.0] * 10  # a printed float is exact
    assert math.isnan(run.series["grad_norm/preclip"].values[0])


@pytest.mark.parametrize("number", ["5", "-0.25", "1e-4", "1.5E+03", "12,345", ".5", "nan", "-inf", "Infinity"])
def test_a_number_is_found_and_its_pattern_finds_it_again(number: str) -> None:
    shape = shape_of(f"step 3 | loss {number} | x")
    assert shape.text == f"step {HOLE} | loss {HOLE} | x"
    assert shape.numbers == ["3", number]
    found = pattern_of(shape.text, [False, True]).match(f"step   17 | loss   {number} | x\r")
    assert found is not None
    assert found.groups() == (number,)


@pytest.mark.parametrize("word", ["gpt2", "top-1", "acc@1", "v1.2.3", "2024-01-02", "0x7f", "fp16", "name_3"])
def test_digits_of_words_are_no_numbers(word: str) -> None:
    assert "loss 0.5" not in word
    shape = shape_of(f"{word} loss 0.5")
    assert shape.numbers[-1] == "0.5"
    assert word in ("v1.2.3", "0x7f") or len(shape.numbers) == 1


def test_a_terminal_shows_one_state_after_another() -> None:
    piece = "a\r\nb\rc\rd\n\x1b[31me\x1b[0m\n 5%|#| 1/20 [00:01<00:19, 1.0it/s]loss 3\nf\n"
    got = rows_of(piece, 7)
    assert got.texts == ["a", "b", "c", "d", "e", " 5%|#| 1/20 [00:01<00:19, 1.0it/s]", "loss 3", "f"]
    assert got.lines.tolist() == [7, 8, 8, 8, 9, 10, 10, 11]


def test_a_giant_log_is_thinned_and_keeps_what_is_not_finite() -> None:
    template = template_of(f"step {HOLE} loss {HOLE}")
    assert template is not None
    found = Found(template, [0, 1], decimals=[0, 0])
    values = ["nan" if k == 5 else "2.5" for k in range(100)]
    found.add_many(np.arange(100), np.arange(100), [tuple(map(str, range(100))), tuple(values)])
    found.thin()
    assert (found.stride, len(found.rows())) == (2, 51)
    assert math.isnan(found.values()[list(found.rows()).index(5), 1])


HOSTILE = {
    "digits": "1" * 3_000_000,
    "bars": "1%|" * 300_000,
    "brackets": ("a=[" * 1300 + "\n") * 100,
    "nested": '{"a":' * 100_000 + "\n" + '{"lr":' * 3000,
    "parentheses": ("loss(" * 780 + "1\n") * 100,
    "commas": ("1,2 " * 950 + "\n") * 100,
    "clocks": ("12:34:" * 600 + "\n") * 100,
    "control": "\x00\x01\x02\x03 step 1 loss 2\n" * 20 + "\x1b[" * 5000,
    "kinds": "".join(f"{'abcdefghij'[k % 10]}{k % 977}x: {k} loss: {k / 7}\n" for k in range(5000)),
    "returns": "\r".join(f"{k % 101}%|#| {k}/9 [00:01<00:00, 1it/s, loss=1.{k}]" for k in range(20_000)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_costs_seconds_at_most(name: str, tmp_path: Path) -> None:
    log = written(tmp_path, "train.log", HOSTILE[name])
    start = time.process_time()
    with contextlib.suppress(UserError):
        text.match(log)
        text.read(log, Beside())
    assert time.process_time() - start < 10  # far above what an idle machine needs; a blow-up takes minutes


def test_a_vocabulary_and_a_size_told_in_a_sentence_are_settings(tmp_path: Path) -> None:
    rows = "".join(f"Epoch 1/3 | Batch {50 * k}/800 | Loss: {9.01 + 0.01 * (-1) ** k:.4f}\n" for k in range(1, 17))
    path = tmp_path / "train.log"
    path.write_text(f"Model has 10.8M parameters, vocab size 8,192\n{rows}", encoding="utf-8")
    (run,) = read_runs(path)
    assert run.setting("vocabulary") == 8192
    assert run.setting("parameters") == 10_800_000


def test_a_loss_by_another_name_is_asked_for_by_that_name(tmp_path: Path) -> None:
    rows = "".join(f"it {60 * k:6d} / 12000 :: nll(masked) {9 - k / 10:.3f} // hit-rate 6.4%\n" for k in range(1, 17))
    (tmp_path / "a.log").write_text(rows, encoding="utf-8")
    assert read_runs(tmp_path / "a.log")[0].series["train/loss"].values[0] == 8.9
    (tmp_path / "b.log").write_text(
        rows.replace("nll(masked)", "nll(odd)").replace("%", "% // |grad| 0.05"), encoding="utf-8"
    )
    (run,) = read_runs(tmp_path / "b.log")
    assert any("No training loss was recognised; name it, for example --columns" in note for note in run.notes)
