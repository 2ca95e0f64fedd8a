"""`MetricLogger` lines of DETR, DeiT and BLIP: meters between two blanks, averaged stats, a `log.txt` of JSON lines.

Modelled on `utils.py` and `train_caption.py` of github.com/salesforce/BLIP (no GPU: no `max mem`), with a meter for the
gradient as BEiT's engine has one and the validation loss as `train_nlvr.py` has it; the JSON lines are those of DeiT's
`log.txt`, with one for each printed update.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from benchmarks.faults.problem import EVALUATION_BATCH
from benchmarks.faults.trainers.facts import Facts, renamed
from benchmarks.faults.trainers.styles import DATA_TIME, LR, NORM, STEP_TIME, STEPS, Style, rates

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated


class Smoothed(Style):
    """`lr` and `loss` have a window of one, as BLIP's; an epoch is counted from 0."""

    name = "w3-smoothed"
    shows = frozenset({LR, NORM, DATA_TIME, STEP_TIME, STEPS})
    kinds = ("tokens",)
    text_name = "train_caption.log"
    jsonl_name = "log.txt"
    config_name = "config.yaml"
    names: ClassVar[dict[str, str]] = {
        "image_size": "image_size", "model_shape": "arch", "model_width": "embed_dim", "model_layers": "depth",
        "vocabulary": "vocab_size", "context": "max_length", "dropout": "drop", "batch_size": "batch_size",
        "accumulation": "accum_iter", "epochs": "max_epoch", "updates": "max_iter", "optimizer": "opt",
        "lr": "init_lr", "min_lr": "min_lr", "schedule": "lr_schedule", "warmup": "warmup_steps",
        "cycles": "lr_cycles", "patience": "patience_epochs", "factor": "decay_rate", "decay_share": "cooldown_ratio",
        "weight_decay": "weight_decay", "beta2": "adam_beta2", "momentum": "momentum", "clip": "clip_grad",
        "smoothing": "label_smoothing", "precision": "precision", "shuffle": "shuffle", "log_every": "print_freq",
        "seed": "seed",
    }  # fmt: skip

    def told(self, facts: Facts) -> dict[str, Any]:
        floor = facts.get("floor")
        return renamed({**facts, "min_lr": None if floor is None else facts["lr"] * floor}, self.names)

    def config(self, facts: Facts) -> str:
        return str(yaml.safe_dump(self.told(facts)))

    def header(self, facts: Facts) -> Iterable[str]:
        yield "Not using distributed mode"
        yield str(self.told(facts))
        yield "Creating captioning dataset"
        yield f"train: {facts['train_samples']} images, val: {facts['val_samples']} images"
        yield "Creating model"
        yield f"number of params: {facts['trainable']}"
        yield "Start training"

    def place(self, update: int, facts: Facts) -> tuple[int, int]:
        """Epoch and iteration within it, from 0."""
        epoch, at = divmod(update - 1, facts["updates_per_epoch"])
        return int(epoch), int(at)

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        total = facts["updates_per_epoch"]
        epoch, at = self.place(u.update, facts)
        meters = [*(f"{key}: {rate:.6f}" for key, rate in rates(u.rates).items()), f"loss: {u.loss:.4f}"]
        yield "  ".join((
            f"Train Caption Epoch: [{epoch}]", f"[{at:{len(str(total))}d}/{total}]",
            f"eta: {duration(u.seconds * (total - at))}", *meters, f"grad_norm: {u.norm:.4f}",
            f"time: {u.seconds:.4f}", f"data: {u.data_seconds:.4f}",
        ))  # fmt: skip

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        epoch, at = self.place(e.update, facts)
        batches = -(-facts["val_samples"] // EVALUATION_BATCH)
        each = e.seconds / (at + 1)
        stats = "  ".join(f"{key}: {rate:.4f}" for key, rate in rates(e.rates or {}).items())
        yield f"Train Caption Epoch: [{epoch}] Total time: {duration(e.seconds)} ({each:.4f} s / it)"
        yield f"Averaged stats: {stats}  loss: {e.train:.4f}"
        yield f"Evaluation:  [{batches - 1}/{batches}]  eta: 0:00:00  loss: {e.loss:.4f}"
        yield f"Averaged stats: loss: {e.loss:.4f}"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        epoch, at = self.place(update, facts)
        yield f"resume checkpoint from output/Caption/checkpoint_{epoch:02d}.pth (epoch {epoch}, iteration {at})"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "epoch": u.epoch, "it": u.update, **rates(u.rates, "train_lr"), "train_loss": u.loss,
            "train_grad_norm": u.norm, "train_time": u.seconds, "train_data": u.data_seconds,
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return {**rates(e.rates or {}, "train_lr"), "train_loss": e.train, "val_loss": e.loss, "epoch": e.epoch}

    def resumed_row(self, update: int, facts: Facts) -> dict[str, Any]:
        return {"resume": "checkpoint.pth", "it": update, "config": self.told(facts)}


def duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))
