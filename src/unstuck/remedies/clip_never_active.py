"""A limit that sound updates stay below and the others do not; or the call that is missing."""

from __future__ import annotations

from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import advice, fact, key, prescribe, two_digits

# Twice the typical norm leaves sound updates as they are and cuts what grows by orders of magnitude.
ABOVE_TYPICAL = 2.0


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    name, typical = key(case, "clip_norm"), fact(found, "typical_norm")
    if found.facts.get("skipped"):
        said = f"Apply the limit: call clip_grad_norm_ with {name} after the last backward and before the update."
        return (advice(said),)
    if not typical:
        return (advice(f"Set {name} to about twice the usual gradient norm."),)
    wanted = two_digits(ABOVE_TYPICAL * typical)
    reason = f"twice the usual norm of {typical:.2g}: sound updates keep their size, the large ones do not"
    return (prescribe(case, {"clip_norm": wanted}, f"Clip gradients at {wanted:g} ({name}).", "safe", reason),)
