"""The style of a training suite of Paddle: bracketed epochs and iterations, costs of a batch, a configuration in parts.

Modelled on PaddleClas (github.com/PaddlePaddle/PaddleClas: ppcls/engine/train/utils.py for the training lines,
ppcls/engine/evaluation/classification.py for the evaluations, ppcls/utils/config.py for how it prints its
configuration) as its users keep it, and on the sections of its YAML files. The JSON lines are the scalars that it
writes for VisualDL, under their tags. Numbers are means over the interval.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from benchmarks.faults.trainers.facts import Facts, nested, renamed
from benchmarks.faults.trainers.styles import DATA_TIME, LR, STEP_TIME, STEPS, Style

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated

SCHEDULES = {"cosine": "Cosine", "linear": "Linear", "constant": "Constant", "restarts": "CosineWarmRestarts",
             "plateau": "ReduceOnPlateau"}  # fmt: skip
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "Momentum"}
BEGUN = datetime.datetime(2025, 3, 4, 9, 15, 2)


class Suite(Style):
    """`Iter` counts from 0 within its epoch, as the suite's does."""

    name = "w2-paddle"
    shows = frozenset({LR, DATA_TIME, STEP_TIME, STEPS})
    kinds = ("classes",)
    means = True
    text_name = "train.log"
    jsonl_name = "vdl_scalars.jsonl"
    config_name = "config.yaml"
    names: ClassVar[dict[str, str]] = {
        "seed": "Global.seed", "epochs": "Global.epochs", "log_every": "Global.print_batch_step",
        "eval_epochs": "Global.eval_interval", "eval_iters": "Global.eval_iter_interval", "task": "Arch.name",
        "model_width": "Arch.embedding_size", "model_layers": "Arch.num_layers", "model_activation": "Arch.act",
        "classes": "Arch.class_num", "model_temperature": "Loss.Train.CELoss.temperature",
        "smoothing": "Loss.Train.CELoss.epsilon", "optimizer": "Optimizer.name", "momentum": "Optimizer.momentum",
        "beta2": "Optimizer.beta2", "weight_decay": "Optimizer.weight_decay", "clip": "Optimizer.clip_norm",
        "schedule": "Optimizer.lr.name", "lr": "Optimizer.lr.learning_rate",
        "warmup_epoch": "Optimizer.lr.warmup_epoch",
        "eta_min": "Optimizer.lr.eta_min", "cycles": "Optimizer.lr.cycles", "patience": "Optimizer.lr.patience",
        "factor": "Optimizer.lr.factor", "accumulation": "Optimizer.update_freq",
        "train_samples": "DataLoader.Train.dataset.num_samples", "batch_size": "DataLoader.Train.sampler.batch_size",
        "shuffle": "DataLoader.Train.sampler.shuffle", "val_samples": "DataLoader.Eval.dataset.num_samples",
        "precision": "AMP.dtype",
    }  # fmt: skip

    def _facts(self, facts: Facts) -> Facts:
        """The facts in the suite's terms: warm-up and evaluations in epochs, the lowest rate as a number."""
        per_epoch, every, floor = facts["updates_per_epoch"], facts["eval_every"], facts["floor"]
        whole = every % per_epoch == 0
        return {
            **facts, "task": "DualTower", "optimizer": OPTIMIZERS[facts["optimizer"]],
            "schedule": SCHEDULES[facts["schedule"]], "eval_epochs": every // per_epoch if whole else None,
            "eval_iters": None if whole else every, "clip": facts["clip"] or None,
            "warmup_epoch": round(facts["warmup"] / per_epoch, 2) if facts["warmup"] else None,
            "eta_min": floor * facts["lr"] if floor else None,
            "precision": "float16" if facts["precision"] == "float16" else None,
        }  # fmt: skip

    def _tree(self, facts: Facts) -> dict[str, Any]:
        return nested(renamed(self._facts(facts), self.names))

    def config(self, facts: Facts) -> str:
        return str(yaml.safe_dump(self._tree(facts), sort_keys=False))

    def header(self, facts: Facts) -> Iterable[str]:
        yield from (_line(0.0, line) for line in ("=" * 60, *listed(self._tree(facts)), "=" * 60))
        yield _line(0.1, "train with paddle 2.5.2 and device Place(cpu)")

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        total = facts["updates_per_epoch"]
        lr = ", ".join(f"{key}: {rate:.8f}" for key, rate in self._rates(u.rates, facts).items())
        speed = facts["samples_per_update"] / max(u.seconds, 1e-9)
        left = datetime.timedelta(seconds=int((facts["updates"] - u.update) * u.seconds))
        yield _line(
            u.clock,
            f"[Train][Epoch {(u.update - 1) // total + 1}/{facts['epochs']}][Iter: {(u.update - 1) % total}/{total}]"
            f"{lr}, CELoss: {u.loss:.5f}, loss: {u.loss:.5f}, batch_cost: {u.seconds:.5f}s, "
            f"reader_cost: {u.data_seconds:.5f}, ips: {speed:.5f} samples/s, eta: {left}",
        )

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        epoch = (e.update - 1) // facts["updates_per_epoch"] + 1
        top1 = "" if e.accuracy is None else f", top1: {e.accuracy:.5f}"
        yield _line(e.clock, f"[Train][Epoch {epoch}/{facts['epochs']}][Avg]CELoss: {e.train:.5f}, loss: {e.train:.5f}")
        yield _line(e.clock, f"[Eval][Epoch {epoch}][Avg]CELoss: {e.loss:.5f}, loss: {e.loss:.5f}{top1}")
        yield _line(e.clock, "Already save model in ./output/DualTower/latest")

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        epoch = update // facts["updates_per_epoch"]
        yield _line(0.2, f"Finish load pretrained model from ./output/DualTower/epoch_{epoch} (global step {update})")

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "step": u.update, "train_CELoss": u.loss, "train_loss": u.loss,
            **{"lr" if name == "all" else f"lr({name})": rate for name, rate in u.rates.items()},
            "batch_cost": round(u.seconds, 5), "reader_cost": round(u.data_seconds, 5),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        row = {"step": e.update, "epoch": e.epoch + 1, "eval_loss": e.loss}
        return row if e.accuracy is None else {**row, "eval_top1": e.accuracy}

    def resumed_row(self, update: int, facts: Facts) -> dict[str, Any]:
        return {"event": "resume", "step": update, "config": self._tree(facts)}

    def _rates(self, given: Mapping[str, float], facts: Facts) -> dict[str, float]:
        """Under the name of the schedule; where there are groups, under theirs."""
        schedule = SCHEDULES[facts["schedule"]]
        return {f"lr({schedule})" if name == "all" else f"lr({name})": rate for name, rate in given.items()}


def listed(tree: Mapping[str, Any], depth: int = 0) -> Iterable[str]:
    """One line for each entry, those of a section below it and further in."""
    for name, value in tree.items():
        inner = isinstance(value, dict)
        yield f"{'    ' * depth}{name} : {'' if inner else value}"
        if inner:
            yield from listed(value, depth + 1)


def _line(seconds: float, text: str) -> str:
    stamp = (BEGUN + datetime.timedelta(seconds=seconds)).strftime("%Y/%m/%d %H:%M:%S")
    return f"[{stamp}] ppcls INFO: {text}"
