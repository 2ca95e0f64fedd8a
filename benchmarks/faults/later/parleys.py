"""ParlAI's lines: a bracket of times and examples, then the report as Python writes a dict; so for each validation.

Modelled on `parlai/scripts/train_model.py` of 2019 (github.com/facebookresearch/ParlAI) and logs of bAbI runs in its
pull request 1895 and issue 2567; numbers have four significant digits (`round_sigfigs`). The file beside the log is the
model's `.opt`; the JSON lines have the reports that its `.trainstats` keeps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.faults.trainers.facts import Facts, renamed
from benchmarks.faults.trainers.styles import LR, NORM, STEPS, Style, rates

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated

SCHEDULES = {"plateau": "reduceonplateau", "constant": "none"}  # ParlAI's names; the others are the same


class Parleys(Style):
    """Means over the interval; the best accuracy is told after each validation."""

    name = "w3-parleys"
    shows = frozenset({LR, NORM, STEPS})
    kinds = ("classes",)
    means = True
    text_name = "train_model.log"
    jsonl_name = "model.trainstats.jsonl"
    config_name = "model.opt"
    names: ClassVar[dict[str, str]] = {
        "task": "task", "datatype": "datatype", "model_shape": "model", "class_names": "classes",
        "batch_size": "batchsize", "accumulation": "update_freq", "epochs_exact": "num_epochs",
        "updates": "max_train_steps", "eval_every": "validation_every_n_steps", "log_every": "log_every_n_steps",
        "model_width": "embedding_size", "model_layers": "n_layers", "model_activation": "activation",
        "dropout": "dropout", "smoothing": "label_smoothing", "optimizer": "optimizer", "lr": "learningrate",
        "momentum": "momentum", "betas": "betas", "weight_decay": "weight_decay", "clip": "gradient_clip",
        "lr_scheduler": "lr_scheduler", "warmup": "warmup_updates", "floor": "lr_scheduler_min_ratio",
        "cycles": "lr_scheduler_cycles", "decay_share": "lr_scheduler_cooldown", "patience": "lr_scheduler_patience",
        "factor": "lr_scheduler_decay", "fp16": "fp16", "seed": "seed",
    }  # fmt: skip

    def __init__(self) -> None:
        self.best, self.impatience = -1.0, 0

    def opt(self, facts: Facts) -> dict[str, Any]:
        told = {
            **facts, "datatype": "train" if facts["shuffle"] else "train:ordered",
            "epochs_exact": figures(facts["updates"] * facts["samples_per_update"] / facts["train_samples"]),
            "betas": [0.9, facts["beta2"]] if facts["beta2"] else None, "fp16": facts["precision"] == "float16",
            "lr_scheduler": SCHEDULES.get(facts["schedule"], facts["schedule"]),
            "class_names": list(facts.get("class_names", ())) or None,
        }  # fmt: skip
        return renamed(told, self.names)

    def config(self, facts: Facts) -> str:
        self.best, self.impatience = -1.0, 0
        return json.dumps(self.opt(facts), indent=4) + "\n"

    def header(self, facts: Facts) -> Iterable[str]:
        yield "[ Main ParlAI Arguments: ] "
        yield from (f"[  {key}: {value} ]" for key, value in self.opt(facts).items())
        yield "[ Using CPU ]"
        yield "Dictionary: loading dictionary from /tmp/babi/model.dict"
        yield f"[ num words =  {facts.get('vocabulary', 0)} ]"
        yield f"Total parameters: {facts['parameters']:,} ({facts['trainable']:,} trainable)"
        yield f"[creating task(s): {facts['task']}]"
        yield f"[ {facts['train_samples']} training and {facts['val_samples']} valid examples ]"
        yield "[ training... ]"

    def place(self, update: int, clock: float, facts: Facts) -> dict[str, Any]:
        seen = update * facts["samples_per_update"]
        return {"time": float(math.floor(clock)), "total_exs": seen, "epochs": round(seen / facts["train_samples"], 2)}

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        at = self.place(u.update, u.clock, facts)
        left = max(0, math.ceil(u.clock * (facts["updates"] / u.update - 1)))
        report = {
            "exs": facts["log_every"] * facts["samples_per_update"], "mean_loss": figures(u.loss),
            "gnorm": figures(u.norm), "updates": facts["log_every"],
            **{key: figures(rate) for key, rate in rates(u.rates).items()}, "total_train_updates": u.update,
        }  # fmt: skip
        yield (
            f"[ time:{at['time']}s total_exs:{at['total_exs']} epochs:{at['epochs']} time_left:{float(left)}s ] "
            f"{report}"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        lr = {key: figures(rate) for key, rate in rates(e.rates or {}).items()}
        accuracy = e.accuracy or 0.0
        report = {"exs": facts["val_samples"], "accuracy": figures(accuracy), "mean_loss": figures(e.loss), **lr}
        yield "[ running eval: valid ]"
        yield f"valid:{ {**report, 'total_train_updates': e.update} }"
        if accuracy > self.best:
            before = f" (previous best was {figures(self.best)})" if self.best >= 0 else ""
            self.best, self.impatience = accuracy, 0
            yield f"[ new best accuracy: {figures(accuracy)}{before} ]"
            yield "[ saving best valid model: /tmp/babi/model ]"
        else:
            self.impatience += 1
            yield f"[ did not beat best accuracy: {figures(self.best)} impatience: {self.impatience} ]"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield "[ Loading existing model params from /tmp/babi/model.checkpoint ]"
        yield f"[ {update} train updates done before ]"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "report": "train", "total_train_updates": u.update, "train_time": round(u.clock, 3),
            "mean_loss": figures(u.loss), "gnorm": figures(u.norm), **rates(u.rates),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return {
            "report": "valid", "total_train_updates": e.update, "train_time": round(e.clock, 3),
            "accuracy": figures(e.accuracy or 0.0), "mean_loss": figures(e.loss),
        }  # fmt: skip

    def resumed_row(self, update: int, facts: Facts) -> dict[str, Any]:
        return {"report": "preempted", "total_train_updates": update, "opt": self.opt(facts)}


def figures(x: float, count: int = 4) -> float:
    """Rounded to so many significant digits; what is not finite stays."""
    return float(f"{x:.{count}g}")
