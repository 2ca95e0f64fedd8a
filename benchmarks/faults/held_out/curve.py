"""A style of physicists' and biologists' programs: a learning curve in columns under a `#` heading, and an INI file.

Modelled on the learning curve that DeePMD-kit keeps (`lcurve.out`, doc/train/training.md of github.com/deepmodeling/
deepmd-kit: validation before training in each row, numbers in %e, the rate last, the heading again at a restart), with
its names of settings (`numb_steps`, `disp_freq`, `start_lr`, `stop_lr`), in the sections of a configparser file, as
SincNet's (github.com/mravanelli/SincNet, cfg/SincNet_TIMIT.cfg) has them.
"""

from __future__ import annotations

import configparser
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.faults.trainers.facts import Facts, renamed
from benchmarks.faults.trainers.styles import LR, STEPS, Style, rates

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated


class Curve(Style):
    """One row every `disp_freq` updates: both losses, and nothing between two rows."""

    name = "w4-curve"
    shows = frozenset({LR, STEPS})
    kinds = ("classes",)
    per_evaluation = True
    text_name = "lcurve.out"
    jsonl_name = "lcurve.jsonl"
    config_name = "run.ini"
    names: ClassVar[dict[str, str]] = {
        "task": "data.task", "classes": "data.n_classes", "train_samples": "data.n_train",
        "val_samples": "data.n_valid", "shuffle": "data.shuffle", "model_shape": "network.type",
        "model_width": "network.n_filters", "model_layers": "network.n_layers",
        "model_activation": "network.activation_function", "dropout": "network.drop", "lr": "learning_rate.start_lr",
        "stop_lr": "learning_rate.stop_lr", "schedule": "learning_rate.type", "warmup": "learning_rate.warmup_steps",
        "warmup_ratio": "learning_rate.warmup_ratio", "cycles": "learning_rate.n_cycles",
        "patience": "learning_rate.patience", "factor": "learning_rate.factor",
        "decay_share": "learning_rate.decay_fraction", "optimizer": "optimization.optimizer",
        "beta2": "optimization.adam_beta2", "momentum": "optimization.momentum",
        "weight_decay": "optimization.weight_decay", "clip": "optimization.gradient_max_norm",
        "smoothing": "optimization.label_smoothing", "updates": "training.numb_steps",
        "batch_size": "training.batch_size", "accumulation": "training.acc_freq", "eval_every": "training.disp_freq",
        "precision": "training.precision", "seed": "training.seed",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        floor = facts["floor"]
        given = {**facts, "stop_lr": None if floor is None else float(f"{floor * facts['lr']:.6g}")}
        written = configparser.ConfigParser()
        for key, value in renamed(given, self.names).items():
            section, _, name = key.rpartition(".")
            section = section or "learning_rate"  # the groups' factors, which have names of their own
            if not written.has_section(section):
                written.add_section(section)
            written.set(section, name, str(value))
        file = io.StringIO()
        written.write(file)
        return file.getvalue()

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"# run.ini: {facts['parameters']} parameters, {facts['train_samples']} training sequences"
        yield "#" + "".join(name.rjust(width) for name, width in _widths(facts).items())[1:]

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        values = {"step": str(e.update)} | {
            name: f"{value:.1e}" if name.startswith("lr") else f"{value:.3e}" for name, value in _numbers(e).items()
        }
        yield "".join(values[name].rjust(width) for name, width in _widths(facts).items())

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"# restart from model.ckpt-{update}"

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return {"step": e.update, **_numbers(e)}


def _numbers(e: Evaluated) -> dict[str, float]:
    return {
        "loss_val": e.loss, "loss_trn": e.train, "acc_val": e.accuracy or 0.0, "wall_time": e.seconds,
        **rates(e.rates or {}),
    }  # fmt: skip


def _widths(facts: Facts) -> dict[str, int]:
    """Column -> characters."""
    groups = [name.replace("lr_mult_", "lr_") for name in facts if name.startswith("lr_mult_")]
    losses = {"loss_val": 14, "loss_trn": 12, "acc_val": 12, "wall_time": 12}
    return {"step": 8, **losses, **dict.fromkeys(groups or ["lr"], 12)}
