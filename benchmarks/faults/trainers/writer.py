"""Writes the log of a plain loop: its text, the same numbers as JSON lines, and the configuration beside each."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from torch import nn

from benchmarks.faults.problem import Problem
from benchmarks.faults.settings import Setup
from benchmarks.faults.trainers.facts import Facts, facts_of
from benchmarks.faults.trainers.styles import style_named


@dataclass(frozen=True, slots=True)
class Updated:
    """One optimizer update, counted from 1; times in seconds of the run's clock."""

    update: int
    epoch: int
    loss: float
    rates: dict[str, float]
    norm: float
    seconds: float
    data_seconds: float
    clock: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation after `update` updates; `train` is the mean training loss since the last one."""

    update: int
    epoch: int
    loss: float
    accuracy: float | None
    clock: float
    train: float = float("nan")
    rates: dict[str, float] | None = None
    seconds: float = 0.0


class Writer:
    """The two files of one run."""

    def __init__(self, setup: Setup, problem: Problem, model: nn.Module, seed: int, folder: Path) -> None:
        self.style = style_named(setup.style)
        self.setup, self.problem, self.model, self.seed = setup, problem, model, seed
        self.facts: Facts = facts_of(setup.settings, problem, model, seed)
        self.since: list[Updated] = []
        self.last_clock = 0.0
        self.open_line = False
        self.files: dict[str, TextIO] = {}
        self.paths = {"text": f"text/{self.style.text_name}", "jsonl": f"jsonl/{self.style.jsonl_name}"}
        for view, name in self.paths.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.files[view] = path.open("w", encoding="utf-8")
            (path.parent / self.style.config_name).write_text(self.style.config(self.facts), encoding="utf-8")
        self.text(*self.style.header(self.facts))

    def text(self, *lines: str) -> None:
        """Lines; one that begins with a carriage return overwrites the last and leaves the line open, as a bar does."""
        for line in lines:
            bar = line.startswith("\r")
            self.files["text"].write(line if bar else "\n" * self.open_line + line + "\n")
            self.open_line = bar

    def row(self, row: dict[str, Any] | None) -> None:
        if row is not None:
            self.files["jsonl"].write(json.dumps(row) + "\n")

    def updates(self, pending: list[Updated]) -> None:
        """One log interval: the last update, with the interval's mean loss where the style prints means."""
        self.since += pending
        if self.style.per_evaluation:
            return
        last = pending[-1]
        if self.style.means:
            n = len(pending)
            last = replace(
                last, loss=sum(u.loss for u in pending) / n, seconds=sum(u.seconds for u in pending) / n,
                data_seconds=sum(u.data_seconds for u in pending) / n,
            )  # fmt: skip
        self.text(*self.style.update(last, self.facts))
        self.row(self.style.update_row(last))

    def evaluation(self, evaluated: Evaluated) -> None:
        since = self.since or [Updated(0, 0, float("nan"), {}, 0.0, 0.0, 0.0, 0.0)]
        evaluated = replace(
            evaluated,
            train=sum(u.loss for u in since) / len(since),
            rates=since[-1].rates,
            seconds=evaluated.clock - self.last_clock,
        )
        self.since, self.last_clock = [], evaluated.clock
        self.text(*self.style.evaluation(evaluated, self.facts))
        self.row(self.style.evaluation_row(evaluated))

    def resumed(self, update: int) -> None:
        """A new process begins: its configuration, then where it goes on."""
        asked = self.setup.settings.resume_learning_rate
        if asked is not None:
            self.facts = {**self.facts, "lr": asked}
        self.text(*self.style.header(self.facts), *self.style.resumed(update, self.facts))
        self.row(self.style.resumed_row(update, self.facts))

    def crash(self, error: BaseException) -> None:
        """What the interpreter prints of an error that nobody catches."""
        lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
        self.text(*lines)

    def close(self) -> dict[str, str]:
        for file in self.files.values():
            file.close()
        return self.paths
