"""A sudden jump of the loss beyond its noise.

Finds
Points that jump above the level just before by more than noise and more than twice the deepest point below the trend;
says how high, and after how many updates the loss was back.

Why it matters
Jumps that take a share of the run to recover from, or come again and again, say that the step size, the batch or the
precision is at the edge. A single one that is gone at once costs nothing.

Evidence needed
At least 30 points of the training loss; of a language model's, where the sequences per update are known, two.

Not when
The learning rate was raised just before (planned warm restarts), or a stage began; noise with heavy tails on both
sides; a slow bump during warm-up. Single hard batches, gone with the next, are a note.

Remedy
Lower the peak learning rate or beta2, clip harder, or skip the batch; only a measurement tells which.

References
Chowdhery et al. 2022 (arXiv 2204.02311), section 5.1: about 20 spikes in PaLM, restarted 100 steps before. Molybog et
al. 2023 (arXiv 2304.09871) on Adam instability. Threshold: Bonferroni over all points, see `statistics.spikes`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from unstuck.diagnose.case import Case
from unstuck.diagnose.planned import switched_between
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule
from unstuck.diagnose.statistics import Spike, false_alarm_z, spikes
from unstuck.wording import plural

MIN_POINTS = 30
# Spikes worth a warning cost more than 2 % of the run: PaLM's restarts gave up 100-500 updates of some 10^4 each.
COSTLY_SHARE = 0.02
MANY = 3  # a third lasting spike in one run is no single bad batch
# One or two points above are what hard batches look like: losses of small batches are skewed upwards (a sum of k tokens
# with exponential losses has skewness 2 / sqrt(k)). From three on the weights, not the batch, are the reason.
LASTS = 3
# The mean loss of one sequence differs between texts by less than this many nats (assumption: half a nat is usual; the
# spread between a book and a table of numbers is about one), and sequences of a batch are drawn independently.
SEQUENCE_SD = 1.0
RESTART_RISE = 1.5  # a learning rate half again as high as just before is a restart, not a wobble of a schedule


@rule(code="LO004", stages="LV", severity="warning")
def check(case: Case) -> Outcome:
    loss = case.loss
    if loss is None:
        return CouldNotCheck(("train/loss",))
    if len(loss) < MIN_POINTS:
        noise = _noise_of_batch(case)
        if noise is None:
            return CouldNotCheck((f"{MIN_POINTS} points of train/loss, or the batch size of a language model",))
        found = _above_batch_noise(loss.values, noise)
    else:
        found = [s for s in spikes(loss.values) if not _restarted(case, s)]
    if not found:
        return Clear()
    last = int(loss.updates[-1])
    length = max(1, last - int(loss.updates[0]))

    def cost(spike: Spike) -> int:
        back = last if spike.back is None else int(loss.updates[spike.back])
        return back - int(loss.updates[spike.start])

    worst = max(found, key=lambda s: (s.back is None, cost(s), s.height))
    lost = sum(cost(s) for s in found)
    interval = float(np.median(np.diff(loss.updates)))
    # a single logged point above the level costs at most one log interval: that is resolution, not cost
    costly = sum(cost(s) for s in found if cost(s) > 2 * interval) > COSTLY_SHARE * length
    lasting = [s for s in found if s.back is None or s.back - s.start >= LASTS]
    serious = costly or len(lasting) >= MANY or worst.back is None
    update = int(loss.updates[worst.start])
    after = "never recovered" if worst.back is None else f"was back after {plural(cost(worst), 'update')}"
    return Found(
        title=f"Loss jumped by {worst.height:.3g} at update {update} and {after}"
        + (f"; {len(found)} such jumps" if len(found) > 1 else ""),
        evidence=tuple(
            Evidence(
                "train/loss",
                (int(loss.updates[s.start]), last if s.back is None else int(loss.updates[s.back])),
                "jump above the level before",
                s.height,
                s.noise,
                loss.source(s.peak),
            )
            for s in sorted(found, key=lambda s: -s.height)[:5]
        ),
        confidence=0.9 if serious else 0.7,
        severity="warning" if serious else "note",
        facts={
            "count": len(found),
            "first_update": int(loss.updates[found[0].start]),
            "update": update,
            "applied_lr": None if case.lr is None else case.lr.at(update),
            "height": worst.height,
            "recovered": worst.back is not None,
            "recovery_updates": None if worst.back is None else cost(worst),
            "cost_share": lost / length,
        },
    )


def _noise_of_batch(case: Case) -> float | None:
    """Standard deviation of a language model's loss over batches, at most; None where the batch is unknown."""
    if case.setting("task") not in ("causal-lm", "masked-lm", "seq2seq") or not (case.sequences_per_update or 0) > 0:
        return None
    assert case.sequences_per_update is not None
    return SEQUENCE_SD / math.sqrt(case.sequences_per_update)


def _above_batch_noise(values: npt.NDArray[np.float64], noise: float) -> list[Spike]:
    """Jumps above the median of the (up to 3) points before, beyond what the batch's own noise gives."""
    found: list[Spike] = []
    at = 1
    limit = false_alarm_z(len(values)) * noise * math.sqrt(2)  # both points have it
    while at < len(values):
        before = float(np.median(values[max(0, at - 3) : at]))
        if values[at] - before <= limit:
            at += 1
            continue
        returned = np.flatnonzero(values[at + 1 :] <= before + limit)
        back = int(at + 1 + returned[0]) if len(returned) else None
        end = len(values) if back is None else back
        peak = at + int(np.argmax(values[at:end]))
        found.append(Spike(at, peak, back, before, float(values[peak]) - before, noise))
        at = end + 1
    return found


def _restarted(case: Case, spike: Spike) -> bool:
    """Whether a stage began, or the learning rate was raised, within the points around the start of the spike."""
    if case.loss is None:
        return False
    updates = case.loss.updates
    start = int(updates[spike.start])
    reach = int(updates[spike.start] - updates[max(0, spike.start - 5)])
    if switched_between(case, start - reach, start):
        return True
    if case.lr is None:
        return False
    now = case.lr.between(start - reach, start).values
    before = case.lr.at(start - 2 * reach)
    peak_so_far = case.lr.between(0, start - reach).values
    if not len(now) or not before or not len(peak_so_far):
        return False
    # in the first warm-up the rate rises as well, but to no level that was there before
    been_there = float(peak_so_far.max()) > RESTART_RISE * before or case.setting("schedule") == "restarts"
    return been_there and float(now.max()) > RESTART_RISE * before
