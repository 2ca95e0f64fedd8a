"""A plain PyTorch training loop, as people write it, with the bugs that people write.

Its clock is the CPU time of its thread plus the waits of the loader, which are added and not waited: the times in the
log do not depend on what else the machine does.
"""

from __future__ import annotations

import io
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Settings, Setup
from benchmarks.faults.trainers.outcome import Outcome
from benchmarks.faults.trainers.schedules import Plateau, multiplier
from benchmarks.faults.trainers.writer import Evaluated, Updated, Writer

FIRST_SCALE = 2.0**10  # torch.amp.GradScaler begins at 2**16; these gradients are larger than those of large models


class Clock:
    """Seconds of this thread's work and of the waits."""

    def __init__(self) -> None:
        self.begun, self.waited = time.thread_time(), 0.0

    def now(self) -> float:
        return time.thread_time() - self.begun + self.waited

    def wait(self, seconds: float) -> None:
        self.waited += seconds


def train(setup: Setup, problem: Problem, seed: int, folder: Path) -> Outcome:
    """Train one run and write its log in both of its style's forms below `folder`."""
    torch.manual_seed(seed)
    loop = Loop(setup, problem, seed, folder)
    try:
        loop.run()
    except RuntimeError as error:  # the allocation that fails is the only one that is meant to be
        if setup.bugs.memory_at is None:
            raise
        loop.outcome.ended = "error: out of memory"
        loop.writer.crash(error)
    loop.outcome.views = loop.writer.close()
    return loop.outcome


class Loop:
    def __init__(self, setup: Setup, problem: Problem, seed: int, folder: Path) -> None:
        self.settings, self.bugs, self.problem = setup.settings, setup.bugs, problem
        self.generator = torch.Generator().manual_seed(seed)
        self.eval_generator = torch.Generator().manual_seed(seed + 1)
        self.model = problem.make_model()
        self.groups = problem.groups(self.model) if problem.groups and self.settings.group_factors else {}
        if self.bugs.frozen and problem.groups:
            body = next(iter(problem.groups(self.model).values()))
            for parameter in body:
                parameter.requires_grad_(False)
        self.optimizer = make_optimizer(self.settings, self.model, self.groups)
        self.base_rate = self.settings.learning_rate
        self.plateau = Plateau(self.settings.patience, self.settings.factor)
        self.begun_at = 0
        self.clock = Clock()
        self.outcome = Outcome()
        self.writer = Writer(setup, problem, self.model, seed, folder)
        self.norms_above = 0
        self.eval_every = self.settings.eval_every
        per_epoch = self.writer.facts["updates_per_epoch"]
        if self.writer.style.per_evaluation and per_epoch < self.eval_every:  # whole epochs
            self.eval_every = per_epoch * round(self.eval_every / per_epoch)

    def run(self) -> None:
        settings, bugs = self.settings, self.bugs
        batches = self.problem.batches(settings.batch_size, self.generator, shuffle=settings.shuffle)
        pending: list[Updated] = []
        step_seconds: list[float] = []
        waited = rate_before = highest = 0.0
        self.evaluate(0, 0)
        last = bugs.stop_at or settings.updates
        for update in range(last):
            if update == settings.resume_at:
                rate_before = max(self.rates().values())
                self.resume(update)
            self.set_rates(update)
            if settings.resume_at is not None and update >= settings.resume_at:
                highest = max(highest, max(self.rates().values()))
            before = self.clock.now()
            total, data_seconds = 0.0, 0.0
            for _ in range(settings.accumulation):
                fetched = self.clock.now()
                epoch, (x, y) = next(batches)
                self.clock.wait(bugs.wait)
                data_seconds += self.clock.now() - fetched
                total += self.micro_batch(x, y)
            norm = self.step()
            if bugs.slowdown:
                spent = self.clock.now() - before
                self.clock.wait(spent * bugs.slowdown * update / settings.updates)
            seconds = self.clock.now() - before
            step_seconds.append(seconds)
            waited += data_seconds
            reported = total / (settings.accumulation * bugs.loss_divisor)
            pending.append(
                Updated(update + 1, epoch, reported, self.rates(), norm, seconds, data_seconds, self.clock.now())
            )
            self.outcome.updates = update + 1
            self.outcome.finite = self.outcome.finite and math.isfinite(total)
            if (update + 1) % settings.log_every == 0:
                self.writer.updates(pending)
                pending = []
            if update + 1 == bugs.memory_at:
                torch.empty(1 << 50, dtype=torch.float32)  # 4 PiB: fails on every machine
            if (update + 1) % self.eval_every == 0 or update + 1 == last:
                self.evaluate(update + 1, epoch)
        quarter = max(1, len(step_seconds) // 4)
        self.outcome.slowdown = sum(step_seconds[-quarter:]) / max(1e-9, sum(step_seconds[:quarter]))
        self.outcome.wait_share = waited / max(1e-9, sum(step_seconds))
        self.outcome.rate_jump = highest / rate_before if rate_before else 1.0
        self.outcome.clipped_share = self.norms_above / settings.updates

    def micro_batch(self, x: Tensor, y: Tensor) -> float:
        settings, bugs = self.settings, self.bugs
        reduction = "samples" if bugs.bad_samples else bugs.reduction
        loss = self.problem.loss(self.model(x), y, smoothing=settings.label_smoothing, reduction=reduction)
        if bugs.nan_filter:
            loss = torch.nan_to_num(loss)
        (loss / settings.accumulation).backward()
        return float(loss.detach())

    def step(self) -> float:
        """Clip and update; the norm before clipping."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        if self.bugs.scale_growth is not None:
            scale = FIRST_SCALE * 2.0 ** (self.outcome.updates // self.bugs.scale_growth)
            for p in parameters:
                assert p.grad is not None
                p.grad = (p.grad * scale).half().float() / scale
        limit = self.settings.clip_norm
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, math.inf if limit is None else limit))
        self.norms_above += limit is not None and norm > limit
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def set_rates(self, update: int) -> None:
        share = multiplier(self.settings, self.bugs, update, self.begun_at) * self.plateau.share
        for group in self.optimizer.param_groups:
            group["lr"] = self.base_rate * share * group["factor"]

    def rates(self) -> dict[str, float]:
        return {group["name"]: group["lr"] for group in self.optimizer.param_groups}

    def evaluate(self, update: int, epoch: int) -> None:
        reported = self.problem.evaluate(
            self.model, self.problem.validation_samples(self.eval_generator),
            smoothing=self.settings.label_smoothing, reduction=self.bugs.reduction,
        )  # fmt: skip
        if self.bugs.nan_filter and math.isnan(reported.loss):
            reported = replace(reported, loss=0.0)
        clean = self.problem.evaluate(self.model, self.problem.clean)
        self.outcome.evaluations.append((update, reported.loss, clean.loss))
        if update:  # before training only the benchmark looks
            if self.settings.schedule == "plateau":
                self.plateau.see(reported.loss)
            self.writer.evaluation(Evaluated(update, epoch, reported.loss, reported.accuracy, self.clock.now()))

    def resume(self, update: int) -> None:
        """Through a checkpoint, as a new process would: new model, new optimizer, states loaded."""
        file = io.BytesIO()
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
        self.model = self.problem.make_model()
        self.model.load_state_dict(state["model"])
        self.groups = self.problem.groups(self.model) if self.groups and self.problem.groups else {}
        self.optimizer = make_optimizer(self.settings, self.model, self.groups)
        self.optimizer.load_state_dict(state["optimizer"])
        asked = self.settings.resume_learning_rate
        if asked is not None and not self.bugs.stale_rate:
            self.base_rate = asked
        if self.bugs.schedule_anew:
            self.begun_at = update
        self.writer.resumed(update)


def make_optimizer(
    settings: Settings, model: nn.Module, groups: Any, *, rate: float | None = None
) -> torch.optim.Optimizer:
    """The optimizer that the settings name, with one group or those given."""
    if groups:
        parts = [
            {"params": params, "name": name, "factor": settings.group_factors.get(name, 1.0)}
            for name, params in groups.items()
        ]
    else:
        parts = [{"params": [p for p in model.parameters() if p.requires_grad], "name": "all", "factor": 1.0}]
    lr = settings.learning_rate if rate is None else rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parts, lr=lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(parts, lr=lr, betas=(0.9, settings.beta2), weight_decay=settings.weight_decay)
