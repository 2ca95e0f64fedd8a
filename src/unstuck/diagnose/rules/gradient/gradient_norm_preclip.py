"""The logged gradient norm is the one before clipping.

Finds
Logged norms above the configured limit: `clip_grad_norm_` returns the norm before it clips, so these are no failure
of clipping.

Why it matters
"The norm is 18 although we clip at 2" was taken for a failure in incident I2, and the learning rate was lowered for it.

Evidence needed
The clip limit and the logged norms.

Not when
No logged norm exceeds the limit: then the log does not tell which norm it is, and nothing needs explaining. Nor when
the record itself says how many updates were clipped: then nobody takes a norm above the limit for a failure.

Remedy
None needed; log both norms if the difference matters.

References
PyTorch documentation of `torch.nn.utils.clip_grad_norm_`: returns the total norm of the parameters (viewed as one
vector), computed before clipping. Neural operator, incident I2.
"""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

# Norms printed with 2 digits round up to 1 % above the limit; more is not rounding.
ROUNDING = 1.01


@rule(code="GR006", stages="LC", severity="note")
def check(case: Case) -> Outcome:
    limit, norms = case.setting("clip_norm"), case.grad_norm
    missing = tuple(n for n, v in (("clip_norm", limit), ("grad_norm/preclip", norms)) if v is None)
    if limit is None or norms is None:
        return CouldNotCheck(missing)
    if not float(limit) > 0:
        return Clear("no clipping is configured")
    if case.run.get("grad_norm/clipped_share") is not None:
        return Clear("the record itself says how many updates were clipped")
    above = norms.values > ROUNDING * float(limit)
    if not above.any():
        return Clear("no logged norm exceeds the limit")
    index = int(norms.values.argmax())
    return Found(
        title=f"Logged norms reach {norms.values[index]:.3g} with clip {float(limit):g}: norms before clipping",
        evidence=(
            Evidence(
                "grad_norm/preclip",
                (int(norms.updates[0]), int(norms.updates[-1])),
                "largest logged norm, against the limit",
                float(norms.values[index]),
                float(limit),
                norms.source(index),
            ),
        ),
        confidence=0.97,
        detail="Exceeding the limit is no failure of clipping: after it every update had at most the limit's norm.",
        facts={"share_above": float(above.mean()), "largest": float(norms.values[index]), "clip_norm": float(limit)},
    )
