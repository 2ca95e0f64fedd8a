"""Stop at the best validation loss."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe

COMMON_DROPOUT = 0.1  # GPT-2 and BERT (arXiv 1810.04805)


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    best = fact(found, "best_update")
    answer = [stop_at(case, found)]
    if case.setting("dropout") == 0.0:
        why = "0.1 is what GPT-2 and BERT used; dropout pays where text is seen many times (arXiv 1810.04805)"
        summary = f"Set {key(case, 'dropout')} to {COMMON_DROPOUT:g}."
        answer.append(prescribe(case, {"dropout": COMMON_DROPOUT}, summary, "unsafe", why))
    if best:
        answer.append(
            advice(f"Use the checkpoint of update {best:,.0f}; more training data helps more than any setting.")
        )
    return tuple(answer)


def stop_at(case: Case, found: Found) -> Remedy:
    """Train no longer than to the best validation loss."""
    best = fact(found, "best_update")
    if not best or best < 1:
        return advice("Stop training when validation has not improved over several evaluations.")
    level = fact(found, "best_loss")
    reached = f" ({level:.4g} there)" if level is not None else ""
    reason = f"validation was best at update {best:,.0f}{reached}; what was trained after it made it worse"
    changes = {"updates": round(best)}
    return prescribe(case, changes, f"Stop at update {best:,.0f} ({key(case, 'updates')}).", "safe", reason)
