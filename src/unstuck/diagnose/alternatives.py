"""What else could have made the same log, where its evidence cannot tell, and what would tell.

A finding names its pattern; some patterns have several causes that only a series nobody logged, or a short experiment,
can separate. Naming them is part of the finding: a cure for the wrong one costs a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unstuck.diagnose.case import Case


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another cause of the same pattern.

    Attributes:
        what: the cause.
        tell: what to log or try to tell it from the finding.
        settled: whether the run's own record rules it out.
    """

    what: str
    tell: str
    settled: Callable[[Case], bool]


def _precision_known(case: Case) -> bool:
    """fp16 scales the loss; bfloat16 and float32 have the range to do without."""
    if case.run.get("loss_scale") is not None:
        return True
    precision = str(case.setting("precision") or "").lower()
    return any(word in precision for word in ("bf16", "bfloat16", "fp32", "float32", "tf32", "no"))


def _norms_logged(case: Case) -> bool:
    return case.grad_norm is not None


def _updates_logged(case: Case) -> bool:
    return any(name.startswith("update_ratio/") for name in case.run.series)


def _rate_falls(case: Case) -> bool:
    return case.annealed is True


def _shuffles(case: Case) -> bool:
    return case.run.raw_settings.get("shuffle") is not None and bool(case.run.raw_settings["shuffle"].value)


def _never(case: Case) -> bool:
    return False


_OVERFLOW = Alternative(
    "an overflow in float16",
    "log the loss scale, or run 200 updates in float32 from the same checkpoint",
    _precision_known,
)
_BATCH = Alternative(
    "a damaged batch", "log the indices of each batch, and run the same updates in another order", _never
)
_FLOOR = Alternative(
    "the floor of this model on this data",
    "anneal the learning rate to 0 over a tenth of the run: a floor stays",
    _rate_falls,
)
_FROZEN = Alternative(
    "weights that get no gradient or are not in the optimizer",
    "log the update-to-weight ratio of each group",
    _updates_logged,
)

ALTERNATIVES: dict[str, tuple[Alternative, ...]] = {
    "lr-too-high": (_OVERFLOW,),
    "gradient-exploding": (_OVERFLOW, _BATCH),
    "loss-diverged": (_OVERFLOW, _BATCH),
    "loss-not-finite": (_OVERFLOW, _BATCH),
    "loss-spike": (_BATCH, _OVERFLOW),
    "loss-plateau": (_FLOOR,),
    "lr-too-low": (_FROZEN,),
    "undertrained": (
        Alternative("a learning rate too low", "200 updates from a checkpoint at three times the rate", _never),
    ),
    "loss-at-chance": (
        Alternative("inputs that do not belong to their labels", "look at ten decoded samples of a batch", _never),
        _FROZEN,
    ),
    "initial-loss-implausible": (
        Alternative("a tokenizer of another model", "compare the vocabulary sizes of tokenizer and model", _never),
        Alternative("a head that was initialised anew", "look for a warning about missing keys when loading", _never),
    ),
    "loss-oscillating": (
        Alternative("data in a fixed or sorted order", "shuffle: swings of an epoch's length go", _shuffles),
    ),
    "validation-shifted": (
        Alternative("training data in the order of the file", "shuffle the training data", _shuffles),
    ),
    "loss-implausibly-low": (
        Alternative("text that is far more regular than usual", "train on a known text with the same settings", _never),
    ),
    "throughput-falls": (
        Alternative("other work on the same machine", "log the time of data, forward and backward apart", _never),
    ),
    "gradient-vanishing": (
        Alternative("layers that are frozen on purpose", "list the tensors that require a gradient", _never),
    ),
}  # fmt: skip


def alternatives(case: Case, rule: str) -> tuple[Alternative, ...]:
    """What else the pattern of a rule may come from in this run, its record permitting."""
    return tuple(one for one in ALTERNATIVES.get(rule, ()) if not one.settled(case))
