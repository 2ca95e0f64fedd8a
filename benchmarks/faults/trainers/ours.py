"""`unstuck train` through its API: a recipe with overrides; the record is the run folder that it writes.

Its clock is the machine's, which others use as well: a step that gets slower there is the machine's doing, and
`effect.py` does not call that finding wrong.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.faults.families.texts import code_folder
from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Setup
from benchmarks.faults.trainers.outcome import Outcome
from unstuck.config.recipe import load_recipe
from unstuck.data.cache import cache_folder, store
from unstuck.train.run import train as train_recipe

BASE_NAME = "gpt2-base-64x3"
BASE = (
    "model.layers=3", "model.width=64", "model.heads=4", "data.vocabulary=512", "data.context=128",
    "training.updates=400", "training.batch_size=8", "training.threads=1",
)  # fmt: skip
STRETCHED = 2.0  # a run that is resumed for so many times its first length


def train(setup: Setup, problem: Problem | None, seed: int, folder: Path) -> Outcome:
    """Train one run in `folder/run`. `problem` is not used: the recipe makes its own."""
    settings, bugs = setup.settings, setup.bugs
    run = folder / "run"
    recipe = load_recipe(settings.model["recipe"], [*overrides(setup), f"seed={seed}"])
    resume_at = settings.resume_at
    if bugs.schedule_anew:  # late enough that the rate has fallen
        resume_at = round(0.9 * settings.updates)
    stop_at = resume_at or bugs.stop_at
    train_recipe(recipe, folder=run, report=False, stop_when=stopper(stop_at))
    if resume_at is not None:
        asked = []
        if bugs.schedule_anew:
            asked.append(f"training.updates={round(STRETCHED * settings.updates)}")
        if settings.resume_learning_rate is not None:
            asked += rate_overrides(setup, settings.resume_learning_rate)
        train_recipe(load_recipe(run, asked), resume=run, report=False)
    outcome = outcome_of(run, resume_at)
    planned = bugs.stop_at or settings.updates
    if outcome.updates < planned and outcome.ended in ("Ctrl-C", "SIGTERM"):
        raise InterruptedError(f"the run was stopped from outside after {outcome.updates} of {planned} updates")
    _tidy(run)
    return outcome


def stopper(update: int | None):  # type: ignore[no-untyped-def]
    """Stops the run after an update, as Ctrl-C would."""
    return lambda row: "Ctrl-C" if update is not None and row.get("update") == update else None


def rate_overrides(setup: Setup, rate: float) -> list[str]:
    """The peak of AdamW, and Muon's where the recipe has it, at their own ratio."""
    ratio = setup.settings.model.get("muon_ratio")
    return [
        f"optimizer.learning_rate={rate:.3g}",
        *([f"optimizer.muon_learning_rate={rate * ratio:.3g}"] if ratio else []),
    ]


def overrides(setup: Setup) -> list[str]:
    """The settings as `key=value` of a recipe."""
    s, bugs, model = setup.settings, setup.bugs, setup.settings.model
    kind = {"sgd": "adamw"}.get(s.optimizer, s.optimizer)
    given = [
        *map(placed, model["overrides"]),
        *rate_overrides(setup, s.learning_rate), f"optimizer.kind={kind}",
        f"optimizer.weight_decay={s.weight_decay}", f"schedule.kind={s.schedule}",
        f"schedule.warmup_updates={s.warmup}", f"schedule.floor={s.floor}", f"schedule.cycles={s.cycles}",
        f"training.updates={s.updates}", f"training.batch_size={s.batch_size}",
        f"training.accumulation={s.accumulation}", "training.threads=1", "training.precision=float32",
        f"training.clip_norm={s.clip_norm if s.clip_norm else 'null'}", f"evaluation.every_updates={s.eval_every}",
        f"schedule.patience={s.patience}",
    ]  # fmt: skip
    if s.schedule == "wsd":
        given.append(f"schedule.decay_share={s.decay_share}")
    if bugs.horizon_factor != 1.0 or bugs.steps_per_update != 1:
        given.append(f"schedule.horizon_updates={round(s.updates * bugs.horizon_factor / bugs.steps_per_update)}")
    if bugs.stale_rate:
        given.append("inject_fault=resume-keeps-old-lr")
    if s.dropout:
        given.append(f"model.dropout={s.dropout}")
    if "train_samples" in s.data:
        given += model["few"]
    if "val_samples" in s.data:
        given += model["few_validation"]
    if "lora_rank" in model:
        given.append(f"model.adapter.rank={model['lora_rank']}")
    groups = []
    if s.group_factors:
        groups.append({"name": "body", "pattern": model["body"], "lr_factor": s.group_factors["body"]})
    if model.get("decay_norms"):
        groups.append({"name": "norms", "pattern": "norm|scale|gain", "weight_decay": s.weight_decay, "optional": True})
    if groups:
        given.append(f"optimizer.groups={json.dumps(groups)}")
    return given


def placed(text: str) -> str:
    """An override with the places of this machine: `{base}`, a run to fine-tune from; `{code}`, a folder of text."""
    if "{base}" in text:
        return text.replace("{base}", our_base())
    return text.replace("{code}", code_folder()) if "{code}" in text else text


def our_base() -> str:
    """A run folder to fine-tune from, made once on this machine (half a minute)."""
    folder = cache_folder("faults")
    if folder is None:
        raise OSError("the fine-tuning family needs a cache folder that can be written; name one with UNSTUCK_CACHE")

    def write(target: Path) -> None:
        recipe = load_recipe("gpt2-base:quick", BASE)
        train_recipe(recipe, folder=target / "run", report=False)

    if not (folder / BASE_NAME / "run" / "summary.json").is_file():
        store(folder, BASE_NAME, write)
    return str(folder / BASE_NAME / "run")


def outcome_of(run: Path, resume_at: int | None) -> Outcome:
    """From the run folder; validation of ours is clean by definition."""
    outcome = Outcome(views={"run": "run"})
    clipped, rates = [], []
    stopped_by = "completed"
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row: Mapping[str, Any] = json.loads(line)
        if row["event"] == "evaluation":
            loss = _number(row["val/loss"])
            outcome.evaluations.append((row["update"], loss, loss))
        elif row["event"] == "end":
            stopped_by = row["stopped_by"]
        elif row["event"] == "update":
            outcome.finite = outcome.finite and math.isfinite(_number(row["train/loss"]))
            clipped.append(_number(row.get("grad_norm/clipped_share", 0.0)))
            rates.append((row["update"], max(_number(v) for k, v in row.items() if k.startswith("lr/"))))
    outcome.updates, outcome.ended = rates[-1][0] if rates else 0, stopped_by
    outcome.clipped_share = sum(clipped) / max(1, len(clipped))
    if resume_at is not None:
        before = [rate for update, rate in rates if update <= resume_at]
        after = [rate for update, rate in rates if update > resume_at]
        outcome.rate_jump = max(after, default=0.0) / max(1e-12, before[-1]) if before else 1.0
    return outcome


def _number(value: Any) -> float:
    return float(value)  # "nan" and "inf" are strings there


def _tidy(run: Path) -> None:
    """Weights are large and nobody reads them; the one key that names a fault says nothing a user would have."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    for name in ("findings.jsonl", "report.html", ".lock"):
        (run / name).unlink(missing_ok=True)
    config = run / "config.yaml"
    lines = config.read_text(encoding="utf-8").splitlines()
    kept = ["inject_fault: null" if line.startswith("inject_fault:") else line for line in lines]
    config.write_text("\n".join(kept) + "\n", encoding="utf-8")
