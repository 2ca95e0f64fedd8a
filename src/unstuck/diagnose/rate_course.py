"""The learning rate over a run as a share of its peak: as applied so far, as planned from there on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.statistics import Floats

RESTART = 0.3  # ours: of the peak; a plateau scheduler or a resume that overlaps moves by less, a cosine cycle by all


@dataclass(frozen=True, slots=True)
class RateCourse:
    """Straight lines between points; before the first and behind the last the nearest share holds.

    Attributes:
        updates: shape (m,), above 0, increasing.
        shares: shape (m,), learning rate over its peak, 0 to 1.
        known_to: the last update whose share is known; behind it the course is open.
    """

    updates: Floats
    shares: Floats
    known_to: float

    def at(self, updates: Floats) -> Floats:
        """The share at each update, shape as given."""
        return np.interp(updates, self.updates, self.shares)

    def worked(self, updates: Floats) -> Floats:
        """Updates at the peak that would have moved the weights as far: the area under the course up to each update."""
        x = np.concatenate([[0.0], self.updates])
        y = np.concatenate([self.shares[:1], self.shares])
        area = np.concatenate([[0.0], np.cumsum(0.5 * (y[1:] + y[:-1]) * np.diff(x))])
        index = np.clip(np.searchsorted(x, updates, side="right") - 1, 0, len(x) - 1)
        return np.asarray(area[index] + 0.5 * (y[index] + self.at(updates)) * (updates - x[index]))

    def peak_reached(self) -> float:
        """The first update at (nearly) the peak, where a warm-up ends."""
        return float(self.updates[np.argmax(self.shares >= 0.99 * self.shares.max())])

    def restarted(self, until: float) -> bool:
        """Whether the share goes up again after its peak, by more than `RESTART`, before the update `until`."""
        after = self.shares[(self.updates >= self.peak_reached()) & (self.updates <= until)]
        return bool(len(after) and (after - np.minimum.accumulate(after)).max() > RESTART)

    def held(self, update: float) -> RateCourse:
        """This course up to `update`, its share there held for good."""
        return self._continued(update, update, None)

    def annealed(self, update: float, end: float) -> RateCourse:
        """This course up to `update`, then a straight line to 0 at `end`."""
        return self._continued(update, end, 0.0)

    def _continued(self, update: float, end: float, share: float | None) -> RateCourse:
        past = self.updates < update
        now = float(self.at(np.array([update]))[0])
        updates, shares = [*self.updates[past], update], [*self.shares[past], now]
        if share is not None:
            updates, shares = [*updates, end], [*shares, share]
        return RateCourse(np.array(updates, dtype=np.float64), np.array(shares, dtype=np.float64), np.inf)


def constant_course() -> RateCourse:
    """A rate that never changes; what is assumed of the past where no learning rate is known."""
    return RateCourse(np.array([1.0]), np.array([1.0]), 0.0)
