"""Progress bars that overwrite themselves, a line after each epoch, nested JSON lines, and a TOML file.

Modelled on scripts that wrap their loader in tqdm and call `set_postfix`: the bar is tqdm's `format_meter` with
`ascii=True` and no terminal (github.com/tqdm/tqdm, tqdm/std.py), what is kept of it is what `2>&1 | tee` keeps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.faults.trainers.facts import Facts, nested, renamed
from benchmarks.faults.trainers.styles import LR, NORM, STEP_TIME, STEPS, Style, rates

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated

CELLS = 10  # what tqdm draws where it knows no width


class Bars(Style):
    """One bar per epoch, redrawn at each log interval."""

    name = "bars"
    shows = frozenset({LR, NORM, STEP_TIME, STEPS})
    text_name = "stdout.log"
    config_name = "config.toml"
    names: ClassVar[dict[str, str]] = {
        "task": "task", "seed": "seed", "vocabulary": "model.vocab_size", "classes": "model.num_classes",
        "model_shape": "model.arch", "model_width": "model.hidden", "model_layers": "model.depth",
        "model_heads": "model.heads", "model_norm": "model.norm", "model_activation": "model.act",
        "model_bottleneck": "model.latent_dim", "dropout": "model.dropout", "context": "data.seq_len",
        "horizon": "data.horizon", "train_samples": "data.num_train", "val_samples": "data.num_val",
        "shuffle": "data.shuffle", "batch_size": "data.batch_size", "optimizer": "optim.name", "lr": "optim.lr",
        "weight_decay": "optim.weight_decay", "beta2": "optim.beta2", "momentum": "optim.momentum",
        "clip": "optim.clip_grad_norm", "schedule": "sched.type", "warmup": "sched.warmup_steps",
        "warmup_ratio": "sched.warmup_ratio", "floor": "sched.min_lr_ratio", "cycles": "sched.num_cycles",
        "patience": "sched.patience", "factor": "sched.factor", "decay_share": "sched.decay_frac",
        "epochs": "train.epochs", "accumulation": "train.accumulate_grad_batches",
        "smoothing": "train.label_smoothing", "precision": "train.precision", "log_every": "train.log_every_n_steps",
    }  # fmt: skip

    def config(self, facts: Facts) -> str:
        return toml(nested(renamed(facts, self.names)))

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"[config.toml] task={facts['task']} seed={facts['seed']} device=cpu"
        yield f"{facts['parameters'] / 1e3:.1f}K params, {facts['train_samples']} train / {facts['val_samples']} val"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        total = facts["updates_per_epoch"]
        epoch, done = (u.update - 1) // total + 1, (u.update - 1) % total + 1
        if done <= facts["log_every"]:
            yield f"\rEpoch {epoch}:   0%|{' ' * CELLS}| 0/{total} [00:00<?, ?it/s]"
        lr = ", ".join(f"{key}={rate:.1e}" for key, rate in rates(u.rates).items())
        yield (
            f"\rEpoch {epoch}: {meter(done, total, done * u.seconds, 1 / max(u.seconds, 1e-9))}, "
            f"loss={u.loss:.4f}, {lr}, gnorm={u.norm:.2f}]"
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        done = e.update / facts["updates_per_epoch"]
        epoch = f"{done:.0f}" if done.is_integer() else f"{done:.2f}"
        accuracy = "" if e.accuracy is None else f", val acc {100 * e.accuracy:.2f}%"
        yield (
            f"Epoch {epoch}/{facts['epochs']} done in {e.seconds:.1f}s: train loss {e.train:.5f}, "
            f"val loss {e.loss:.5f}{accuracy}"
        )

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"Loaded runs/last.ckpt (epoch {update // facts['updates_per_epoch']}, global step {update}), continuing"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "step": u.update, "epoch": u.epoch, "train": {"loss": round(u.loss, 6), "grad_norm": round(u.norm, 5)},
            "optim": rates(u.rates), "perf": {"it_per_s": round(1 / max(u.seconds, 1e-9), 2)},
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        measured = {"loss": round(e.loss, 6)} | ({} if e.accuracy is None else {"acc": round(e.accuracy, 5)})
        return {"step": e.update, "epoch": e.epoch, "train": {"epoch_loss": round(e.train, 6)}, "val": measured}

    def resumed_row(self, update: int, facts: Facts) -> dict[str, Any]:
        return {"event": "resume", "step": update, "config": nested(renamed(facts, self.names))}


def meter(done: int, total: int, elapsed: float, rate: float) -> str:
    """tqdm's meter without its closing bracket: percentage, bar, counts, times in seconds, updates a second."""
    whole, part = divmod(round(10 * CELLS * done / total), 10)
    bar = ("#" * whole + (str(part) if part else "")).ljust(CELLS)
    speed = f"{rate:5.2f}it/s" if rate > 1 else f"{1 / rate:5.2f}s/it"
    left = (total - done) / rate
    return f"{100 * done / total:3.0f}%|{bar}| {done}/{total} [{_clock(elapsed)}<{_clock(left)}, {speed}"


def toml(tree: Mapping[str, Any]) -> str:
    """Values, then one table for each section."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in tree.items() if not isinstance(value, dict)]
    for name, section in tree.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
