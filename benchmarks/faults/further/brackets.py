"""Progress lines with bracketed counts and meters that carry their running mean, and fairseq's `simple` lines.

`Brackets` is modelled on PyTorch's and apex's ImageNet examples (github.com/pytorch/examples, `imagenet/main.py`;
apex's `main_amp.py`, whose meters take the printed updates alone), with a JSON file of capital keys; its table is that
of mmcv's `TextLoggerHook`, where `iter` counts within the epoch. `Fairlines` is modelled on fairseq's `progress_bar.py`
(github.com/facebookresearch/fairseq): losses are to the base 2, and the configuration is a hydra file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from benchmarks.faults.trainers.facts import Facts, nested, renamed
from benchmarks.faults.trainers.styles import DATA_TIME, LR, NORM, STEP_TIME, STEPS, Style, rates

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated

CAPITALS = {
    "task": "TASK", "seed": "SEED", "lr": "LEARNING_RATE", "batch_size": "BATCH_SIZE", "accumulation": "ACCUMULATE",
    "updates": "MAX_ITER", "warmup": "WARMUP_ITERS", "warmup_ratio": "WARMUP_RATIO", "schedule": "LR_SCHEDULE",
    "floor": "MIN_LR_RATIO", "cycles": "NUM_CYCLES", "patience": "LR_PATIENCE", "factor": "LR_FACTOR",
    "decay_share": "DECAY_RATIO", "optimizer": "OPTIMIZER", "beta2": "BETA2", "momentum": "MOMENTUM",
    "weight_decay": "WEIGHT_DECAY", "clip": "CLIP_GRAD", "smoothing": "LABEL_SMOOTHING", "dropout": "DROPOUT",
    "vocabulary": "VOCAB_SIZE", "context": "SEQ_LEN", "classes": "NUM_CLASSES", "model_width": "HIDDEN_SIZE",
    "model_layers": "NUM_LAYERS", "model_norm": "NORM", "model_kind": "MODEL", "train_samples": "NUM_TRAIN",
    "val_samples": "NUM_VAL", "shuffle": "SHUFFLE", "precision": "PRECISION", "eval_every": "EVAL_PERIOD",
    "log_every": "PRINT_FREQ",
}  # fmt: skip


class Brackets(Style):
    """`Epoch: [e][ i/n]`, meters, and a starred line for each validation."""

    name = "meters-epoch"
    shows = frozenset({LR, NORM, DATA_TIME, STEP_TIME, STEPS})
    jsonl_name = "train.log.json"
    names = CAPITALS

    def __init__(self) -> None:
        self.meters: dict[str, list[float]] = {}
        self.epoch = 0
        self.per_epoch = 1

    def header(self, facts: Facts) -> Iterable[str]:
        self.meters, self.epoch, self.per_epoch = {}, 0, facts["updates_per_epoch"]
        yield f"=> creating model '{facts.get('model_kind', 'net')}', {facts['parameters']} parameters"
        yield f"=> {facts['train_samples']} training samples, {facts['val_samples']} validation samples"

    def place(self, update: int) -> tuple[int, int]:
        """Epoch from 0 and update within it from 1."""
        return (update - 1) // self.per_epoch, (update - 1) % self.per_epoch + 1

    def meter(self, name: str, value: float, form: str) -> str:
        """The value and the mean of what was printed in this epoch."""
        seen = self.meters.setdefault(name, [])
        seen.append(value)
        return f"{name} {value:{form}} ({sum(seen) / len(seen):{form}})"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        epoch, at = self.place(u.update)
        if epoch != self.epoch:
            self.meters, self.epoch = {}, epoch
        width = len(str(self.per_epoch))
        parts = [
            f"Epoch: [{epoch}][{at:{width}d}/{self.per_epoch}]", self.meter("Time", u.seconds, "6.3f"),
            self.meter("Data", u.data_seconds, "6.3f"), self.meter("Loss", u.loss, ".4e"),
            *(f"{key} {rate:.3e}" for key, rate in rates(u.rates, "LR").items()), f"Norm {u.norm:.3f}",
        ]  # fmt: skip
        yield "\t".join(parts)

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        accuracy = "" if e.accuracy is None else f" Acc@1 {100 * e.accuracy:.3f}"
        yield f" * Val loss {e.loss:.4f}{accuracy}"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        epoch, at = self.place(update)
        yield "=> loading checkpoint 'checkpoint.pth.tar'"
        yield f"=> loaded checkpoint 'checkpoint.pth.tar' (epoch {epoch}, iter {at})"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        epoch, at = self.place(u.update)
        return {
            "mode": "train", "epoch": epoch + 1, "iter": at, **rates(u.rates), "data_time": round(u.data_seconds, 5),
            "loss": round(u.loss, 5), "grad_norm": round(u.norm, 5), "time": round(u.seconds, 5),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        epoch, at = self.place(e.update)
        row = {"mode": "val", "epoch": epoch + 1, "iter": at, "loss": round(e.loss, 5)}
        return row if e.accuracy is None else {**row, "acc": round(e.accuracy, 4)}


class Fairlines(Style):
    """`epoch 001:  40 / 100 loss=..., ppl=..., ...` to the base 2, with a hydra file."""

    name = "bits-epoch"
    shows = frozenset({LR, NORM, STEP_TIME, STEPS})
    kinds = ("tokens",)
    means = True
    text_name = "hydra_train.log"
    config_name = "config.yaml"
    names: ClassVar[dict[str, str]] = {
        "seed": "common.seed", "log_every": "common.log_interval", "precision": "common.dtype", "task": "task._name",
        "context": "task.tokens_per_sample", "vocabulary": "task.vocab_size", "smoothing": "criterion.label_smoothing",
        "batch_size": "dataset.batch_size", "eval_every": "dataset.validate_interval_updates",
        "shuffle": "dataset.shuffle", "updates": "optimization.max_update", "lr": "optimization.lr",
        "accumulation": "optimization.update_freq", "clip": "optimization.clip_norm", "optimizer": "optimizer._name",
        "beta2": "optimizer.adam_beta2", "momentum": "optimizer.momentum", "weight_decay": "optimizer.weight_decay",
        "schedule": "lr_scheduler._name", "warmup": "lr_scheduler.warmup_updates",
        "warmup_ratio": "lr_scheduler.warmup_ratio", "floor": "lr_scheduler.min_lr_ratio",
        "cycles": "lr_scheduler.num_cycles", "patience": "lr_scheduler.lr_patience",
        "factor": "lr_scheduler.lr_shrink", "decay_share": "lr_scheduler.decay_ratio", "model_kind": "model._name",
        "model_width": "model.hidden_size", "model_layers": "model.num_layers", "model_norm": "model.norm",
        "dropout": "model.dropout",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        given = {**facts, "lr": [facts["lr"]], "accumulation": [facts["accumulation"]]}
        return str(yaml.safe_dump(nested(renamed(given, self.names)), sort_keys=False))

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"num. shared model params: {facts['parameters']:,} (num. trained: {facts['trainable']:,})"
        yield f"max input samples per update = {facts['samples_per_update']}, train {facts['train_samples']} examples"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        per_epoch = facts["updates_per_epoch"]
        epoch, at = (u.update - 1) // per_epoch + 1, (u.update - 1) % per_epoch + 1
        lr = ", ".join(f"{key}={rate:.6g}" for key, rate in rates(u.rates).items())
        yield (
            f"epoch {epoch:03d}: {at:6d} / {per_epoch} loss={bits(u.loss):.3f}, ppl={perplexity(u.loss):.2f}, "
            f"ups={1 / max(u.seconds, 1e-9):.2f}, bsz={facts['samples_per_update']}, num_updates={u.update}, {lr}, "
            f"gnorm={u.norm:.3f}, wall={u.clock:.0f}"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        epoch = (e.update - 1) // facts["updates_per_epoch"] + 1
        yield (
            f"epoch {epoch:03d} | valid on 'valid' subset | loss {bits(e.loss):.3f} | ppl {perplexity(e.loss):.2f} | "
            f"num_updates {e.update}"
        )

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"Loaded checkpoint checkpoints/checkpoint_last.pt @ {update} updates"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "train_loss": round(bits(u.loss), 4), "train_ppl": round(perplexity(u.loss), 2),
            "train_num_updates": u.update, **rates(u.rates, "train_lr"), "train_gnorm": round(u.norm, 4),
            "train_ups": round(1 / max(u.seconds, 1e-9), 2), "train_wall": round(u.clock, 2),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return {
            "valid_loss": round(bits(e.loss), 4), "valid_ppl": round(perplexity(e.loss), 2),
            "valid_num_updates": e.update,
        }  # fmt: skip


def bits(nats: float) -> float:
    return nats / math.log(2)


def perplexity(nats: float) -> float:
    """Of fairseq's `get_perplexity`: infinite where the power is too large."""
    return math.exp(nats) if nats < 700 else math.inf  # exp(709.8) is the largest float
