"""A dead run that reads as progress: loss exactly 0 because non-finite values are filtered out.

Finds
Training losses of exactly 0 from some update to the end, after a level far above 0, or a sudden fall, while the
gradient norm is NaN or 0.

Why it matters
The Hugging Face Trainer (`logging_nan_inf_filter`, on by default) leaves NaN losses out of the logged mean, so a run
whose weights are NaN logs 0.0. The curve looks like a triumph.

Evidence needed
The training loss; the gradient norm makes it certain.

Not when
The loss came down to 0 gradually: a memorised set, printed with few digits.

Remedy
Set `logging_nan_inf_filter=False`, go back to the last checkpoint before the zeros, find the NaN.

References
transformers `TrainingArguments.logging_nan_inf_filter`; `Trainer._maybe_log_save_evaluate` divides a sum that is
reset at each log by the steps since.
"""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, rule

# A log prints 4 to 6 digits: a loss that came down to 0 by learning passed through small values first. Ten times
# smaller than the level within one logged interval is no learning curve (an e-fold per interval is already steep).
SUDDEN = 0.1


@rule(
    code="LO007",
    stages="L",
    severity="error",
    explains=("loss-implausibly-low", "loss-plateau", "gradient-exploding"),
)
def check(case: Case) -> Outcome:
    loss = case.run.get("train/loss")
    if loss is None or len(loss) < 3:
        return CouldNotCheck(("train/loss",))
    values = loss.values
    norm = case.run.get("grad_norm/preclip")
    dead_norm = np.zeros(len(loss), dtype=bool)
    if norm is not None and len(norm):
        where = np.clip(np.searchsorted(norm.updates, loss.updates, side="right") - 1, 0, None)
        same = np.abs(norm.updates[where] - loss.updates) <= np.median(np.diff(loss.updates))
        dead_norm = same & (np.isnan(norm.values[where]) | (norm.values[where] == 0.0))
    # the index after which every loss is exactly 0
    zeros = values == 0.0
    start = len(values)
    while start > 0 and zeros[start - 1]:
        start -= 1
    if start == len(values):
        # no zeros at the end: a fall below a tenth at the very update at which the norm dies, and stays dead
        for i in np.flatnonzero(dead_norm):
            if i > 0 and 0 <= values[i] < SUDDEN * values[i - 1] and dead_norm[i:].all():
                start = int(i)
                break
        else:
            return Clear("no loss of exactly 0 at the end")
    before = float(values[start - 1]) if start else np.nan
    usual = float(np.nanmedian(values[:start])) if start else np.nan
    dead = bool(dead_norm[start:].all())
    if start == 0 and not dead:
        return CouldNotCheck(("grad_norm/preclip: every loss is 0",))
    if not dead and not (start and before > SUDDEN * usual and len(values) - start >= 3):
        return Clear("the loss came down to 0 gradually")
    update, last = int(loss.updates[min(start, len(loss) - 1)]), int(loss.updates[-1])
    evidence = [
        Evidence("train/loss", (update, last), "exactly 0 to the end, after", before, None, loss.source(start)),
    ]
    if norm is not None and dead:
        evidence.append(
            Evidence("grad_norm/preclip", (update, last), "NaN or 0 at each of these", float(np.nan), None, None)
        )
    return Found(
        title=f"Loss reads {values[start]:g} from update {update} on, but the run is dead: "
        + ("the gradient norm is NaN or 0" if dead else f"it fell from {before:.3g} at once"),
        evidence=tuple(evidence),
        confidence=0.98 if dead else 0.8,
        facts={"first_update": update, "wasted_share": (last - update) / max(1, last)},
    )
