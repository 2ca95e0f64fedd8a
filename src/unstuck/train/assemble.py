"""Puts a run together: task, machine, model, optimizers and plan, then a checkpoint's state in their place."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unstuck import __version__
from unstuck.config.recipe import Recipe
from unstuck.errors import UserError
from unstuck.models import build as build_model
from unstuck.train import checkpoint, faults, machine, optimizers, plan, tasks
from unstuck.train.checkpoint import Snapshot
from unstuck.train.live import LiveDiagnosis
from unstuck.train.loop import Session
from unstuck.train.metrics import MetricsWriter, json_ready
from unstuck.train.observer import StopSignals
from unstuck.train.optimizers.groups import numbers
from unstuck.train.resume import Resumption
from unstuck.train.saver import Saver
from unstuck.train.start import checkpoint_of
from unstuck.train.start_check import StartCheck, checked_start
from unstuck.train.state import LoopState
from unstuck.train.tasks.task import Share, Task
from unstuck.train.weights import load_weights

# Tensors that the scaling laws do not count: input embeddings, the head, and tables looked up by token.
LOOKED_UP = re.compile(r"embed|wte|wpe|head\.|table|bigram")


@dataclass(slots=True)
class Parts:
    """What does not depend on a run folder, so that a mistake in the recipe leaves none behind."""

    task: Task
    model: nn.Module
    optimizers: optimizers.Optimizers
    machine: machine.Machine
    plan: plan.Plan
    groups: dict[str, dict[str, Any]]
    parameters: int
    start_check: StartCheck | None = None  # of a pretrained model that has not been trained here yet


def prepare_parts(recipe: Recipe, snapshot: Snapshot | None = None, folder: Path | None = None) -> Parts:
    """Task, model, optimizers and plan. Draws the weights from the seed, then puts a checkpoint's in their place."""
    config = recipe.config
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    stored = {} if snapshot is None else snapshot.state
    chosen = machine.choose(config.training, stored.get("threads"))
    machine.prepare(chosen)
    task = tasks.make(config, chosen.device, Share())
    if snapshot is not None and stored["fingerprint"] != task.fingerprint:
        raise UserError(
            f"The data of {config.data.source} is not what {folder} was trained on, so the run cannot go on exactly. "
            f"Put the old data back, or start from its weights: unstuck train RECIPE start_from={folder}"
        )
    torch.manual_seed(config.seed)
    model = build_model(config.model, **task.model_arguments()).to(chosen.device)
    if snapshot is not None:
        load_weights(model, snapshot.model, str(folder))
    elif config.start_from is not None:
        _start_from(model, config.start_from, task)
    start_check = None if snapshot is not None else checked_start(config, task, model, chosen.autocast)
    built = optimizers.build(model, config.optimizer)
    groups = {
        group.name: {
            "algorithm": group.algorithm,
            "base_lr": group.base_lr,
            "lr_factor": group.lr_factor,
            "weight_decay": group.weight_decay,
            "parameters": group.count,
            "tensors": list(group.names),
        }
        for group in built.groups
    }
    trained = [(name, numbers(p)) for name, p in model.named_parameters() if p.requires_grad]
    parameters = sum(count for _, count in trained)
    in_embeddings = sum(count for name, count in trained if LOOKED_UP.search(name))
    planned_run = plan.make_plan(
        config,
        examples=task.examples,
        example=task.example,
        tokens_per_example=task.tokens_per_example,
        vocabulary=None if task.tokenizer is None else task.tokenizer.vocabulary,
        parameters=parameters,
        embedding_parameters=in_embeddings,
        groups=groups,
        machine={
            "device": (str(chosen.device), chosen.reasons["device"]),
            "threads": (chosen.threads, chosen.reasons["threads"]),
            "precision": (chosen.precision, chosen.reasons["precision"]),
            "compiled": (chosen.compiled, chosen.reasons["compiled"]),
        },
    )
    return Parts(task, model, built, chosen, planned_run, groups, parameters, start_check)


def _start_from(model: nn.Module, path: str, task: Task) -> None:
    """Weights only, from the best checkpoint of a run or from a checkpoint."""
    found = checkpoint_of(path)
    if checkpoint.read_state(found).get("tokenizer") != tokenizer_hash(task):
        raise UserError(
            f"start_from={path} was trained with another tokenizer, so its token ids mean other text; use its "
            f"tokenizer: data.tokenizer=from-start"
        )
    load_weights(model, checkpoint.read_weights(found), path)


def tokenizer_hash(task: Task) -> str:
    """Changes with any token; empty where there is no text."""
    if task.tokenizer is None:
        return ""
    return hashlib.blake2b(task.tokenizer.to_json().encode(), digest_size=12).hexdigest()


def make_session(
    recipe: Recipe,
    folder: Path,
    parts: Parts,
    metrics: MetricsWriter,
    snapshot: Snapshot | None,
    resumed: Resumption | None,
    signals: StopSignals,
    live: LiveDiagnosis,
) -> Session:
    config, task, chosen = recipe.config, parts.task, parts.machine
    state = LoopState()
    rates = {group.name: group.base_lr for group in parts.optimizers.groups}
    if snapshot is not None and resumed is not None:
        state = LoopState.from_json(snapshot.state)
        _restart_what_changed(state, resumed, config.training.batch_size)
        resumed.note_moments(parts.optimizers.load_state_tensors(snapshot.optimizer), len(parts.optimizers.parameters))
        rates = faults.rates_after_resume(config, rates, snapshot.state["base_rates"])
        checkpoint.set_random_state(snapshot.random)
    parts.model.train()
    stored = {
        "config": json.loads(json.dumps(json_ready(recipe.leaves()))),
        "recipe": config.model_dump(mode="json"),
        "model_arguments": task.model_arguments(),
        "base_rates": rates,
        "fingerprint": task.fingerprint,
        "tokenizer": tokenizer_hash(task),
        "threads": chosen.threads,
        "unstuck": __version__,
        "torch": torch.__version__,
    }
    session = Session(
        config=config,
        plan=parts.plan,
        schedule=faults.schedule_of(config),
        machine=chosen,
        task=task,
        model=parts.model,
        trained=torch.compile(parts.model) if chosen.compiled else parts.model,  # type: ignore[arg-type]
        parameters=parts.optimizers.parameters,
        optimizers=parts.optimizers,
        base_rates=rates,
        state=state,
        stored=stored,
        metrics=metrics,
        saver=Saver(folder, config.checkpoint.keep),
        live=live,
        signals=signals,
    )
    session.saver.saved_update = state.update if snapshot is not None else None
    return session


def _restart_what_changed(state: LoopState, resumed: Resumption, batch_size: int) -> None:
    """Bring the loop's state in line with the new settings, as `resume.compare` announced it."""
    changed = resumed.changed
    if "training.batch_size" in changed:
        state.examples -= state.examples % batch_size
    if "evaluation.max_tokens" in changed:
        state.best_update, state.best_loss = None, float("inf")
    if {"evaluation.max_tokens", "evaluation.patience", "evaluation.min_improvement"} & set(changed):
        state.evaluations_without_best = 0
    if "schedule.kind" in changed or "schedule.patience" in changed or "schedule.factor" in changed:
        state.plateau = type(state.plateau)()
