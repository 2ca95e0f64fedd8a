"""Whether a run from scratch can have moved its weights at all: the learning rates of all its updates, added up.

Adam's step in each weight is about the learning rate and hardly ever more (Kingma, Ba, arXiv 1412.6980, section 2.1),
so the sum of the rates bounds how far any weight came. Below the size of the weights at the start the model is the one
it was, up to frequencies.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.known_models import start_of
from unstuck.diagnose.learning_rates import ADAMS, Range, find_range
from unstuck.diagnose.lr_curve import FREQUENCY_SHARE
from unstuck.diagnose.own_keys import own_number
from unstuck.diagnose.scales import (
    LANGUAGE,
    Scale,
    first_loss,
    group_of,
    model_kind_of,
    optimizer_of,
    phase_of,
    published_scale,
)
from unstuck.runs import Series

# Standard deviation of a language model's weights at the start: GPT-2, BERT and OPT 0.02 (`initializer_range`), others
# by width, 0.02 to 0.05 at widths 400 to 2500 (0.4 / sqrt(width), and more below).
INITIAL_SD = 0.02
# Nobody publishes smaller weights to start from (BERT-tiny 4.4M, SqueezeNet 1.2M, TinyStories 1M): who does not say so
# trains a smaller model from scratch.
LEAST_PRETRAINED = 1e6
# Plain networks' own words for it, none of which is canonical (MLPs, convolutions, recurrent networks).
WIDTHS = frozenset({"hidden", "hidden_units", "hidden_dim", "hidden_dims", "hidden_channels", "units", "channels"})
HALF_WAY = 0.5  # ours: of the planned updates, or of the peak rate, before a run is judged by what it moved
# Characters of English with capitals and stops have an entropy of 3.3 nats (0.79 ln 65), so a first loss above it is
# of a model that knows no frequencies: an untrained one, whose loss is ln V.
CHARACTER_ENTROPY = 3.4
CHARACTERS = re.compile(r"\bchar(?:s|acters?)?\b|\bchar[_-]|[_-]char\b|character[_-]", re.I)
# An untrained model's validation is at ln V or a fifth above. What knows frequencies is below 0.8 ln V, so a first
# evaluation above 0.85 is of a model that began without them, some updates on.
AT_LN_V = (0.85, 1.2)
CONSTANT_SHARE = 1.1  # ours: largest over smallest ratio of training to validation loss that is one unit for another


@dataclass(frozen=True, slots=True)
class Unmoved:
    """What a run could move, and where it stands.

    Attributes:
        moved: sum of the learning rates of all updates, a bound on the change of any weight.
        level: loss at the end, nats per token.
        chance: ln V, as known or as the untrained model's first loss gives it.
        scale: published rates of this optimizer from scratch.
    """

    moved: float
    level: float
    chance: float
    scale: Range | None


def sum_of_rates(series: Series) -> float:
    """The learning rates of all updates up to the last logged one, added up."""
    updates = series.updates.astype(np.float64)
    area = float(np.dot(0.5 * (series.values[1:] + series.values[:-1]), np.diff(updates)))
    return area + float(series.values[0] * updates[0])


def begins_as(case: Case) -> str | None:
    """As `phase_of`, and `fresh` where a model begins from weights that are not named and is too small for any.

    That says more than a first loss far below ln V, which a small model also has come down to after a few updates.
    """
    unsaid = start_of(case) is None and not case.setting("lora_rank")
    return "fresh" if unsaid and 0 < _size(case) < LEAST_PRETRAINED else phase_of(case)


def _size(case: Case) -> float:
    """Parameters, as set or by the shape; 0 where neither is known."""
    width, layers = _width(case), case.setting("layers") or 0.0
    # blocks of a transformer (arXiv 2001.08361); other layers have less
    return float(case.setting("parameters") or 12.0 * layers * width**2)


def _width(case: Case) -> float:
    """Units of a layer, by the canonical setting or a key of the user's own; 0 where neither is known."""
    own = own_number(case.run, WIDTHS)
    return float(case.setting("width") or (0.0 if own is None else own[0]))


def scale_as_begun(case: Case) -> Scale | None:
    """`published_scale`, and of a model that `begins_as` fresh without saying so what is published from scratch."""
    begun = begins_as(case)
    if begun == phase_of(case):
        return published_scale(case, group_algorithm=case.lr_algorithm)
    group, optimizer = group_of(case, case.lr_algorithm)
    kind = model_kind_of(case, begun)
    row = find_range(optimizer, "from-scratch", kind, _size(case), group) if optimizer is not None else None
    return None if row is None else Scale(row.low, row.typical, row.high, row.why, row.name)


def initial_sd(case: Case) -> float | None:
    """Standard deviation of the weights of a model that begins untrained; None where it is not known to, or not how.

    Language models as `INITIAL_SD`; other networks of a known width n as PyTorch's layers begin, uniform within
    1 / sqrt(n), which has the standard deviation 1 / sqrt(3 n). Of one whose size alone is known the width is taken for
    the root of it (assumption: one square layer), which is more than a network of several layers has.
    """
    if begins_as(case) != "fresh":
        return None
    width = _width(case) or math.sqrt(_size(case))
    if case.setting("task") in LANGUAGE or case.is_token_loss:
        return INITIAL_SD
    return 1 / math.sqrt(3 * width) if isinstance(width, int | float) and width > 0 else None


def initial_size(case: Case) -> float | None:
    """Norm of all weights at the start; of a size that is not set at least that of one square matrix for each layer."""
    sd, square = initial_sd(case), (case.setting("layers") or 1) * _width(case) ** 2
    count = float(case.setting("parameters") or square)
    return None if sd is None or not count > 0 else sd * math.sqrt(count)


def unmoved(case: Case) -> Unmoved | None:
    """The bound and the level, where the weights hardly moved and the loss is what frequencies give; else None."""
    if case.loss is None or case.loss_trend is None or case.lr is None or optimizer_of(case) not in ADAMS:
        return None
    muon = any(case.algorithm_of(group) == "muon" for group in case.run.learning_rates())
    if muon or case.setting("lora_rank") or case.setting("task") not in (None, *LANGUAGE):
        return None
    start = _untrained(case)
    if start is None or not far_enough(case, case.lr):
        return None
    chance, level = start
    moved = sum_of_rates(case.lr) / declared_factor(case)
    if moved >= INITIAL_SD or level < FREQUENCY_SHARE * chance:
        return None
    task = case.setting("task") or "causal-lm"
    scale = find_range("adam", "from-scratch", str(task), case.setting("parameters"), "all")
    return Unmoved(moved, level, chance, scale)


def declared_factor(case: Case) -> float:
    """The factor that the configuration gives the group that `case.lr` shows; 1 where there is none."""
    factors = case.setting("group_lr_factors")
    if case.lr is None or not isinstance(factors, dict):
        return 1.0
    factor = factors.get(case.lr.name.removeprefix("lr/"))
    return float(factor) if isinstance(factor, int | float) and factor > 0 else 1.0


def far_enough(case: Case, lr: Series) -> bool:
    """The run is past half of its plan, or its rate has come down: what it will move it has mostly moved."""
    planned = case.planned_updates
    if planned:
        return bool(lr.updates[-1] >= HALF_WAY * planned)
    return bool(lr.values[-1] <= HALF_WAY * lr.values.max() and np.argmax(lr.values) < len(lr) - 1)


def _untrained(case: Case) -> tuple[float, float] | None:
    """(ln V, loss at the end) of a language model that began untrained; None where nothing says that it did."""
    if case.loss is None or case.loss_trend is None:
        return None
    end = float(case.loss_trend.values[-1])
    if case.chance is not None:
        said = _of_validation(case, case.chance) if start_of(case) is None else None
        if said is not None:
            return case.chance, said
        return (case.chance, end) if phase_of(case) in ("fresh", None) and begins_as(case) == "fresh" else None
    first = first_loss(case)
    if first is None or start_of(case) not in (None, "fresh"):
        return None
    characters = first > CHARACTER_ENTROPY and any(
        isinstance(setting.value, str) and CHARACTERS.search(setting.value[:200])
        for setting in case.run.raw_settings.values()
    )
    told = start_of(case) == "fresh" and case.setting("task") in LANGUAGE
    return (first, end) if characters or told else None


def _of_validation(case: Case, chance: float) -> float | None:
    """The last validation loss, where it began at ln V and the training loss is a constant share of it throughout."""
    if case.val is None or case.train_at_evaluations is None or len(case.val) < 3:
        return None
    values = case.val.values
    shares = case.train_at_evaluations[1:] / values[1:]
    constant = float(shares.min()) > 0 and float(shares.max() / shares.min()) < CONSTANT_SHARE
    begins = AT_LN_V[0] * chance <= values[0] <= AT_LN_V[1] * chance
    return float(values[-1]) if constant and begins else None
