"""The reported loss is a sum or in another unit, so its level and its gradient norms cannot be compared.

Finds
Training loss a constant multiple of validation loss (or the other way round), or a first loss a multiple of ln V, with
the factor and the setting that equals it: a sum over accumulated micro-batches, samples, tokens or batches of an epoch
that was never divided; a mean divided once too often; bits beside nats.

Why it matters
Every comparison is off by that factor: with ln V, with validation, with other runs. Where it is the loss that is
differentiated, the gradients are as many times too large, so a clip limit acts on every update and SGD takes that
many times its step.

Evidence needed
Training and validation loss at 2 evaluations or more, or the first loss of a fresh (or known) start and the vocabulary;
the settings to name the factor.

Not when
The ratio is a gap that grows or shrinks (overfitting, another validation text), or a constant distance (dropout, label
smoothing, an auxiliary loss); factors below 1.8 without a setting that equals them, bits against nats apart.

Remedy
Divide once, by what was summed over, before the backward pass.

References
transformers issue 34242 and unsloth, "Bugs in LLM training: gradient accumulation fix", 2024. fairseq logs losses in
bits (metrics divided by ln 2). Incident I2: a relative error summed over the batch of 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from unstuck.config.dialects import PER_EPOCH, key_in_dialect
from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import Floats

FIRST_UPDATES = 2  # after two updates of any sensible size the loss is still that of the start
BITS = 1 / math.log(2)  # a loss in bits over the same in nats: 1.4427
# Fresh starts lie up to 5 % above ln V (the spread of initialisations, as initial-loss-implausible); a known factor may
# leave that much.
SAME = 0.05
SAME_BITS = 0.02  # 1.44 is no whole number that a setting confirms, so it must be met more closely
# Noise of batches and the training loss's lag behind an evaluation: 10 % (nanoGPT's validation, whose text is another
# part of the book, lies 5 % from its training loss).
CONSTANT = 0.10
LEAST_FACTOR = 1.8  # assumption: no gap between two splits keeps a factor of nearly 2 while both losses fall
PLAIN = 2.5  # between the counts 2 and 3: a loss doubled at every evaluation may be dropout's, three times is a count
# From here on a ratio needs no constancy: a training loss five times validation's at every evaluation, the first
# included, is no gap (mixup and label smoothing leave 2 to 3 at the end of ImageNet recipes, 1 at the start).
FAR = 5.0
BAND = 3.0  # epoch means lag behind by up to 1.5, memorised training text is below by 2 or so (assumption)
MOVED = 2.0  # times: how much less the ratio varies than the distance where it is a factor (assumption)
FACTORS = ("accumulation", "batch_size", "world_size", "context")


@dataclass(frozen=True, slots=True)
class Factor:
    """`of`: how many times too large the series is (below 1: too small); `says`: why; `settings`: what equals it."""

    series: str
    of: float
    says: str
    settings: tuple[str, ...]
    sure: float


@rule(
    code="LO011",
    stages="LCP",
    severity="warning",
    explains=("initial-loss-implausible", "validation-shifted", "clip-saturated", "loss-implausibly-low"),
)
def check(case: Case) -> Outcome:
    if case.loss is None:
        return CouldNotCheck(("train/loss",))
    ratios, places = _ratios(case)
    start = _start_ratio(case)
    if len(ratios) < 2 and start is None:
        return CouldNotCheck(("val/loss, or vocabulary and a loss at the start",))
    counts = _counts(case)
    factor = _against_validation(case, ratios, places, counts) if len(ratios) >= 2 else None
    if factor is not None:
        return _found(case, factor, ratios, places)
    if start is not None and (factor := _against_start(start, counts)) is not None:
        return _found(case, factor, np.array([start]), places[:0])
    return Clear("the losses have one scale")


def _ratios(case: Case) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Training over validation loss at the evaluations within the training log, and their indices in `val`."""
    if case.val is None or case.loss is None or case.loss_trend is None:
        return np.zeros(0), np.zeros(0, dtype=np.intp)
    inside = (case.val.updates >= case.loss.updates[0]) & (case.val.values > 0)
    level = case.loss_trend.values if len(case.loss) > 4 * len(case.val) else case.loss.values
    train = np.interp(case.val.updates.astype(np.float64), case.loss.updates.astype(np.float64), level)
    inside &= train > 0
    return train[inside] / case.val.values[inside], np.flatnonzero(inside)


def _start_ratio(case: Case) -> float | None:
    """The first training loss over what the start implies: ln V for fresh weights, else the start's known loss."""
    loss = case.loss
    if loss is None or int(loss.updates[0]) > FIRST_UPDATES:
        return None
    known = case.setting("start_loss")
    if case.start in ("pretrained", "checkpoint"):
        reference = known if isinstance(known, int | float) else None
    else:
        reference = case.chance if case.is_token_loss else None
    return float(loss.values[0]) / reference if reference else None


def _counts(case: Case) -> dict[tuple[str, ...], float]:
    """What a loss may have been summed over: settings (by name) -> their product, at least 2."""
    known: dict[str, float] = {}
    for name in FACTORS:
        value = case.setting(name)
        if isinstance(value, int | float) and value >= 2:
            known[name] = float(value)
    found = {
        names: math.prod(known[name] for name in names)
        for size in range(1, len(known) + 1)
        for names in combinations(known, size)
    }
    batches = _batches_per_epoch(case)
    if batches is not None and batches >= 2:
        found["batches per epoch",] = batches
    return found


def _batches_per_epoch(case: Case) -> float | None:
    for key, setting in case.run.raw_settings.items():
        if key.lower().rpartition(".")[2] in PER_EPOCH and isinstance(setting.value, int | float):
            return float(setting.value)
    samples, batch = case.setting("train_samples"), case.setting("batch_size")
    return float(samples) / float(batch) if samples and batch else None


def _nearest(value: float, counts: dict[tuple[str, ...], float], within: float) -> tuple[tuple[str, ...], float] | None:
    """The setting whose value is nearest to `value`, no further than the relative distance; fewest factors first."""
    near = {names: count for names, count in counts.items() if abs(math.log(value / count)) <= math.log1p(within)}
    if not near:
        return None
    names = min(near, key=lambda names: (round(abs(math.log(value / near[names])), 2), len(names)))
    return names, near[names]


def _against_validation(
    case: Case, ratios: Floats, places: npt.NDArray[np.intp], counts: dict[tuple[str, ...], float]
) -> Factor | None:
    """A factor between training and validation loss, from all evaluations."""
    logs = np.log(ratios)
    middle = math.exp(float(np.median(logs)))
    constant = float(np.abs(logs - math.log(middle)).max()) <= math.log1p(CONSTANT)
    factor = max(middle, 1 / middle)
    scaled = "train/loss" if middle > 1 else "val/loss"
    if constant and (match := _nearest(factor, counts, SAME if middle < 1 else CONSTANT)) is not None:
        if factor >= PLAIN or _is_multiple(case, ratios, places):
            if middle < 1 and {"accumulation", "world_size"} & set(match[0]):
                return _divided(match[1], match[0])  # validation runs without either
            return _summed(scaled, match[1], match[0], 0.9)
    elif constant and _is_multiple(case, ratios, places):
        if abs(factor / BITS - 1) <= SAME_BITS:
            return Factor(scaled, BITS, "bits beside nats (1 / ln 2 = 1.443)", (), 0.75)
        if factor >= (LEAST_FACTOR if case.is_token_loss else FAR) and (middle > 1 or case.is_token_loss):
            return Factor(scaled, factor, "a sum, or a mean divided once too often", (), 0.6)
    if not float(ratios.min()) >= FAR:
        return None
    early = math.exp(float(np.median(logs[: max(1, len(logs) // 3)])))  # before training text is memorised
    match = _nearest(early, counts, BAND - 1)
    if match is not None:
        inside = np.abs(logs - math.log(match[1])) <= math.log(BAND)
        if inside.all():
            return _summed("train/loss", match[1], match[0], 0.85)
    if case.setting("label_smoothing"):
        return None  # its floor may be many times a small validation loss
    return Factor("train/loss", early, "a sum, not a mean", (), 0.6)


def _is_multiple(case: Case, ratios: Floats, places: npt.NDArray[np.intp]) -> bool:
    """Whether the ratio varies less than the distance does: a factor, not an offset."""
    if case.val is None or len(ratios) < 4:
        return False
    distance = (ratios - 1) * case.val.values[places]
    return float(np.std(distance) / abs(distance.mean())) >= MOVED * float(np.std(ratios) / ratios.mean())


def _against_start(ratio: float, counts: dict[tuple[str, ...], float]) -> Factor | None:
    """A factor between the first loss and what the start implies."""
    factor = max(ratio, 1 / ratio)
    match = _nearest(factor, counts, SAME)
    if match is not None and factor >= LEAST_FACTOR:
        if ratio > 1:
            return _summed("train/loss", match[1], match[0], 0.9)
        return _divided(match[1], match[0])
    if abs(ratio / BITS - 1) <= SAME_BITS:
        return Factor("train/loss", BITS, "bits (1 / ln 2 = 1.443)", (), 0.6)
    return None


def _summed(series: str, count: float, names: tuple[str, ...], sure: float) -> Factor:
    return Factor(series, count, f"the sum over {_told(names)} = {count:g}, not the mean", names, sure)


def _divided(count: float, names: tuple[str, ...]) -> Factor:
    told = f"divided by {_told(names)} = {count:g} once too often"
    return Factor("train/loss", 1 / count, told, names, 0.85)


def _told(names: tuple[str, ...]) -> str:
    return " x ".join(names)


def _found(case: Case, factor: Factor, ratios: Floats, places: npt.NDArray[np.intp]) -> Found:
    loss = case.loss
    assert loss is not None
    said = factor.says
    for name in factor.settings:
        said = said.replace(name, key_in_dialect(name, case.run))
    which = "Training" if factor.series == "train/loss" else "Validation"
    at_start = not len(places)
    middle = math.exp(float(np.median(np.log(ratios))))
    if at_start:
        against, update, source = "what the start implies", int(loss.updates[0]), loss.source(0)
        title = f"First training loss {loss.values[0]:.4g} is {middle:.3g} x {against}"
        span = (update, update)
    else:
        val = case.val
        assert val is not None
        times = ratios if factor.series == "train/loss" else 1 / ratios
        low, high = float(times.min()), float(times.max())
        told = f"{np.median(times):.3g}" if high <= low * (1 + CONSTANT) ** 2 else f"{low:.3g} to {high:.3g}"
        title = f"{which} loss is {told} x the {'validation' if which == 'Training' else 'training'} loss"
        span = (int(loss.updates[0]), int(val.updates[int(places[-1])]))
        source = val.source(int(places[-1]))
    return Found(
        title=f"{title} throughout: {said}" if not at_start else f"{title}: {said}",
        evidence=(Evidence(factor.series, span, "ratio", middle, factor.of, source),),
        confidence=factor.sure,
        detail="Where this loss is the one that is differentiated, its gradients (and their norms) are as many times "
        "too large: AdamW's step does not change, a clip limit and SGD's step do."
        if factor.series == "train/loss" and factor.of > 1
        else "",
        facts={"factor": factor.of, "factor_name": _told(factor.settings) or None, "series": factor.series},
    )
