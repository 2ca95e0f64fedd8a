"""A style of chemists' scripts: an epoch's heading, a line for every few batches, a line for the validation metric.

Modelled on what chemprop 1 writes into `verbose.log` (chemprop/train/{run_training,train}.py of github.com/chemprop/
chemprop before version 2; a log of it in PaddlePaddle/PaddleMaterials pull 275): the arguments as a printed dict, then
`Loss = ..., GNorm = ..., lr_0 = ...` every `log_frequency` batches without a count of them, and `Validation mse = ...`.
Its scalars count molecules (`n_iter`); its rates are a peak and an end in absolute numbers, its warm-up is in epochs.
"""

from __future__ import annotations

import json
import pprint
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.faults.trainers.facts import Facts, renamed
from benchmarks.faults.trainers.styles import LR, NORM, Style

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated


class Norms(Style):
    """Means over the interval; the text has no step, so no fault that needs one is asked of this style."""

    name = "w4-norms"
    shows = frozenset({LR, NORM})
    kinds = ("fields",)
    means = True
    text_name = "verbose.log"
    jsonl_name = "scalars.jsonl"
    config_name = "args.json"
    names: ClassVar[dict[str, str]] = {
        "task": "dataset_type", "model_shape": "encoder", "model_width": "hidden_size", "model_layers": "depth",
        "model_activation": "activation", "dropout": "dropout", "train_samples": "train_data_size",
        "val_samples": "val_data_size", "epochs": "epochs", "batch_size": "batch_size",
        "accumulation": "accumulate_grad_batches", "optimizer": "optimizer", "beta2": "adam_beta2",
        "momentum": "momentum", "weight_decay": "weight_decay", "clip": "grad_clip", "schedule": "lr_scheduler",
        "warmup_epochs": "warmup_epochs", "lr": "max_lr", "final_lr": "final_lr", "cycles": "lr_cycles",
        "patience": "lr_patience", "factor": "lr_factor", "decay_share": "lr_decay_fraction", "precision": "precision",
        "shuffle": "shuffle", "log_every": "log_frequency", "eval_every": "val_check_interval", "seed": "pytorch_seed",
    }  # fmt: skip

    def _arguments(self, facts: Facts) -> Facts:
        warmup, floor = facts["warmup"], facts["floor"]
        epochs = round(warmup / facts["updates_per_epoch"], 3) if warmup else 0.0
        final = None if floor is None else float(f"{floor * facts['lr']:.6g}")
        return renamed({**facts, "warmup_epochs": epochs, "final_lr": final, "clip": facts["clip"] or None}, self.names)

    def config(self, facts: Facts) -> str:
        return json.dumps(self._arguments(facts), indent=4, sort_keys=True) + "\n"

    def header(self, facts: Facts) -> Iterable[str]:
        yield "Command line"
        yield "python train.py --data_path data/properties.csv --features_path none --save_dir runs/properties"
        yield "Args"
        yield from pprint.pformat(self._arguments(facts)).splitlines()
        yield "Loading data"
        yield "Number of tasks = 2"
        yield "Splitting data with seed 0"
        total = facts["train_samples"] + facts["val_samples"]
        yield f"Total size = {total:,} | train size = {facts['train_samples']:,} | val size = {facts['val_samples']:,}"
        yield "Building model 0"
        yield f"Number of parameters = {facts['trainable']:,}"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        yield from _headings(u.update, facts)
        lrs = ", ".join(f"lr_{place} = {rate:.4e}" for place, rate in enumerate(u.rates.values()))
        yield f"Loss = {u.loss:.4e}, GNorm = {u.norm:.4f}, {lrs}"

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        yield f"Validation mse = {e.loss:.6f}"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"Loading checkpoint runs/properties/model_0/last.pt, epoch {update // facts['updates_per_epoch']}"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        rates = {f"learning_rate_{place}": rate for place, rate in enumerate(u.rates.values())}
        return {"epoch": u.epoch, "batch": u.update, "train_loss": u.loss, "gradient_norm": u.norm, **rates}

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return {"epoch": e.epoch, "batch": e.update, "validation_mse": e.loss}


def _headings(update: int, facts: Facts) -> Iterable[str]:
    """`Epoch k`, counted from 0, for the epochs begun since the last line."""
    every, per_epoch = facts["log_every"], facts["updates_per_epoch"]
    before = (update - every - 1) // per_epoch if update > every else -1
    yield from (f"Epoch {epoch}" for epoch in range(before + 1, (update - 1) // per_epoch + 1))
