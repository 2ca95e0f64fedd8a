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

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unstuck import __version__
from unstuck.config.recipe import Recipe
from unstuck.errors import UserError
from unstuck.json_ready import json_ready
from unstuck.train import checkpoint, start
from unstuck.train import resume as resuming
from unstuck.train.accumulation import in_tokens
from unstuck.train.assemble import Parts, make_session, prepare_parts
from unstuck.train.checkpoint import Snapshot
from unstuck.train.distributed import SILENCE, from_first, is_loss_of_others, processes, together
from unstuck.train.folder import locked, new_folder, only_begun, run_of, write_atomically
from unstuck.train.live import LiveDiagnosis
from unstuck.train.loop import Session, train_updates
from unstuck.train.metrics import MetricsWriter
from unstuck.train.observer import Observer, StopSignals, StopWhen
from unstuck.train.resume import Resumption
from unstuck.train.tasks.task import Share
from unstuck.wording import plural

if TYPE_CHECKING:
    from unstuck.diagnose.engine import Diagnosis


@dataclass(slots=True)
class TrainResult:
    """What came of it: the run folder, the content of summary.json, and the final diagnosis.

    Of several processes the `first` one has written it all and should tell; the others know the folder and the summary.
    """

    folder: Path
    summary: dict[str, Any]
    diagnosis: Diagnosis | None
    first: bool = True


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
    snapshot, resumed, parts = None, None, None
    with processes() as share, ExitStack() as held:
        signals = StopSignals(under_torchrun=share.processes > 1)
        if resume is None:  # before the folder is made: a mistake in the recipe leaves none behind
            with together(share):
                recipe = in_tokens(start.resolved(recipe), share.processes)
            parts = _prepared(recipe, share)
            with together(share):
                made = "" if share.rank else str(_made(folder, recipe, fresh=fresh))
            run_folder = Path(from_first(share, made))
        else:
            with together(share):
                recipe = in_tokens(recipe, share.processes)
                run_folder, asked = run_of(resume)
        held.enter_context(_disk_errors_as_sentences(run_folder))
        with together(share):
            if share.rank == 0:
                held.enter_context(locked(run_folder))
                checkpoint.clean(run_folder)
        if resume is not None:
            with together(share):
                snapshot = _snapshot(run_folder, asked)
                resumed = _compare(recipe, run_folder, snapshot)
        if parts is None:
            parts = _prepared(recipe, share, snapshot, run_folder)
        with together(share):
            metrics = _open_metrics(recipe, run_folder, parts, resumed)
        live = LiveDiagnosis(run_folder, stop_on)
        session = make_session(recipe, run_folder, parts, metrics, snapshot, resumed, signals, live)
        if share.rank == 0:
            session.observers = () if observer is None else (observer,)
            session.stop_when = stop_when
        # Signals are wishes only from here on: until now Ctrl-C ends the process and leaves nothing to save.
        held.enter_context(signals)
        held.enter_context(_left_in_order(session))
        held.enter_context(_out_of_memory_as_sentence(session, run_folder))
        held.enter_context(_others_lost_as_sentence(share, run_folder))
        return _train(session, parts, run_folder, resumed, report=report)


def _train(session: Session, parts: Parts, folder: Path, resumed: Resumption | None, *, report: bool) -> TrainResult:
    """From the first event to the report."""
    _first_event(session, folder, parts, resumed)
    if resumed is not None and resumed.update and session.share.rank == 0:
        checkpoint.set_aside_after(folder, resumed.update)
    stopped_by = train_updates(session)
    session.emit({"event": "end", "time": time.time(), "update": session.state.update, "stopped_by": stopped_by})
    session.metrics.close()
    summary = _summary(session, parts, stopped_by)
    if session.share.rank:
        return TrainResult(folder, summary, None, first=False)
    return TrainResult(folder, summary, _conclude(session, folder, summary, report=report))


def _prepared(recipe: Recipe, share: Share, snapshot: Snapshot | None = None, folder: Path | None = None) -> Parts:
    """`prepare_parts`, with too large a model or text as a sentence."""
    try:
        return prepare_parts(recipe, share, snapshot, folder)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise UserError(
            "Out of memory before the first update, so nothing was trained. Make the model smaller (model.width, "
            "model.layers), or train on a machine with more memory."
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """numpy, CUDA and torch's CPU allocator each have their own way to say it."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)


def _made(asked: Path | None, recipe: Recipe, *, fresh: bool) -> Path:
    """The new run's folder."""
    try:
        return new_folder(asked, runs_folder=recipe.config.runs_folder, name=recipe.config.name, fresh=fresh)
    except OSError as error:
        where = error.filename or asked or recipe.config.runs_folder
        raise UserError(
            f"{where}: {(error.strerror or str(error)).lower()}. Nothing was trained; name a folder that you may write "
            "to with --folder."
        ) from error


def _snapshot(folder: Path, asked: Path | None) -> Snapshot | None:
    """The state to go on from."""
    path = checkpoint.find(asked or folder)
    return None if path is None else checkpoint.read(path)


def _compare(recipe: Recipe, folder: Path, snapshot: Snapshot | None) -> Resumption:
    if snapshot is None:
        return Resumption(0, kept=["settings (no checkpoint had been written: training begins again)"])
    new = json.loads(json.dumps(json_ready(recipe.leaves())))
    return resuming.compare(folder, snapshot.update, snapshot.state["config"], new)


def _open_metrics(recipe: Recipe, folder: Path, parts: Parts, resumed: Resumption | None) -> MetricsWriter:
    if parts.share.rank:  # the first process keeps the record
        return MetricsWriter(Path(os.devnull))
    done = resumed is not None and resumed.update >= parts.plan.updates
    if resumed is not None and done and (folder / "summary.json").is_file():
        raise UserError(
            f"{folder} has made {resumed.update} of {plural(parts.plan.updates, 'update')}. To train it longer: "
            f"unstuck train --resume {folder} training.updates={2 * resumed.update}"
        )
    if not (folder / "config.yaml").exists():  # config.yaml makes it a run folder, so it comes last
        parts.task.save(folder)
    write_atomically(folder / "config.yaml", recipe.to_yaml())
    (folder / "summary.json").unlink(missing_ok=True)
    return MetricsWriter(folder / "metrics.jsonl")


def _first_event(session: Session, folder: Path, parts: Parts, resumed: Resumption | None) -> None:
    """The `start` or `resume` event: derived values with their reasons, and all sizes a diagnosis needs."""
    row: dict[str, Any] = {
        "event": "start",
        "time": time.time(),
        "unstuck": __version__,
        "folder": str(folder),
        "updates": parts.plan.updates,
        "derived": parts.plan.values(),
        "reasons": parts.plan.reasons(),
        "unit": parts.task.unit,
        "parameters": parts.parameters,
        **parts.task.start_row(),
        "micro_batches_per_update": session.config.training.accumulation,
        "groups": {name: {k: v for k, v in g.items() if k != "tensors"} for name, g in parts.groups.items()},
        "notes": [*parts.task.notes, *parts.plan.notes],
        "process": os.getpid(),
    }
    if parts.start_check is not None:
        row |= parts.start_check.row()
        row["notes"] += parts.start_check.notes()
    if resumed is None:
        row["notes"] += start.notes(session.config)
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


def _summary(session: Session, parts: Parts, stopped_by: str) -> dict[str, Any]:
    state = session.state
    in_tokens = session.task.tokenizer is not None  # fields have none
    best, final = (
        None if update is None else {"update": update, "val_loss": json_ready(loss)}
        for update, loss in ((state.best_update, state.best_loss), (state.final_update, state.final_loss))
    )
    return {
        "updates": state.update,
        "tokens": state.tokens if in_tokens else None,
        "examples": state.examples,
        "unit": session.task.unit,
        "seconds": round(state.seconds, 3),
        "tokens_per_second": (round(state.tokens / state.seconds, 1) if state.seconds else 0.0) if in_tokens else None,
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


@contextmanager
def _left_in_order(session: Session) -> Iterator[None]:
    """Whatever ends the run, nothing of it writes any more when the lock on its folder is given back."""
    try:
        yield
    finally:
        session.saver.finish()
        session.metrics.abandon()


@contextmanager
def _disk_errors_as_sentences(folder: Path) -> Iterator[None]:
    """A full or forbidden disk in one sentence that says what is safe and how to go on."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if folder.is_dir() and only_begun(folder):
            shutil.rmtree(folder, ignore_errors=True)
            raise UserError(
                f"{where}{(error.strerror or str(error)).lower()}. Nothing was trained and nothing is left behind; "
                "mend that, then run the same command again."
            ) from error
        raise UserError(
            f"{where}{(error.strerror or str(error)).lower()}. Checkpoints written before are intact; mend that, then "
            f"go on with: unstuck train --resume {folder}"
        ) from error


@contextmanager
def _others_lost_as_sentence(share: Share, folder: Path) -> Iterator[None]:
    """A process cannot train on without the others, and says so."""
    try:
        yield
    except RuntimeError as error:
        if not is_loss_of_others(error):
            raise
        raise UserError(
            f"Process {share.rank} of {share.processes} has lost the others: one of them ended, or was silent for "
            f"{SILENCE.seconds // 60} minutes (its own message says why). Start all of them again, with the same "
            f"torchrun and: train --resume {folder}"
        ) from error


@contextmanager
def _out_of_memory_as_sentence(session: Session, folder: Path) -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        session.emit({"event": "end", "update": session.state.update, "stopped_by": "error: out of memory"})
        session.metrics.close()
        training = session.config.training
        raise UserError(
            f"Out of memory with batch_size {training.batch_size}. The same update from smaller parts: unstuck train "
            f"--resume {folder} training.batch_size={max(1, training.batch_size // 2)} "
            f"training.accumulation={training.accumulation * 2}"
        ) from error
