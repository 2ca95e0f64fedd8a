"""One run as the rules look at it: the series and settings they share, computed once."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from unstuck.diagnose import statistics
from unstuck.runs import Run, Series


class Case:
    """A run with the derived quantities that several rules need.

    Rules read `case.run` for anything special. Everything here is None where the run does not have it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def setting(self, name: str) -> Any | None:
        """The canonical setting's value, None where unknown."""
        return self.run.setting(name)

    @cached_property
    def loss(self) -> Series | None:
        """`train/loss` with its non-finite points left out; None below 2 points."""
        return self._finite("train/loss")

    @cached_property
    def val(self) -> Series | None:
        """`val/loss` with its non-finite points left out; None where there is none."""
        return self._finite("val/loss", least=1)

    @cached_property
    def grad_norm(self) -> Series | None:
        """`grad_norm/preclip`, non-finite points left out."""
        return self._finite("grad_norm/preclip")

    def _finite(self, name: str, least: int = 2) -> Series | None:
        series = self.run.get(name)
        if series is None:
            return None
        series = series.finite()
        return series if len(series) >= least else None

    @cached_property
    def lr(self) -> Series | None:
        """The learning rate of the group with the largest peak (the only one, for most logs)."""
        groups = [s.finite() for s in self.run.learning_rates().values()]
        groups = [s for s in groups if len(s)]
        return max(groups, key=lambda s: float(s.values.max())) if groups else None

    @cached_property
    def loss_noise(self) -> float:
        """Point-to-point standard deviation of the training loss in the second half of the run; nan if unknown."""
        if self.loss is None:
            return math.nan
        return statistics.noise_sd(self.loss.values[len(self.loss) // 2 :])

    @cached_property
    def loss_trend(self) -> Series | None:
        """The training loss smoothed by running median and mean, at the points of `loss`."""
        if self.loss is None:
            return None
        smooth = statistics.trend(self.loss.values)
        return Series("train/loss trend", self.loss.updates, smooth, self.loss.lines, self.loss.file, self.loss.unit)

    @cached_property
    def val_noise(self) -> float:
        """Point-to-point standard deviation of the validation loss over its second half; nan below 5 points."""
        if self.val is None:
            return math.nan
        values = self.val.values
        half = values[len(values) // 2 :]
        return statistics.noise_sd(half if len(half) >= 5 else values)

    @cached_property
    def val_best(self) -> int | None:
        """Index into `val` of its lowest value."""
        return None if self.val is None else int(np.argmin(self.val.values))

    @cached_property
    def chance(self) -> float | None:
        """ln V: the loss of a model that gives every token id the same probability; None where V is unknown."""
        vocabulary = self.setting("vocabulary")
        return math.log(vocabulary) if vocabulary else None

    @cached_property
    def planned_updates(self) -> int | None:
        """Updates the run was to have: the setting, or the schedule's horizon."""
        planned = self.setting("updates") or self.setting("horizon_updates")
        return int(planned) if planned else None
