"""Training batches come in a fixed or sorted order.

Finds
A configuration that switches shuffling of the training data off; a training accuracy that alternates between all right
and all wrong, so that each batch holds one class; a loss whose jumps within an epoch come again at the same places in
every epoch; a training loss that stands above its first row and above a validation loss that stands where training
began. As a note: within the first epoch validation lies far above training and the gap closes again, as it does
where the first part of the data is of one kind.

Why it matters
Neighbouring samples are alike in most files (one author, one class, one trajectory), so a fixed order gives batches
that all pull one way and pull back later. In incident I2 the training fields came trajectory by trajectory.

Evidence needed
The configuration; or the accuracy of each training batch of at least 8; or `train/loss` over three epochs and their
length (steps per epoch, or samples and batch, or the logged epoch), with at least 30 pairs of points at the same place
of two epochs; or 5 evaluations and the training loss within one epoch; or 6 evaluations and the training loss.

Not when
The switch belongs to validation or test data; a trend, a sawtooth of the epochs or a running mean, which leave no jumps
at the same places; the learning rate restarts with the same period; terms that only training has, which lie above
validation from the first row on; a rate that throws validation about as well. A fixed order that was shuffled once
looks the same in the log: it is a note there, as for data that are read once or streamed.

Remedy
Shuffle the training data anew in every epoch, with a seed.

References
Bottou, Stochastic Gradient Descent Tricks, 2012 (shuffle the examples). Gurbuzbalaban et al., arXiv 1510.08560
(random reshuffling converges faster than a fixed order). Incidents I2 and I3.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.arithmetic import PER_EPOCH
from unstuck.diagnose.case import Case
from unstuck.diagnose.expected_lr import micro_batches_per_epoch
from unstuck.diagnose.gap import Gap, gap_at_start
from unstuck.diagnose.lr_curve import comeback
from unstuck.diagnose.own_keys import own_number, own_settings
from unstuck.diagnose.periodic import Repeat, at_period, searched
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import false_alarm_z, noise_sd
from unstuck.runs import Setting

SWITCHES = frozenset({"shuffle", "train_shuffle", "shuffle_train", "shuffle_data", "data_shuffle",
                      "shuffle_train_data", "shuffle_dataset"})  # fmt: skip
SAMPLING = frozenset({"train_sampling_strategy"})  # transformers 5
# Validation of averaged weights starts behind training whatever the order of the data (timm, diffusers, ultralytics).
AVERAGED = frozenset({"ema", "use_ema", "model_ema", "ema_decay", "model_ema_decay", "swa", "use_swa"})
# A twentieth: what evaluations of a constant prediction hardly leave (classes differ in size by more, not in loss), and
# half of what two texts differ by (gap.MATERIAL_SHARE). A tenth below the first row: nothing was learnt (both ours).
STANDS, NO_BETTER, LEAST_EVALUATIONS = 0.05, 0.1, 6
STREAMS = frozenset({"streaming", "stream", "iterable", "use_streaming"})
# Batches of mixed classes at an accuracy p are all wrong with (1 - p)^8 and all right with p^8, and not both likely:
# three falls from one to the other have at most (1/2)^(2 x 3 x 8) a chance (p = 1/2) at batch 8.
LEAST_BATCH, LEAST_FALLS, EXTREME = 8, 3, 0.02
MOSTLY, LEAST_POINTS = 0.8, 20  # ours: little in between, over more than a handful of lines
NO, YES = (False, 0, "false", "False", "no", "0"), (True, 1, "true", "True", "yes", "1")


@rule(code="DA005", stages="PC", severity="warning", explains=("loss-oscillating",))
def check(case: Case) -> Outcome:
    switch = _switch(case)
    sorted_batches = _one_class(case)
    if sorted_batches is not None:
        return sorted_batches
    averaged = any(s.value not in NO for s in own_settings(case.run, AVERAGED))
    unlearned = None if averaged else _worse_than_validation(case)
    repeat, looked = _repeat(case)
    if switch is not None and switch[1]:
        return _by_configuration(case, switch[0], repeat)
    if unlearned is not None and switch is None:
        return unlearned
    if repeat is not None:
        return _by_log(case, repeat)
    if case.run.format == "unstuck-run":
        return Clear("unstuck draws a new order in every epoch")
    if switch is not None:
        return Clear(f"{switch[0].key} is {switch[0].value}")
    if looked:
        return Clear("the loss does not repeat itself from epoch to epoch")
    gap = None if averaged else gap_at_start(case)
    if gap is not None and gap.seen <= 1 and gap.early > gap.threshold and gap.closes:
        return _by_gap(case, gap)
    return CouldNotCheck(("shuffle", "train/loss over three epochs and their length"))


def _switch(case: Case) -> tuple[Setting, bool] | None:
    """The setting that decides about the order, and whether it switches shuffling off."""
    for setting in own_settings(case.run, SWITCHES):
        if setting.value in NO or setting.value in YES:
            return setting, setting.value in NO
    for setting in own_settings(case.run, SAMPLING):
        return setting, setting.value == "sequential"
    return None


def _one_class(case: Case) -> Found | None:
    """A batch accuracy that falls from all right to all wrong again and again, with little in between."""
    accuracy, batch = case.run.get("train/accuracy"), case.setting("batch_size")
    if accuracy is None or not batch or batch < LEAST_BATCH or len(accuracy) < LEAST_POINTS:
        return None
    series = accuracy.finite()
    values = series.values / (100.0 if series.values.max(initial=0.0) > 1.5 else 1.0)
    right, wrong = values >= 1 - EXTREME, values <= EXTREME
    ends = np.flatnonzero(right | wrong)
    falls = int(np.sum(right[ends[:-1]] & wrong[ends[1:]])) if len(ends) > 1 else 0
    share = len(ends) / len(values)
    if falls < LEAST_FALLS or share < MOSTLY:
        return None
    title = (
        f"The accuracy of a training batch is all wrong or all right in {share:.0%} of the lines and went from right "
        f"to wrong {falls} times: batches of {batch} hold one class each, the data are sorted"
    )
    span = (int(series.updates[0]), int(series.updates[-1]))
    at = int(np.flatnonzero(right)[0])
    evidence = Evidence(series.name, span, "times that it falls from right to wrong", falls, 0.0, series.source(at))
    return Found(title, (evidence,), 0.95, "error", "", {"falls": falls})


def _worse_than_validation(case: Case) -> Found | None:
    """Training stands above where it began and above validation, which stands where training began.

    Batches drawn at random are a sample of what validation is a sample of: at whatever rate, a model is as good on the
    one as on the other, but for terms and noise that only training has, and those are there from the first row.
    """
    loss, val, train = case.loss, case.val, case.train_at_evaluations
    if loss is None or val is None or train is None or len(val) < LEAST_EVALUATIONS or loss.values[0] <= 0:
        return None
    began, half = float(loss.values[0]), slice(0, len(val) // 2)  # later a rate that falls lets both meet
    level = float(np.median(val.values))
    unmoved = float(np.ptp(val.values[1:])) <= STANDS * level and level >= began * (1 - NO_BETTER)
    above = float(np.median(train[half] - val.values[half]))
    worse = float(np.median(train[half])) - began
    noise = float(np.nan_to_num(max(case.loss_noise, noise_sd(loss.values))))  # of the first row, which is one point
    limit = max(STANDS * level, false_alarm_z(1) * noise)
    if not unmoved or began > (1 + STANDS) * level or worse <= limit or above <= STANDS * level:
        return None
    title = (
        f"Training stands {above:.3g} above validation and {worse:.3g} above its first row, while validation stays at "
        f"{level:.4g}: batches drawn at random would do neither"
    )
    span = (int(loss.updates[0]), int(val.updates[len(val) // 2]))
    evidence = Evidence("train/loss", span, "level above the first row", worse, limit, loss.source(0))
    detail = "Each batch undoes what the one before it taught: data sorted by class or by file do that at a sound rate."
    return Found(title, (evidence,), 0.75, None, detail, {"above": above, "level": level})


def _by_configuration(case: Case, setting: Setting, repeat: Repeat | None) -> Found:
    streamed = any(s.value in YES for s in own_settings(case.run, STREAMS))
    epochs = case.setting("epochs")
    once = streamed or (epochs is not None and epochs <= 1)
    shown = f", and its jumps come again every {repeat.period:,} updates" if repeat is not None else ""
    title = f"{setting.key} is {setting.value}: the training data come in the order of the file{shown}"
    last = int(case.run.updates)
    evidence = [Evidence(setting.key, (0, last), "as configured", 0.0, None, setting.source)]
    if repeat is not None:
        evidence.append(_evidence(case, repeat))
    detail = "They are streamed or read once: if they were shuffled when they were written, nothing is lost." * once
    confidence = 0.95 if repeat is not None else 0.5 if once else 0.8
    facts: dict[str, object] = {"key": setting.key}
    return Found(title, tuple(evidence), confidence, "note" if once and repeat is None else None, detail, facts)


def _by_log(case: Case, repeat: Repeat) -> Found:
    title = (
        f"The jumps of the loss come again every {repeat.period:,} updates (correlation {repeat.correlation:.2f} over "
        f"{repeat.periods:.0f} rounds): the batches come in the same order each time"
    )
    detail = "A fixed order that was shuffled once looks the same; a sorted one is what harms."
    return Found(title, (_evidence(case, repeat),), 0.7, "note", detail, {"period": repeat.period})


def _by_gap(case: Case, gap: Gap) -> Found:
    """Data that were never seen twice cannot have been memorised, and other text would have stayed as far away."""
    span = (0 if case.val is None else int(case.val.updates[gap.first]), int(case.run.updates))
    title = (
        f"Within one epoch validation was {gap.early:.3g} above training and came back to {max(0.0, gap.final):.3g}: "
        "the first of the data may be of one kind"
    )
    evidence = Evidence("val/loss", span, "gap to training in the first evaluations", gap.early, gap.threshold)
    detail = (
        "Validation of averaged weights or with batch normalisation lags as well: look whether the training data are "
        "shuffled, which tells."
    )
    return Found(title, (evidence,), 0.5, "note", detail, {"gap": gap.early, "final_gap": gap.final})


def _evidence(case: Case, repeat: Repeat) -> Evidence:
    loss = case.loss
    span = (0, int(case.run.updates)) if loss is None else (int(loss.updates[0]), int(loss.updates[-1]))
    source = None if loss is None else loss.source(0)
    statistic = f"correlation of its jumps with those {repeat.period:,} updates later, in standard errors"
    return Evidence("train/loss", span, statistic, repeat.z, repeat.limit, source)


def _repeat(case: Case) -> tuple[Repeat | None, bool]:
    """The repeat in the log, and whether one could have been seen."""
    loss = case.loss
    if loss is None or (case.lr is not None and comeback(case.lr) is not None):
        return None, False
    periods = _periods(case)
    seen = [found for period in periods if (found := at_period(loss, period, len(periods))) is not None]
    there = [repeat for repeat in seen if repeat.repeats]
    if there:
        return max(there, key=lambda repeat: repeat.z), True
    if seen:
        return None, True
    return searched(loss), False


def _periods(case: Case) -> list[int]:
    """Lengths that an epoch may have in updates: as stated, as logged, or from samples and batch, rounded both ways."""
    found: list[float] = []
    accumulation = case.setting("accumulation") or 1
    stated, micro = own_number(case.run, PER_EPOCH), micro_batches_per_epoch(case)
    if stated is not None:
        found += [stated[0], stated[0] / accumulation]
    if micro:
        found.append(micro / accumulation)
    epoch = case.run.get("epoch")
    if epoch is not None and len(epoch) >= 3 and epoch.values[-1] > epoch.values[0]:
        rate = float(epoch.values[-1] - epoch.values[0]) / max(1, int(epoch.updates[-1] - epoch.updates[0]))
        if not np.all(epoch.values == np.round(epoch.values)):
            found.append(1 / rate)
    whole = {n for length in found if 2 <= length < 1e9 for n in (math.floor(length), math.ceil(length))}
    return sorted(whole)[:8]
