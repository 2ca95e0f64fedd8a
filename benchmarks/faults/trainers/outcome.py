"""What a trainer tells the benchmark of a run, beside the log that it left."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(slots=True)
class Outcome:
    """Measured on the run itself, not on its log.

    Attributes:
        evaluations: (update, loss as the run reports it, loss on clean samples by the plain definition).
        ended: "completed", or what ended it: an error, in ours also what stopped the run.
        wait_share: share of the step's time that went into waiting for data.
        slowdown: time of a step in the last quarter over that in the first.
        views: format of the log -> its path below the run's folder.
        clipped_share: updates whose gradient was above the limit.
        rate_jump: largest learning rate after a resume over the one before it.
    """

    evaluations: list[tuple[int, float, float]] = field(default_factory=list)
    ended: str = "completed"
    updates: int = 0
    wait_share: float = 0.0
    slowdown: float = 1.0
    clipped_share: float = 0.0
    rate_jump: float = 1.0
    finite: bool = True
    views: dict[str, str] = field(default_factory=dict)

    @property
    def final(self) -> float:
        """Clean loss at the end; infinite where the run has none."""
        value = self.evaluations[-1][2] if self.evaluations else math.inf
        return value if math.isfinite(value) else math.inf

    @property
    def best(self) -> float:
        return min((clean for _, _, clean in self.evaluations if math.isfinite(clean)), default=math.inf)
