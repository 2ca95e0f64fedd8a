"""The reported loss is a sum or in another unit, so its level and its gradient norms cannot be compared.

Finds
Training loss a constant multiple of validation loss (or the other way round), or a first loss a multiple of ln V, with
the factor and the setting that equals it: a sum over accumulated micro-batches, samples, tokens or batches of an epoch
that was never divided; a mean divided once too often; bits beside nats. Where training samples are memorised later, the
first part of the run is judged (an epoch's mean beside the mean of validation over that epoch). A loss that falls
smoothly and never comes within five times ln V or ln K is a sum, whatever it is summed over; one that begins at a count
of the settings times ln V or ln K and only falls is a sum over that.

Why it matters
Every comparison is off by that factor: with ln V, with validation, with other runs. Where it is the loss that is
differentiated, the gradients are as many times too large, so a clip limit acts on every update and SGD takes that
many times its step.

Evidence needed
Training and validation loss at 2 evaluations or more, or the first loss of a fresh (or known) start and the vocabulary;
the settings to name the factor; the vocabulary or the number of classes for a sum that is never near guessing.

Not when
The ratio is a gap that grows or shrinks (overfitting, another validation text), or a constant distance (dropout, label
smoothing, an auxiliary loss); factors below 1.8 without a setting that equals them, bits against nats apart; twice as
high in a log of epochs whose first epoch is below guessing (dropout); a start far above ln V that comes down (wide
embeddings), or a run that blew up.

Remedy
Divide once, by what was summed over, before the backward pass.

References
transformers issue 34242 and unsloth, "Bugs in LLM training: gradient accumulation fix", 2024. fairseq logs losses in
bits (metrics divided by ln 2). Incident I2: a relative error summed over the batch of 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unstuck.config.dialects import key_in_dialect
from unstuck.diagnose.case import Case
from unstuck.diagnose.far_above_chance import CONSTANT, FAR, LEAST_ROWS, SUMMED, far_above_chance
from unstuck.diagnose.loss_ratios import Ratios, batches_compared, before_memorising, counts_of, lag, level_of_chance
from unstuck.diagnose.loss_ratios import at_evaluations as ratios_at_evaluations
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import Floats, false_alarm_z

FIRST_UPDATES = 2  # after two updates of any sensible size the loss is still that of the start
BITS = 1 / math.log(2)  # a loss in bits over the same in nats: 1.4427
# Fresh starts lie up to 5 % above ln V (the spread of initialisations, as initial-loss-implausible); a known factor may
# leave that much.
SAME = 0.05
SAME_BITS = 0.02  # 1.44 is no whole number that a setting confirms, so it must be met more closely
LEAST_FACTOR = 1.8  # assumption: no gap between two splits keeps a factor of nearly 2 while both losses fall
PLAIN = 2.5  # between the counts 2 and 3: a loss doubled at every evaluation may be dropout's, three times is a count
BAND = 3.0  # epoch means lag behind by up to 1.5, memorised training text is below by 2 or so (assumption)
MOVED = 2.0  # times: how much less the ratio varies than the distance where it is a factor (assumption)
LEAST_EARLY = 2  # ours: two evaluations beside each other that agree, and the first row against guessing
LEAST_FROM_GUESSING = 3.5  # ours: a first row at a third of guessing or more may be one after some learning
ORDINARY_GAP = 0.25  # training below validation by up to a fifth, once the factor is out (assumption)


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
    explains=(
        "initial-loss-implausible",
        "validation-shifted",
        "clip-saturated",
        "loss-implausibly-low",
        "loss-plateau",
    ),
)
def check(case: Case) -> Outcome:
    if case.loss is None:
        return CouldNotCheck(("train/loss",))
    if (found := far_above_chance(case)) is not None:
        return found
    at_evaluations = ratios_at_evaluations(case)
    ratios, places = at_evaluations.values, at_evaluations.places
    start = _start_ratio(case)
    if len(ratios) < 2 and start is None:
        return CouldNotCheck(("val/loss, or vocabulary and a loss at the start",))
    counts = counts_of(case)
    factor = None
    if len(ratios) >= LEAST_EARLY:
        factor = _above_chance_beside_validation(case, at_evaluations, counts)
        factor = factor or _against_validation(case, at_evaluations, counts)
    if factor is not None:
        return _found(case, factor, ratios, places)
    if (early := _early_factor(case, counts)) is not None:
        return _found(case, early[0], early[1].values, early[1].places)
    if (begun := _sum_at_start(case, counts)) is not None:
        return _found(case, begun[0], begun[1], places[:0])
    if start is not None and (factor := _against_start(start, counts)) is not None:
        return _found(case, factor, np.array([start]), places[:0])
    return Clear("the losses have one scale")


def _start_ratio(case: Case) -> float | None:
    """The first training loss over what the start implies: ln V for fresh weights, else the start's known loss."""
    loss = case.loss
    if loss is None or int(loss.updates[0]) > FIRST_UPDATES:
        return None
    known = case.setting("start_loss")
    if case.start in ("pretrained", "checkpoint"):
        reference = known if isinstance(known, int | float) else None
    else:
        chance = level_of_chance(case)
        reference = None if chance is None else chance[0]
    ratio = float(loss.values[0]) / reference if reference else None
    # a head of classes may start high, on inputs that nothing normalises; none starts below guessing
    return None if ratio is not None and ratio > 1 and not case.is_token_loss else ratio


def _nearest(value: float, counts: dict[tuple[str, ...], float], within: float) -> tuple[tuple[str, ...], float] | None:
    """The setting whose value is nearest to `value`, no further than the relative distance; fewest factors first."""
    near = {names: count for names, count in counts.items() if abs(math.log(value / count)) <= math.log1p(within)}
    if not near:
        return None
    names = min(near, key=lambda names: (round(abs(math.log(value / near[names])), 2), len(names)))
    return names, near[names]


def _against_validation(case: Case, found: Ratios, counts: dict[tuple[str, ...], float]) -> Factor | None:
    """A factor between training and validation loss, from all evaluations."""
    ratios, places = found.values, found.places
    logs = np.log(ratios)
    middle = math.exp(float(np.median(logs)))
    factor = max(middle, 1 / middle)
    # the largest of so many deviations, beside the noise of the batches that the rows are of, as long as that leaves a
    # factor apart from none
    noise = false_alarm_z(len(logs)) * found.noise
    allowed = max(math.log1p(CONSTANT), min(math.log1p(CONSTANT) + noise, math.log(factor) / 2))
    away = np.abs(logs - math.log(middle))
    constant = bool((away <= allowed).all())
    nearly = bool((away <= np.maximum(allowed, lag(case, places))).all())
    scaled = "train/loss" if middle > 1 else "val/loss"
    within = (SAME if middle < 1 else CONSTANT) + 2 * 1.25 * found.noise / math.sqrt(len(logs))  # errors of a median
    batches = batches_compared(case) if constant and middle < 1 and factor >= LEAST_FACTOR else None
    if batches is not None and abs(math.log(factor / batches[1])) <= math.log1p(within):
        return _summed("train/loss", batches[0], ("batch_size",), 0.85)
    if nearly and (match := _nearest(factor, counts, within)) is not None:
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


def _sum_at_start(case: Case, counts: dict[tuple[str, ...], float]) -> tuple[Factor, Floats] | None:
    """A run that begins at guessing times a count and only falls: a sum, and the ratio of its first row to guessing.

    A run that blew up begins low and would meet the count by chance only.
    """
    loss, chance = case.loss, level_of_chance(case)
    if loss is None or chance is None or case.start not in (None, "fresh") or len(loss) < LEAST_ROWS:
        return None
    first = float(loss.values[0])
    if first < FAR * chance[0] or not bool(loss.values.max() <= (1 + CONSTANT) * first):
        return None
    match = _nearest(first / chance[0], counts, SAME)
    if match is None:
        return None
    return _summed("train/loss", match[1], match[0], 0.85), np.array([first / chance[0]])


def _early_factor(case: Case, counts: dict[tuple[str, ...], float]) -> tuple[Factor, Ratios] | None:
    """A factor in the first part of the run, before training samples are memorised.

    Dropout and augmentation raise the training loss about as much, but not that of the start above guessing; a harder
    validation text leaves the start of training at guessing.
    """
    val, loss, found, chance = case.val, case.loss, before_memorising(case), level_of_chance(case)
    if val is None or loss is None or len(found.values) < LEAST_EARLY or not bool((found.values > 0).all()):
        return None
    logs = np.log(found.values)
    middle = math.exp(float(np.median(logs)))
    first, spread = float(loss.values[0]), float(np.abs(logs - math.log(middle)).max())
    if chance is not None and (told := _scaled_from_guessing(case, first / chance[0], middle, counts)) is not None:
        return told, found
    if spread > math.log1p(CONSTANT):
        return None
    match = _nearest(max(middle, 1 / middle), counts, CONSTANT)
    if match is None or (middle < 1 and not {"accumulation", "world_size"} & set(match[0])):
        return None
    count = match[1] if middle > 1 else 1 / match[1]
    confirmed = False
    if chance is not None and case.start in (None, "fresh"):
        # with the factor taken out the first row lies between guessing and what validation is after it
        if not (1 - CONSTANT) * val.values[0] <= first / count <= (1 + CONSTANT) * chance[0]:
            return None
        low = first < (1 - CONSTANT) * min(float(val.values[0]), chance[0])
        confirmed = first > (1 + SAME) * chance[0] > val.values[0] if middle > 1 else low
    if (match[1] < PLAIN or len(found.values) <= LEAST_EARLY) and not confirmed:
        return None
    if middle > 1:
        return _summed("train/loss", match[1], match[0], 0.85), found
    return _divided(match[1], match[0]), found


def _scaled_from_guessing(
    case: Case, first: float, middle: float, counts: dict[tuple[str, ...], float]
) -> Factor | None:
    """A loss that begins at guessing over or times the accumulation, and stays about as far from validation.

    Normalisation over the samples of a micro-batch makes training harder than validation, so that the ratio is no
    constant; a loss that begins at a quarter of guessing or at four times it is none of a mean.

    Args:
        first: the first row over the loss of guessing.
        middle: early training over validation loss.
    """
    if not first > 0 or case.start not in (None, "fresh"):
        return None
    factor = first if middle > 1 else 1 / first
    match = _nearest(factor, counts, ORDINARY_GAP if middle > 1 else SAME)  # the first row may be a mean while it falls
    if match is None or match[1] < LEAST_FROM_GUESSING or not {"accumulation", "world_size"} & set(match[0]):
        return None
    away = math.log(middle) - math.copysign(math.log(match[1]), math.log(middle))
    if abs(away) > math.log(match[1]) / 2:
        return None
    return _summed("train/loss", match[1], match[0], 0.85) if middle > 1 else _divided(match[1], match[0])


def _above_chance_beside_validation(case: Case, found: Ratios, counts: dict[tuple[str, ...], float]) -> Factor | None:
    """A factor of training that stays above guessing from the first to the last point, while validation is below it.

    A mean per token above ln V is one of a model worse than none, and its validation would be as well. The factor is
    the setting next to the ratio; other terms of the loss (auxiliary heads, penalties) are none of them.
    """
    val, trend, chance = case.val, case.loss_trend, level_of_chance(case)
    if val is None or trend is None or chance is None:
        return None
    above = float(trend.values.min()) > (1 + CONSTANT) * chance[0]
    if not above or float(val.values.max()) >= chance[0] or not float(found.values.min()) > 1 + CONSTANT:
        return None
    match = _nearest(math.exp(float(np.median(np.log(found.values)))), counts, ORDINARY_GAP)
    return None if match is None else _summed("train/loss", match[1], match[0], 0.8)


def _is_multiple(case: Case, ratios: Floats, places: npt.NDArray[np.intp]) -> bool:
    """Whether the ratio varies less than the distance does: a factor, not an offset."""
    if case.val is None or len(ratios) < 4:
        return False
    distance = (ratios - 1) * case.val.values[places]
    return float(np.std(distance) / abs(distance.mean())) >= MOVED * float(np.std(ratios) / ratios.mean())


def _against_start(ratio: float, counts: dict[tuple[str, ...], float]) -> Factor | None:
    """A factor between the first loss and what the start implies."""
    if not ratio > 0:
        return None
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
        setting = case.run.settings.get(name)
        if setting is None or setting.written is None:  # else the key holds another number than the factor
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
        detail=SUMMED if factor.series == "train/loss" and factor.of > 1 else "",
        facts={"factor": factor.of, "factor_name": _told(factor.settings) or None, "series": factor.series},
    )
