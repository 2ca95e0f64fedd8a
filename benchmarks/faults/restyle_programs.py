"""The record of a run as the logs of public programs have it: their counts, units and ways to tell of validation.

Each style prints the neutral rows of `restyle_layouts.py` after the program named beside it, with the fields that its
forks add, so that nothing of the record is left out. The counts are those of the program: of micro-batches, of samples
or tokens, within the epoch, in thousands, or a share.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from benchmarks.faults.restyle_layouts import Row, clock, digits


@dataclass(frozen=True, slots=True)
class About:
    """What a program knows of its run beside the rows.

    Attributes:
        total: updates planned.
        per_epoch: updates of an epoch.
        batch: samples of a micro-batch.
        accumulation: micro-batches of an update.
    """

    total: int
    per_epoch: int = 50
    batch: int = 16
    accumulation: int = 1

    @property
    def micro_per_epoch(self) -> int:
        return self.per_epoch * self.accumulation


@dataclass(frozen=True, slots=True)
class Line:
    """A line: a beginning, fields (those whose value the row lacks are left out) and an end."""

    begin: str
    fields: Sequence[str]
    between: str = " "
    end: str = ""


# What a row holds, by the placeholders in which it is printed.
_FORMS = {"loss": ("loss", "loss_e"), "lr": ("lr", "lr_e", "lr_1e4"), "norm": ("norm",),
          "step_s": ("step_s", "step_ms", "step_rate"), "data_s": ("data_s", "data_ms"), "val": ("val",),
          "acc": ("acc", "acc100")}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Program:
    """How a program prints. `update`, `evaluation`: the lines of a row; `epoch`: the lines that begin an epoch."""

    update: Sequence[Line]
    evaluation: Sequence[Line]
    epoch: Sequence[str] = ()
    suffix: str = ".log"

    def shows(self) -> frozenset[str]:
        """The neutral names of what it prints of a row."""
        formats = [text for line in (*self.update, *self.evaluation) for text in (line.begin, *line.fields)]
        used = {name for text in formats for _, name, _, _ in Formatter().parse(text)}
        return frozenset(key for key, forms in _FORMS.items() if used & {*forms})

    def printed(self, rows: Sequence[Row], about: About) -> Iterator[str]:
        """The lines of a log."""
        epoch, losses, best = 0, [0.0], math.inf
        for row in rows:
            if "message" in row:
                yield row["message"]
                continue
            if "val" in row:
                best = min(best, row["val"])
                row = {**row, "best": best}
            told = values(row, about, sum(losses) / max(1, len(losses)))
            if int(told["epoch"]) != epoch:
                epoch, losses = int(told["epoch"]), []
                yield from (line.format_map(told) for line in self.epoch)
            if "loss" in row:
                losses.append(row["loss"])
                told["mean"] = digits(sum(losses) / len(losses))
                yield from (_line(line, told) for line in self.update)
            if "val" in row:
                yield from (_line(line, told) for line in self.evaluation)


@dataclass(frozen=True, slots=True)
class Written:
    """A file of records that a function writes whole."""

    write: Callable[[Sequence[Row], About], Iterator[str]]
    suffix: str

    def shows(self) -> frozenset[str]:
        return frozenset(_FORMS)

    def printed(self, rows: Sequence[Row], about: About) -> Iterator[str]:
        return self.write(rows, about)


def values(row: Row, about: About, mean: float) -> dict[str, str]:
    """Every form of the counts and numbers of a row, as text.

    Args:
        mean: of the losses of the epoch so far.
    """
    step = row["step"]
    epoch, inner = divmod(max(step - 1, 0), about.per_epoch)
    inner += 1 if step else 0
    micro, samples = step * about.accumulation, step * about.accumulation * about.batch
    inner_micro = inner * about.accumulation
    told = {
        "step": step, "total": about.total, "micro": micro, "samples": samples, "kimg": f"{samples / 1000:.3f}",
        "k": f"{step / 1000:.3f}k", "epoch": epoch + 1, "epoch0": epoch, "inner": inner, "inner0": max(inner - 1, 0),
        "per": about.per_epoch, "inner_micro": inner_micro, "per_micro": about.micro_per_epoch,
        "inner_samples": inner_micro * about.batch, "per_samples": about.micro_per_epoch * about.batch,
        "share": f"{100 * inner / about.per_epoch:.0f}", "percent": f"{100 * step / about.total:.1f}",
        "fraction": f"{step / about.per_epoch:.4f}", "epochs": math.ceil(about.total / about.per_epoch),
        "clock": clock(step), "stamp": clock(step, "%m%d %H:%M:%S"), "iso": clock(step, "%Y-%m-%dT%H:%M:%S"),
        "left": f"0:{(about.total - step) // 60 % 60:02d}:{(about.total - step) % 60:02d}",
        "mean": digits(mean),
    }  # fmt: skip
    if "loss" in row:
        told |= {"loss": digits(row["loss"]), "loss_e": f"{row['loss']:.5e}", "sum": digits(row["loss"] * 10)}
    if "lr" in row:
        told |= {"lr": digits(row["lr"]), "lr_e": digits(row["lr"], "E"), "lr_1e4": digits(row["lr"] * 1e4)}
    if "norm" in row:
        told |= {"norm": digits(row["norm"])}
    for key in ("step", "data"):
        if f"{key}_s" in row:
            seconds = row[f"{key}_s"]
            told |= {f"{key}_s": digits(seconds), f"{key}_ms": digits(1e3 * seconds)}
            if seconds > 0:
                told |= {f"{key}_rate": digits(1 / seconds)}
    if "step_s" in row and row["step_s"] > 0:
        told |= {"per_second": digits(about.accumulation * about.batch / row["step_s"])}
    if "val" in row:
        told |= {"val": digits(row["val"])}
    if "acc" in row:
        told |= {"acc": digits(row["acc"]), "acc100": digits(100 * row["acc"])}
    if "best" in row:
        told |= {"best": digits(row["best"])}
    return {key: str(value) for key, value in told.items()}


def _line(line: Line, told: Mapping[str, str]) -> str:
    fields = []
    for field in line.fields:
        try:
            fields.append(field.format_map(told))
        except KeyError:  # the record has no such value
            continue
    return line.begin.format_map(told) + line.between.join(fields) + line.end.format_map(told)


def nested_json(rows: Sequence[Row], about: About) -> Iterator[str]:
    """JSON lines with objects within: ray.train and mlc loggers nest train and eval so."""
    for row in rows:
        if "message" in row:
            continue
        inner = {"loss": "loss", "lr": "learning_rate", "norm": "grad_norm"}
        told: dict[str, object] = {"iteration": row["step"]}
        if "loss" in row:
            told["train"] = {name: row[key] for key, name in inner.items() if key in row}
            told["perf"] = {f"{key}_time_ms": 1e3 * row[f"{key}_s"] for key in ("step", "data") if f"{key}_s" in row}
        if "val" in row:
            told["eval"] = {name: row[key] for key, name in (("val", "loss"), ("acc", "accuracy")) if key in row}
        yield json.dumps(told)


def with_units(rows: Sequence[Row], about: About) -> Iterator[str]:
    """A CSV whose header has the units, as instruments and pandas exports write it."""
    names = {"step": "step [-]", "loss": "train loss [nats]", "lr": "lr [1e-4]", "norm": "grad norm [L2]",
             "step_s": "step time [ms]", "data_s": "data time [ms]", "val": "val loss [nats]",
             "acc": "val acc [%]"}  # fmt: skip
    scale = {"lr": 1e4, "step_s": 1e3, "data_s": 1e3, "acc": 100.0}
    shown = [key for key in names if any(key in row for row in rows)]
    yield ";".join(names[key] for key in shown)
    for row in rows:
        if "message" not in row:
            yield ";".join(digits(row[k] * scale.get(k, 1.0)) if k in row else "" for k in shown)


# Every number under a name of its own, in seconds.
_FULL = ("loss {loss}", "lr {lr_e}", "grad_norm {norm}", "step_time {step_s}", "data_time {data_s}")
_VAL = ("val_loss {val}", "val_acc {acc}")

PROGRAMS: dict[str, Program | Written] = {
    # counts within the epoch of a known length
    "flair": Program(  # flairNLP/flair
        (Line("{clock},123 ", ("epoch {epoch} - iter {inner}/{per}", "loss {loss}", "step (sec): {step_s}",
                               "data (sec): {data_s}", "grad_norm: {norm}", "lr: {lr_e}"), " - "),),
        (Line("{clock},456 DEV : ", ("loss {val}", "accuracy {acc}"), " - "),),
    ),
    "pytorch-lm": Program(  # pytorch/examples word_language_model
        (Line("| epoch {epoch:>3} | {inner:>5}/{per:>5} batches | ",
              ("lr {lr}", "ms/batch {step_ms}", "data ms/batch {data_ms}", "gnorm {norm}", "loss {loss}"), " | "),),
        (Line("-" * 89 + "\n| epoch {epoch:>3} | {inner:>5}/{per:>5} batches | ",
              ("valid loss {val}", "valid acc {acc}"),
              " | ", "\n" + "-" * 89),),
    ),
    "mnist": Program(  # pytorch/examples mnist, open_clip
        (Line("Train Epoch: {epoch} [{inner_samples}/{per_samples} ({share}%)]\t",
              ("Loss: {loss}", "LR: {lr}", "Grad: {norm}", "Batch (t): {step_s}", "Data (t): {data_s}"), "\t"),),
        (Line("\nTest set: ", ("Average loss: {val}", "Accuracy: {acc100}%"), ", ", "\n"),),
    ),
    "imagenet": Program(  # pytorch/examples imagenet
        (Line("Epoch: [{epoch0}][{inner_micro:>5}/{per_micro}]\t",
              ("Time {step_s} ({step_s})", "Loss {loss_e} ({mean})", "LR {lr_e}",
               "GNorm {norm}"), "\t"),),
        (Line(" * ", ("Acc@1 {acc100}", "Loss {val}")),),
    ),
    "swin": Program(  # microsoft/Swin-Transformer
        (Line("[{clock} swin] (main.py 231): INFO Train: [{epoch0}/{epochs}][{inner}/{per}]\teta {left} ",
              ("lr {lr}", "time {step_s} ({step_s})", "loss {loss} ({mean})",
               "grad_norm {norm} ({norm})"), "\t", "\tmem 1021MB"),),
        (Line("[{clock} swin] (main.py 290): INFO  * ", ("Acc@1 {acc100}", "Loss {val}")),),
    ),
    "wenet": Program(  # wenet-e2e/wenet
        (Line("{clock},123 DEBUG TRAIN Batch {epoch0}/{inner_micro} ",
              ("loss {loss}", "lr {lr}", "grad_norm {norm}", "step_time {step_s}", "data_time {data_s}"), " ",
              " rank 0"),),
        (Line("{clock},456 INFO Epoch {epoch0} CV info ", ("cv_loss {val}", "cv_acc {acc}")),),
    ),
    "icefall": Program(  # k2-fsa/icefall
        (Line("{clock} INFO [train.py:895] Epoch {epoch}, batch {inner}, loss[loss={loss}, over 12345.00 frames. ], "
              "tot_loss[loss={mean}, over 234567.00 frames. ], batch size: 20, ",
              ("lr: {lr_e}", "grad_norm: {norm}", "step_time: {step_s}", "data_time: {data_s}"), ", "),),
        (Line("{clock} INFO [train.py:929] Epoch {epoch}, validation: ", ("loss={val}", "accuracy={acc}"), ", "),),
    ),
    "detr": Program(  # facebookresearch/detr, mae
        (Line("Epoch: [{epoch0}]  [{inner:>4}/{per}]  eta: {left}  ",
              ("lr: {lr}", "loss: {loss} ({mean})", "grad_norm: {norm}", "time: {step_s}", "data: {data_s}"), "  ",
              "  max mem: 1234"),),
        (Line("Test: Total time: 0:00:03 (0.1 s / it)\n* ", ("Acc@1 {acc100}", "loss {val}")),),
    ),
    # micro-batches, with or without updates beside them
    "litgpt": Program(  # Lightning-AI/litgpt
        (Line("Epoch {epoch} | iter {micro} step {step} | ",
              ("loss train: {loss}, val: n/a", "lr: {lr}", "grad norm: {norm}", "step time: {step_ms} ms",
               "data time: {data_ms} ms"), " | ", " (step)"),),
        (Line("iter {micro}: ", ("val loss {val}", "val acc {acc}", "val time: 123.45 ms"), ", "),),
    ),
    "micro-batches": Program(  # plain loops with accumulation: the loader's count and its division
        (Line("micro_step {micro} | ", _FULL, " | "),), (Line("micro_step {micro} | ", _VAL, " | "),),
    ),
    # samples, tokens, thousands
    "samples-seen": Program(  # NVlabs/edm, google-research/vision: examples seen only
        (Line("samples_seen={samples} ", ("loss={loss}", "lr={lr_e}", "grad_norm={norm}", "step_ms={step_ms}",
                                          "data_ms={data_ms}")),),
        (Line("samples_seen={samples} ", ("eval_loss={val}", "eval_acc={acc}")),),
    ),
    "kimg": Program(  # NVlabs/stylegan2-ada, edm
        (Line("kimg {kimg:<8} ", ("loss {loss:<8}", "lr {lr_e}", "gnorm {norm}", "sec/step {step_s}",
                                  "data_time {data_s}")),),
        (Line("kimg {kimg:<8} ", ("val_loss {val}", "val_acc {acc}")),),
    ),
    "thousands": Program(  # "12k" as in rl and diffusion scripts
        (Line("step {k}: ", ("loss={loss}", "lr={lr_e}", "gnorm={norm}", "step_ms={step_ms}", "data_ms={data_ms}"),
              ", "),),
        (Line("step {k}: ", ("val_loss={val}", "val_acc={acc}"), ", "),),
    ),
    # the step in brackets, a block of lines
    "big-vision": Program(  # google-research/big_vision
        (Line("I{stamp}.123456 140213 train.py:88] [{step}] ", ("training_loss = {loss}", "lr = {lr_e}"),
              "\nI{stamp}.123457 140213 train.py:88] [{step}] "),
         Line("I{stamp}.123458 140213 train.py:88] [{step}] ", ("l2_grads = {norm}",)),),
        (Line("I{stamp}.123456 140213 train.py:88] [{step}] ", ("val/loss = {val}",)),),
    ),
    "gluon": Program(  # dmlc/gluon-nlp BERT
        (Line("INFO:root:{clock} - [step {step}]\t", ("loss={loss}", "lr={lr_e}", "gnorm={norm}",
                                                      "latency={step_ms} ms/step", "data_ms={data_ms}"), "\t"),),
        (Line("INFO:root:{clock} - [step {step}]\t", ("validation_loss={val}", "validation_acc={acc100}%"), "\t"),),
    ),
    "olmo": Program(  # allenai/OLMo
        (Line("[{clock}] INFO     [olmo.train:1033, rank=0] [step={step}/{total},epoch={epoch0}]\n    ",
              ("train/CrossEntropyLoss={loss}", "optim/learning_rate_group0={lr}", "optim/total_grad_norm={norm}",
               "throughput/device/batches_per_second={step_rate}", "data_time_ms={data_ms}"), "\n    "),),
        (Line("[{clock}] INFO     [olmo.train:1099, rank=0] [step={step}/{total},epoch={epoch0}]\n    ",
              ("eval/validation/CrossEntropyLoss={val}", "eval/validation/accuracy={acc}"), "\n    "),),
    ),
    "composer": Program(  # mosaicml/composer
        (Line("[batch={step}/{total}]:\n\t ",
              ("Train time/batch: {step}", "Train loss/train/total: {loss}", "Train lr-AdamW/group0: {lr}",
               "Train l2_norm/grad/global: {norm}", "Train time/step_ms: {step_ms}", "Train time/data_ms: {data_ms}"),
              "\n\t "),),
        (Line("[Eval batch={step}/{total}] Eval on eval data:\n\t ",
              ("Eval metrics/eval/CrossEntropy: {val}", "Eval metrics/eval/Accuracy: {acc}"), "\n\t "),),
    ),
    "coqui": Program(  # coqui-ai/TTS, Trainer
        (Line("\n   --> TIME: {clock} -- STEP: {inner}/{per} -- GLOBAL_STEP: {step}\n     | > ",
              ("loss: {loss}  ({mean})", "grad_norm: {norm}", "current_lr: {lr}", "step_time: {step_s}",
               "loader_time: {data_s}"), "\n     | > "),),
        (Line("\n  --> EVAL PERFORMANCE\n     | > ", ("avg_loss: {val} (-0.0123)", "avg_accuracy: {acc} (+0.001)"),
              "\n     | > "),),
        ("\n > EPOCH: {epoch0}/{epochs}", " --> /tmp/run", "\n > TRAINING ({clock}) "),
    ),
    "diffusion": Program(  # openai/guided-diffusion: one box for each row
        (Line("-" * 30 + "\n| ", ("loss         | {loss:<12} |", "lr           | {lr:<12} |",
                                 "grad_norm    | {norm:<12} |",
                                 "step_time    | {step_s:<12} |", "data_time    | {data_s:<12} |",
                                 "samples      | {samples:<12} |", "step         | {step:<12} |"), "\n| ",
              "\n" + "-" * 30),),
        (Line("-" * 30 + "\n| ", ("val_loss     | {val:<12} |", "val_acc      | {acc:<12} |",
                                 "samples      | {samples:<12} |", "step         | {step:<12} |"), "\n| ",
              "\n" + "-" * 30),),
    ),
    # values before names, rates, units
    "darknet": Program(  # AlexeyAB/darknet
        (Line(" {step}: ", ("{loss} loss", "{lr} rate", "{norm} grad norm", "{step_s} seconds/step",
                            "{data_s} data_time", "{samples} images"), ", "),),
        (Line(" {step}: ", ("{val} val loss", "{acc} val acc"), ", "),),
    ),
    "opennmt": Program(  # OpenNMT/OpenNMT-py
        (Line("[{clock},123 INFO] Step {step}/{total}; ",
              ("xent: {loss}", "lr: {lr}", "gnorm: {norm}", "step_ms: {step_ms}", "data_ms: {data_ms}"), "; "),),
        (Line("[{clock},123 INFO] Step {step}/{total}; ", ("validation xent: {val}", "validation accuracy: {acc100}"),
              "; "),),
    ),
    "marian": Program(  # marian-nmt/marian
        (Line("[{clock}] Ep. {epoch} : Up. {step} : Sen. {inner_samples} : ",
              ("Cost {loss}", "step_time {step_s}s", "data_time {data_s}s", "gNorm {norm}", "L.r. {lr_e}"), " : "),),
        (Line("[{clock}] [valid] Ep. {epoch} : Up. {step} : ", ("cross-entropy : {val}", "new best"), " : "),),
    ),
    "joey": Program(  # joeynmt/joeynmt
        (Line("{clock},123 - INFO - joeynmt.training - Epoch {epoch:>3}, Step: {step:>8}, ",
              ("Batch Loss: {loss}", "Lr: {lr}", "Grad Norm: {norm}", "Step Time: {step_s}s", "Data Time: {data_s}s"),
              ", "),),
        (Line("{clock},123 - INFO - joeynmt.training - Validation result at step {step}: ",
              ("loss: {val}", "acc: {acc}"), ", "),),
    ),
    "flax": Program(  # huggingface/transformers examples/flax
        (Line("Step... ({step} | ", ("Loss: {loss}", "Learning Rate: {lr_e}", "Grad Norm: {norm}",
                                     "Step Time: {step_s}s",
                                     "Data Time: {data_s}s"), ", ", ")"),),
        (Line("Step... ({step} | ", ("Eval Loss: {val}", "Eval Accuracy: {acc}"), ", ", ")"),),
    ),
    "maxtext": Program(  # AI-Hypercomputer/maxtext
        (Line("completed step: {step}, ", ("seconds: {step_s}", "data seconds: {data_s}", "TFLOP/s/device: 12.345",
                                          "loss: {loss}", "lr: {lr_e}", "grad_norm: {norm}"), ", "),),
        (Line("eval metrics after step: {step}, ", ("loss={val}", "accuracy={acc}"), ", "),),
    ),
    "estimator": Program(  # tensorflow estimator
        (Line("INFO:tensorflow:loss = {loss}, step = {step} (1.234 sec)\nINFO:tensorflow:", ("learning_rate = {lr}",
              "grad_norm = {norm}", "step_time = {step_s}", "data_time = {data_s}"), ", "),),
        (Line("INFO:tensorflow:Saving dict for global step {step}: ", ("accuracy = {acc}", "global_step = {step}",
                                                                       "loss = {val}"), ", "),),
    ),
    "caffe": Program(  # BVLC/caffe
        (Line("I{stamp}.123456 4321 solver.cpp:218] Iteration {step} ({step_rate} iter/s, 1.2s/10 iters), "
              "loss = {loss}\nI{stamp}.123460 4321 sgd_solver.cpp:105] Iteration {step}, ",
              ("lr = {lr}", "grad_norm = {norm}", "data_ms = {data_ms}"), ", "),),
        (Line("I{stamp}.123456 4321 solver.cpp:330] Iteration {step}, Testing net (#0)\n",
              ("I{stamp}.123457 4321 solver.cpp:397]     Test net output #0: accuracy = {acc}",
               "I{stamp}.123458 4321 solver.cpp:397]     Test net output #1: loss = {val} (* 1 = {val} loss)"), "\n"),),
    ),
    "rates": Program(  # speeds instead of times; a learning rate in 1e-4, in a list
        (Line("[{step}/{total}] ", ("loss: {loss}", "lr(1e-4): {lr_1e4}", "gnorm: {norm}", "{step_rate} it/s",
                                    "data: {data_ms} ms"), " | "),),
        (Line("[{step}/{total}] ", ("holdout loss: {val}", "holdout acc: {acc100} %", "best: {best}"), " | "),),
    ),
    "lists": Program(  # mmcv and scripts that print get_last_lr() as it is
        (Line("iter {step}: ", ("loss {loss}", "lr [{lr}]", "grad_norm {norm}", "{step_s} s/it", "data {data_s} s"),
              ", "),),
        (Line("iter {step}: ", ("dev loss {val} (best {best})", "dev acc {acc100}%"), ", "),),
    ),
    "block-after": Program(  # a block below each evaluation, its best beside it
        (Line("[{step:>6}/{total}] ", ("loss={loss}", "lr={lr}", "|g|={norm}", "{step_ms} ms/step", "data={data_ms}ms"),
              " "),),
        (Line("=" * 40 + "\nEvaluation at step {step}\n", ("  eval loss  : {val}", "  eval acc   : {acc100}%",
                                                           "  best loss  : {best}"), "\n", "\n" + "=" * 40),),
    ),
    "minimind": Program(  # jingyaogong/minimind
        (Line("Epoch:[{epoch}/{epochs}]({inner_micro}/{per_micro}) ", ("loss:{loss}", "lr:{lr}", "gnorm:{norm}",
              "step_time:{step_s}s", "data_time:{data_s}s", "epoch_Time:12.0min:"), " "),),
        (Line("Epoch:[{epoch}/{epochs}]({inner_micro}/{per_micro}) ", ("val_loss:{val}", "val_acc:{acc}"), " "),),
    ),
    "nested-json": Written(nested_json, ".jsonl"),
    "csv-units": Written(with_units, ".csv"),
}  # fmt: skip
