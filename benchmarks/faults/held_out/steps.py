"""Debug lines of single batches with a rate of steps, and a line of results at every checkpoint, counted in steps.

Modelled on WeNet (github.com/wenet-e2e/wenet, `wenet/utils/train_utils.py`, `executor.py` and `bin/train.py`, with
`save_interval`: batches of one long epoch) and the configuration of its keyword spotter (github.com/wenet-e2e/wekws,
`examples/hi_xiaowen/s0/conf`). The table is that of its TensorBoard writer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from benchmarks.faults.trainers.facts import Facts, nested, renamed
from benchmarks.faults.trainers.styles import LR, NORM, STEP_TIME, STEPS, Style, _stamp

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated


class Steps(Style):
    """`TRAIN | steps/sec ...| Batch 0/120 loss ... lr ... grad_norm ... rank 0` and `Step 50 CV info ...`."""

    name = "w1-steps"
    shows = frozenset({LR, NORM, STEP_TIME, STEPS})
    jsonl_name = "events.jsonl"
    config_name = "train.yaml"
    names: ClassVar[dict[str, str]] = {
        "shuffle": "dataset_conf.shuffle", "context": "dataset_conf.filter_conf.max_length",
        "batch_type": "dataset_conf.batch_conf.batch_type", "batch_size": "dataset_conf.batch_conf.batch_size",
        "model_shape": "model.backbone.type", "model_width": "model.hidden_dim",
        "model_layers": "model.backbone.num_layers", "model_activation": "model.backbone.activation",
        "dropout": "model.backbone.dropout", "classes": "model.output_dim", "criterion": "criterion",
        "smoothing": "criterion_conf.lsm_weight", "optimizer": "optim", "lr": "optim_conf.lr",
        "weight_decay": "optim_conf.weight_decay", "betas": "optim_conf.betas", "momentum": "optim_conf.momentum",
        "schedule": "scheduler", "warmup": "scheduler_conf.warmup_steps", "warmup_ratio": "scheduler_conf.warmup_ratio",
        "floor": "scheduler_conf.min_lr_ratio", "cycles": "scheduler_conf.num_cycles",
        "patience": "scheduler_conf.patience", "factor": "scheduler_conf.factor",
        "decay_share": "scheduler_conf.decay_ratio", "clip": "training_config.grad_clip",
        "accumulation": "training_config.accum_grad", "updates": "training_config.max_step",
        "eval_every": "training_config.save_interval", "interval": "training_config.log_interval",
        "precision": "training_config.dtype", "seed": "training_config.seed",
    }  # fmt: skip

    def __init__(self) -> None:
        self.step, self.clock, self.earlier = 0, 0.0, 0.0

    def config(self, facts: Facts) -> str:
        given = {
            **facts, "batch_type": "static", "criterion": "ce", "interval": facts["log_every"] * facts["accumulation"],
            "betas": None if facts["beta2"] is None else [0.9, facts["beta2"]],
            "precision": {"float32": "fp32", "float16": "fp16"}.get(facts["precision"], facts["precision"]),
        }  # fmt: skip
        return str(yaml.safe_dump(nested(renamed(given, self.names)), sort_keys=False))

    def header(self, facts: Facts) -> Iterable[str]:
        self.step, self.clock, self.earlier = 0, 0.0, self.clock
        yield f"the number of model params: {facts['parameters']:,d}"
        if facts["trainable"] != facts["parameters"]:
            yield f"the number of trainable params: {facts['trainable']:,d}"
        yield f"{_stamp(0.0)} INFO {facts['train_samples']} utts to train, {facts['val_samples']} utts to validate"
        times = facts["accumulation"]
        yield f"{_stamp(0.0)} INFO using accumulate grad, new batch size is {times} times larger than before"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        speed = (u.update - self.step) / max(1e-9, u.clock - self.clock)
        self.step, self.clock = u.update, u.clock
        yield (
            f"{_stamp(u.clock)} DEBUG TRAIN | steps/sec {speed:.3f}| Batch 0/{u.update * facts['accumulation']} "
            f"loss {u.loss:.6f} lr {spaced(u.rates)} grad_norm {u.norm:.6f} rank 0"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        accuracy = "" if e.accuracy is None else f" acc {e.accuracy:.6f}"
        checkpoint = f"[Rank 0] Checkpoint: save to checkpoint exp/kws/step_{e.update - 1}.pt"
        yield f"{_stamp(e.clock)} INFO {checkpoint}"
        yield (
            f"{_stamp(e.clock)} INFO Epoch 0 Step {e.update} CV info lr {spaced(e.rates or {})} cv_loss {e.loss:.8f} "
            f"rank 0{accuracy}"
        )

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        self.step, self.clock = update, self.earlier
        yield f"{_stamp(0.0)} INFO [Rank 0] Checkpoint: loading from checkpoint exp/kws/step_{update - 1}.pt"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        lrs = {f"train/lr_{place}": rate for place, rate in enumerate(u.rates.values())}
        return {"step": u.update, "train/train_loss": u.loss, "train/grad_norm": u.norm, **lrs}

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row = {"step": e.update, "cv/loss": e.loss}
        return row if e.accuracy is None else {**row, "cv/acc": e.accuracy}


def spaced(given: dict[str, float]) -> str:
    """The rate of each parameter group, in WeNet's form."""
    return " ".join(f"{rate:.4e}" for rate in given.values())
