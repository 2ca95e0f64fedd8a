"""One line per epoch in a table of fixed widths, whose head comes back every ten rows; each step goes to a file.

Modelled on what skorch's `PrintLog` prints by way of tabulate (skorch.readthedocs.io, "History"), with the rate as its
`LRScheduler` records it and the head repeated as tools with long tables do; the YAML file has pytorch-tabular's names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from benchmarks.faults.trainers.facts import Facts, nested, renamed
from benchmarks.faults.trainers.styles import LR, Style, rates

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated

REPEATED = 10  # rows between two heads


class Columns(Style):
    """The table shows the rate alone, so no fault that needs more is asked of this style, whichever form is read."""

    name = "columns"
    shows = frozenset({LR})
    kinds = ("classes", "fields")
    text_name = "fit.out"
    jsonl_name = "steps.json"
    config_name = "config.yml"
    names: ClassVar[dict[str, str]] = {
        "task": "data.task", "classes": "data.num_classes", "train_samples": "data.train_rows",
        "val_samples": "data.valid_rows", "shuffle": "data.shuffle", "model_table": "data.source",
        "model_shape": "model.architecture", "model_width": "model.hidden_units", "model_layers": "model.num_layers",
        "model_activation": "model.activation", "model_norm": "model.normalization", "dropout": "model.dropout",
        "epochs": "trainer.max_epochs", "batch_size": "trainer.batch_size",
        "accumulation": "trainer.accumulate_grad_batches", "clip": "trainer.gradient_clip_val", "seed": "trainer.seed",
        "precision": "trainer.precision", "lr": "optimizer.learning_rate", "optimizer": "optimizer.optimizer",
        "weight_decay": "optimizer.optimizer_params.weight_decay", "momentum": "optimizer.optimizer_params.momentum",
        "beta2": "optimizer.optimizer_params.beta2", "smoothing": "optimizer.loss_params.label_smoothing",
        "schedule": "optimizer.lr_scheduler", "warmup_epochs": "optimizer.lr_scheduler_params.warmup_epochs",
        "floor": "optimizer.lr_scheduler_params.min_lr_ratio", "cycles": "optimizer.lr_scheduler_params.num_cycles",
        "patience": "optimizer.lr_scheduler_params.patience", "factor": "optimizer.lr_scheduler_params.factor",
        "decay_share": "optimizer.lr_scheduler_params.decay_ratio",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        warmup = facts["warmup"]
        epochs = round(warmup / facts["updates_per_epoch"], 2) if warmup else None
        return str(yaml.safe_dump(nested(renamed({**facts, "warmup_epochs": epochs}, self.names)), sort_keys=False))

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"Initialized net: {facts['trainable']:,} of {facts['parameters']:,} parameters are trained"
        yield f"{facts['train_samples']} rows to fit, {facts['val_samples']} to validate, {facts['epochs']} epochs"
        yield from _head(facts)

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        values = {
            "epoch": f"{round(e.update / facts['updates_per_epoch'])}", "train_loss": f"{e.train:.4f}",
            "valid_acc": "" if e.accuracy is None else f"{e.accuracy:.4f}", "valid_loss": f"{e.loss:.4f}",
            **{key: f"{rate:.4g}" for key, rate in rates(e.rates or {}).items()}, "dur": f"{e.seconds:.4f}",
        }  # fmt: skip
        if e.update > facts["eval_every"] and (e.update // facts["eval_every"] - 1) % REPEATED == 0:
            yield from _head(facts)
        yield "  ".join(values[key].rjust(width) for key, width in _widths(facts).items())

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"Loaded checkpoint of epoch {round(update / facts['updates_per_epoch'])}, going on from there"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "split": "train", "epoch": u.epoch + 1, "step": u.update, "loss": round(u.loss, 5), **rates(u.rates),
            "grad_norm": round(u.norm, 4), "step_time": round(u.seconds, 5), "data_time": round(u.data_seconds, 5),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row = {"split": "valid", "epoch": e.epoch + 1, "step": e.update, "loss": round(e.loss, 5)}
        return row if e.accuracy is None else {**row, "accuracy": round(e.accuracy, 4)}


def _widths(facts: Facts) -> dict[str, int]:
    """Column -> characters."""
    groups = [name.replace("lr_mult_", "lr_") for name in facts if name.startswith("lr_mult_")]
    accuracy = ["valid_acc"] if facts["task"] == "classification" else []
    keys = ["epoch", "train_loss", *accuracy, "valid_loss", *(groups or ["lr"])]
    return {**{key: max(9, len(key) + 2) for key in keys}, "epoch": 7, "dur": 6}


def _head(facts: Facts) -> Iterable[str]:
    widths = _widths(facts)
    yield "  ".join(key.rjust(width) for key, width in widths.items())
    yield "  ".join("-" * width for width in widths.values())
