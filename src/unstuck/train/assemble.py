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
from unstuck.config.schema import Config
from unstuck.errors import UserError
from unstuck.json_ready import json_ready
from unstuck.models import build as build_model
from unstuck.train import checkpoint, faults, machine, optimizers, plan, tasks
from unstuck.train.checkpoint import Snapshot
from unstuck.train.distributed import first_alone, spread, together
from unstuck.train.live import LiveDiagnosis
from unstuck.train.loop import Session
from unstuck.train.metrics import MetricsWriter
from unstuck.train.observer import StopSignals
from unstuck.train.optimizers.groups import numbers
from unstuck.train.peak import COUNTED, Operations, operations
from unstuck.train.resume import Resumption
from unstuck.train.saver import Saver
from unstuck.train.start import checkpoint_of, with_own_tokenizer
from unstuck.train.start_check import StartCheck, checked_start
from unstuck.train.state import LoopState
from unstuck.train.tasks.task import Share, Task
from unstuck.train.weights import load_weights, weights_of
from unstuck.wording import plural

RANK_SEEDS = 1_000_003  # between the seeds of two processes; apart from the seeds that people choose
# Tensors that the scaling laws do not count: input embeddings, the head, and tables looked up by token.
LOOKED_UP = re.compile(r"embed|wte|wpe|head\.|table|bigram")


@dataclass(slots=True)
class Parts:
    """What does not depend on a run folder, so that a mistake in the recipe leaves none behind."""

    task: Task
    model: nn.Module
    trained: nn.Module
    weights: tuple[str, ...]  # names of the tensors that a checkpoint holds
    optimizers: optimizers.Optimizers
    machine: machine.Machine
    plan: plan.Plan
    groups: dict[str, dict[str, Any]]
    parameters: int
    start_check: StartCheck | None  # of a pretrained model that has not been trained here yet
    share: Share
    operations: Operations | None  # of training on a token, where that is known


def prepare_parts(recipe: Recipe, share: Share, snapshot: Snapshot | None = None, folder: Path | None = None) -> Parts:
    """Task, model, optimizers and plan. Draws the weights from the seed, then puts a checkpoint's in their place."""
    config = recipe.config
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    with together(share):
        chosen = machine.choose(config.training, None if snapshot is None else snapshot.state.get("threads"))
    machine.prepare(chosen)
    at_hand = config if folder is None else with_own_tokenizer(config, folder / "tokenizer.json")
    task = first_alone(share, lambda: tasks.make(at_hand, chosen.device, share))
    with together(share):
        model, start_check = _model(config, task, chosen, snapshot, folder)
    weights = tuple(checkpoint.unshared(weights_of(model)))
    counted = config.model.architecture in COUNTED
    size = (getattr(config.model, name, None) if counted else None for name in ("layers", "width"))
    cost = operations(model, *size, looks_back_only=config.task.kind == "causal")
    trained = spread(model, config.training.sharding, share, chosen.device, chosen.compiled)
    with together(share):
        built = optimizers.build(model, config.optimizer)
        groups = _described(built)
        planned = _plan(config, task, model, groups, chosen, share)
    parameters = sum(numbers(p) for p in model.parameters() if p.requires_grad)
    return Parts(task, model, trained, weights, built, chosen, planned, groups, parameters, start_check, share, cost)


def _model(
    config: Config, task: Task, chosen: machine.Machine, snapshot: Snapshot | None, folder: Path | None
) -> tuple[nn.Module, StartCheck | None]:
    """The model with the weights that training begins from."""
    if snapshot is not None and snapshot.state["fingerprint"] != task.fingerprint:
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
    return model, start_check


def _described(built: optimizers.Optimizers) -> dict[str, dict[str, Any]]:
    """The groups as the run's record has them."""
    return {
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


def _plan(
    config: Config,
    task: Task,
    model: nn.Module,
    groups: dict[str, dict[str, Any]],
    chosen: machine.Machine,
    share: Share,
) -> plan.Plan:
    trained = [(name, numbers(p)) for name, p in model.named_parameters() if p.requires_grad]
    in_embeddings = sum(count for name, count in trained if LOOKED_UP.search(name))
    return plan.make_plan(
        config,
        examples=task.examples,
        example=task.example,
        tokens_per_example=task.tokens_per_example,
        vocabulary=None if task.tokenizer is None else task.tokenizer.vocabulary,
        parameters=sum(count for _, count in trained),
        embedding_parameters=in_embeddings,
        groups=groups,
        processes=share.processes,
        machine={
            "device": (str(chosen.device), chosen.reasons["device"]),
            "threads": (chosen.threads, chosen.reasons["threads"]),
            "precision": (chosen.precision, chosen.reasons["precision"]),
            "compiled": (chosen.compiled, chosen.reasons["compiled"]),
        },
    )


def _start_from(model: nn.Module, path: str, task: Task) -> None:
    """Weights only, from the best checkpoint of a run or from a checkpoint."""
    found = checkpoint_of(path)
    if checkpoint.read_state(found).get("tokenizer") != tokenizer_hash(task):
        raise UserError(
            f"start_from={path} was trained with another tokenizer, so its token ids mean other text; use its "
            f"tokenizer: data.tokenizer=from-start"
        )
    load_weights(model, checkpoint.read_weights(found), path, begins=True)


def tokenizer_hash(task: Task) -> str:
    """Changes with any token; empty where there is no text."""
    if task.tokenizer is None:
        return ""
    return hashlib.blake2b(task.tokenizer.identity.encode(), digest_size=12).hexdigest()


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
    config, task, chosen, share = recipe.config, parts.task, parts.machine, parts.share
    state = LoopState()
    if share.rank:  # dropout of its own; the weights were drawn alike
        torch.manual_seed(config.seed + share.rank * RANK_SEEDS)
    rates = {group.name: group.base_lr for group in parts.optimizers.groups}
    if snapshot is not None and resumed is not None:
        state = LoopState.from_json(snapshot.state)
        _restart_what_changed(state, resumed, snapshot.state.get("processes", 1), parts.share, config)
        resumed.note_moments(parts.optimizers.load_state_tensors(snapshot.optimizer), len(parts.optimizers.parameters))
        rates = faults.rates_after_resume(config, rates, snapshot.state["base_rates"])
        checkpoint.set_random_state(snapshot.random, share.rank)
    parts.model.train()
    stored = {
        "config": json.loads(json.dumps(json_ready(recipe.leaves()))),
        "recipe": config.model_dump(mode="json"),
        "model_arguments": task.model_arguments(),
        "base_rates": rates,
        "fingerprint": task.fingerprint,
        "tokenizer": tokenizer_hash(task),
        "threads": chosen.threads,
        "processes": share.processes,
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
        trained=parts.trained,
        weights=parts.weights,
        share=share,
        operations=parts.operations,
        parameters=parts.optimizers.parameters,
        optimizers=parts.optimizers,
        base_rates=rates,
        state=state,
        stored=stored,
        metrics=metrics,
        saver=Saver(folder, config.checkpoint.keep, share),
        live=live,
        signals=signals,
    )
    session.saver.saved_update = state.update if snapshot is not None else None
    return session


def _restart_what_changed(state: LoopState, resumed: Resumption, processes: int, share: Share, config: Config) -> None:
    """Bring the loop's state in line with the new settings, as `resume.compare` announced it."""
    changed = resumed.changed
    if processes != share.processes:
        resumed.dropped.append(
            f"equality to the last bit ({plural(share.processes, 'process', 'processes')} instead of {processes})"
        )
        before = changed.get("training.batch_size", (config.training.batch_size,))[0] * processes
        if before != config.training.batch_size * share.processes:
            keeps = f"; training.batch_size={before // share.processes} keeps it" if before >= share.processes else ""
            resumed.dropped.append(f"the size of an update (batches of {plural(before, 'example')} before{keeps})")
    if "training.batch_size" in changed or processes != share.processes:
        state.examples -= state.examples % (config.training.batch_size * share.processes)
    if "evaluation.max_tokens" in changed:
        state.best_update, state.best_loss = None, float("inf")
    if {"evaluation.max_tokens", "evaluation.patience", "evaluation.min_improvement"} & set(changed):
        state.evaluations_without_best = 0
    if "schedule.kind" in changed or "schedule.patience" in changed or "schedule.factor" in changed:
        state.plateau = type(state.plateau)()
