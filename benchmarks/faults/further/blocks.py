"""A style of research scripts: a block of lines for each logging interval, the arguments one on a line before it.

Modelled on what such scripts print: `key: value` for each of `vars(args)` (as utils/args_util.py of tcmyxc/propheter),
a heading with the step between bars of equal signs, and below it one indented line for each number. The argument names
are those of several projects: `accum_iter` of MAE, `sched`, `opt`, `clip_grad` and `smoothing` of timm.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.faults.trainers.facts import Facts, renamed
from benchmarks.faults.trainers.styles import DATA_TIME, LR, NORM, STEP_TIME, STEPS, Style, rates

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated


class Blocks(Style):
    """Means over the interval; the JSON lines have names of their own."""

    name = "arg-blocks"
    shows = frozenset({LR, NORM, DATA_TIME, STEP_TIME, STEPS})
    means = True
    text_name = "output.txt"
    jsonl_name = "scalars.jsonl"
    config_name = "args.json"
    names: ClassVar[dict[str, str]] = {
        "task": "task", "seed": "seed", "model_shape": "arch", "model_width": "hidden_dim",
        "model_layers": "num_layers", "model_heads": "nhead", "model_activation": "activation", "model_norm": "norm",
        "dropout": "dropout", "vocabulary": "vocab_size", "classes": "num_labels", "context": "max_len",
        "mask_rate": "mask_ratio", "train_samples": "train_size", "val_samples": "val_size", "shuffle": "shuffle",
        "updates": "total_steps", "batch_size": "batch_size", "accumulation": "accum_iter", "optimizer": "opt",
        "lr": "lr", "weight_decay": "weight_decay", "beta2": "adam_beta2", "momentum": "momentum",
        "schedule": "sched", "warmup": "warmup_steps", "warmup_ratio": "warmup_ratio", "floor": "min_lr_ratio",
        "cycles": "num_cycles", "patience": "plateau_patience", "factor": "plateau_factor",
        "decay_share": "decay_fraction", "clip": "clip_grad", "smoothing": "smoothing", "precision": "precision",
        "log_every": "print_every", "eval_every": "eval_every",
    }  # fmt: skip

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"{'-' * 20} args {'-' * 20}"
        yield from (f"{key}: {value}" for key, value in renamed(facts, self.names).items())
        yield "-" * 46
        yield f"trainable parameters: {facts['trainable']:,} of {facts['parameters']:,}"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        yield f"=== step {u.update} / {facts['updates']} ==="
        yield f"  train loss   {u.loss:.4f}"
        yield from (f"  {key:<12} {rate:.3e}" for key, rate in rates(u.rates, between=" ").items())
        yield f"  grad norm    {u.norm:.4f}"
        yield f"  step time    {1e3 * u.seconds:.2f} ms"
        yield f"  data time    {1e3 * u.data_seconds:.2f} ms"

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        yield f"=== validation, step {e.update} / {facts['updates']} ==="
        yield f"  val loss     {e.loss:.4f}"
        if e.accuracy is not None:
            yield f"  val acc      {100 * e.accuracy:.2f} %"

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"loaded checkpoint ckpt_{update}.pt, continuing at step {update}"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "n_iter": u.update, "loss/train": round(u.loss, 6), **rates(u.rates, "opt/lr"),
            "opt/grad_norm": round(u.norm, 5), "perf/iter_s": round(u.seconds, 5),
            "perf/data_s": round(u.data_seconds, 5),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row = {"n_iter": e.update, "loss/val": round(e.loss, 6)}
        return row if e.accuracy is None else {**row, "acc/val": round(e.accuracy, 4)}
