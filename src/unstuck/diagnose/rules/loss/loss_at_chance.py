"""The loss stays where an untrained or constant predictor would be.

Finds
Over most of a run long enough to have left it, the training loss stays within 3 % of ln V (every token equally
likely), or flat at the unigram entropy (token frequencies learnt, no context), or, for relative errors of fields, near
1 (predicting zero) or not below the error of giving the input back.

Why it matters
The model has learnt nothing that depends on its input. Either the updates are too small, or no information reaches
the output.

Evidence needed
The vocabulary (or the entropy of the tokens), and 200 updates of training loss.

Not when
The run is too short to tell; the loss leaves ln V at the pace of its warm-up.

Remedy
Look for the cause first: a learning rate that never arrives, a group that is not trained, a graph that is cut, labels
that do not belong to the inputs.

References
CortexGPT, incident I1: 10.3742 to 10.2828 in 1,405 updates with V about 32,000 (ln V = 10.37). Unigram entropy of
English in a 50k BPE is about 7.6 nats, 0.7 ln V: a healthy run passes it within a few hundred updates (nanoGPT:
10.99 to 6.5 in 500).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

# A tenth of the way from ln V to the unigram entropy (0.7 ln V): not even the token frequencies are learnt.
SHARE_OF_CHANCE = 0.97
# Frequencies alone take about 100 updates at any sensible rate; twice that before anything is said.
MIN_UPDATES = 200
# "Stays": more than half of the run.
LONG_SHARE = 0.5


@rule(code="LO001", stages="LCP", severity="error", explains=("loss-plateau", "undertrained", "validation-noisy"))
def check(case: Case) -> Outcome:
    trend, loss = case.loss_trend, case.loss
    if trend is None or loss is None:
        return CouldNotCheck(("train/loss",))
    level, name, facts = _chance(case)
    if level is None:
        return CouldNotCheck(("vocabulary or unigram_entropy",))
    last = int(loss.updates[-1])
    if last < MIN_UPDATES or len(loss) < 5:
        return CouldNotCheck((f"{MIN_UPDATES} updates of train/loss",))
    end = float(np.median(loss.values[-max(3, len(loss) // 10) :]))
    entropy = case.setting("unigram_entropy") if case.is_token_loss or case.chance is None else None
    near = trend.values >= SHARE_OF_CHANCE * level
    # As in initial-loss-implausible: another unit, or a run that blew up.
    if end > 1.25 * max(level, float(facts.get("zero", 0.0))):
        return Clear("the loss is far above chance: not a model that predicts nothing")
    if not (near[-1] and _share(trend.updates, near) >= LONG_SHARE):
        if entropy is None:
            return Clear()
        # at the unigram entropy: within 3 % of it, over the second half of the run
        half = trend.between(last // 2, last).values
        if last < 2 * MIN_UPDATES or not len(half) or not np.all(np.abs(half / entropy - 1) <= 1 - SHARE_OF_CHANCE):
            return Clear()
        level, name, near = float(entropy), "the unigram entropy", trend.updates >= last // 2
    first = int(trend.updates[int(np.argmax(near))])
    what = "step from input to target" if "zero" in facts else "context"
    return Found(
        title=f"Loss is {end:.4g} after {last} updates: {name} is {level:.4g}, nothing of the {what} is learnt",
        evidence=(
            Evidence(
                "train/loss",
                (first, last),
                f"level at the end; {name} is {level:.4g}",
                end,
                SHARE_OF_CHANCE * level,
                loss.source(len(loss) - 1),
            ),
        ),
        confidence=0.95 if name == "ln V" else 0.85,
        facts={"chance": level, "level": end, "first_loss": float(loss.values[0]), "share": _share(trend.updates, near)}
        | facts,
    )


def _chance(case: Case) -> tuple[float | None, str, dict[str, Any]]:
    """The level of a predictor that knows nothing, its name, and facts about it."""
    if case.is_token_loss:
        return case.chance, "ln V", {"vocabulary": case.setting("vocabulary")}
    entropy = case.setting("unigram_entropy")
    if entropy and case.chance is None:
        return float(entropy), "the unigram entropy", {}
    loss = case.loss
    if loss is not None and loss.unit is not None and "relative" in loss.unit:
        repeated = case.setting("baseline_loss")  # of giving the input back, where the log has it
        if isinstance(repeated, int | float) and 0 < repeated < 1:
            return float(repeated), "the error of giving the input back", {"zero": 1.0}
        return 1.0, "the error of predicting nothing", {"zero": 1.0}
    return None, "", {}


def _share(updates: np.ndarray, mask: np.ndarray) -> float:
    """Share of the updates that the points in `mask` cover."""
    if len(updates) < 2:
        return float(mask.mean())
    width = np.gradient(updates.astype(np.float64))
    return float(width[mask].sum() / width.sum())
