"""The gap between validation and training while no sample has been seen twice, when nothing can have been memorised.

Three kinds of logs. Where several evaluations fall into the first epoch, they are compared with the training loss
there: the first ones, or the last ones where the gap only opens as the model learns, which is no memory either as long
as every sample is new. Where the first one comes in the second epoch, with the training loss at the end of the first,
which was taken on samples not seen before: validation on text of the same kind was as low when it passed there. Where
there is one row per epoch, its training loss is the mean over the epoch and its validation loss that of the end: of a
loss that falls ever more slowly the value at the end of the first epoch is no more than the mean of the first two rows
(f is convex: 2 f(t) <= f(t - s) + f(t + s), integrated over s from 0 to 1), so a validation loss above that is a gap
after a single pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from unstuck.diagnose.case import Case
from unstuck.diagnose.expected_lr import micro_batches_per_epoch
from unstuck.diagnose.statistics import Floats, false_alarm_z, noise_sd, trend, validation_standard_error
from unstuck.runs import Series

# 10 %: nanoGPT's shakespeare_char, whose validation is the tail of one book, is 5 % apart after one epoch.
MATERIAL_SHARE = 0.10
FIRST_PART = 0.15  # of the run: memorisation that early has a long run of overfitting behind it
# A gap that is there from the start keeps its size; memorisation at least doubles it.
KEEPS = 0.5
# Of rows that have been trained on before: what passes add to memory grows with each, other text adds nothing. In rows
# 2 and 3 of 8 and more it would be less than half of the last (ours: three quarters, for noise).
STAYS = 0.75
# The bound by rows is of no use where the loss halves from one to the next: their mean lies far above its end (ours).
HALVES = 2.0
# A training loss this many times its lowest before, beyond its noise, is that of a run that has blown up (ours).
EXCURSION = 1.5
CARRIED = 0.25  # in a sound run most of what training gains carries over to validation (see loss-plateau)
FEW = 3  # evaluations whose median is the gap at the start and at the end
AROUND = 8  # evaluations that tell the scatter near one: 6 second differences, known to a third
# Standard deviation of the loss of one sample as a share of the mean. Classes: close to exponential, as for one token
# (statistics.validation_standard_error); documents: a tenth, their spread in web text is that or more. Assumptions.
CLASS_SPREAD, SAMPLE_SPREAD = 1.0, 0.1


@dataclass(frozen=True, slots=True)
class Gap:
    """Validation above training early and late in the run.

    Attributes:
        first: index of the first evaluation that counts.
        early: median gap of the first evaluations that count.
        final: median gap of the last three.
        threshold: gap that is material and that noise and sampling pass once in a thousand runs.
        closes: whether the gap, as a share of the loss, more than halves and is no longer material at the end.
        grows: whether the gap at the end is more than twice the early one.
        seen: epochs that the run covers; nan where unknown.
        sure: whether memory of a first pass cannot have made it.
        against: what validation is compared with, in words.
        opened: whether it opened within the first epoch, and `early` is that of its last evaluations.
    """

    first: int
    early: float
    final: float
    threshold: float
    closes: bool
    grows: bool
    seen: float
    sure: bool = True
    against: str = "training"
    opened: bool = False


def gap_at_start(case: Case) -> Gap | None:
    """The gap while no sample came twice; None where no evaluations show it or the two losses are not both there."""
    val, train = case.val, case.train_at_evaluations
    if val is None or train is None or case.loss is None:
        return None
    if one_row_per_epoch(case):
        return _by_rows(case, val.values, case.loss.values)
    settled = ~_in_excursion(case, val)
    gap = _by_updates(case, val.where(settled), train[settled]) if settled.any() else None
    return gap and replace(gap, first=int(np.flatnonzero(settled)[gap.first]))


def _in_excursion(case: Case, val: Series) -> npt.NDArray[np.bool_]:
    """Whether the row of training before or after each evaluation is one of a run that has blown up, shape (n,).

    The mean over an interval of training says nothing of its end there.
    """
    loss = case.loss
    assert loss is not None
    lowest = np.minimum.accumulate(loss.values)
    noise = case.loss_noise if math.isfinite(case.loss_noise) else 0.0
    up = (loss.values > EXCURSION * lowest) & (loss.values - lowest > false_alarm_z(len(loss)) * noise) & (lowest > 0)
    after = np.searchsorted(loss.updates, val.updates, side="right")
    last = len(loss) - 1
    return up[np.clip(after - 1, 0, last)] | up[np.clip(after, 0, last)]


def _by_updates(case: Case, val: Series, train: Floats) -> Gap | None:
    """From evaluations at any updates, `train` at the same ones, shape (n,)."""
    assert case.loss is not None
    end, share = end_of_first_epoch(case), MATERIAL_SHARE
    seen = math.nan if not end else case.run.updates / end
    if end is None:
        # unknown when text comes back: only the very first evaluations count, and the gap must be twice as large
        end, share = FIRST_PART * float(case.run.updates), 2 * MATERIAL_SHARE
    # an untrained model has no gap whatever the splits: only evaluations after the training log began count
    counts = (val.updates >= max(1, int(case.loss.updates[0]))) & (val.updates <= end)
    gaps = val.values - train
    first, gap = int(np.argmax(counts)), None
    if counts.sum() == 1 and not math.isnan(seen) and len(val) - first >= FEW + 2:
        gap = _borne_out(case, first, val.values, gaps, float(gaps[first]), float(val.values[first]), MATERIAL_SHARE)
    elif counts.sum() > 1:
        gap = _gap(case, first, val.values, val.values[counts][:FEW], gaps[counts][:FEW], gaps, share, seen)
    if math.isnan(seen) or (gap is not None and gap.early > gap.threshold and not gap.grows):
        return gap
    if not counts.any():
        return _after_first_epoch(case, val, end, False)
    opened = _before_second_epoch(case, val, np.flatnonzero(counts)[-FEW:], gaps, end, seen)
    if opened is None and counts.sum() == 1:
        opened = _after_first_epoch(case, val, end, True)
    return opened if opened is not None and opened.early > opened.threshold else gap


def _before_second_epoch(
    case: Case, val: Series, last: npt.NDArray[np.int64], gaps: Floats, end: float, seen: float
) -> Gap | None:
    """From the last evaluations of the first epoch, against training up to there; None where they show nothing.

    Splits that differ are alike to an untrained model: their gap opens as it learns. Other causes of that are smaller
    than memory and different text (order of the data, averaged weights), so the gap must be twice the usual.
    """
    loss = case.loss
    assert loss is not None
    new = loss.where(loss.updates <= end)
    if len(new) < FEW:
        return None
    level = np.interp(val.updates[last].astype(np.float64), new.updates, trend(new.values))
    here = val.values[last]
    early, typical, final = float(np.median(here - level)), float(np.median(here)), float(np.median(gaps[-FEW:]))
    threshold = _threshold(case, typical, 2 * MATERIAL_SHARE, len(last), int(last[0]))
    if early <= threshold:
        return None
    closes = _closes(early, typical, final, float(np.median(val.values[-FEW:])), MATERIAL_SHARE)
    return Gap(int(last[0]), early, final, threshold, closes, False, seen, opened=True)


def _after_first_epoch(case: Case, val: Series, end: float, within: bool) -> Gap | None:
    """From evaluations that begin in the second epoch: none may ever be as low as training was at the end of the first.

    A model that is worse on other text than before within one more pass makes them as well: not sure.

    Args:
        within: the first evaluation lies in the first epoch, and is above the level by more than its own error.
    """
    loss = case.loss
    assert loss is not None
    before = loss.where((loss.updates > end / 2) & (loss.updates <= end))
    if len(before) < 2 or before.updates[0] == before.updates[-1]:
        return None
    if len(val) < FEW + 2 or val.updates[0] > 2 * end:
        return None
    x = before.updates - float(end)
    # at the end of a line through them, but never beyond what was seen
    level = max(float(np.polyfit(x, before.values, 1)[1]), float(before.values.min()))
    spread = float(np.hypot(1 / math.sqrt(len(x)), x.mean() / (x.std() * math.sqrt(len(x)))))
    typical = float(np.median(val.values))
    noise = math.hypot(
        spread * (case.loss_noise if math.isfinite(case.loss_noise) else 0.0),
        1.25 / math.sqrt(len(val)) * (case.val_noise if math.isfinite(case.val_noise) else 0.0),
        sampling_error(case, typical)[0],
    )
    threshold = max(MATERIAL_SHARE * typical, false_alarm_z(1) * noise)
    lowest = float(val.values.min())
    above = max(MATERIAL_SHARE * lowest, 2 * sampling_error(case, lowest)[0]) if within else 0.0
    if typical - level > threshold and lowest <= level + above:
        return None
    final = float(np.median(val.values[-FEW:])) - level
    return Gap(0, typical - level, final, threshold, False, False, math.nan, False, "training in the first epoch")


def _by_rows(case: Case, val: Floats, train: Floats) -> Gap | None:
    """From rows of one epoch each. The second row has seen what it trains on once before, so the gap of the first two
    must be twice as large, as where the epoch is unknown. A model that remembers most of a loss after one pass makes
    such rows as well (simulated: in one of three runs if 63 % of it goes within an epoch, in one of 300 if 39 %), so it
    is sure only where validation lies above the first row itself, of which nothing was seen before."""
    if len(val) < FEW + 2:
        return None
    at_end = train[:2] if case.start in ("pretrained", "checkpoint") else (train[:2] + train[1:3]) / 2
    early, level = float((val[:2] - at_end).mean()), float(val[:2].mean())
    gap = _borne_out(case, 0, val, val - train, early, level, 2 * MATERIAL_SHARE, 2)
    if gap is not None and gap.early <= gap.threshold and train[0] > HALVES * train[1] > 0:
        return _by_later_rows(case, val, train) or gap
    return gap and replace(gap, sure=bool(val[0] - train[0] > MATERIAL_SHARE * val[0] + 2 * _noise(case, 0, val[0])))


def _by_later_rows(case: Case, val: Floats, train: Floats) -> Gap | None:
    """The same bound for the second and third rows, where the loss falls too far within the first epoch to bound its
    end. They have seen what they train on before, so the gap must hardly grow from there on."""
    if len(val) < FEW + 3:
        return None
    early, level = float((val[1:3] - (train[1:3] + train[2:4]) / 2).mean()), float(val[1:3].mean())
    gap = _borne_out(case, 1, val, val - train, early, level, 2 * MATERIAL_SHARE, 2)
    if gap is None:
        return None
    return replace(gap, sure=False, grows=early < STAYS * float(np.median((val - train)[-FEW:])))


def _borne_out(
    case: Case, first: int, val: Floats, gaps: Floats, early: float, level: float, share: float, points: int = 1
) -> Gap | None:
    """A gap that few evaluations show, where the next ones bear it out; None where they do not.

    The gap has to stay, and validation to follow training: a model that remembers what it saw once (Howard, Whitaker
    2023, "Can LLMs learn from a single example?") opens a gap while validation stands.

    Args:
        early: mean gap of the first `points` evaluations that count, at a validation loss of `level`.
    """
    # 2 standard errors, because the gap of all rows has to be shown at one in a thousand besides
    noise = math.hypot(_noise(case, first, level) / math.sqrt(points), sampling_error(case, level)[0])
    begins = max(share * level, 2 * noise)
    gap = replace(
        _gap(case, first, val, val[first:][:points], gaps[first:][:points], gaps, MATERIAL_SHARE, math.nan),
        early=early,
        threshold=begins,
        grows=early < KEEPS * float(np.median(gaps[-FEW:])),
    )
    if early <= begins:
        return gap
    values, train = val[first:], val[first:] - gaps[first:]
    shown = float(np.median(gaps)) > _threshold(case, float(np.median(values)), MATERIAL_SHARE, len(values), None)
    stays = bool(np.all(gaps[first + 1 : first + FEW] > MATERIAL_SHARE * values[1:FEW]))
    follows = bool(values[0] - values[1:FEW].min() >= CARRIED * (train[0] - train[1:FEW].min()))
    return gap if shown and stays and follows else None


def _gap(
    case: Case, first: int, val: Floats, levels: Floats, early: Floats, gaps: Floats, share: float, seen: float
) -> Gap:
    level, late = float(np.median(levels)), float(np.median(val[-FEW:]))
    at_start, final = float(np.median(early)), float(np.median(gaps[-FEW:]))
    closes = _closes(at_start, level, final, late, share)
    threshold = _threshold(case, level, share, FEW, first)
    return Gap(first, at_start, final, threshold, closes, at_start < KEEPS * final, seen)


def _closes(early: float, level: float, final: float, late: float, share: float) -> bool:
    """Whether a gap, as a share of the loss it is a gap to, more than halves and ends below a share of it."""
    relative = final / late / (early / level) if level > 0 and late > 0 and early > 0 else 1.0
    return relative < KEEPS and final < share * late


def _threshold(case: Case, level: float, share: float, points: int, first: int | None) -> float:
    """The median gap of so many points that is material, and beyond their noise and the validation sample's error.

    Args:
        first: index of the first of them among the evaluations; None where they are all of them.
    """
    # the error of a median is 1.25 sd / sqrt(n); the sample is the same each time, so its error does not average out
    noise = math.hypot(1.25 / math.sqrt(points) * _noise(case, first, level), sampling_error(case, level)[0])
    return max(share * level, false_alarm_z(1) * noise)


def _noise(case: Case, first: int | None, level: float) -> float:
    """Standard deviation of a gap between single points near `level`, as far as it is known.

    Evaluations scatter as those around them do (batch normalisation and high rates throw the first ones about), and at
    a lower level as the second half does in proportion. A curve that bends counts as scatter: the smaller of what the
    logarithms of validation and of its ratio to training show.
    """
    val, train = case.val, case.train_at_evaluations
    loss_noise, late = (noise if math.isfinite(noise) else 0.0 for noise in (case.loss_noise, case.val_noise))
    if first is None or val is None or train is None or not (np.all(val.values > 0) and np.all(train > 0)):
        return math.hypot(late, loss_noise)
    there = slice(first, first + AROUND)
    logarithm, of_train = np.log(val.values[there]), np.log(train[there])
    around = min(noise_sd(logarithm), noise_sd(logarithm - of_train)) if len(logarithm) >= 5 else 0.0
    in_proportion = late / float(np.median(val.values[len(val) // 2 :])) * level
    return math.hypot(max(min(late, in_proportion), around * level), loss_noise)


def sampling_error(case: Case, level: float) -> tuple[float, str]:
    """Standard error that the tokens or samples of an evaluation leave of a loss near `level`, and what they are;
    0.0 and "" where their number is unknown."""
    tokens, samples = case.setting("validation_tokens"), case.setting("validation_samples")
    if samples and not tokens and case.setting("context"):
        tokens = samples * case.setting("context")
    if tokens and case.is_token_loss:
        return validation_standard_error(level, tokens), f"{int(tokens):,} tokens"
    if not samples:
        return 0.0, ""
    spread = CLASS_SPREAD if case.setting("task") == "classification" else SAMPLE_SPREAD
    return spread * level / math.sqrt(samples), f"{int(samples):,} samples"


def one_row_per_epoch(case: Case) -> bool:
    """Whether training and validation are logged once in each epoch, from the first epoch on."""
    loss, val, epoch = case.loss, case.val, case.run.get("epoch")
    if loss is None or val is None or not np.array_equal(loss.updates, val.updates):
        return False
    if epoch is None:
        return case.run.axis == "epoch" and int(loss.updates[0]) <= 1
    if not np.array_equal(epoch.updates, val.updates):
        return False
    return bool(epoch.values[0] in (0.0, 1.0) and np.all(np.diff(epoch.values) == 1.0))


def end_of_first_epoch(case: Case) -> float | None:
    """The last update at which no training sample has been seen twice, 0 where that is before the log; None: unknown.
    It may lie beyond the end of the log.

    Epochs are counted in fractions, or as whole numbers that begin at 0 or 1 and stand for the epoch under way.
    """
    epoch = case.run.get("epoch")
    if epoch is not None and len(epoch.finite()):
        counted = epoch.finite()
        whole = bool(np.all(counted.values == np.round(counted.values)))
        first = float(counted.values[0])
        inside = (counted.values == first) & (first in (0.0, 1.0)) if whole else counted.values <= 1.0
        if not inside.all():
            return float(counted.updates[inside][-1]) if inside.any() else 0.0
        if not whole:
            return float(counted.updates[-1] / counted.values[-1]) if counted.values[-1] > 0 else None
    train_tokens, epochs = case.setting("train_tokens"), case.setting("epochs")
    if train_tokens and case.tokens_per_update:
        return float(train_tokens) / case.tokens_per_update
    if per_epoch := micro_batches_per_epoch(case):
        return float(per_epoch / (case.setting("accumulation") or 1))
    if epochs and case.planned_updates:
        return case.planned_updates / float(epochs)
    return float(case.run.updates) if epoch is not None and len(epoch.finite()) else None
