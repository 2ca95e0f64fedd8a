"""How plain scripts print: line grammars, key names and configuration files of the development set.

Modelled on what such scripts print: argparse with a line of fields, `logging` with a YAML file, nanoGPT's `train.py`
(github.com/karpathy/nanoGPT), and one line per epoch. Those of the other splits are beside their families.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from benchmarks.faults.trainers.facts import Facts, nested, renamed

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated

# What a style shows; a fault that can only be seen in one of these is put into runs whose style has it.
LR, NORM, DATA_TIME, STEP_TIME, STEPS = "lr", "grad_norm", "data_time", "step_time", "steps"


class Style:
    """A way to print. `shows`: what can be seen of a run; `means`: prints the mean of an interval, else its last."""

    name: ClassVar[str]
    shows: ClassVar[frozenset[str]]
    kinds: ClassVar[tuple[str, ...]] = ("tokens", "classes", "fields")
    means: ClassVar[bool] = False
    per_evaluation: ClassVar[bool] = False
    text_name: ClassVar[str] = "train.log"
    jsonl_name: ClassVar[str] = "metrics.jsonl"
    config_name: ClassVar[str] = "config.json"
    names: ClassVar[dict[str, str]]

    def config(self, facts: Facts) -> str:
        return json.dumps(renamed(facts, self.names), indent=2) + "\n"

    def header(self, facts: Facts) -> Iterable[str]:
        return ()

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        return ()

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        return ()

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        return (f"Resuming from checkpoint-{update}.pt (step {update})",)

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return None

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return None

    def resumed_row(self, update: int, facts: Facts) -> dict[str, Any]:
        return {"message": f"resumed from step {update}", "config": renamed(facts, self.names)}


def rates(given: dict[str, float], prefix: str = "lr", between: str = "_") -> dict[str, float]:
    """`lr`, or one key for each parameter group."""
    if set(given) == {"all"}:
        return {prefix: given["all"]}
    return {f"{prefix}{between}{name}": rate for name, rate in given.items()}


SHORT_NAMES = {
    "task": "task", "seed": "seed", "lr": "lr", "batch_size": "batch_size", "accumulation": "grad_accum",
    "updates": "max_steps", "warmup": "warmup_steps", "warmup_ratio": "warmup_ratio", "schedule": "lr_schedule",
    "floor": "min_lr_ratio", "cycles": "num_cycles", "patience": "lr_patience", "factor": "lr_factor",
    "decay_share": "decay_frac", "optimizer": "optimizer", "beta2": "beta2", "momentum": "momentum",
    "weight_decay": "weight_decay", "clip": "grad_clip", "smoothing": "label_smoothing", "dropout": "dropout",
    "vocabulary": "vocab_size", "context": "seq_len", "classes": "num_classes", "model_width": "d_model",
    "model_layers": "n_layers", "model_heads": "n_heads", "model_norm": "norm", "model_activation": "activation",
    "mask_rate": "mask_prob", "lora_rank": "lora_r", "lora_alpha": "lora_alpha", "base": "base_model",
    "train_samples": "n_train", "val_samples": "n_val", "shuffle": "shuffle", "precision": "dtype",
    "eval_every": "eval_every", "log_every": "log_every",
}  # fmt: skip


class Pipes(Style):
    """argparse, fields between bars."""

    name = "pipes"
    shows = frozenset({LR, NORM, DATA_TIME, STEP_TIME, STEPS})
    names = SHORT_NAMES

    def header(self, facts: Facts) -> Iterable[str]:
        given = ", ".join(f"{key}={value!r}" for key, value in renamed(facts, self.names).items())
        yield f"Namespace({given})"
        yield (
            f"device: cpu | parameters: {facts['parameters']:,} ({facts['trainable']:,} trainable) | "
            f"train samples: {facts['train_samples']} | val samples: {facts['val_samples']}"
        )

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        lr = " | ".join(f"{key} {rate:.2e}" for key, rate in rates(u.rates).items())
        yield (
            f"step {u.update:5d}/{facts['updates']} | loss {u.loss:.4f} | {lr} | grad_norm {u.norm:.3f} | "
            f"{1e3 * u.seconds:.1f} ms/step | data {1e3 * u.data_seconds:.1f} ms"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        accuracy = "" if e.accuracy is None else f" | val_acc {e.accuracy:.4f}"
        yield f"step {e.update:5d}/{facts['updates']} | val_loss {e.loss:.4f}{accuracy}"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "step": u.update, "loss": round(u.loss, 5), **rates(u.rates),
            "grad_norm": round(u.norm, 4), "step_ms": round(1e3 * u.seconds, 2),
            "data_ms": round(1e3 * u.data_seconds, 2),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row = {"step": e.update, "val_loss": round(e.loss, 5)}
        return row if e.accuracy is None else {**row, "val_acc": round(e.accuracy, 4)}


class Logging(Style):
    """`logging` with times, means over the interval, a YAML file with sections."""

    name = "logging"
    shows = frozenset({LR, NORM, DATA_TIME, STEP_TIME, STEPS})
    means = True
    config_name = "config.yaml"
    names: ClassVar[dict[str, str]] = {
        "task": "task", "seed": "seed", "vocabulary": "model.vocab_size", "classes": "model.num_classes",
        "model_width": "model.hidden_dim", "model_layers": "model.num_layers", "model_heads": "model.num_heads",
        "model_norm": "model.norm", "model_activation": "model.activation", "dropout": "model.dropout",
        "base": "model.pretrained", "lora_rank": "lora.r", "lora_alpha": "lora.alpha",
        "context": "data.sequence_length", "mask_rate": "data.mask_probability",
        "train_samples": "data.train_samples", "val_samples": "data.val_samples", "shuffle": "data.shuffle",
        "optimizer": "optimizer.name", "lr": "optimizer.lr", "weight_decay": "optimizer.weight_decay",
        "beta2": "optimizer.beta2", "momentum": "optimizer.momentum", "schedule": "scheduler.name",
        "warmup": "scheduler.warmup_steps", "warmup_ratio": "scheduler.warmup_ratio",
        "floor": "scheduler.min_lr_ratio", "cycles": "scheduler.num_cycles", "patience": "scheduler.patience",
        "factor": "scheduler.factor", "decay_share": "scheduler.decay_ratio", "updates": "training.max_steps",
        "batch_size": "training.batch_size", "accumulation": "training.gradient_accumulation_steps",
        "clip": "training.max_grad_norm", "smoothing": "training.label_smoothing", "precision": "training.precision",
        "eval_every": "training.eval_steps", "log_every": "training.log_steps",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        return str(yaml.safe_dump(nested(renamed(facts, self.names)), sort_keys=False))

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"{_stamp(0.0)} - INFO - main - loaded config.yaml, seed {facts['seed']}"
        yield f"{_stamp(0.1)} - INFO - main - model has {facts['parameters'] / 1e6:.3f}M parameters"
        samples = f"{facts['train_samples']} training and {facts['val_samples']} validation samples"
        yield f"{_stamp(0.2)} - INFO - main - {samples}"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        lr = " ".join(f"{key}={rate:.3e}" for key, rate in rates(u.rates).items())
        yield (
            f"{_stamp(u.clock)} - INFO - train - epoch {u.epoch + 1} step {u.update}: loss={u.loss:.4f} {lr} "
            f"gnorm={u.norm:.3f} step_time={u.seconds:.4f} data_time={u.data_seconds:.4f}"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        accuracy = "" if e.accuracy is None else f" val_acc={e.accuracy:.4f}"
        yield f"{_stamp(e.clock)} - INFO - eval - epoch {e.epoch + 1} step {e.update}: val_loss={e.loss:.4f}{accuracy}"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"{_stamp(0.3)} - INFO - main - resumed from checkpoints/step_{update}.pt at step {update}"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "time": round(u.clock, 3), "epoch": u.epoch + 1, "global_step": u.update, "train/loss": u.loss,
            **rates(u.rates, "train/lr", "/"), "train/grad_norm": u.norm, "train/step_time": u.seconds,
            "train/data_time": u.data_seconds,
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row = {"time": round(e.clock, 3), "epoch": e.epoch + 1, "global_step": e.update, "val/loss": e.loss}
        return row if e.accuracy is None else {**row, "val/accuracy": e.accuracy}


class Nano(Style):
    """nanoGPT's lines, with the two fields that its forks add."""

    name = "nano"
    shows = frozenset({LR, NORM, STEP_TIME, STEPS})
    kinds = ("tokens",)
    names: ClassVar[dict[str, str]] = {
        "lr": "learning_rate", "batch_size": "batch_size", "accumulation": "gradient_accumulation_steps",
        "context": "block_size", "updates": "max_iters", "warmup": "warmup_iters", "min_lr": "min_lr",
        "decay_lr": "decay_lr", "lr_decay_iters": "lr_decay_iters", "weight_decay": "weight_decay", "beta2": "beta2",
        "clip": "grad_clip", "dropout": "dropout", "smoothing": "label_smoothing", "vocabulary": "vocab_size",
        "model_width": "n_embd", "model_layers": "n_layer", "model_heads": "n_head", "precision": "dtype",
        "mask_rate": "mask_prob", "lora_rank": "lora_r", "lora_alpha": "lora_alpha", "base": "init_from",
        "eval_every": "eval_interval", "log_every": "log_interval",
    }  # fmt: skip

    def _facts(self, facts: Facts) -> Facts:
        decays = facts["schedule"] != "constant"
        floor = facts.get("floor")
        return {
            **facts, "decay_lr": decays, "lr_decay_iters": facts["updates"] if decays else None,
            "min_lr": facts["lr"] * floor if decays and floor is not None else None,
            "warmup": facts["warmup"] or 0,
        }  # fmt: skip

    def config(self, facts: Facts) -> str:
        return super().config(self._facts(facts))

    def header(self, facts: Facts) -> Iterable[str]:
        for key, value in renamed(self._facts(facts), self.names).items():
            yield f"Overriding: {key} = {value}"
        tokens = facts["samples_per_update"] * facts["context"]
        yield f"tokens per iteration will be: {tokens:,}"
        yield f"number of parameters: {facts['parameters'] / 1e6:.2f}M"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        lr = ", ".join(f"{key} {rate:.4e}" for key, rate in rates(u.rates).items())
        yield f"iter {u.update}: loss {u.loss:.4f}, time {1e3 * u.seconds:.2f}ms, {lr}, norm {u.norm:.4f}"

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        yield f"step {e.update}: train loss {e.train:.4f}, val loss {e.loss:.4f}"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"Resuming training from out at iter {update}"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {"iter": u.update, "train/loss": u.loss, **rates(u.rates), "norm": u.norm, "time_ms": 1e3 * u.seconds}

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return {"iter": e.update, "val/loss": e.loss}


class Epochs(Style):
    """One line per epoch."""

    name = "epochs"
    shows = frozenset({LR})
    kinds = ("classes", "fields")
    per_evaluation = True
    jsonl_name = "history.jsonl"
    names: ClassVar[dict[str, str]] = {
        **{k: v for k, v in SHORT_NAMES.items() if k not in ("updates", "eval_every", "log_every", "warmup")},
        "epochs": "epochs", "warmup_epochs": "warmup_epochs",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        warmup = facts["warmup"]
        epochs = round(warmup / facts["updates_per_epoch"], 2) if warmup else None
        return super().config({**facts, "warmup_epochs": epochs})

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"Using device: cpu, {facts['parameters']} parameters"
        yield (
            f"Train: {facts['train_samples']} samples, Val: {facts['val_samples']} samples, "
            f"batch size {facts['batch_size']}"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        accuracy = "" if e.accuracy is None else f" - val_acc: {e.accuracy:.4f}"
        lr = " - ".join(f"{key}: {rate:.3e}" for key, rate in rates(e.rates or {"all": 0.0}).items())
        epoch = round(e.update / facts["updates_per_epoch"])
        yield (
            f"Epoch {epoch}/{facts['epochs']} - {e.seconds:.2f}s - train_loss: {e.train:.4f} - val_loss: {e.loss:.4f}"
            f"{accuracy} - {lr}"
        )

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"=> loaded checkpoint 'last.pth' (epoch {round(update / facts['updates_per_epoch'])})"

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row: dict[str, Any] = {
            "epoch": e.epoch + 1, "train_loss": e.train, "val_loss": e.loss, **rates(e.rates or {}),
            "epoch_time": round(e.seconds, 3),
        }  # fmt: skip
        return row if e.accuracy is None else {**row, "val_acc": e.accuracy}


@cache
def all_styles() -> dict[str, Style]:
    """Every style by name, those of the other splits too."""
    from benchmarks.faults.further import FURTHER_STYLES
    from benchmarks.faults.held_out import HELD_OUT_STYLES
    from benchmarks.faults.later import LATER_STYLES
    from benchmarks.faults.retired import RETIRED_STYLES

    own = (Pipes(), Logging(), Nano(), Epochs())
    styles = (*own, *FURTHER_STYLES, *RETIRED_STYLES, *LATER_STYLES, *HELD_OUT_STYLES)
    found = {style.name: style for style in styles}
    if len(found) < len(styles):
        raise ValueError("two styles have the same name: a run would be printed in the wrong one")
    return found


def style_named(name: str) -> Style:
    return all_styles()[name]


def shows(style: str) -> frozenset[str]:
    """What can be seen of a run: by its style, or of a trainer that prints in its own way."""
    own = {"trainer": frozenset({LR, NORM, STEPS}), "run": frozenset({LR, NORM, STEP_TIME, STEPS})}
    return own[style] if style in own else style_named(style).shows


def _stamp(seconds: float) -> str:
    """A time of day: the log's clock, from a fixed start."""
    start = datetime.datetime(2025, 3, 4, 9, 15, 2)
    return (start + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
