"""The loop's own state: everything beside tensors that an exact resume needs, as JSON."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from unstuck.json_ready import json_ready
from unstuck.train.schedules import Plateau

# The clipped share is of the last so many updates: long enough to be read in per cent, short enough to follow the run.
CLIP_WINDOW = 100


@dataclass(slots=True)
class LoopState:
    """Where the run is. Counters only grow; `update` optimizer updates have been made.

    Attributes:
        update: optimizer updates made.
        examples: windows or fields consumed: the data position.
        tokens: target tokens trained on; 0 where there are none.
        seconds: time spent in updates and evaluations, over all sessions of the run.
        clipped: whether each of the last updates was clipped.
        best_update, best_loss: of the lowest validation loss (nats/token).
        evaluations_without_best: in a row, for early stopping.
        final_update, final_loss: of the last evaluation.
        plateau: state of the plateau schedule.
    """

    update: int = 0
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    clipped: deque[bool] = field(default_factory=lambda: deque(maxlen=CLIP_WINDOW))
    best_update: int | None = None
    best_loss: float = math.inf
    evaluations_without_best: int = 0
    final_update: int | None = None
    final_loss: float = math.nan
    plateau: Plateau = field(default_factory=Plateau)

    def clipped_share(self) -> float:
        return sum(self.clipped) / len(self.clipped) if self.clipped else 0.0

    def observe(self, val_loss: float, min_improvement: float) -> bool:
        """Take an evaluation; True when it is a new best."""
        self.final_update, self.final_loss = self.update, val_loss
        if val_loss < self.best_loss - min_improvement:
            self.best_update, self.best_loss, self.evaluations_without_best = self.update, val_loss, 0
            return True
        self.evaluations_without_best += 1
        return False

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `from_json` gives the same state back, every float to the last bit."""
        plateau = {"scale": self.plateau.scale, "best": self.plateau.best, "bad": self.plateau.bad_evaluations}
        values = {
            "update": self.update,
            "examples": self.examples,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "clipped": [int(was) for was in self.clipped],
            "best_update": self.best_update,
            "best_loss": self.best_loss,
            "evaluations_without_best": self.evaluations_without_best,
            "final_update": self.final_update,
            "final_loss": self.final_loss,
            "plateau": plateau,
        }
        ready: dict[str, Any] = json_ready(values)
        return ready

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> LoopState:
        """The inverse of `to_json`; keys of other parts are passed over."""
        plateau = values["plateau"]
        return cls(
            update=values["update"],
            examples=values["examples"],
            tokens=values["tokens"],
            seconds=values["seconds"],
            clipped=deque(map(bool, values["clipped"]), maxlen=CLIP_WINDOW),
            best_update=values["best_update"],
            best_loss=float(values["best_loss"]),
            evaluations_without_best=values["evaluations_without_best"],
            final_update=values["final_update"],
            final_loss=float(values["final_loss"]),
            plateau=Plateau(float(plateau["scale"]), float(plateau["best"]), plateau["bad"]),
        )
