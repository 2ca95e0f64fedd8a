"""The batch is so small that gradient noise, not the data, decides where the weights go.

Finds
A fresh run with a batch far below the critical batch size, whose loss has made no progress beyond noise over its second
half although it is far from a floor, and whose scatter from point to point exceeds all progress of that half many
times. Whatever the task: a fresh run of one sample per update whose progress, while the learning rate was at least half
of its peak, is less than two scatters of one logged loss, or whose loss rises there, or above where it began, at a rate
that larger batches bear. A note where such a run learns all the same, but has seen a part of its data only, in samples
far below any noise scale that was measured.

Why it matters
At a batch far below the noise scale each update is mostly noise; with a learning rate made for larger batches the
loss stalls at a level set by the noise.

Evidence needed
Batch size and context (tokens per update), 30 points of the training loss, a vocabulary. Of a batch of one, 8 points of
the training loss at a high learning rate; a context or a longest sequence, or the scatter of the loss.

Not when
A small batch whose loss falls: noisy but sound (a small batch is sample-efficient at a fitting learning rate). A
pretrained start, whose flat curve is ordinary. With an annealed learning rate, whose end is flat anyway, or
too few points to say more than that no progress shows, it is a note.

Remedy
Accumulate more micro-batches per update, or lower the learning rate in proportion to the root of the batch.

References
McCandlish et al. 2018 (arXiv 1812.06162), noise scale. Kaplan et al. 2020 (arXiv 2001.08361), equation 1.4: critical
batch 2e8 / L^(1/0.21) tokens, L in nats per token of GPT-2's vocabulary. Goyal et al. 2017 (arXiv 1706.02677): rates of
SGD by batch.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.few_points import fall_along_line, fall_of_line
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.scales import highest_scale, optimizer_of, phase_of
from unstuck.diagnose.statistics import fall, noise_sd, trend
from unstuck.runs import Series
from unstuck.runs.logfile import number

MIN_POINTS = 30  # 15 in the second half, 5 in each of its outer thirds
FAR_BELOW = 0.01  # a hundredth of the critical batch: 99 % of an update's squared length is noise (McCandlish eq. 2.9)
# Kaplan's law is for tokens of GPT-2's vocabulary; another one's nats are scaled by the two vocabularies' ln V: an
# assumption. Measured at 1.6-2.0 nats a character: 1,900-8,400 tokens (benchmarks/noise_scale.py, docs/LOG.md). There
# the law says 8M to 23M unscaled and 0.1M to 0.4M scaled, so it still calls a batch of characters small too readily.
KAPLAN_VOCABULARY = 50_257
VERY_FAR_BELOW = 0.001  # 99.9 % of it is noise; ten times less, since the law says up to fifty times too much
# A loss of m independent draws scatters by level / sqrt(m) (see statistics.validation_standard_error). A hundredth of
# the smallest noise scale measured, 1,900 tokens, is 19 draws; of rows that are means of several updates it is fewer.
FEW_DRAWS = FAR_BELOW * 1900
SCATTER_OVER_PROGRESS = 5.0  # scatter of one logged loss against the progress of half a run
FLOOR_SHARE = 0.35  # of ln V: half of the unigram entropy; a loss below it has learnt context
# Samples, assumption: McCandlish et al. measured tens at the start of MNIST, their smallest task, and hundreds to many
# thousands later and elsewhere. A hundredth of it is a batch of one.
CRITICAL_SAMPLES = 100
LEAST_IN_WINDOW = 8  # a line through them leaves 6 degrees of freedom: their scatter within 30 %
ENOUGH_IN_WINDOW = 15  # its outer thirds are 5 points each
LONGEST = ("max_position_embeddings", "n_positions")  # tokens of a sample at most, in configurations of transformers
# Scatters of one logged loss that 15 points hide: 3.1 standard errors of a difference of two means of 5. The ratio
# stays with fewer points and with more: a longer log shows a smaller fall, and makes no update less noisy.
HIDES = 3.1 * math.sqrt(2 / 5)
USUAL_SGD = 0.1  # Goyal et al.: with momentum 0.9, for 256 samples
LEAST_ABOVE = 4  # points of half a window of 8
LEAST_BEFORE = 2  # rows of the warm-up: one may be low by chance
# Scatters above the warm-up's rows. By simulation none of 4,000 runs that fall or stand still at ln 10 passes this and
# what is asked beside it: 12 to 79 rows, noise of 0.1 to 1 nats, half of them correlated by 0.5 from row to row.
SURELY_ABOVE = 4.0
ABOVE_START = 0.5  # ours: twice as far as FRESH_HIGH of initial-loss-implausible, which no initialisation is above
LEARNT = 0.05  # of the first loss: learnt, as far as a curve can show (see loss-plateau)


@rule(code="GR005", stages="LV", severity="warning", explains=("loss-plateau", "validation-noisy", "clip-never-active"))
def check(case: Case) -> Outcome:
    loss, tokens = case.loss, case.tokens_per_update
    if loss is None:
        return CouldNotCheck(("train/loss",))
    if tokens is None or case.chance is None or not case.is_token_loss:
        return _by_samples(case, loss)
    if len(loss) < MIN_POINTS:
        by_samples = _by_samples(case, loss)
        return by_samples if isinstance(by_samples, Found) else CouldNotCheck((f"{MIN_POINTS} points of train/loss",))
    half = loss.values[len(loss) // 2 :]
    level = float(half.mean())
    critical = _critical_tokens(case, loss, case.chance)
    if tokens >= FAR_BELOW * critical:
        return Clear("the batch is within a hundredth of the critical batch")
    if case.start in ("pretrained", "checkpoint"):
        return Clear("not a fresh model")
    fell, error = fall(half)
    scatter = noise_sd(half)
    if level < FLOOR_SHARE * case.chance:
        return Clear("the loss is near its floor")
    if fell > 2 * error:  # as it does where the rate is annealed, whatever the batch
        while_high = _by_samples(case, loss) if case.annealed else None
        return while_high if isinstance(while_high, Found) else _one_sample(case, loss) or Clear("the loss still falls")
    # progress not shown at 2 standard errors, and even the most that the data allow is small against the scatter
    stalled = not case.annealed and scatter >= SCATTER_OVER_PROGRESS * max(abs(fell), error)
    first, last = int(loss.updates[len(loss) // 2]), int(loss.updates[-1])
    return Found(
        title=f"{tokens:.0f} tokens per update against a critical batch of {critical:.2g}: scatter {scatter:.2g}, "
        f"progress {max(0.0, fell):.2g} over half of the run",
        evidence=(
            Evidence("train/loss", (first, last), "fall over the second half", fell, 2 * error, loss.source(-1)),
            Evidence("train/loss", (first, last), "scatter of one point", scatter, SCATTER_OVER_PROGRESS * abs(fell)),
        ),
        confidence=0.6,
        severity="warning" if stalled else "note",
        detail="The scatter of the loss stands in for the gradient noise, which a log alone does not show.",
        facts={"tokens_per_update": tokens, "critical_tokens": critical, "scatter": scatter, "progress": fell},
    )


def _by_samples(case: Case, loss: Series) -> Outcome:
    """A batch of one, by what the loss did while the rate was high: an annealed end is quiet whatever the batch."""
    samples = case.sequences_per_update
    if samples is None:
        return CouldNotCheck(("batch_size",))
    if samples > FAR_BELOW * CRITICAL_SAMPLES:
        return Clear("more than one sample per update, and no tokens to count")
    if case.start in ("pretrained", "checkpoint"):
        return Clear("not a fresh model")
    window = _at_high_rate(case, loss)
    if len(window) < LEAST_IN_WINDOW:
        short = CouldNotCheck((f"{LEAST_IN_WINDOW} points of train/loss at a high learning rate",))
        return _one_sample(case, loss) or short
    scatter = noise_sd(window.values)
    if len(window) >= ENOUGH_IN_WINDOW:
        fell, error = fall(window.values)
    else:
        fell, slope_error = fall_of_line(window.values)
        fell *= 2 / 3  # between the centres of the outer thirds, as `fall`
        scatter = slope_error * math.sqrt(len(window) / 12)  # of a long line: sd x sqrt(12 / n)
        error = slope_error * 2 / 3
    if scatter == 0 or float(window.values.mean()) < LEARNT * float(loss.values[0]):
        return Clear("the loss is near zero")
    if _above_its_start(case, loss, window, scatter):
        return _thrown_up(case, loss, window, samples, scatter)
    if fell > HIDES * scatter:
        return _one_sample(case, loss) or Clear("the loss falls by more than it scatters")
    stalled = fell < 2 * error and scatter >= SCATTER_OVER_PROGRESS * max(abs(fell), error)
    stalled = stalled or _rises_at_a_usual_rate(case, window)
    span = (int(window.updates[0]), int(window.updates[-1]))
    return Found(
        title=f"{samples:g} sample per update: at a high rate the loss fell by {max(0.0, fell):.2g}, "
        f"against a scatter of {scatter:.2g}",
        evidence=(
            Evidence(
                "train/loss",
                span,
                "fall at a high rate, in scatters of one point",
                fell / scatter,
                HIDES,
                window.source(-1),
            ),
        ),
        confidence=0.6,
        severity="warning" if stalled else "note",
        detail="Nearly all of such an update is noise. "
        "The scatter of the loss stands in for the gradient noise, which a log alone does not show.",
        facts={
            "samples_per_update": samples,
            "critical_samples": CRITICAL_SAMPLES,
            "scatter": scatter,
            "progress": fell,
        },
    )


def _critical_tokens(case: Case, loss: Series, chance: float) -> float:
    """Kaplan's critical batch at the level of the second half; of a run that blew up, at its lowest."""
    level = float(loss.values[len(loss) // 2 :].mean())
    if level > chance:
        level = float(trend(loss.values).min())
    scaled = level * math.log(KAPLAN_VOCABULARY) / chance
    return math.exp(min(700.0, math.log(2e8) - math.log(scaled) / 0.21)) if level > 0 else math.inf


def _one_sample(case: Case, loss: Series) -> Found | None:
    """A run of one small sample per update that learns and ends before it has seen its data: a small batch uses each
    sample well, and needs as many more updates."""
    samples, there = case.sequences_per_update, case.setting("train_samples")
    if samples is None or samples > FAR_BELOW * CRITICAL_SAMPLES or phase_of(case) not in (None, "fresh"):
        return None
    seen = samples * case.run.updates
    if not there or case.run.axis != "update" or seen >= there:
        return None
    longest = next((v for key in LONGEST if (v := number(_raw(case, key))) is not None), None)
    tokens = case.tokens_per_update or (None if longest is None else samples * longest)
    first, last = int(loss.updates[0]), int(loss.updates[-1])
    if case.is_token_loss and case.chance is not None:
        critical = _critical_tokens(case, loss, case.chance)
        if tokens is None or tokens >= VERY_FAR_BELOW * critical:
            return None
        title = f"{samples:g} sample per update, of {tokens:.0f} tokens at most (critical batch {critical:.2g})"
        evidence = Evidence("train/loss", (first, last), "tokens per update", tokens, VERY_FAR_BELOW * critical)
    else:
        window = _at_high_rate(case, loss).values
        scatter, level = noise_sd(window), float(np.median(window))
        if not scatter > 0 or not 0 < level <= math.sqrt(FEW_DRAWS) * scatter:
            return None
        title = f"{samples:g} sample per update: one logged loss scatters by {scatter:.2g} around {level:.2g}"
        evidence = Evidence("train/loss", (first, last), "draws in one logged loss", (level / scatter) ** 2, FEW_DRAWS)
    return Found(
        title=f"{title}: each update is mostly noise, and the run saw {seen:,.0f} of {there:,.0f} samples",
        evidence=(evidence,),
        confidence=0.5,
        severity="note",
        detail="What a larger batch would give only a second run can tell.",
        facts={"samples_per_update": samples, "critical_samples": CRITICAL_SAMPLES},
    )


def _raw(case: Case, leaf: str) -> object:
    """The first untranslated setting of this name, by the last part of its dotted key."""
    return next((s.value for key, s in case.run.raw_settings.items() if key.rpartition(".")[2] == leaf), None)


def _rises_at_a_usual_rate(case: Case, window: Series) -> bool:
    """Whether the loss goes up, in logarithms, by more than noise gives once in a thousand times, at a rate that is
    published for batches of the usual size: then it is the batch that does not bear it."""
    if not _at_a_usual_rate(case) or float(window.values.min()) <= 0:
        return False
    fell, slack = fall_along_line(np.log(window.values))
    return fell < -slack


def _at_a_usual_rate(case: Case) -> bool:
    rate, scale = case.setting("learning_rate"), highest_scale(case, group_algorithm=case.lr_algorithm)
    usual = scale.high if scale is not None else USUAL_SGD if optimizer_of(case) == "sgd" else None
    return usual is not None and rate is not None and rate <= usual


def _above_its_start(case: Case, loss: Series, window: Series, scatter: float) -> bool:
    """Whether the first half of the points at a high rate lie above where a fresh run began, by more than their noise
    gives and by half of that, at a rate that is published for batches of the usual size."""
    half = window.values[: len(window) // 2]
    before = loss.values[loss.updates < window.updates[0]] if len(window) else loss.values[:0]
    if len(half) < LEAST_ABOVE or len(before) < LEAST_BEFORE or not _at_a_usual_rate(case):
        return False
    first = float(before.max())
    rose = float(half.mean()) - first
    surely = rose > max(ABOVE_START * abs(first), SURELY_ABOVE * scatter * math.sqrt(1 + 1 / len(half)))
    return surely and bool(half.min() > first)


def _thrown_up(case: Case, loss: Series, window: Series, samples: float, scatter: float) -> Found:
    first = float(loss.values[loss.updates < window.updates[0]].max())
    level = float(window.values[: len(window) // 2].mean())
    span = (int(loss.updates[0]), int(window.updates[-1]))
    return Found(
        title=f"{samples:g} sample per update: at a rate that larger batches bear the loss rose from {first:.4g} to "
        f"{level:.4g}",
        evidence=(
            Evidence("train/loss", span, "loss at a high rate, over the warm-up's", level, first, loss.source(0)),
        ),
        confidence=0.6,
        severity="warning",
        detail="Nearly all of such an update is noise, and its step was made for an average of many.",
        facts={
            "samples_per_update": samples,
            "critical_samples": CRITICAL_SAMPLES,
            "scatter": scatter,
            "progress": first - level,
        },
    )


def _at_high_rate(case: Case, loss: Series) -> Series:
    """The points from the peak of the learning rate on at which it was at least half of that; the second half of the
    run where no rate is logged."""
    if case.lr is None or len(case.lr) < 3:
        return loss.where(np.arange(len(loss)) >= len(loss) // 2)
    rate = np.interp(loss.updates, case.lr.updates, case.lr.values)
    reached = np.arange(len(loss)) >= int(np.argmax(rate >= 0.95 * rate.max()))  # 0.95: schedules start to fall slowly
    return loss.where(reached & (rate >= 0.5 * rate.max()))
