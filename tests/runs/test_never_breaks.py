"""Whatever a file holds, a reader gives runs or a UserError, nothing else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from benchmarks.fuzzing.cases import Case, Entry
from benchmarks.fuzzing.run import PATIENT, run_case
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unstuck.errors import UserError
from unstuck.runs.build import MAX_RUNS, MAX_SERIES
from unstuck.runs.readers import read_runs

NANOGPT = """tokens per iteration will be: 1,024
found vocab_size = 65 (inside data/shakespeare_char/meta.pkl)
Resuming training from out-char
number of parameters: 0.10M
num decayed parameter tensors: 10, with 106,560 parameters
Overriding: learning_rate = 0.002
step 0: train loss 4.1807, val loss 4.1787
iter 0: loss 4.1853, time 448.71ms, mfu -100.00%
iter 10: loss nan, time 21.66ms, mfu 0.01%
step 25/300 (10.0%): train loss 3.4331, val loss inf | lr 1e-4
saving checkpoint to out-char
"""
STATE = json.dumps(
    {
        "global_step": 20,
        "max_steps": 600,
        "epoch": 1.0,
        "log_history": [
            {"epoch": 0.1, "grad_norm": 2.28, "learning_rate": 1.8e-4, "loss": 4.08, "step": 10},
            {"epoch": 0.2, "eval_loss": 3.9, "eval_runtime": 7.2, "step": 20},
        ],
    },
    indent=1,
)
METRICS = """{"config": {"lr": 0.01, "lora": {"r": 8}, "steps": 100}}
{"step": 0, "loss": 4.1, "lr": [0.1, 0.2], "val": {"loss": NaN}, "split": "val"}
{"event": "resumed from checkpoint at step 10"}
{"step": 10, "loss": "inf", "epoch": 1}
{"step": 20, "loss": 2.0, "epoch": 2}
"""
OURS = """{"event":"start","time":1,"unstuck":"0.1.0","updates":30,"vocabulary":97,"groups":{"core":{"lr_factor":1.0}}}
{"event":"update","update":1,"train/loss":4.1,"lr/core":0.1}
{"event":"resume","update":1,"changed":{"a":[1,2]}}
{"event":"evaluation","update":1,"val/loss":"nan"}
"""
JUNK = ["\0", "{", "}", "[", "]", '"', ",", ":", "nan", "-", "1e999", "9" * 400, "null", "true", "\n", "\r", "\x1b[2J",
        "😀", "step", "=", "''"]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    text = draw(st.sampled_from([NANOGPT, STATE, METRICS, OURS]))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(text)))
        kind = draw(st.sampled_from(["insert", "cut", "delete", "swap", "repeat"]))
        length = draw(st.integers(0, 40))
        if kind == "insert":
            text = text[:at] + draw(st.one_of(st.sampled_from(JUNK), st.text(max_size=5))) + text[at:]
        elif kind == "cut":
            text = text[:at] if at > 20 else text
        elif kind == "delete":
            text = text[:at] + text[at + length :]
        elif kind == "repeat":
            text = text[:at] + text[at : at + length] * 3 + text[at + length :]
        else:
            text = text[:at] + draw(st.sampled_from("0123456789-.e{}[],:")) + text[at + 1 :]
    raw = text.encode("utf-8", errors="surrogatepass")
    return raw + draw(st.binary(max_size=4))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=mutated())
def test_mutated_logs_give_runs_or_a_sentence(tmp_path: Path, content: bytes):
    path = tmp_path / "log"
    path.write_bytes(content)
    try:
        runs = read_runs(path)
    except UserError:
        return
    assert runs
    for run in runs:
        for series in run.series.values():
            assert (series.updates[1:] >= series.updates[:-1]).all()
            assert (series.lines <= content.count(b"\n") + 1).all()


# What the fuzzer found, as the smallest file that shows it; run_case allows each 5 s of CPU (issue 4).
ROW = b'{"step": %d, "loss": 1.5}\n'
RESUME = """{"lr": 10, "loss": 2.0, "epoch": 1, "grad_norm": 1.5}
{"event": "resumed from checkpoint at lr 1"}
{"config": {"lr": 0.01, "lora": {"r": 8}, "lrs": 100, "batch_size": 8}}
{"lr": 0, "loss": 3.0, "epoch": 1, "tokens_per_sec": 1e5}
{"config": {"lr": 0.02, "lora": {"r": 8}, "batch_size": 4}}
"""
RESUMED_NANOGPT = """tokens per iteration will be: 16,384
Resuming training from out-char
Overriding: learning_rate = 1e-3
number of parameters: 10.65M
step 0: train loss 4.2874, val loss 4.2823
iter 0: loss 4.2654, time 448.71ms, mfu -100.00%
saving checkpoint to out-char
"""
SETTINGS = """wandb_project = 'owt'
# these make the total batch size be ~0.5M

max_iters = 250489
"""
STARTS = (
    """Resuming from checkpoint
batch_size = 12
learning_rate = 0.001
max_iters = 1000
Epoch 1 loss 2.5 acc 0.5
Epoch 2 loss 2.4 acc 0.6
"""
    + "\n" * 210
)
BAR = "Epoch 1/3\n782/782 [==============================] - 12s 15ms/step - loss: 1.9322 - accuracy: 0.2911\n"
FOUND = {
    "blanks in a line": ("a.log", b"iter 0: loss 1.0\niter 10: loss 1.0\n" + b" " * 60_000 + b"x\n"),
    "colours in a line": ("a.log", b"iter 0: loss 1.0\niter 10: loss 1.0\n" + b"\x1b[0m" * 15_000 + b"\n"),
    "words in a line": (
        "a.log",
        b"iteration 1/ 9 | consumed samples: 1 | lm loss: 1.0E+00 |\niteration 2/ 9 | " + b"a " * 100_000 + b"\n",
    ),
    "an infinite count": (
        "a.log", b"=> calculated gradient accumulation steps: inf\n" + b"step 1 | loss: 3.1\n" * 3),
    "digits before a bar": (
        "a.log",
        b"".join(
            b"train: 319%%|###       | 319/1%s [299:301<299:307_ 9.9it/s_ loss=2.9_ lr=%d\n" % (b"0" * 1500, row)
            for row in range(90)
        ),
    ),
    "one error again and again": (
        "a.log", b"step 1 | loss: 3.1\nstep 2 | loss: 3.0\n" + b"RuntimeError: CUDA out of memory.\n" * 6000),
    "a group whose rate is zero": (
        "metrics.jsonl",
        b'{"event":"start","unstuck":"","groups":{"core":{"lr_factor":0}}}\n'
        b'{"event":"update","update":1,"lr/core":1}\n'
        b'{"event":"resume","update":1,"changed":{"learning_rate":[8,7]}}\n',
    ),
    "epochs of one update": (
        "metrics.jsonl",
        b'step":20val_loss:2\nval_loss:4 e 2\nstep 10 loss 1\nstep 20val_loss":2\nstep 10 loss"0 epoch1\n'
        b'step 20val_loss 4 epoch2\nstep 10 loss"0\nstep 20val_loss 4',
    ),
    "a summary of no epoch": ("a.log", b'train_loss"9train_runtime"2\nepoch5train_runtime 1train_steps_per_second 2\n'),
    "a summary of no seconds": (
        "a.log",
        b"{'train_runtime': nan, 'train_samples_per_second': 1, 'train_steps_per_second': inf, 'train_loss': 2.6}\n"),
    "a column of 5,000 letters": ("m.csv", b"lr,bs,seed," + b"x" * 5000 + b"\n1,2,3,a\n1,2,3,b\n"),
    "8,000 runs": ("m.jsonl", b"".join(ROW % (k % 3) for k in range(24_000))),
    "6,600 resumes": ("m.jsonl", RESUME.encode() * 6600),
    "a setting without a value": ("a.log", b"tokens per iteration will be\nOverriding: e = \nnumber of parameters"),
    "12,000 resumes of nanoGPT": ("nanogpt.log.gz", gzip.compress(RESUMED_NANOGPT.encode() * 12_000)),
    "60,000 settings": ("a.log", SETTINGS.encode() * 30_000),
    "2,000 starts": ("a.log", STARTS.encode() * 2000),
    "4 MiB of carriage returns": ("a.log.gz", gzip.compress(BAR.encode() * 4 + b"\r" * (4 << 20) + BAR.encode() * 4)),
}  # fmt: skip
FOUND_BESIDE = {
    "powers": ("config.py", b"k0 = 3\n" + b"".join(b"k%d = k%d * k%d\n" % (k + 1, k, k) for k in range(60))),
    "a list of 100,000": ("config.yaml", b"a: [" + b"1, " * 100_000 + b"1]\n"),
    "blanks in a value": (".env", b"A=x" + b" " * 200_000 + b"y # z\n"),
    "30,000 keys": ("config.json", json.dumps({f"k{k}": k for k in range(30_000)}).encode()),
    "20,000 assignments": ("config.py", b"".join(b"k%d = %d\n" % (k, k) for k in range(15_000))),
}  # fmt: skip


@pytest.mark.parametrize("name", [*FOUND, *FOUND_BESIDE])
def test_what_the_fuzzer_found_stays_mended(tmp_path: Path, name: str):
    rows = Entry("m.jsonl", b"".join(ROW % k for k in range(5)))
    entries = (Entry(*FOUND[name]),) if name in FOUND else (rows, Entry(*FOUND_BESIDE[name]))
    outcome = run_case(Case(name, entries), tmp_path, patience=PATIENT)
    assert outcome.failure is None, f"{outcome.failure}\n{outcome.detail}"


def test_a_resume_told_on_a_line_of_many_runs_belongs_to_one_of_them(tmp_path: Path):
    rows = b"".join(b"step %d loss %d.5\r" % (k % 5, k % 7) for k in range(60))
    (tmp_path / "a.log").write_bytes(b"Resuming from checkpoint\r" + rows)
    runs = read_runs(tmp_path / "a.log")
    assert len(runs) > 1
    assert sum(len(list(run.events_of("resume"))) for run in runs) <= 1


def test_more_runs_than_are_read_are_told(tmp_path: Path):
    (tmp_path / "m.jsonl").write_bytes(b"".join(ROW % (k % 2) for k in range(2 * MAX_RUNS + 20)))
    runs = read_runs(tmp_path / "m.jsonl")
    assert len(runs) == MAX_RUNS
    assert any("holds more than 1,000 runs" in note for note in runs[0].notes)


def test_more_names_than_are_read_are_told(tmp_path: Path):
    rows = [{"step": k, "loss": 1.0, **{f"n{k}_{i}": 1 for i in range(50)}} for k in range(MAX_SERIES // 50 + 10)]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = read_runs(tmp_path / "m.jsonl")
    assert len(run.series) <= MAX_SERIES
    assert len(run.series["train/loss"]) == len(rows)
    assert any("further ones were left out" in note for note in run.notes)


def test_an_archive_that_grows_without_end_is_refused_before_it_is_read(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("unstuck.runs.logfile.MAX_UNZIPPED", 1 << 20)
    rows = b"".join(ROW % k for k in range(1000))
    (tmp_path / "small.jsonl.gz").write_bytes(gzip.compress(rows))
    assert read_runs(tmp_path / "small.jsonl.gz")[0].updates == 999
    (tmp_path / "large.jsonl.gz").write_bytes(gzip.compress(rows * 50))
    with pytest.raises(UserError, match="unpacks to more than 1 MiB; unpack it with `gunzip -k`"):
        read_runs(tmp_path / "large.jsonl.gz")
