"""Stated numbers cannot all be true.

Finds
An effective batch that no product of batch, accumulation and devices gives; more steps per epoch than the data has; a
warm-up share and a warm-up count that differ; nodes, devices and world size that do not multiply; tokens per update
that do not follow from batch and context, as stated or as the log counts them; a learning rate that was scaled for
another batch than the stated one.

Why it matters
Schedules, comparisons and conclusions rest on these counts. In incident I3 the owner reckoned with a batch of 72 where
the scaled learning rate, 8.44e-05 = 1e-4 x 24 x 3 x 3 / 256, shows 216; in I1 with a warm-up of 4,250 of 84,992.

Evidence needed
Two numbers that depend on each other, both stated in the configuration, printed in the log or counted in its series.

Not when
Devices that nothing states explain the ratio (a whole number of them); the total is stated in tokens; a count is one
of micro-batches or of updates, rounded either way; steps per epoch are fewer than the data has (a cap on purpose); a
part of the data is held out; the first number of two is a default that the program overrides.

Remedy
Find out which of the numbers the program uses, and correct the other one; the arithmetic names the factor between them.

References
Incidents I1 and I3. Goyal et al., arXiv 1706.02677 (scaling by batch / 256). nanoGPT `train.py` (tokens per iteration).
"""

from __future__ import annotations

from unstuck.diagnose.arithmetic import checks
from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

ORDER = {"warning": 0, "note": 1}


@rule(code="SE003", stages="LC", severity="warning")
def check(case: Case) -> Outcome:
    compared, wrong = checks(case)
    if not compared:
        return CouldNotCheck(("two counts that depend on each other, such as effective batch and batch size",))
    if not wrong:
        return Clear(f"{', '.join(compared)}: the counts agree")
    wrong.sort(key=lambda c: (ORDER[c.severity], -c.confidence))
    first = wrong[0]
    evidence = tuple(
        Evidence(
            c.key, (0, int(case.run.updates)), "as stated, against what the others give", c.stated, c.implied, c.source
        )
        for c in wrong
    )
    more = " ".join(f"{c.says}." for c in wrong[1:])
    facts: dict[str, object] = {"key": first.key, "stated": first.stated, "implied": first.implied}
    return Found(first.says, evidence, first.confidence, first.severity, more, facts)
