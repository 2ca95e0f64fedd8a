"""Decay the learning rate to zero by the end of the run."""

from __future__ import annotations

from unstuck.config.dialects import in_dialect
from unstuck.config.patch import Change
from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies._common import key, known, planned_updates, prescribe

REASON = (
    "a decay to zero ends lower than a constant rate, whose noise stays (arXiv 2405.18392: a linear cool-down of a "
    "fifth of the run matches a cosine; arXiv 2502.15938: linear to zero)"
)
# What each dialect has: ours and transformers' WSD keep the peak and cool down; nanoGPT's switch is a cosine.
KIND = {"unstuck": "wsd", "nanogpt": "cosine"}


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    kind = KIND.get(case.run.dialect, "linear")
    planned = planned_updates(case, found)
    changes: dict[str, object] = {"schedule": kind}
    if planned and known(case, "horizon_updates"):
        # decay_lr=False hides nanoGPT's horizon, which counts again once the decay is on
        old = case.setting("horizon_updates") or _written(case, key(case, "horizon_updates"))
        if old and old != planned:
            changes["horizon_updates"] = planned
    where = f" over {planned:,} updates" if planned else ""
    theirs = in_dialect(Change("schedule", None, kind), case.run)
    summary = f"Decay the learning rate to zero{where} ({theirs.key}: {theirs.new})."
    return (prescribe(case, changes, summary, "unsafe", REASON),)


def _written(case: Case, key: str) -> float | None:
    setting = case.run.raw_settings.get(key)
    return float(setting.value) if setting is not None and isinstance(setting.value, (int, float)) else None
