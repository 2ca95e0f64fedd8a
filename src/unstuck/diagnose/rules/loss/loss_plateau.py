"""No improvement beyond noise over a long window, while training goes on.

Finds
Over the last half of the run the training loss did not fall by more than its noise, although noise is small enough
to have shown a fall, the learning rate was not yet annealed and the level is no floor. Or: validation has been flat
for half of the run while training went on falling, so what training learns does not carry over. Or: the loss stood
still for most of the run and fell again afterwards, which shows that the level was no floor. Or: neither the loss nor
the accuracy of an epoch ever changed.

Why it matters
Time is being spent on nothing; either the step size hides progress (lower it), or the model has what it can get.

Evidence needed
8 points of the training or the validation loss show a stall of most of the run; 30 of the training loss one of its
last half.

Not when
The curve is a noisy but falling one, however slowly; the learning rate is near zero at the end (nothing was meant to
move); the loss is near 0; validation rises (overfitting).

Remedy
Anneal the learning rate, or stop. For a gap that does not buy anything: stop, or more data.

References
Defazio et al. 2023 (arXiv 2310.07831): the loss above its annealed value is the price of a constant learning rate.
Incident I4: training fell to 0.47 while validation stayed at 2.21-2.30 from step 1500 on.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.few_points import fall_of_line, student_quantile
from unstuck.diagnose.learning_curve import fit_learning_curve
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import fall, noise_sd
from unstuck.runs import Series

MIN_POINTS = 30  # the second half then has 15 points, its outer thirds 5 each
MIN_EVALUATIONS = 8
FEW = 5  # points of the last two thirds, of 8 rows: a line leaves 3 degrees of freedom
FEW_ROWS = 8
LEAST_UPDATES = 100  # ours: below it a run is a test, and models pause at the frequencies of tokens for longer
# Smallest fall that the window must have been able to show, as a share of the level: half of what a run of
# compute-optimal length gains from doubling its updates (Hoffmann et al. 2022: 0.08 per e-fold x ln 2 = 5 %).
RESOLUTION = 0.025
FLOOR_SHARE = 0.05  # a twentieth of the first loss: learnt, as far as a curve can show
CONVERGED = 0.1  # ours: nine tenths of the first loss are learnt, and nothing in the log tells that more can be had
# The outer thirds of the last half lie at 0.58 and 0.92 of the run: their distance in e-folds.
E_FOLDS = float(np.log(0.92 / 0.58))
CARRIED_SHARE = 0.25  # in a sound run most of what training gains carries over to validation
LEAST_EPOCHS = 4
UNMOVED = 1e-4  # ours: ten times the rounding of a float32 mean over thousands of batches
STOOD_SHARE = 0.6  # ours: longer than the first phase of a step schedule (He et al. 2016: half of the run)
LONG_EVALUATIONS = 15  # two thirds of them are then 9 or more, which `fall` needs
# Ours: an evaluation within the first fifth of the run; less than RESOLUTION, over all of the run.
EARLY, HARDLY = 0.2, 0.02
WARN_GAP = 0.10  # training fell by a tenth of the level while validation stood still


@rule(code="LO003", stages="LV", severity="warning")
def check(case: Case) -> Outcome:
    if case.loss is None:
        return CouldNotCheck(("train/loss",))
    outcome = _follow(case, case.loss)
    return outcome if isinstance(outcome, Found) else _hardly_moved(case) or outcome


def _few(case: Case, loss: Series) -> Outcome:
    """Few rows: the line through the last two thirds of the run, in the loss of the two that tells it better.

    Twice the window of a long log's thirds, and whichever loss has less noise: one row per epoch shows a stall of most
    of the run, not one of its end. The same resolution as there.
    """
    first, last = int(loss.updates[0]), int(loss.updates[-1])
    start = first + (last - first) // 3
    if case.lr is not None:
        rates = case.lr.between(start, last).values
        if len(rates) and float(np.median(rates)) < 0.1 * float(case.lr.values.max()):
            return Clear("the learning rate was near zero")
    seen: list[tuple[float, float, float, Series]] = []
    for series in (loss, case.val):
        window = None if series is None else series.between(start, max(last, case.run.updates))
        if window is None or len(window) < FEW:
            continue
        fell, error = fall_of_line(window.values)
        level = float(np.median(window.values))
        if level <= FLOOR_SHARE * float(loss.values[0]):
            return Clear("the loss is near zero")
        hidden = student_quantile(2, len(window) - 2) * error
        if fell > hidden:
            return Clear("still falling")
        if level > 0 and fell >= -max(RESOLUTION * level, hidden):  # else it rises
            seen.append((hidden / level, fell, level, window))
    if not seen:
        return CouldNotCheck((f"{MIN_POINTS} points of train/loss that do not rise",))
    slack, fell, level, window = min(seen, key=lambda one: one[0])
    needed = RESOLUTION * math.log(max(last, 1) / max(start, 1)) / math.log(2)
    if fell / level + slack >= needed:
        return CouldNotCheck((f"{MIN_POINTS} points of train/loss: the noise of few hides a fall",))
    far = case.chance is not None and case.is_token_loss and level > 0.5 * case.chance and case.start != "pretrained"
    far = far and (case.run.axis == "epoch" or last >= LEAST_UPDATES)
    since = int(window.updates[0])
    what = "Validation" if window.name.startswith("val") else "Training loss"
    return Found(
        title=f"{what} has been flat at {level:.4g} since update {since} of {last}",
        evidence=(
            Evidence(window.name, (since, last), "fall over the last two thirds, at most", fell + slack * level,
                     needed * level, window.source(0)),
        ),
        confidence=0.7,
        severity="warning" if far else "note",
        detail="" if far else "Few rows: the level may be what the model can reach.",
        facts={"level": level, "since": since, "fell": fell, "noise": slack * level / 2, "expected": None},
    )  # fmt: skip


def _follow(case: Case, loss: Series) -> Outcome:
    """What the last half of the run shows."""
    if (unmoved := _unmoved(case)) is not None:
        return unmoved
    if len(loss) < FEW_ROWS and not (case.val is not None and len(case.val) >= MIN_EVALUATIONS):
        return CouldNotCheck((f"{FEW_ROWS} points of train/loss or {MIN_EVALUATIONS} evaluations",))
    found = _validation(case)
    if found is not None:
        return found
    if len(loss) < MIN_POINTS:
        return _few(case, loss)
    last, first = int(loss.updates[-1]), int(loss.updates[0])
    window = loss.between((first + last) // 2, last)
    if len(window) < MIN_POINTS // 2:
        return CouldNotCheck(("evenly logged train/loss in the last half",))
    if case.lr is not None:
        rates = case.lr.between(int(window.updates[0]), last).values
        # a tenth of the peak: below it the step is too small for the flatness to mean anything
        if len(rates) and float(np.median(rates)) < 0.1 * float(case.lr.values.max()):
            return Clear("the learning rate was near zero")
    fell, error = fall(window.values)
    level, falls = float(np.median(window.values)), fell > 3 * error
    for other in (case.run.get("train/loss_eval"), case.val):  # measured on more tokens: quieter
        late = None if other is None else other.finite().between(int(window.updates[0]), case.run.updates)
        if other is None or late is None or len(late) < 4:
            continue
        noise, third = noise_sd(late.values if len(late) >= 5 else other.finite().values), max(1, len(late) // 3)
        if (quiet := noise * math.sqrt(2 / third)) < error:
            fell, error = float(late.values[:third].mean() - late.values[-third:].mean()), quiet
    if level <= FLOOR_SHARE * float(loss.values[0]):
        return Clear("the loss is near zero")
    # 3 standard errors, one chance in a thousand: it falls, if slowly, and a slow fall may be all that is left to learn
    if falls or fell > 3 * error:
        return _stood_still(case) or Clear("still falling")
    # 2 standard errors: the largest fall that the data still allow must be less than half of an ordinary gain
    needed = RESOLUTION * abs(level) * E_FOLDS / np.log(2)
    if not fell + 2 * error < needed:
        if 2 * error > needed:
            hidden = f"a quieter loss: its noise hides falls below {3 * error:.2g}, and a sound run shows {needed:.2g}"
            return _stood_still(case) or CouldNotCheck((hidden,))
        return _stood_still(case) or Clear("still falling")
    if fell < -3 * error and fell < -RESOLUTION * abs(level):
        return Clear("the loss rises: not a plateau")
    # a pretrained model starts near where it can get, and an annealed one ends there: flat is the ordinary curve,
    # unless the text was never learnt (half of ln V is well above any trained model's loss on natural text)
    settled = case.start in ("pretrained", "checkpoint") or case.annealed is True
    settled = settled or level <= CONVERGED * float(loss.values[0])
    ordinary = settled and not (case.chance and level > 0.5 * case.chance)
    since = _since(case, level, window.updates[0])
    return Found(
        title=f"Training loss has been flat at {level:.4g} since update {since} of {last}",
        evidence=(
            Evidence(
                "train/loss",
                (int(window.updates[0]), last),
                "fall over the last half, at most",
                fell + 2 * error,
                RESOLUTION * abs(level) * E_FOLDS / float(np.log(2)),
                window.source(0),
            ),
        ),
        confidence=0.8,
        severity="note" if ordinary else "warning",
        facts={"level": level, "since": since, "fell": fell, "noise": error, "expected": _expected(case)},
    )


def _unmoved(case: Case) -> Found | None:
    """A run whose loss and accuracy never moved, row after row: few points tell that, because even noise would show.

    Means over an epoch of the same data change by what was learnt, losses of batches by their noise as well.
    """
    loss, accuracy = case.loss, case.run.get("train/accuracy")
    if loss is None or accuracy is None or len(loss) < LEAST_EPOCHS:
        return None
    moved = float(np.ptp(loss.values)) / max(abs(float(loss.values[0])), 1e-12)
    if moved > UNMOVED or float(np.ptp(accuracy.values)) > 0 or float(loss.values[0]) <= 0:
        return None
    last = int(loss.updates[-1])
    return Found(
        title=f"Nothing moved: loss {loss.values[0]:.4g} and accuracy {accuracy.values[0]:.4g} in every row",
        evidence=(
            Evidence(
                "train/loss", (int(loss.updates[0]), last), "largest change, as a share", moved, UNMOVED, loss.source(0)
            ),
        ),
        confidence=0.9,
        facts={
            "level": float(loss.values[-1]),
            "since": int(loss.updates[0]),
            "fell": 0.0,
            "noise": 0.0,
            "expected": None,
        },
    )


def _stood_still(case: Case) -> Found | None:
    """A flat stretch over most of the run that a later fall proves to be no floor."""
    series = case.val if case.val is not None and len(case.val) >= LONG_EVALUATIONS else case.loss
    if series is None or case.setting("schedule") == "restarts":
        return None
    first, last = int(series.updates[0]), int(series.updates[-1])
    best: tuple[int, int, float, float] | None = None
    for start in (0.05, 0.1, 0.2, 0.3):
        for end in (0.95, 0.9, 0.85, 0.8):
            low, high = first + int(start * (last - first)), first + int(end * (last - first))
            window, after = series.between(low, high), series.between(high, last)
            if end - start < STOOD_SHARE or len(window) < 9 or len(after) < 3:
                continue
            fell, error = fall(window.values)
            level = float(np.median(window.values))
            needed = RESOLUTION * abs(level) * math.log(max(high, 1) / max(low, 1)) / math.log(2)
            end_level = float(window.values[-len(window) // 3 :].mean())
            dropped = end_level - float(after.values[-max(1, len(after) // 3) :].mean())
            resolved = fell + 2 * error < needed / 2 and fell < 3 * error
            if resolved and dropped > max(5 * error, RESOLUTION * abs(level)) and best is None:
                best = (int(window.updates[0]), int(window.updates[-1]), level, dropped)
    if best is None:
        return None
    since, until, level, dropped = best
    what = "Validation" if series is case.val else "Training loss"
    return Found(
        title=f"{what} stood at {level:.4g} from update {since} to {until} of {last}, then fell by {dropped:.3g}",
        evidence=(Evidence(series.name, (since, until), "fall after the stretch", dropped, RESOLUTION * abs(level)),),
        confidence=0.75,
        detail="The later fall shows that the level was no floor: most of the run learnt nothing that was kept.",
        facts={"level": level, "since": since, "fell": 0.0, "noise": 0.0, "expected": None},
    )


def _hardly_moved(case: Case) -> Found | None:
    """Neither loss has moved since the first rows: said as a note, since fine losses of some tasks stand still."""
    val, train = case.val, case.train_at_evaluations
    if val is None or train is None or len(val) < MIN_EVALUATIONS or not 0 < val.updates[0] <= EARLY * case.run.updates:
        return None
    if not float(val.values[0]) > 0 or not float(train[0]) > 0:
        return None
    moved = max(float(series[0] - series[1:].min()) / abs(float(series[0])) for series in (val.values, train))
    if not 0 <= moved < HARDLY:
        return None
    first, last = int(val.updates[0]), int(val.updates[-1])
    return Found(
        title=f"Neither loss has moved since {'epoch' if case.run.axis == 'epoch' else 'update'} {first} of {last}: "
        f"validation {val.values[0]:.4g} and then {val.values[1:].min():.4g} at best, training {train[0]:.4g} and "
        f"{train[1:].min():.4g}",
        evidence=(
            Evidence("val/loss", (first, last), "largest fall of the two, as a share", moved, HARDLY, val.source(0)),
        ),
        confidence=0.6,
        severity="note",
        facts={
            "level": float(val.values[-1]),
            "since": first,
            "fell": moved,
            "noise": case.val_noise,
            "expected": None,
        },
    )


def _validation(case: Case) -> Found | None:
    """Validation flat for half of the run while training falls."""
    val, train = case.val, case.train_at_evaluations
    if val is None or train is None or len(val) < MIN_EVALUATIONS:
        return None
    middle = (int(val.updates[0]) + int(val.updates[-1])) // 2
    late = val.updates >= middle
    if late.sum() < 4:
        return None
    values, level = val.values[late], float(np.median(val.values[late]))
    third = max(1, len(values) // 3)
    fell = float(values[:third].mean() - values[-third:].mean())
    noise = case.val_noise if case.val_noise == case.val_noise else 0.0
    error = noise * float(np.sqrt(2 / third))
    gap_growth = float(train[late][0] - train[-1])
    if fell > 2 * error or fell < -WARN_GAP * level or gap_growth < WARN_GAP * level:
        return None
    # the most that the evaluations still allow is a quarter of what training gained: else they cannot tell
    if abs(fell) + 2 * error > CARRIED_SHARE * gap_growth:
        return None
    if float(train[-1]) > level:  # a regularised or differently scaled training loss, and no memorisation
        return None
    first, last = int(val.updates[late][0]), int(val.updates[-1])
    return Found(
        title=f"Validation has been flat at {level:.4g} since update {first} while training fell by {gap_growth:.3g}",
        evidence=(
            Evidence("val/loss", (first, last), "fall over the last half", fell, 2 * error, val.source(len(val) - 1)),
            Evidence("train/loss", (first, last), "fall over the same updates", gap_growth, WARN_GAP * level),
        ),
        confidence=0.8,
        # training falls by annealing alone while validation is where the data let it be
        severity="note" if case.annealed else "warning",
        detail="The gap between training and validation grows without buying anything: memorisation, not yet a rise.",
        facts={
            "level": level,
            "since": first,
            "fell": fell,
            "noise": error,
            "best_update": int(val.updates[case.val_best or 0]),
            "best_value": float(val.values.min()),
            "best_loss": float(val.values.min()),
        },
    )


def _since(case: Case, level: float, start: int) -> int:
    """The first update from which the trend stays within 1.5 noise standard deviations of the level."""
    trend = case.loss_trend
    if trend is None:
        return int(start)
    reach = 1.5 * case.loss_noise if case.loss_noise == case.loss_noise else 0.0
    away = np.flatnonzero(np.abs(trend.values - level) > reach)
    earlier = away[trend.updates[away] < start]
    index = min(int(earlier[-1]) + 1 if len(earlier) else 0, len(trend) - 1)
    return int(min(trend.updates[index], start))


def _expected(case: Case) -> float | None:
    """The fall over the last half that the curve of the first half predicts; None where nothing fits."""
    loss = case.loss
    if loss is None:
        return None
    points = loss.where((loss.updates >= 1) & (loss.updates <= (int(loss.updates[0]) + int(loss.updates[-1])) // 2))
    curve = fit_learning_curve(points.updates.astype(np.float64), points.values)
    if curve is None:
        return None
    last = float(loss.updates[-1])
    return curve.at(last * 0.58) - curve.at(last * 0.92)
