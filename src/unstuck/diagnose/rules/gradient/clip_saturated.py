"""Most updates are clipped, so the clip value, not the learning rate, sets the step.

Finds
At least nine updates of ten clipped after warm-up. A warning where the step really depends on it: norms ten times
the limit or more; three times with an optimizer whose step is proportional to the gradient, or a loss that stands
still; else a note.

Why it matters
With SGD the step is then limit x learning rate whatever the gradient. AdamW divides by its own running norm, so a
constant factor cancels: there, clipping that is always on does little, but it no longer protects from the outlier it
was meant for.

Evidence needed
The clip limit and the pre-clip norms, or the clipped share.

Not when
Clipping in warm-up only; norms modestly over the limit under AdamW while the loss falls (small models at clip 1.0 are
clipped most of the time): a note.

Remedy
A limit near the 90th percentile of the norms; with a loss that is a sum, a mean.

References
Pascanu et al. 2013 (arXiv 1211.5063), the limit as a small multiple of the usual norm. Seetharaman et al. 2020
(arXiv 2007.14469), AutoClip: percentile of the history. Kingma and Ba 2015: Adam is invariant to gradient scale.
"""

from __future__ import annotations

import math

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.diagnose.statistics import fall

MOST = 0.9  # AutoClip clips its 10th percentile upwards, that is nine of ten, at its most severe setting
HEAVY = 10.0  # an order of magnitude: beyond it even an outlier of 10x passes unnoticed as any other update
FAR = 3.0  # ours: a step three times shorter than the rate says, as far apart as the rates of a usual sweep
SCALE_FREE = ("adam", "adamw", "lamb", "lion", "muon", "adafactor", "rmsprop")
MIN_POINTS = 10


@rule(code="GR003", stages="LCV", severity="warning")
def check(case: Case) -> Outcome:
    limit = case.setting("clip_norm")
    shares = case.run.get("grad_norm/clipped_share")
    norms = case.grad_norm
    if limit is not None and not float(limit) > 0:
        return Clear("no clipping is configured")
    if shares is None and (norms is None or limit is None):
        return CouldNotCheck(tuple(n for n, v in (("clip_norm", limit), ("grad_norm/preclip", norms)) if v is None))
    ratio = math.nan
    if norms is not None and limit:
        settled = norms.values[len(norms) // 10 :]
        ratio = float(np.median(settled)) / float(limit)
    if shares is not None and len(shares.finite()) >= 1:
        series = shares.finite()
        share = float(series.values[len(series) // 10 :].mean())
    elif norms is not None and limit:
        series = norms
        share = float((norms.values[len(norms) // 10 :] > float(limit)).mean())
    else:
        return CouldNotCheck(("grad_norm/preclip",))
    if len(series) < MIN_POINTS:
        return CouldNotCheck((f"{MIN_POINTS} points of {series.name}",))
    if share < MOST:
        return Clear(f"{share:.0%} of the updates are clipped")
    optimizer = str(case.setting("optimizer") or "").lower()
    proportional = optimizer in ("sgd", "momentum", "nesterov")
    reasons: list[str] = []
    if ratio >= HEAVY:
        reasons.append(f"norms are {ratio:.3g} times the limit")
    if proportional and not ratio < FAR:  # norms that are not logged may be as far
        reasons.append(f"the step of {optimizer} is limit x learning rate")
    if case.loss is not None and len(case.loss) >= 30:
        fell, error = fall(case.loss.values[len(case.loss) // 2 :])
        # SGD-like harm: no fall beyond 2 standard errors in the second half
        if not math.isnan(fell) and fell <= 2 * error and ratio >= FAR and optimizer not in SCALE_FREE:
            reasons.append("the loss stands still")
    severity: Severity = "warning" if reasons else "note"
    first, last = int(series.updates[len(series) // 10]), int(series.updates[-1])
    evidence = [Evidence(series.name, (first, last), "share of updates clipped", share, MOST, series.source(-1))]
    if norms is not None and not math.isnan(ratio):
        evidence.append(
            Evidence("grad_norm/preclip", (first, last), "median norm over the limit", ratio, HEAVY, norms.source(-1))
        )
    settled = norms.values[len(norms) // 10 :] if norms is not None else np.zeros(0)
    facts: dict[str, object] = {"clipped_share": share, "ratio": ratio, "clip_norm": float(limit) if limit else None}
    if len(settled):
        facts |= {"typical_norm": float(np.median(settled)), "high_norm": float(np.quantile(settled, 0.95))}
    return Found(
        title=f"{share:.0%} of the updates are clipped"
        + ("" if math.isnan(ratio) else f" (norm {ratio:.3g} times the limit {float(limit or 0):g})")
        + (": " + ", ".join(reasons) if reasons else ""),
        evidence=tuple(evidence),
        confidence=0.85 if reasons else 0.45,  # that it is clipped is sure, that this does anything is not
        severity=severity,
        detail="" if reasons or proportional else "Under an adaptive optimizer with a falling loss this is harmless.",
        facts=facts,
    )
