"""Puts a run together: data, machine, model, optimizers and plan, then a checkpoint's state in their place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unstuck import __version__
from unstuck.config.recipe import Recipe
from unstuck.data import DataOrder, TextData, prepare
from unstuck.errors import UserError
from unstuck.evaluate.loss import Validation
from unstuck.models import build as build_model
from unstuck.models.language_model import LanguageModel
from unstuck.train import checkpoint, faults, machine, optimizers, plan
from unstuck.train.checkpoint import Snapshot
from unstuck.train.live import LiveDiagnosis
from unstuck.train.loop import Session
from unstuck.train.metrics import MetricsWriter, json_ready
from unstuck.train.observer import StopSignals
from unstuck.train.resume import Resumption
from unstuck.train.saver import Saver
from unstuck.train.state import LoopState

# Tensors that the scaling laws do not count: input embeddings, the head, and tables looked up by token.
LOOKED_UP = re.compile(r"embed|wte|wpe|head\.|table|bigram")


@dataclass(slots=True)
class Parts:
    """What does not depend on a run folder, so that a mistake in the recipe leaves none behind."""

    data: TextData
    model: LanguageModel
    optimizers: optimizers.Optimizers
    machine: machine.Machine
    plan: plan.Plan
    groups: dict[str, dict[str, Any]]
    parameters: int


def prepare_parts(recipe: Recipe, snapshot: Snapshot | None = None, folder: Path | None = None) -> Parts:
    """Data, model, optimizers and plan. Draws the weights from the seed, then puts a checkpoint's in their place."""
    config = recipe.config
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    data = prepare(config.data)
    stored = {} if snapshot is None else snapshot.state
    if snapshot is not None and stored["fingerprint"] != data.fingerprint:
        raise UserError(
            f"The text of {config.data.source} is not what {folder} was trained on, so the run cannot go on exactly. "
            f"Put the old text back, or start from its weights: unstuck train RECIPE start_from={folder}"
        )
    torch.manual_seed(config.seed)
    planned = config.training.updates or round((config.training.epochs or 0) * data.train_windows)
    chosen = machine.choose(config.training, planned, stored.get("threads"))
    machine.prepare(chosen)
    model = build_model(config.model, vocabulary=data.vocabulary, context=config.data.context).to(chosen.device)
    if snapshot is not None:
        load_weights(model, snapshot.model, str(folder))
    elif config.start_from is not None:
        _start_from(model, Path(config.start_from), data)
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
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    in_embeddings = sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and LOOKED_UP.search(name))
    planned_run = plan.make_plan(
        config,
        train_windows=data.train_windows,
        train_tokens=len(data.train_tokens),
        vocabulary=data.vocabulary,
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
    return Parts(data, model, built, chosen, planned_run, groups, parameters)


def load_weights(model: nn.Module, tensors: Mapping[str, torch.Tensor], shown: str) -> None:
    """Put saved weights into the model; a shared tensor was saved once, under its first name."""
    expected = checkpoint.unshared(dict(model.state_dict()))
    wrong = sorted(set(expected) ^ set(tensors)) or [
        name for name, tensor in expected.items() if tensor.shape != tensors[name].shape
    ]
    if wrong:
        raise UserError(
            f"The weights of {shown} do not fit this model ({wrong[0]} differs); use the model section of its "
            f"config.yaml, or train a new run without them."
        )
    model.load_state_dict(dict(tensors), strict=False)


def _start_from(model: nn.Module, path: Path, data: TextData) -> None:
    """Weights only, from the best checkpoint of a run or from a checkpoint."""
    found = checkpoint.find(path, "best") if path.exists() else None
    if found is None:
        raise UserError(f"start_from={path} holds no checkpoint; name a run folder or a checkpoint in it.")
    if checkpoint.read_state(found).get("tokenizer") != tokenizer_hash(data):
        raise UserError(
            f"start_from={path} was trained with another tokenizer, so its token ids mean other text; use its "
            f"tokenizer: data.tokenizer={found.parent.parent / 'tokenizer.json'}"
        )
    load_weights(model, checkpoint.read_weights(found), str(path))


def tokenizer_hash(data: TextData) -> str:
    return hashlib.blake2b(data.tokenizer.to_json().encode(), digest_size=12).hexdigest()


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
    config, data, chosen = recipe.config, parts.data, parts.machine
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
        "base_rates": rates,
        "fingerprint": data.fingerprint,
        "tokenizer": tokenizer_hash(data),
        "vocabulary": data.vocabulary,
        "threads": chosen.threads,
        "unstuck": __version__,
        "torch": torch.__version__,
    }
    session = Session(
        config=config,
        plan=parts.plan,
        schedule=faults.schedule_of(config),
        machine=chosen,
        model=parts.model,
        loss_sum=torch.compile(parts.model.loss_sum) if chosen.compiled else parts.model.loss_sum,
        parameters=parts.optimizers.parameters,
        optimizers=parts.optimizers,
        base_rates=rates,
        data=data,
        order=DataOrder(data.train_windows, config.training.batch_size, config.seed),
        validation=Validation(
            data.validation,
            context=config.data.context,
            device=chosen.device,
            max_tokens=config.evaluation.max_tokens,
            bytes_of_tokens=data.tokenizer.bytes_of_tokens(),
        ),
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
        state.windows -= state.windows % batch_size
    if "evaluation.max_tokens" in changed:
        state.best_update, state.best_loss = None, float("inf")
    if {"evaluation.max_tokens", "evaluation.patience", "evaluation.min_improvement"} & set(changed):
        state.evaluations_without_best = 0
    if "schedule.kind" in changed or "schedule.patience" in changed or "schedule.factor" in changed:
        state.plateau = type(state.plateau)()
