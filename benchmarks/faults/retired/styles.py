"""Log styles of the first held-out set: other line grammars, key names and configuration files than the development's.

Modelled on brackets as in detection toolboxes, one block of lines per report, progress bars (tqdm's format,
github.com/tqdm/tqdm), and fastai's table of epochs with its CSV file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

import yaml

from benchmarks.faults.trainers.facts import Facts, nested, renamed
from benchmarks.faults.trainers.styles import DATA_TIME, LR, NORM, SHORT_NAMES, STEP_TIME, STEPS, Style, rates
from benchmarks.faults.trainers.writer import Evaluated, Updated


class Brackets(Style):
    """Fields behind bracketed counters; the loss is called nll or cost; flat YAML."""

    name = "brackets"
    shows = frozenset({LR, NORM, DATA_TIME, STEP_TIME, STEPS})
    means = True
    text_name = "log.txt"
    jsonl_name = "scalars.jsonl"
    config_name = "args.yaml"
    names: ClassVar[dict[str, str]] = {
        **SHORT_NAMES, "lr": "learning_rate", "batch_size": "bs", "accumulation": "accumulate", "updates": "iterations",
        "warmup": "warmup_iters", "clip": "max_norm", "optimizer": "optim", "schedule": "scheduler",
        "classes": "n_classes", "train_samples": "train_size", "val_samples": "val_size", "eval_every": "val_every",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        return str(yaml.safe_dump(renamed(facts, self.names), sort_keys=False))

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"[setup] {facts['trainable']} of {facts['parameters']} parameters train, seed {facts['seed']}"
        yield f"[setup] {facts['train_samples']} samples for training, {facts['val_samples']} for validation"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        lr = " ".join(f"{key}={rate:.2e}" for key, rate in rates(u.rates).items())
        yield (
            f"[ep {u.epoch + 1:02d}][it {u.update:05d}/{facts['updates']:05d}] nll={u.loss:.4f} {lr} "
            f"|g|={u.norm:.3f} dt={1e3 * u.seconds:.1f}ms io={1e3 * u.data_seconds:.1f}ms"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        accuracy = "" if e.accuracy is None else f" acc={100 * e.accuracy:.2f}%"
        yield f"[ep {e.epoch + 1:02d}][it {e.update:05d}/{facts['updates']:05d}] dev nll={e.loss:.4f}{accuracy}"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"[setup] resumed from ckpt/{update:05d}.pt, continuing at iteration {update}"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "it": u.update, "ep": u.epoch + 1, "train": {"nll": u.loss}, "opt": rates(u.rates), "gnorm": u.norm,
            "iter_time": u.seconds, "data_time": u.data_seconds,
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        dev = {"nll": e.loss} if e.accuracy is None else {"nll": e.loss, "acc": e.accuracy}
        return {"it": e.update, "ep": e.epoch + 1, "dev": dev}


class Blocks(Style):
    """A block of lines for each report, nested JSON beside it."""

    name = "blocks"
    shows = frozenset({LR, NORM, STEP_TIME, STEPS})
    text_name = "output.txt"
    jsonl_name = "history.jsonl"
    config_name = "hyperparameters.json"
    names: ClassVar[dict[str, str]] = {
        "task": "task", "lr": "optimizer.learning_rate", "optimizer": "optimizer.type",
        "momentum": "optimizer.momentum",
        "weight_decay": "optimizer.weight_decay", "beta2": "optimizer.beta2", "schedule": "schedule.type",
        "warmup": "schedule.warmup_updates", "warmup_ratio": "schedule.warmup_fraction",
        "floor": "schedule.final_lr_ratio", "cycles": "schedule.cycles", "patience": "schedule.lr_patience",
        "factor": "schedule.lr_factor", "decay_share": "schedule.decay_fraction", "updates": "num_updates",
        "batch_size": "train_batch_size", "accumulation": "accum_steps", "clip": "clip_grad_norm",
        "smoothing": "label_smoothing", "dropout": "model.dropout", "model_width": "model.hidden_size",
        "model_layers": "model.num_layers", "model_activation": "model.activation", "vocabulary": "model.vocab_size",
        "classes": "model.num_classes", "context": "data.max_length", "train_samples": "data.num_train_examples",
        "val_samples": "data.eval_samples", "shuffle": "data.shuffle", "precision": "precision", "seed": "seed",
        "eval_every": "evaluation_interval",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        return json.dumps(nested(renamed(facts, self.names)), indent=4) + "\n"

    def header(self, facts: Facts) -> Iterable[str]:
        yield from ("Configuration", "-------------")
        for key, value in renamed(facts, self.names).items():
            yield f"{key:<28}: {value}"
        yield f"{'total parameters':<28}: {facts['parameters']}"
        yield ""

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        yield f"===== Iteration {u.update} / {facts['updates']} ====="
        yield f"  training loss     : {u.loss:.5f}"
        for key, rate in rates(u.rates, "learning rate", " ").items():
            yield f"  {key:<18}: {rate:.3e}"
        yield f"  gradient norm     : {u.norm:.4f}"
        yield f"  seconds per iter  : {u.seconds:.4f}"

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        yield f"***** Validation at iteration {e.update} *****"
        yield f"  validation loss   : {e.loss:.5f}"
        if e.accuracy is not None:
            yield f"  accuracy          : {e.accuracy:.4f}"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"Restored checkpoint of iteration {update}, training continues."

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "iteration": u.update, "training_loss": u.loss, **rates(u.rates, "learning_rate", "_"),
            "gradient_norm": u.norm, "sec_per_iter": u.seconds,
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row = {"iteration": e.update, "validation_loss": e.loss}
        return row if e.accuracy is None else {**row, "validation_accuracy": e.accuracy}


class Bar(Style):
    """A progress bar that overwrites itself, with the last values behind it."""

    name = "bar"
    shows = frozenset({LR, STEP_TIME, STEPS})
    text_name = "stdout.txt"
    jsonl_name = "progress.jsonl"
    config_name = "params.json"
    names: ClassVar[dict[str, str]] = {
        **SHORT_NAMES, "updates": "num_train_steps", "lr": "max_lr", "batch_size": "train_batch_size",
        "accumulation": "accumulate_grad_batches", "warmup": "num_warmup_steps", "clip": "gradient_clip_val",
        "train_samples": "num_train_samples", "val_samples": "num_val_samples",
    }  # fmt: skip

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"Model: {facts['parameters'] / 1e3:.1f}k parameters"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        share = u.update / facts["updates"]
        bar = ("#" * round(10 * share)).ljust(10)
        left = u.clock / max(1e-9, share) - u.clock
        lr = ", ".join(f"{key}={rate:.2e}" for key, rate in rates(u.rates).items())
        yield (
            f"\rtraining: {100 * share:3.0f}%|{bar}| {u.update}/{facts['updates']} [{_clock(u.clock)}<{_clock(left)}, "
            f"{1 / max(1e-9, u.seconds):.2f}it/s, loss={u.loss:.4f}, {lr}]"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        accuracy = "" if e.accuracy is None else f", accuracy {e.accuracy:.4f}"
        yield f"step {e.update} - validation loss {e.loss:.4f}{accuracy}"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {"step": u.update, "batch_loss": u.loss, **rates(u.rates), "step_time": u.seconds}

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row = {"step": e.update, "valid_loss": e.loss}
        return row if e.accuracy is None else {**row, "valid_acc": e.accuracy}


class FastTable(Style):
    """A table with one row per epoch, as fastai prints it."""

    name = "table"
    shows = frozenset({LR})
    kinds = ("classes", "fields")
    per_evaluation = True
    text_name = "training.log"
    jsonl_name = "epochs.jsonl"
    config_name = "hparams.yaml"
    names: ClassVar[dict[str, str]] = {
        **{k: v for k, v in SHORT_NAMES.items() if k not in ("updates", "eval_every", "log_every", "warmup")},
        "epochs": "n_epochs", "lr": "lr_max", "batch_size": "bs", "train_samples": "n_train", "val_samples": "n_valid",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        return str(yaml.safe_dump(renamed(facts, {**self.names, "lr": "max_lr"}), sort_keys=False))

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"{facts['parameters']} parameters, {facts['updates_per_epoch']} batches per epoch"
        yield "epoch     train_loss  valid_loss  accuracy  lr          time"

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        epoch = round(e.update / facts["updates_per_epoch"])
        accuracy = "        " if e.accuracy is None else f"{e.accuracy:.6f}"
        lr = max((e.rates or {"all": 0.0}).values())
        yield f"{epoch:<8}  {e.train:<10.6f}  {e.loss:<10.6f}  {accuracy}  {lr:<10.3e}  {_clock(e.seconds)}"

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row: dict[str, Any] = {
            "epoch": e.epoch + 1, "train": {"loss": e.train}, "valid": {"loss": e.loss},
            "lr": max((e.rates or {"all": 0.0}).values()), "seconds": round(e.seconds, 3),
        }  # fmt: skip
        if e.accuracy is not None:
            row["valid"]["accuracy"] = e.accuracy
        return row


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


RETIRED_STYLES: tuple[Style, ...] = (Brackets(), Blocks(), Bar(), FastTable())
