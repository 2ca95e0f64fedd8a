"""nanoGPT's console output becomes runs with every line's place."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from unstuck.errors import UserError
from unstuck.runs.readers import read_runs

HEADER = """Overriding config with config/train_char.py:
# character-level model on a small text

eval_iters = 20
dataset = 'shakespeare_char'
gradient_accumulation_steps = 5 * 8
batch_size = 16
block_size = 64
learning_rate = 1e-3 # with baby networks can afford to go a bit higher
max_iters = 150
lr_decay_iters = 3000

Overriding: learning_rate = 0.002
tokens per iteration will be: 40,960
found vocab_size = 65 (inside data/shakespeare_char/meta.pkl)
Initializing a new model from scratch
number of parameters: 0.10M
num decayed parameter tensors: 10, with 106,560 parameters
num non-decayed parameter tensors: 5, with 320 parameters
using fused AdamW: False
"""
FIRST = """step 0: train loss 4.1807, val loss 4.1787
iter 0: loss 4.1853, time 448.71ms, mfu -100.00%
iter 10: loss 3.8753, time 21.66ms, mfu 0.01%
iter 20: loss 3.5647, time 30.25ms, mfu 0.01%
step 25: train loss 3.4331, val loss 3.4609
saving checkpoint to out-char
iter 30: loss nan, time 19.98ms, mfu 0.01%
"""


def write(folder: Path, text: str, name: str = "train.log") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_each_point_remembers_its_update_and_its_line(tmp_path):
    run = read_runs(write(tmp_path, HEADER + FIRST))[0]
    loss = run.series["train/loss"]
    text = (HEADER + FIRST).splitlines()
    assert loss.updates.tolist() == [0, 10, 20, 30]
    assert [text[line - 1].split()[1] for line in loss.lines] == ["0:", "10:", "20:", "30:"]
    assert str(loss.source(1)) == f"train.log:{text.index('iter 10: loss 3.8753, time 21.66ms, mfu 0.01%') + 1}"
    assert math.isnan(loss.values[3])
    assert run.format == "nanogpt-text"
    assert loss.unit == "nats/token"


def test_train_loss_of_an_evaluation_is_a_series_of_its_own(tmp_path):
    run = read_runs(write(tmp_path, HEADER + FIRST))[0]
    assert run.series["train/loss_eval"].values.tolist() == [4.1807, 3.4331]
    assert run.series["val/loss"].values.tolist() == [4.1787, 3.4609]


def test_mfu_of_minus_100_percent_is_not_measured_yet(tmp_path):
    run = read_runs(write(tmp_path, HEADER + FIRST))[0]
    assert run.series["throughput/mfu_percent"].updates.tolist() == [10, 20, 30]


def test_header_gives_settings_and_the_command_line_wins(tmp_path):
    run = read_runs(write(tmp_path, HEADER + FIRST))[0]
    assert run.dialect == "nanogpt"
    assert run.setting("learning_rate") == 0.002
    assert (
        run.settings["learning_rate"].source.line == HEADER.splitlines().index("Overriding: learning_rate = 0.002") + 1
    )
    assert run.setting("accumulation") == 40
    assert run.setting("vocabulary") == 65
    assert run.setting("parameters") == 106_880
    assert run.setting("start") == "fresh"
    assert run.setting("updates") == 150
    assert run.setting("horizon_updates") == 3000


def test_settings_that_were_not_printed_are_nanogpts_defaults_and_a_note_says_so(tmp_path):
    run = read_runs(write(tmp_path, HEADER + FIRST))[0]
    assert run.setting("warmup_updates") == 2000
    assert any("defaults" in note and "warmup_iters" in note for note in run.notes)


def test_no_default_is_claimed_without_nanogpts_header(tmp_path):
    run = read_runs(write(tmp_path, FIRST))[0]
    assert run.setting("learning_rate") is None


def test_header_repeated_by_every_process_is_one_run(tmp_path):
    runs = read_runs(write(tmp_path, HEADER * 8 + FIRST))
    assert len(runs) == 1
    assert len(runs[0].series["train/loss"]) == 4


def test_two_runs_in_one_file_are_told_apart(tmp_path):
    second = HEADER.replace("Overriding: learning_rate = 0.002", "Overriding: learning_rate = 0.004")
    runs = read_runs(write(tmp_path, HEADER + FIRST + second + FIRST))
    assert [run.setting("learning_rate") for run in runs] == [0.002, 0.004]
    assert runs[0].source.endswith("(run 1 of 2)")


def test_runs_without_a_header_are_told_apart_where_the_iterations_begin_again(tmp_path):
    assert len(read_runs(write(tmp_path, FIRST + FIRST))) == 2


def test_a_resume_is_an_event_and_supersedes_what_was_logged_beyond_it(tmp_path):
    resumed = HEADER.replace("Initializing a new model from scratch", "Resuming training from out-char").replace(
        "learning_rate = 0.002", "learning_rate = 0.001"
    )
    later = "step 20: train loss 3.5, val loss 3.5\niter 20: loss 3.6, time 1.00ms, mfu 0.01%\n"
    runs = read_runs(write(tmp_path, HEADER + FIRST + resumed + later))
    assert len(runs) == 1
    run = runs[0]
    event = next(run.events_of("resume"))
    assert event.update == 20
    assert event.data["changed"] == {"learning_rate": [0.002, 0.001]}
    assert run.series["train/loss"].updates.tolist() == [0, 10, 20]
    assert run.series["train/loss"].values.tolist() == [4.1853, 3.8753, 3.6]
    assert run.setting("start") == "fresh"


def test_a_run_that_starts_from_a_checkpoint_says_so(tmp_path):
    text = HEADER.replace("Initializing a new model from scratch", "Resuming training from out-char")
    run = read_runs(write(tmp_path, text + FIRST.replace("iter ", "iter 9").replace("step ", "step 9")))[0]
    assert run.setting("start") == "checkpoint"


def test_pretrained_start_gives_gpt2s_vocabulary(tmp_path):
    text = "Initializing from OpenAI GPT-2 weights: gpt2\nloading weights from pretrained gpt: gpt2\n"
    text += "forcing vocab_size=50257, block_size=1024, bias=True\n"
    run = read_runs(write(tmp_path, text + FIRST))[0]
    assert run.setting("start") == "pretrained"
    assert run.setting("vocabulary") == 50257


def test_configuration_file_beside_the_log_is_found_and_the_logs_own_value_wins(tmp_path):
    write(tmp_path, "learning_rate = 0.5\nbeta2 = 0.99\nmax_iters = 150\nlr_decay_iters = 9\n", "train.config.py")
    run = read_runs(write(tmp_path, HEADER + FIRST))[0]
    assert run.setting("learning_rate") == 0.002
    assert run.setting("beta2") == 0.99
    assert any("learning_rate is 0.002 in the log" in note and "0.5" in note for note in run.notes)


def test_relatives_with_planned_steps_in_the_line_are_read(tmp_path):
    # Lines of the kind that gpt2-qa logs have (github: gness1804/build_llm_karpathy).
    text = "step 0/1000 (0.0%): train loss 9.5468, val loss 9.5399 | 42.4s (0.00 steps/sec)\n"
    text += "step 25/1000 (2.5%) | 0.41 steps/sec | ETA: 39.8m\n"
    text += "step 100/1000 (10.0%): train loss 7.2295, val loss 7.4329 | 157.9s (0.63 steps/sec)\n"
    run = read_runs(write(tmp_path, text))[0]
    assert run.series["val/loss"].updates.tolist() == [0, 100]
    assert run.setting("updates") == 1000


def test_a_header_without_an_iteration_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no iteration yet"):
        read_runs(write(tmp_path, HEADER))


def test_windows_line_ends_and_utf16_are_read(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes((HEADER + FIRST).replace("\n", "\r\n").encode("utf-16"))
    run = read_runs(path)[0]
    assert run.series["train/loss"].updates.tolist() == [0, 10, 20, 30]
    assert np.isnan(run.series["train/loss"].values[-1])
    assert run.series["time/step_ms"].values[0] == 448.71


@pytest.mark.parametrize(
    "updates", [[*range(9)], [5, 6, 7, 8, 6, 7, 8, 9, 9], [3, 4, 5, 6, 0, 1, 2, 3, 2, 1, 0, 5, 6, 7]]
)
def test_lines_read_at_once_are_read_as_they_are_one_by_one(tmp_path, updates):
    lines = [f"iter {u}: loss {3 - k / 10:.4f}, time {k + 1}.50ms, mfu {k - 2}.25%" for k, u in enumerate(updates)]
    (tmp_path / "a").mkdir()
    at_once = read_runs(write(tmp_path, "\n".join([*lines, ""])))
    one_by_one = read_runs(write(tmp_path / "a", "\n".join(f"{line}, more 1" for line in lines)))
    assert len(at_once) == len(one_by_one)
    for run, other in zip(at_once, one_by_one, strict=True):
        for name, series in run.series.items():
            assert series.updates.tolist() == other.series[name].updates.tolist()
            assert series.values.tolist() == other.series[name].values.tolist()
            assert series.lines.tolist() == other.series[name].lines.tolist()
