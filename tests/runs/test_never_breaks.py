"""Whatever a file holds, a reader gives runs or a UserError, nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unstuck.errors import UserError
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


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
