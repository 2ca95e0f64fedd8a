"""Whether a learning rate followed a change of the batch.

The linear rule (Goyal et al., arXiv 1706.02677) asks SGD's rate to change as the batch, the square-root rule
(Malladi et al., arXiv 2205.10287) asks Adam's to change as its root.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from unstuck.diagnose.changes import effective_batch
from unstuck.runs import Setting

# Below it even the root asks for less than 1.41, and half of that costs 0.007 nats (Step Law, arXiv 2503.04715).
LEAST_BATCH_RATIO = 2.0
# Exponent of the rate over the batch: 1 is the linear rule, 0.5 the root; half of the root is nearer to none.
LEAST_EXPONENT = 0.25
LINEAR = frozenset({"sgd"})


@dataclass(frozen=True, slots=True)
class BatchChange:
    """A batch that changed and a learning rate that did not follow.

    Attributes:
        old_batch, new_batch: samples per update.
        old_lr, new_lr: configured peaks.
        asked: the rate that the optimizer's rule asks for.
        rule: the rule in words.
    """

    old_batch: float
    new_batch: float
    old_lr: float
    new_lr: float
    asked: float
    rule: str

    @property
    def kept(self) -> bool:
        """Whether the rate stayed as it was (else it moved the other way, or hardly)."""
        return math.isclose(self.old_lr, self.new_lr, rel_tol=0.02)


def not_followed(before: Mapping[str, Setting], after: Mapping[str, Setting]) -> BatchChange | None:
    """The change of batch that the learning rate did not follow; None where it did, or nothing changed by twice."""
    old, new = effective_batch(before), effective_batch(after)
    rates = _rate(before), _rate(after)
    if not old or not new or not math.isfinite(old * new) or rates[0] is None or rates[1] is None:
        return None
    ratio = new / old
    if 1 / LEAST_BATCH_RATIO < ratio < LEAST_BATCH_RATIO:
        return None
    if math.log(rates[1] / rates[0]) / math.log(ratio) >= LEAST_EXPONENT:
        return None
    optimizer = after["optimizer"].value if "optimizer" in after else None
    linear = optimizer in LINEAR
    asked = rates[0] * (ratio if linear else math.sqrt(ratio))
    if not 0 < asked < math.inf:
        return None
    rule = "SGD's rate changes as the batch" if linear else "Adam's rate changes as the root of the batch"
    return BatchChange(old, new, rates[0], rates[1], asked, rule)


def _rate(settings: Mapping[str, Setting]) -> float | None:
    value = settings["learning_rate"].value if "learning_rate" in settings else None
    return float(value) if isinstance(value, int | float) and 0 < value < math.inf else None
