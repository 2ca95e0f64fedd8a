"""Formats whose lines are known: what each gives, on excerpts in the form that the program writes.

The lines of llm.c, build-nanogpt, modded-nanogpt, nanochat and Megatron are those of public logs (SiddanthEmani/
GPT-2-124M-CUDA, AGNDM/build-nanogpt, KellerJordan/modded-nanogpt, bigscience-workshop/bigscience); of fairseq and
OpenMMLab, of their documentation and public issues.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from unstuck.runs.readers import read_runs

LLMC = """\
+-----------------------+----------------------------------------------------+
| Parameter             | Value                                              |
| micro batch size B    | 32                                                 |
| sequence length T     | 1024                                               |
| total batch size      | 524288                                             |
| LR scheduler          | cosine                                             |
| learning rate (LR)    | 6.000000e-04                                       |
| warmup iterations     | 700                                                |
| final LR fraction     | 0.000000e+00                                       |
| vocab_size V          | 50257                                              |
val loss 11.008742
step    1/19560 | loss 11.010252 (+nanz)| norm 15.1374 (+nanz)| lr 8.57e-07 | 4621.47 ms | 29.2% bf16 MFU | 113446 tok/s
step    2/19560 | loss 10.960811 (+nanz)| norm 15.3215 (+nanz)| lr 1.71e-06 | 4210.41 ms | 32.1% bf16 MFU | 124522 tok/s
val loss 10.9
"""
BUILD = """\
total desired batch size: 524288
=> calculated gradient accumulation steps: 2
num decayed parameter tensors: 50, with 124,354,560 parameters
num non-decayed parameter tensors: 98, with 121,344 parameters
validation loss: 10.9522
HellaSwag accuracy: 2497/10042=0.2487
step     0 | loss: 10.955010 | lr 6.0000e-04 | norm: 15.3420 | dt: 19152.47ms | tok/sec: 27374.43
step     1 | loss: 10.014891 | lr 6.0000e-04 | norm: 3.8393 | dt: 394.95ms | tok/sec: 1327465.30
rank 0 sample 0: Hello, I'm a language model, step     2 | loss: 0.1
validation loss: 9.5
step     2 | loss: 9.344167 | lr 6.0000e-04 | norm: 2.0221 | dt: 399.41ms | tok/sec: 1312662.41
"""
MODDED = """\
import torch
@dataclass
class Hyperparameters:
    # data
    num_iterations : int = 5100 # number of iterations to run
    learning_rate : float = 0.0036
    files : str = "data/*.bin"
    step = 12345
args = Hyperparameters()
====================================================================================================
step:0/5100 val_loss:10.8258 train_time:0ms step_avg:0.01ms
step:1/5100 train_loss:10.8113 train_time:64ms step_avg:nanms
step:125/5100 val_loss:6.3061 train_time:19010ms step_avg:165.30ms
step:0/5100 val_loss:10.8300 train_time:0ms step_avg:0.01ms
step:125/5100 val_loss:6.3102 train_time:19010ms step_avg:165.30ms
"""
GOLF = """\
train_batch_tokens:524288 train_seq_len:1024 iterations:20000 warmup_steps:20 max_wallclock_seconds:600.000
seed:1337
warmup_step:1/20
step:0/20000 val_loss:6.9357 val_bpb:4.1077 train_time:0ms step_avg:0.02ms
step:1/20000 train_loss:6.9370 train_time:41ms step_avg:41.20ms
step:200/20000 train_loss:2.7 train_time:8282ms step_avg:41.41ms
final_int8_zlib_roundtrip val_loss:2.0649 val_bpb:1.2230 eval_time:1284ms
"""
NANOCHAT = """\
2026-03-16 22:57:30,922 - nanochat.checkpoint_manager - INFO - Building model with config: {'sequence_len': 128, \
'vocab_size': 32768, 'n_layer': 2}
Step 00000 | Validation bpb: 3.3084
step 00001 (0.00%) | loss: 5.471677 | lrm: 1.00 | dt: 1142.98ms | tok/sec: 111 | mfu: 0.00 | epoch: 1 | total time: 0m
step 00002 (0.00%) | loss: nan | lrm: 1.00 | dt: 4.98ms | tok/sec: 25,697 | mfu: 0.00 | epoch: 1 | total time: 0.01m
"""
MEGATRON = """\
  lr .............................................. 6e-05
  micro_batch_size ................................ 1
[default7]: iteration    31214/  115311 | consumed samples:     47768496 | consumed tokens:  97829879808 | elapsed \
time per iteration (s): 106.46 | learning rate: 5.279E-05 | lm loss: 2.198845E+00 | grad norm: 0.242 |
[default7]: iteration    31219/  115311 | consumed samples:     47778736 | consumed tokens:  97850851328 | elapsed \
time per iteration (s): 106.36 | learning rate: 5.279E-05 | lm loss: 5.098124E+00 | grad norm: 960.351 |
 validation loss at iteration 31220 | lm loss value: 2.2E+00 | lm loss PPL: 9.0E+00 |
"""
FAIRSEQ = """\
2021-01-12 14:35:05 | INFO | train_inner | epoch 001:    100 / 487 loss=12.5, nll_loss=12, ppl=4096, wps=14185.4, \
ups=0.5, num_updates=100, lr=1.25e-05, gnorm=3.1, clip=50, train_wall=93, wall=0
2021-01-12 14:35:09 | INFO | train_inner | epoch 001:    200 / 487 loss=11.5, nll_loss=11, ppl=2048, wps=14185.4, \
ups=0.5, num_updates=200, lr=2.5e-05, gnorm=2.1, clip=0, train_wall=93, wall=0
2021-01-12 14:37:14 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 10.1 | nll_loss 9.5 | ppl 724.1 | \
num_updates 487 | best_loss 10.1
2021-01-12 14:37:15 | INFO | train | epoch 001 | loss 11.9 | nll_loss 11.4 | ppl 2702 | num_updates 487 | lr 6e-05
"""
FAIRSEQ_JSON = """\
2021-01-12 14:35:05 | INFO | train_inner | {"epoch": 3, "update": 2.174, "loss": "9.368", "nll_loss": "8.846", \
"ppl": "460.11", "wps": "14185.4", "num_updates": "300", "lr": "3.75925e-05", "gnorm": "1.724", "wall": "0"}
2021-01-12 14:37:14 | INFO | valid | {"epoch": 3, "valid_loss": "8.751", "valid_nll_loss": "8.101", "valid_ppl": \
"274.56", "valid_num_updates": "414", "valid_best_loss": "8.751"}
"""
MMENGINE = """\
2023/11/29 02:19:30 - mmengine - INFO - Epoch(train)  [1][ 50/663]  lr: 1.9820e-03  eta: 4:27:58  time: 1.0137  \
data_time: 0.0554  memory: 20138  loss: 0.7690  loss_rpn_cls: 0.3936  grad_norm: 10.7
2023/11/29 02:20:20 - mmengine - INFO - Epoch(train)  [2][ 50/663]  lr: 3.9840e-03  eta: 4:25:17  time: 0.9996  \
data_time: 0.0519  memory: 20138  loss: 0.4335  loss_rpn_cls: 0.0921  grad_norm: nan
"""
MMDET2 = (
    "2020-06-30 20:41:30,107 - mmdet - INFO - Epoch [1][50/7330]\tlr: 1.978e-03, eta: 10:00:00, time: 0.382, "
    "data_time: 0.053, memory: 3872, loss_rpn_cls: 0.6, loss: 1.21\n"
    "2020-06-30 20:41:50,107 - mmdet - INFO - Epoch [1][100/7330]\tlr: 3.978e-03, eta: 10:00:00, time: 0.362, "
    "data_time: 0.043, memory: 3872, loss_rpn_cls: 0.5, loss: 1.11\n"
)
BITS = math.log(2)


@dataclass
class Expected:
    """Points are (update, value) from the beginning of the series."""

    text: str
    format: str
    series: dict[str, list[tuple[int, float]]]
    settings: dict[str, object] = field(default_factory=dict)
    runs: int = 1


CASES = {
    "llm.c": Expected(
        LLMC,
        "llm.c",
        {"train/loss": [(1, 11.010252), (2, 10.960811)], "val/loss": [(0, 11.008742), (2, 10.9)],
         "grad_norm/preclip": [(1, 15.1374), (2, 15.3215)], "lr/all": [(1, 8.57e-07), (2, 1.71e-06)],
         "time/step_ms": [(1, 4621.47), (2, 4210.41)]},
        {"learning_rate": 6e-4, "batch_size": 32, "accumulation": 16, "vocabulary": 50257, "updates": 19560,
         "warmup_updates": 700, "schedule": "cosine"},
    ),
    "llm.c main.log": Expected(
        "s:0 tel:11.0095\ns:0 trl:11.0116 lr:0.000001 norm:14.96\ns:1 trl:10.9586 lr:0.000002 norm:15.18\n"
        "s:1 eval:0.2437\n",
        "llm.c",
        {"train/loss": [(0, 11.0116), (1, 10.9586)], "val/loss": [(0, 11.0095)], "hellaswag": [(1, 0.2437)]},
    ),
    "build-nanogpt console": Expected(
        BUILD,
        "build-nanogpt",
        {"train/loss": [(0, 10.95501), (1, 10.014891), (2, 9.344167)], "val/loss": [(0, 10.9522), (2, 9.5)]},
        {"vocabulary": 50304, "accumulation": 2, "parameters": 124475904},
    ),
    "build-nanogpt log.txt": Expected(
        "0 val 10.9522\n0 hella 0.2487\n0 train 10.952208\n1 train 10.906649\n2 train 10.802351\n250 val 6.1\n",
        "build-nanogpt",
        {"train/loss": [(0, 10.952208), (1, 10.906649), (2, 10.802351)], "val/loss": [(0, 10.9522), (250, 6.1)]},
    ),
    "modded-nanogpt, two seeds": Expected(
        MODDED,
        "modded-nanogpt",
        {"val/loss": [(0, 10.8258), (125, 6.3061)], "train/loss": [(1, 10.8113)]},
        {"learning_rate": 0.0036, "updates": 5100},
        runs=2,
    ),
    "parameter-golf": Expected(
        GOLF,
        "modded-nanogpt",
        {"val/loss": [(0, 6.9357)], "train/loss": [(1, 6.937), (200, 2.7)], "val/bits_per_byte": [(0, 4.1077)]},
        {"updates": 20000, "seed": 1337, "context": 1024},
    ),
    "nanochat": Expected(
        NANOCHAT,
        "nanochat",
        {"train/loss": [(1, 5.471677), (2, math.nan)], "val/bits_per_byte": [(0, 3.3084)],
         "throughput/tokens_per_second": [(1, 111.0), (2, 25697.0)]},
        {"vocabulary": 32768},
    ),
    "Megatron": Expected(
        MEGATRON,
        "megatron",
        {"train/loss": [(31214, 2.198845), (31219, 5.098124)], "grad_norm/preclip": [(31214, 0.242), (31219, 960.351)],
         "val/loss": [(31220, 2.2)], "time/step_ms": [(31214, 106460.0), (31219, 106360.0)],
         "tokens": [(31214, 97829879808.0), (31219, 97850851328.0)]},
        {"learning_rate": 6e-5, "updates": 115311},
    ),
    "fairseq simple": Expected(
        FAIRSEQ,
        "fairseq",
        {"train/loss": [(100, 12 * BITS), (200, 11 * BITS)],
         "train/objective": [(100, 12.5 * BITS), (200, 11.5 * BITS)],
         "val/loss": [(487, 9.5 * BITS)], "grad_norm/clipped_share": [(100, 0.5), (200, 0.0)]},
    ),
    "fairseq json": Expected(
        FAIRSEQ_JSON,
        "fairseq",
        {"train/loss": [(300, 8.846 * BITS)], "val/loss": [(414, 8.101 * BITS)], "lr/all": [(300, 3.75925e-05)]},
    ),
    "MMEngine": Expected(
        MMENGINE,
        "mmengine",
        {"train/loss": [(50, 0.769), (713, 0.4335)], "lr/all": [(50, 1.982e-3), (713, 3.984e-3)],
         "time/step_ms": [(50, 1013.7), (713, 999.6)],
         "time/data_share": [(50, 0.0554 / 1.0137), (713, 0.0519 / 0.9996)]},
    ),
    "mmdetection 2": Expected(
        MMDET2, "mmengine", {"train/loss": [(50, 1.21), (100, 1.11)], "time/step_ms": [(50, 382.0), (100, 362.0)]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_known_format(name: str, tmp_path: Path) -> None:
    expected = CASES[name]
    path = tmp_path / "some-output"
    path.write_text(expected.text, encoding="utf-8")
    runs = read_runs(path)
    assert len(runs) == expected.runs
    run = runs[0]
    assert run.format == expected.format
    for series, points in expected.series.items():
        assert list(run.series[series].updates) == [update for update, _ in points], series
        assert list(run.series[series].values) == pytest.approx([v for _, v in points], nan_ok=True), series
    assert {key: run.setting(key) for key in expected.settings} == expected.settings


def test_sample_text_between_the_steps_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(BUILD, encoding="utf-8")
    (run,) = read_runs(path)
    assert min(run.series["train/loss"].values) > 9


def test_a_job_that_went_back_to_a_checkpoint_is_one_run_with_a_resume(tmp_path: Path) -> None:
    line = " iteration {n}/ 1000 | consumed samples: 1 | learning rate: 1E-04 | lm loss: {loss}E+00 |\n"
    text = "".join(line.format(n=n, loss=4 - n / 100) for n in range(10, 110, 10))
    text += "".join(line.format(n=n, loss=4 - n / 100) for n in range(65, 200, 10))
    path = tmp_path / "megatron.log"
    path.write_text(text, encoding="utf-8")
    (run,) = read_runs(path)
    assert [event.update for event in run.events_of("resume")] == [65]
    assert list(run.series["train/loss"].updates) == [*range(10, 70, 10), *range(65, 200, 10)]
