"""Lines of means over some batches of an epoch that is a number of batches, and one line of results for each epoch.

Modelled on ESPnet (github.com/espnet/espnet, `espnet2/train/reporter.py` and `trainer.py`; logs in its issues 2674 and
5134): batches are micro-batches, `iter_time` is the wait for one of them and `train_time` the time of an update, three
decimals or three digits, a YAML file of flat keys and `*_conf` sections with `num_iters_per_epoch`. The table is that
of its TensorBoard writers, whose step is the count of micro-batches. The norm is that of the last update.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from benchmarks.faults.trainers.facts import Facts, nested, renamed
from benchmarks.faults.trainers.styles import DATA_TIME, LR, NORM, STEP_TIME, STEPS, Style, _stamp

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated

SCHEDULERS = {
    "cosine": "warmupcosinelr", "linear": "warmuplinearlr", "wsd": "warmupstabledecaylr",
    "constant": "warmupconstantlr", "restarts": "cosineannealingwarmuprestarts", "plateau": "reducelronplateau",
}  # fmt: skip


class Iters(Style):
    """`3epoch:train:11-20batch: iter_time=..., loss=..., ...` and `3epoch results: [train] ..., [valid] ...`."""

    name = "w1-iters"
    shows = frozenset({LR, NORM, DATA_TIME, STEP_TIME, STEPS})
    means = True
    jsonl_name = "tensorboard.jsonl"
    config_name = "config.yaml"
    names: ClassVar[dict[str, str]] = {
        "ngpu": "ngpu", "seed": "seed", "max_epoch": "max_epoch", "num_iters": "num_iters_per_epoch",
        "patience_stop": "patience", "val_criterion": "val_scheduler_criterion", "grad_clip": "grad_clip",
        "grad_clip_type": "grad_clip_type", "accumulation": "accum_grad", "resume": "resume",
        "precision": "train_dtype", "interval": "log_interval", "batch_size": "batch_size",
        "batch_type": "batch_type", "shuffle": "shuffle", "optimizer": "optim", "lr": "optim_conf.lr",
        "weight_decay": "optim_conf.weight_decay", "betas": "optim_conf.betas", "momentum": "optim_conf.momentum",
        "scheduler": "scheduler", "warmup": "scheduler_conf.warmup_steps",
        "warmup_ratio": "scheduler_conf.warmup_ratio", "total_steps": "scheduler_conf.total_steps",
        "floor": "scheduler_conf.min_lr_ratio", "decay_share": "scheduler_conf.decay_ratio",
        "cycles": "scheduler_conf.num_cycles", "patience": "scheduler_conf.patience",
        "factor": "scheduler_conf.factor", "classes": "num_targets", "context": "chunk_length",
        "model_shape": "encoder", "model_width": "encoder_conf.hidden_size",
        "model_layers": "encoder_conf.num_layers", "dropout": "encoder_conf.dropout_rate",
        "lsm_weight": "model_conf.lsm_weight",
    }  # fmt: skip

    def __init__(self) -> None:
        self.best = self.earlier = math.inf
        self.shown: list[dict[str, float]] = []
        self.epoch, self.begun, self.micro = 0, 0.0, 1

    def config(self, facts: Facts) -> str:
        decays = facts["schedule"] not in ("constant", "plateau")
        given = {
            **facts, "ngpu": 0, "max_epoch": epochs(facts), "num_iters": facts["eval_every"] * facts["accumulation"],
            "val_criterion": ["valid", "loss"], "grad_clip": facts["clip"] or -1, "grad_clip_type": 2.0, "resume": True,
            "interval": facts["log_every"] * facts["accumulation"], "batch_type": "unsorted",
            "betas": None if facts["beta2"] is None else [0.9, facts["beta2"]],
            "scheduler": SCHEDULERS[facts["schedule"]], "total_steps": facts["updates"] if decays else None,
            "lsm_weight": facts["smoothing"] or 0.0,
        }  # fmt: skip
        return str(yaml.safe_dump(nested(renamed(given, self.names)), sort_keys=False))

    def header(self, facts: Facts) -> Iterable[str]:
        self.earlier, self.best, self.shown = self.best, math.inf, []
        self.epoch, self.begun, self.micro = 0, 0.3, facts["accumulation"]
        yield f"{_place('abs_task:1293', 0.0)} pytorch.version=2.1.0, cuda.available=False"
        yield f"{_place('abs_task:1299', 0.1)} Model summary:"
        yield "    Class Name: ESPnetFrameModel"
        yield f"    Total Number of model parameters: {facts['parameters'] / 1e3:.2f} K"
        yield f"    Number of trainable parameters: {facts['trainable'] / 1e3:.2f} K"
        yield f"{_place('abs_task:1302', 0.1)} Scheduler: {SCHEDULERS[facts['schedule']]}"
        yield f"{_place('abs_task:1311', 0.2)} Saving the configuration in exp/frame_train/config.yaml"
        for part in ("train", "val"):
            size = min(facts["batch_size"], facts[f"{part}_samples"])
            yield (
                f"{_place('abs_task:1694', 0.2)} [{'valid' if part == 'val' else part}] mini-batch sizes summary: "
                f"N-batch={facts[f'{part}_samples'] // size}, mean={size:.1f}, min={size}, max={size}"
            )

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        every, micro = facts["eval_every"], facts["accumulation"]
        last = (u.update - 1) % every + 1
        first = max(1, last - facts["log_every"] + 1)
        epoch, clip = (u.update - 1) // every + 1, facts["clip"]
        if epoch != self.epoch:
            estimate = self.begun / (epoch - 1) * (epochs(facts) - epoch + 1) if epoch > 1 and self.epoch else 0.0
            told = f". Estimated time to finish: {estimate:.2f} seconds" if estimate else ""
            place = _place("trainer:307" if told else "trainer:318", self.begun)
            yield f"{place} {epoch}/{epochs(facts)}epoch started{told}"
            self.epoch = epoch
        stats = {
            "iter_time": u.data_seconds / micro, "loss": u.loss, "grad_norm": u.norm,
            "clip": 100.0 * (clip > 0 and u.norm > clip), **optimizer_rates(u.rates), "train_time": u.seconds,
        }  # fmt: skip
        self.shown.append(stats)
        yield (
            f"{_place('trainer:793', u.clock)} {epoch}epoch:train:"
            f"{(first - 1) * micro + 1}-{last * micro}batch: {joined(stats)}"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        epoch = -(-e.update // facts["eval_every"])
        kept = ("iter_time", "grad_norm", "clip", "train_time")
        means = {key: sum(s[key] for s in self.shown) / len(self.shown) for key in kept if self.shown}
        train = {"loss": e.train, **means, **optimizer_rates(e.rates or {})}
        self.shown = []
        yield (
            f"{_place('trainer:373', e.clock)} {epoch}epoch results: [train] {joined(train)}, "
            f"time={e.seconds:.2f} seconds, total_count={e.update * facts['accumulation']}, "
            f"[valid] loss={number(e.loss)}, total_count={epoch * -(-facts['val_samples'] // facts['batch_size'])}"
        )
        if e.loss < self.best:
            self.best = e.loss
            yield f"{_place('trainer:445', e.clock)} The best model has been updated: valid.loss"
        else:
            yield f"{_place('trainer:443', e.clock)} There are no improvements in this epoch"
        self.begun = e.clock
        if e.update >= facts["updates"]:
            yield f"{_place('trainer:507', e.clock)} The training was finished at {epoch} epochs"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        self.best = self.earlier
        yield f"{_place('trainer:179', 0.3)} The training was resumed using exp/frame_train/checkpoint.pth"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "step": u.update * self.micro, "train/iter_time": round(u.data_seconds / self.micro, 6),
            "train/loss": round(u.loss, 6), "train/grad_norm": round(u.norm, 5),
            **{f"train/{key}": rate for key, rate in optimizer_rates(u.rates).items()},
            "train/train_time": round(u.seconds, 6),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return {"step": e.update * self.micro, "valid/loss": round(e.loss, 6)}


def epochs(facts: Facts) -> int:
    """Epochs of `num_iters_per_epoch` batches; the last may be a part of one."""
    return int(-(-facts["updates"] // facts["eval_every"]))


def optimizer_rates(given: dict[str, float]) -> dict[str, float]:
    """`optim0_lr<i>` for each parameter group."""
    return {f"optim0_lr{place}": rate for place, rate in enumerate(given.values())}


def number(value: float) -> str:
    """As ESPnet's reporter writes a number."""
    return f"{value:.3f}" if 1e-3 < abs(value) <= 1e3 else f"{value:.3e}"


def joined(stats: dict[str, float]) -> str:
    return ", ".join(f"{key}={number(value)}" for key, value in stats.items())


def _place(where: str, seconds: float) -> str:
    return f"[node01] {_stamp(seconds)} ({where}) INFO:"
