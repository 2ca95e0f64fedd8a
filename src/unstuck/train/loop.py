"""The training loop, from the first update to the last, for every task.

One optimizer update is `accumulation` micro-batches. Its loss is the mean over all targets of the update (not the mean
of the micro-batches' means), so 1 x 12 windows and 3 x 4 windows are the same update.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.config.schema import Config, ScheduleConfig
from unstuck.evaluate.loss import Evaluation
from unstuck.train import schedules
from unstuck.train.distributed import exchange_sparse, exchanged, refuse_changed_buffers, together, totals
from unstuck.train.gradient_stats import layer_norms
from unstuck.train.live import LiveDiagnosis
from unstuck.train.machine import Machine, memory_used
from unstuck.train.metrics import MetricsWriter
from unstuck.train.observer import Observer, StopSignals, StopWhen
from unstuck.train.optimizers import Optimizers, clip_grad_norm
from unstuck.train.peak import Operations, bfloat16_peak
from unstuck.train.plan import Plan
from unstuck.train.saver import Saver
from unstuck.train.state import LoopState
from unstuck.train.tasks.task import MicroBatches, Share, Task
from unstuck.train.weights import weights_of


@dataclass(slots=True)
class Session:
    """All that one process needs to train a run; put together in `unstuck.train.assemble`.

    `trained` is what the loss is computed through: the model itself, or what wraps it (compiled, DDP). `weights` names
    the tensors of a checkpoint. `share` is this process's part of every update: with several processes, all make the
    same calls in the same order, the first one alone writes, and they stop after the same update.
    """

    config: Config
    plan: Plan
    schedule: ScheduleConfig
    machine: Machine
    task: Task
    model: nn.Module
    trained: nn.Module
    weights: tuple[str, ...]
    share: Share
    parameters: list[nn.Parameter]
    optimizers: Optimizers
    base_rates: dict[str, float]
    state: LoopState
    stored: dict[str, Any]
    metrics: MetricsWriter
    saver: Saver
    live: LiveDiagnosis
    signals: StopSignals
    observers: tuple[Observer, ...] = ()
    stop_when: StopWhen | None = None
    stop_wish: str | None = field(default=None)
    ahead: tuple[tuple[int, int], MicroBatches] | None = field(default=None)  # (examples, update) -> data, on a GPU
    operations: Operations | None = field(default=None)
    stop_agreed: bool = field(default=False)  # among several processes: one of them wished to, before the last update

    def emit(self, row: Mapping[str, Any]) -> None:
        """Record one event and show it to those who look on."""
        self.metrics.write(row)
        for observer in self.observers:
            observer.event(row)
        if self.stop_when is not None and self.stop_wish is None:
            self.stop_wish = self.stop_when(row)


def train_updates(session: Session) -> str:
    """Train until the plan is done or something stops it; returns `stopped_by`.

    At the end, however it came, the last good state is being saved and every row is on disk.
    """
    state, plan, config = session.state, session.plan, session.config
    stopped_by = ""
    buffers = _watched_buffers(session)
    reserved = plan.updates <= min(config.evaluation.every_updates, config.checkpoint.every_updates or plan.updates)
    if state.update == 0 and state.final_update is None:
        evaluate(session)
    while not stopped_by and state.update < plan.updates:
        row = one_update(session)
        if buffers:
            with together(session.share):
                refuse_changed_buffers(session.share, buffers, session.model)
            buffers = {}
        if not reserved:  # the optimizer has its state now; a run that saves only at its end may as well wait there
            session.saver.reserve(*_tensors(session))
            reserved = True
        finite = math.isfinite(row["train/loss"]) and math.isfinite(row["grad_norm/preclip"])
        session.emit(row)
        if not finite:  # the update was not made: the weights are still those of the update before
            stopped_by = "finding: " + ("gradient-exploding" if math.isfinite(row["train/loss"]) else "loss-not-finite")
            break
        last = state.update == plan.updates
        new_best = False
        if last or state.update % config.evaluation.every_updates == 0:
            new_best = evaluate(session)
        periodic = config.checkpoint.every_updates
        if new_best or (periodic and state.update % periodic == 0):
            save(session)
        stopped_by = _wish(session)
    if session.saver.saved_update != state.update:
        save(session)
    session.saver.wait()
    return stopped_by or "updates"


def one_update(session: Session) -> dict[str, Any]:
    """Make one optimizer update and return its row. A loss or norm that is not finite leaves the weights alone."""
    state, config = session.state, session.config
    started, cpu_started = time.perf_counter(), time.process_time()
    data = _data(session)
    fetched = time.perf_counter()

    rates = learning_rates(session)
    session.optimizers.set_lr(rates)
    sums: list[Tensor] = []  # of the loss, of each micro-batch
    further: list[Tensor] = []  # of what is minimised besides
    # Of all targets of the update: this is the token weighting. Between processes gradients are averaged, not summed.
    weight = session.share.processes / data.targets
    for number, batch in enumerate(data.batches, start=1):
        with exchanged(session.trained, last=number == len(data.batches)):
            with session.machine.autocast():
                measured = session.task.loss(session.trained, batch)
            objective = measured.summed if measured.auxiliary is None else measured.summed + measured.auxiliary
            objective.backward(torch.full_like(objective, weight))  # type: ignore[no-untyped-call]
        sums.append(measured.summed.detach())
        if measured.auxiliary is not None:
            further.append(measured.auxiliary.detach())
    exchange_sparse(session.share, session.parameters)
    layers = layer_norms(session.model.named_parameters()) if _asks_for_layers(session) else {}
    norm = clip_grad_norm(session.parameters, config.training.clip_norm)
    _fetch_ahead(session, data)
    norm_value, *values = torch.stack([norm, *sums, *further]).tolist()  # the update's one wait for the device
    loss_value, further_value = _agreed(session, sum(values[: len(sums)]), sum(values[len(sums) :]))
    loss_value, further_value = loss_value / data.targets, further_value / data.targets

    if math.isfinite(loss_value) and math.isfinite(norm_value):
        session.optimizers.step()
        state.update += 1
        state.examples += data.examples
        state.tokens += data.tokens or 0
        state.clipped.append(config.training.clip_norm is not None and norm_value > config.training.clip_norm)
        made = state.update
    else:
        made = state.update + 1
    session.optimizers.zero_grad()
    more = session.task.after_update(session.model, state.update) if made == state.update else {}

    seconds = time.perf_counter() - started
    state.seconds += seconds
    row = {"event": "update", "update": made, "train/loss": loss_value}
    if further:
        row["train/objective"] = loss_value + further_value
    for name, rate in rates.items():
        row[f"lr/{name}"] = rate
    row["grad_norm/preclip"] = norm_value
    row["grad_norm/clipped_share"] = state.clipped_share()
    row.update(layers)
    if data.tokens is not None:
        row["tokens"] = state.tokens
        row["throughput/tokens_per_second"] = round(data.tokens / seconds, 1)
    else:
        row["throughput/examples_per_second"] = round(data.examples / seconds, 2)
    row.update(_share_of_peak(session, data, seconds))
    row["time/step_ms"] = round(seconds * 1e3, 3)
    row["time/data_share"] = round((fetched - started) / seconds, 5)
    if session.machine.device.type == "cpu":  # tells a slower program from a machine that others use too
        row["time/cpu_ms"] = round((time.process_time() - cpu_started) * 1e3, 3)
    row.update(more)
    return row


def _data(session: Session) -> MicroBatches:
    """The data of the next update: as fetched while the GPU was at work, or fetched now."""
    place = session.state.examples, session.state.update
    ahead, session.ahead = session.ahead, None
    return ahead[1] if ahead is not None and ahead[0] == place else session.task.micro_batches(*place)


def _fetch_ahead(session: Session, data: MicroBatches) -> None:
    """While a GPU still computes this update, gather the next one's data and send it. A CPU has no time between."""
    if session.machine.device.type != "cpu":
        place = session.state.examples + data.examples, session.state.update + 1
        session.ahead = place, session.task.micro_batches(*place)


def _share_of_peak(session: Session, data: MicroBatches, seconds: float) -> dict[str, float]:
    """Of this process's device, where its peak and the model's operations are known."""
    peak = bfloat16_peak(session.machine.device)
    if peak is None or session.operations is None:
        return {}
    made = [session.operations.of(batch) for batch in data.batches]
    return {} if None in made else {"throughput/share_of_peak": round(sum(filter(None, made)) / seconds / peak, 4)}


def _agreed(session: Session, loss: float, further: float) -> tuple[float, float]:
    """Both sums over all processes; on the way they tell each other who wishes to stop."""
    if session.share.processes == 1:
        return loss, further
    wishes = session.signals.received is not None or session.stop_wish is not None
    loss, further, stops = totals(session.share, [loss, further, float(wishes)])
    session.stop_agreed = stops > 0
    return loss, further


def _watched_buffers(session: Session) -> dict[str, Tensor]:
    """Copies of the stored buffers, for `refuse_changed_buffers`; none where one process trains alone."""
    if session.share.processes == 1:
        return {}
    return {name: b.clone() for name, b in session.model.named_buffers() if name in session.weights}


def _asks_for_layers(session: Session) -> bool:
    """Whether the update that comes next is to log its layers' gradients: an evaluation follows it."""
    due = session.state.update + 1
    evaluation = session.config.evaluation
    return evaluation.layer_gradients and (due % evaluation.every_updates == 0 or due == session.plan.updates)


def learning_rates(session: Session) -> dict[str, float]:
    """Learning rate of each group for the update that comes next: its base rate times the schedule's multiplier."""
    share = schedules.multiplier(
        session.schedule,
        session.state.update,
        planned_updates=session.plan.updates,
        plateau_scale=session.state.plateau.scale,
    )
    return {name: rate * share for name, rate in session.base_rates.items()}


def evaluate(session: Session) -> bool:
    """Measure the validation loss, record it, look for findings; True when it is a new best worth a checkpoint."""
    state, config = session.state, session.config
    started = time.perf_counter()
    session.metrics.flush()
    result = session.task.validate(session.model, session.machine.autocast)
    state.seconds += time.perf_counter() - started
    # All processes measure all of it; what the first one found decides, to the last bit.
    (loss,) = totals(session.share, [result.loss if session.share.rank == 0 else 0.0])
    new_best = state.observe(loss, config.evaluation.min_improvement)
    if config.schedule.kind == "plateau" and state.update > 0:
        state.plateau.observe(loss, session.schedule, config.evaluation.min_improvement)
    ratios = session.optimizers.update_ratios() if state.update > 0 else {}
    row = evaluation_row(state.update, result, session.task) | {f"update_ratio/{g}": r for g, r in ratios.items()}
    session.emit(row | memory_used(session.machine.device))
    session.metrics.flush()
    if state.update > 0 and session.share.rank == 0:
        session.stop_wish = session.stop_wish or session.live.look(state, session.emit)
    return new_best and state.update > 0


def evaluation_row(update: int, result: Evaluation, task: Task) -> dict[str, Any]:
    """The `evaluation` event."""
    row: dict[str, Any] = {"event": "evaluation", "update": update, "val/loss": result.loss}
    if len(result.by_source) > 1:
        row |= {f"val/loss/{source}": loss for source, loss in result.by_source.items()}
    row["val/tokens" if task.tokenizer is not None else f"val/{task.example}s"] = result.targets
    if result.bits_per_byte is not None:
        row["val/bits_per_byte"] = result.bits_per_byte
    return row | {f"val/{name}": value for name, value in result.further.items()}


def save(session: Session) -> None:
    """Start to write a checkpoint of the state after the last update made.

    Raises:
        OSError: the one before could not be written.
    """
    session.metrics.flush()
    state = session.stored | session.state.to_json()
    session.saver.save(*_tensors(session), state)
    session.emit({"event": "checkpoint", "update": session.state.update, "best": session.state.best_update})


def _tensors(session: Session) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What a checkpoint copies: weights, each memory once, and the optimizer's state."""
    weights = weights_of(session.model)
    return {name: weights[name] for name in session.weights}, session.optimizers.state_tensors()


def _wish(session: Session) -> str:
    """Why the run should stop now; empty to go on. Several processes stop one update after the wish, all at once."""
    state, patience = session.state, session.config.evaluation.patience
    session.saver.check()
    if session.share.processes == 1 or session.stop_agreed:
        if session.signals.received is not None:
            return "user"
        if session.stop_wish is not None:
            return session.stop_wish
        if session.stop_agreed:
            return "user"  # a signal that another process got
    if patience is not None and state.evaluations_without_best >= patience and state.update < session.plan.updates:
        return "early stopping"
    return ""
