"""Train a recipe: new, from weights, or resumed. What is written into the run folder:

    config.yaml      every setting, with where it came from
    tokenizer.json   of the text
    metrics.jsonl    one event per line, see below
    checkpoints/     see `unstuck.train.checkpoint`
    findings.jsonl   of the last diagnosis, live or final
    summary.json     report.html

Events: `start` (derived values and their reasons, groups, sizes), `update` (updates count from 1; the row holds what
that update was made with), `evaluation` (update 0 is before training), `checkpoint`, `alert` (a new finding), `resume`
(what was kept, dropped and changed; later rows supersede earlier rows of larger updates), `end` (`stopped_by`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unstuck import __version__
from unstuck.config.recipe import Recipe
from unstuck.data import DataOrder, TextData, prepare
from unstuck.errors import UserError
from unstuck.evaluate.loss import Validation
from unstuck.models import build as build_model
from unstuck.train import checkpoint, faults, machine, optimizers, plan
from unstuck.train import resume as resuming
from unstuck.train.checkpoint import Snapshot
from unstuck.train.folder import locked, new_folder, write_atomically
from unstuck.train.live import LiveDiagnosis
from unstuck.train.loop import Session, train_updates
from unstuck.train.metrics import MetricsWriter, json_ready
from unstuck.train.observer import Observer, StopSignals, StopWhen
from unstuck.train.resume import Resumption
from unstuck.train.saver import Saver
from unstuck.train.state import LoopState

if TYPE_CHECKING:
    from unstuck.diagnose.engine import Diagnosis


@dataclass(slots=True)
class TrainResult:
    """What came of it: the run folder, the content of summary.json, and the final diagnosis."""

    folder: Path
    summary: dict[str, Any]
    diagnosis: Diagnosis | None


def train(
    recipe: Recipe,
    *,
    folder: Path | None = None,
    resume: Path | None = None,
    fresh: bool = False,
    observer: Observer | None = None,
    stop_when: StopWhen | None = None,
    stop_on: Collection[str] = (),
    report: bool = True,
) -> TrainResult:
    """Train one run to its end, or until something stops it; the run can be resumed in either case.

    Args:
        recipe: what to train. On a resume, the settings that differ from the checkpoint's are the new settings.
        folder: for a new run; None: numbered below `config.runs_folder`.
        resume: a run folder, or one of its checkpoints to go back to.
        fresh: take a new numbered folder where `folder` is taken.
        observer: sees every event.
        stop_when: called with every event; a text stops the run and becomes `stopped_by`.
        stop_on: rules whose finding stops the run.
        report: diagnose at the end and write report.html.

    Raises:
        UserError: the recipe cannot be trained here, the folder is taken or in use, the disk is full.
    """
    with StopSignals() as signals:
        if resume is not None:
            run_folder, saved = _resumed(resume)
            with locked(run_folder):
                return _train(recipe, run_folder, saved, resume, observer, stop_when, stop_on, report, signals)
        parts = _prepare(recipe, None, None)
        run_folder = new_folder(folder, runs_folder=recipe.config.runs_folder, name=recipe.config.name, fresh=fresh)
        with locked(run_folder):
            return _train(recipe, run_folder, None, None, observer, stop_when, stop_on, report, signals, parts)


@dataclass(slots=True)
class _Parts:
    """What does not depend on a run folder, so that a mistake in the recipe leaves none behind."""

    data: TextData
    model: nn.Module
    optimizers: optimizers.Optimizers
    machine: machine.Machine
    plan: plan.Plan
    groups: dict[str, dict[str, Any]]
    parameters: int


def _train(
    recipe: Recipe,
    folder: Path,
    saved: Path | None,
    asked_resume: Path | None,
    observer: Observer | None,
    stop_when: StopWhen | None,
    stop_on: Collection[str],
    report: bool,
    signals: StopSignals,
    parts: _Parts | None = None,
) -> TrainResult:
    resumed = None
    try:
        if asked_resume is not None:
            checkpoint.clean(folder)
            saved = checkpoint.find(saved or folder)  # what clean brought back counts
        snapshot = None if saved is None else checkpoint.read(saved)
        if asked_resume is not None:
            resumed = _compare(recipe, folder, snapshot)
        if parts is None:
            parts = _prepare(recipe, snapshot, folder)
        metrics = _open_metrics(recipe, folder, parts, resumed)
    except OSError as error:
        raise _disk_sentence(error, folder, started=asked_resume is not None) from error
    session = _session(recipe, folder, parts, metrics, snapshot, resumed, signals, observer, stop_when, stop_on)
    stopped_by = "error"
    try:
        _first_event(session, folder, parts, resumed)
        if resumed is not None and resumed.update:
            checkpoint.set_aside_after(folder, resumed.update)
        stopped_by = train_updates(session)
        session.emit({"event": "end", "time": time.time(), "update": session.state.update, "stopped_by": stopped_by})
        metrics.close()
        summary = _summary(session, parts, stopped_by)
        diagnosis = _conclude(session, folder, summary, report=report)
        return TrainResult(folder, summary, diagnosis)
    except OSError as error:
        raise _disk_sentence(error, folder, started=True) from error
    except torch.OutOfMemoryError as error:
        _record_error(session, "out of memory")
        training = recipe.config.training
        half = max(1, training.batch_size // 2)
        raise UserError(
            f"Out of memory with batch_size {training.batch_size}. The same update from smaller parts: unstuck train "
            f"--resume {folder} training.batch_size={half} training.accumulation={training.accumulation * 2}"
        ) from error


def _prepare(recipe: Recipe, snapshot: Snapshot | None, folder: Path | None) -> _Parts:
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
        _load_weights(model, snapshot.model, str(folder))
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
    in_embeddings = sum(
        p.numel() for name, p in model.named_parameters() if "embed" in name or "head" in name or "table" in name
    )
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
    return _Parts(data, model, built, chosen, planned_run, groups, parameters)


def _resumed(asked: Path) -> tuple[Path, Path | None]:
    """The run folder and the checkpoint that `--resume` means."""
    found = asked.resolve()
    if (found / "state.json").is_file():
        return found.parent.parent, found
    if not (found / "config.yaml").is_file():
        what = "is not a run folder (it has no config.yaml)" if found.exists() else "does not exist"
        raise UserError(f"{asked} {what}. Name a folder that `unstuck train` made, such as runs/gpt-char.")
    return asked, None


def _compare(recipe: Recipe, folder: Path, snapshot: Snapshot | None) -> Resumption:
    if snapshot is None:
        return Resumption(0, kept=["settings (no checkpoint had been written: training begins again)"])
    new = json.loads(json.dumps(json_ready(recipe.leaves())))
    resumed = resuming.compare(folder, snapshot.update, snapshot.state["config"], new)
    return resumed


def _open_metrics(recipe: Recipe, folder: Path, parts: _Parts, resumed: Resumption | None) -> MetricsWriter:
    done = resumed is not None and resumed.update >= parts.plan.updates
    if done and (folder / "summary.json").is_file():
        raise UserError(
            f"{folder} has made all its {parts.plan.updates} updates. To train it longer: unstuck train "
            f"--resume {folder} training.updates={2 * parts.plan.updates}"
        )
    write_atomically(folder / "config.yaml", recipe.to_yaml())
    if resumed is None:
        parts.data.tokenizer.save(folder)
    (folder / "summary.json").unlink(missing_ok=True)
    return MetricsWriter(folder / "metrics.jsonl")


def _session(
    recipe: Recipe,
    folder: Path,
    parts: _Parts,
    metrics: MetricsWriter,
    snapshot: Snapshot | None,
    resumed: Resumption | None,
    signals: StopSignals,
    observer: Observer | None,
    stop_when: StopWhen | None,
    stop_on: Collection[str],
) -> Session:
    config, data, chosen = recipe.config, parts.data, parts.machine
    state = LoopState()
    rates = {group.name: group.base_lr for group in parts.optimizers.groups}
    if snapshot is not None and resumed is not None:
        state = LoopState.from_json(snapshot.state)
        _restart_what_changed(state, resumed, config.training.batch_size)
        if resumed.keeps_moments:
            parts.optimizers.load_state_tensors(snapshot.optimizer)
        rates = faults.rates_after_resume(config, rates, snapshot.state["base_rates"])
        checkpoint.set_random_state(snapshot.random)
    loss_sum = parts.model.loss_sum
    if chosen.compiled:
        loss_sum = torch.compile(loss_sum)
    parts.model.train()
    stored = {
        "config": json.loads(json.dumps(json_ready(recipe.leaves()))),
        "base_rates": rates,
        "fingerprint": data.fingerprint,
        "tokenizer": _tokenizer_hash(data),
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
        loss_sum=loss_sum,  # type: ignore[arg-type]
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
        live=LiveDiagnosis(folder, stop_on),
        signals=signals,
        observers=() if observer is None else (observer,),
        stop_when=stop_when,
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


def _first_event(session: Session, folder: Path, parts: _Parts, resumed: Resumption | None) -> None:
    """The `start` or `resume` event: derived values with their reasons, and all sizes a diagnosis needs."""
    row: dict[str, Any] = {
        "event": "start",
        "time": time.time(),
        "unstuck": __version__,
        "folder": str(folder),
        "updates": parts.plan.updates,
        "derived": parts.plan.values(),
        "reasons": parts.plan.reasons(),
        "vocabulary": parts.data.vocabulary,
        "parameters": parts.parameters,
        "unigram_entropy": parts.data.unigram_entropy,
        "train_tokens": len(parts.data.train_tokens),
        "validation_tokens": session.validation.tokens,
        "micro_batches_per_update": session.config.training.accumulation,
        "groups": {name: {k: v for k, v in g.items() if k != "tensors"} for name, g in parts.groups.items()},
        "notes": list(parts.data.notes),
        "process": os.getpid(),
    }
    if resumed is not None and session.metrics.size:
        row |= {
            "event": "resume",
            "update": resumed.update,
            "kept": resumed.kept,
            "dropped": resumed.dropped,
            "changed": {key: list(pair) for key, pair in resumed.changed.items()},
            "lines": resumed.lines(),
        }
    session.emit(row)
    session.metrics.flush()


def _summary(session: Session, parts: _Parts, stopped_by: str) -> dict[str, Any]:
    state = session.state
    best, final = (
        None if update is None else {"update": update, "val_loss": json_ready(loss)}
        for update, loss in ((state.best_update, state.best_loss), (state.final_update, state.final_loss))
    )
    return {
        "updates": state.update,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
        "tokens_per_second": round(state.tokens / state.seconds, 1) if state.seconds else 0.0,
        "best": best,
        "final": final,
        "parameters": parts.parameters,
        "stopped_by": stopped_by,
        "findings": [],
    }


def _conclude(session: Session, folder: Path, summary: dict[str, Any], *, report: bool) -> Diagnosis | None:
    """Final diagnosis, summary and report. The summary is written first: it must not wait for a drawing."""
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    if not report:
        return None
    diagnosis = session.live.diagnose()
    summary["findings"] = [finding.rule.name for finding in diagnosis.findings]
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    from unstuck.report.html import write_report

    write_report(folder / "report.html", [diagnosis], title=f"{session.config.name}: {folder.name}")
    return diagnosis


def _load_weights(model: nn.Module, tensors: Mapping[str, torch.Tensor], shown: str) -> None:
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
    if checkpoint.read_state(found).get("tokenizer") != _tokenizer_hash(data):
        raise UserError(
            f"start_from={path} was trained with another tokenizer, so its token ids mean other text; use its "
            f"tokenizer: data.tokenizer={found.parent.parent / 'tokenizer.json'}"
        )
    _load_weights(model, checkpoint.read_weights(found), str(path))


def _tokenizer_hash(data: TextData) -> str:
    return hashlib.blake2b(data.tokenizer.to_json().encode(), digest_size=12).hexdigest()


def _record_error(session: Session, what: str) -> None:
    session.emit({"event": "end", "time": time.time(), "update": session.state.update, "stopped_by": f"error: {what}"})
    session.metrics.close()


def _disk_sentence(error: OSError, folder: Path, *, started: bool) -> UserError:
    """A full or forbidden disk in one sentence that says what is safe and how to go on."""
    where = f"{error.filename}: " if error.filename else ""
    what = (error.strerror or str(error)).lower()
    if not started:
        return UserError(f"{where}{what}. Nothing was trained; make room or name another place with --folder.")
    return UserError(
        f"{where}{what}. Checkpoints written before are intact; mend that, then go on with: "
        f"unstuck train --resume {folder}"
    )
