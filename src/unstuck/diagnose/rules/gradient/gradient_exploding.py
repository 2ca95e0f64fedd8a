"""Gradient norms grow by orders of magnitude, or turn non-finite, while the loss worsens.

Finds
Pre-clip norms at least ten times their settled level, beyond their own scatter, over a stretch in which the loss rises
beyond its noise or stops being finite.

Why it matters
The loss surface has become so steep that the next updates undo what was learnt; it is the last sign before NaN.

Evidence needed
At least 10 points of the pre-clip gradient norm, and the training loss.

Not when
The norm grows while the loss falls (norms grow slowly over a healthy run, faster with layer norm and weight decay);
a single large norm that the loss survives; float16 loss scaling, whose infinite norms are skipped updates; the large
norms of the first updates.

Remedy
Lower the peak learning rate, lengthen warm-up, clip at about twice the settled norm.

References
Pascanu, Mikolov, Bengio 2013 (arXiv 1211.5063). Wortsman et al. 2023 (arXiv 2309.14322): gradient norm growth before
instability. Defazio 2025 (arXiv 2506.02285): why norms grow late in healthy training.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.few_points import student_quantile
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import false_alarm_z, level, mad_sd, running_median, student_z

MIN_POINTS = 10
MANY = 20  # differences from which their scatter is known to a third (1.17 / sqrt(0.37 x 20))
ORDER = 10.0  # "by orders of magnitude": one at least. Healthy late growth is a factor of 2 to 4 (Defazio 2025).
LEAST_BEFORE = 4  # points of the loss: their level has an error of two degrees of freedom
SUSTAINED = 3  # points in a row: one is a batch, three are a state


@rule(
    code="GR001",
    stages="LV",
    severity="error",
    explains=("loss-not-finite", "loss-diverged", "loss-spike", "loss-oscillating", "clip-saturated"),
)
def check(case: Case) -> Outcome:
    norms, loss = case.run.get("grad_norm/preclip"), case.run.get("train/loss")
    missing = tuple(n for n, s in (("grad_norm/preclip", norms), ("train/loss", loss)) if s is None or not len(s))
    if missing or norms is None or loss is None:
        return CouldNotCheck(missing)
    good = norms.finite()
    good = good.where(good.values > 0)
    if len(good) < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of grad_norm/preclip",))
    logs = running_median(np.log(good.values), 3)
    after = logs[len(logs) // 20 :]  # the first updates of a fresh model have norms of their own
    offset = len(logs) - len(after)
    # settled: the lowest running level up to each point, from the first tenth of the rest on
    window = max(3, len(after) // 10)
    # renewed eight times a window: a level changes no faster
    stride = max(1, window // 8)
    coarse = [float(np.median(after[max(0, i - window + 1) : i + 1])) for i in range(0, len(after), stride)]
    levels = np.repeat(coarse, stride)[: len(after)]
    settled = np.minimum.accumulate(levels)
    scatter = max(mad_sd(np.diff(np.log(good.values))) / math.sqrt(2), 1e-9)
    # a level of 3 medians over `window` points scatters by about sd / sqrt(3)
    z = false_alarm_z(len(after))
    z = z if len(good) >= MANY else student_z(z, len(good))
    threshold = max(math.log(ORDER), z * scatter * math.sqrt(1 / SUSTAINED + 1 / window))
    high = np.zeros(len(after), dtype=bool)
    high[window:] = (after - settled)[window:] > threshold
    start = _first_stretch(high, SUSTAINED)
    if start is None:
        return Clear("norms stay within an order of magnitude of their level")
    update = int(good.updates[offset + start])
    before = loss.between(0, update - 1).finite()
    behind = loss.where(loss.updates >= update)
    dead = not np.isfinite(behind.values).all() if len(behind) else False
    if len(before) < LEAST_BEFORE or not len(behind):
        return CouldNotCheck(("train/loss around the growth of the norm",))
    was, was_error = level(before.values[-max(5, len(before) // 10) :])
    finite = behind.finite().values
    now, now_error = level(finite[len(finite) // 2 :] if len(finite) >= 6 else finite)
    error = math.hypot(was_error, 0.0 if math.isnan(now_error) else now_error)
    # 3 standard errors: one comparison, chosen at the point where the norms grew; of few points Student's quantile
    points = min(max(5, len(before) // 10), len(finite))
    limit = error * (3.0 if points >= MANY else student_quantile(3.0, max(1, points - 2)))
    if not dead and not now - was > limit:
        return Clear("the norm grew but the loss did not worsen")
    peak = offset + start + int(np.argmax(good.values[offset + start :]))
    factor = float(good.values[peak] / math.exp(settled[start]))
    end = "the loss is not finite afterwards" if dead else f"the loss rose from {was:.3g} to {now:.3g}"
    return Found(
        title=f"Gradient norm grew {factor:.3g} times from update {update} on, and {end}",
        evidence=(
            Evidence(
                "grad_norm/preclip",
                (update, int(good.updates[-1])),
                "peak over the settled level",
                factor,
                math.exp(threshold),
                good.source(peak),
            ),
            Evidence(
                "train/loss",
                (update, int(loss.updates[-1])),
                "rise of its level",
                math.inf if dead else now - was,
                limit,
                loss.source(len(loss) - 1),
            ),
        ),
        confidence=0.95,
        facts={"first_update": update, "factor": factor, "typical_norm": math.exp(settled[start])},
    )


def _first_stretch(mask: np.ndarray, length: int) -> int | None:
    """Start of the first `length` True values in a row, None if there is none."""
    run = 0
    for i, value in enumerate(mask):
        run = run + 1 if value else 0
        if run == length:
            return i - length + 1
    return None
