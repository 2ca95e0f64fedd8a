"""Decay the learning rate to zero by the end of the run."""

from __future__ import annotations

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
    if planned and (known(case, "horizon_updates") or "lr_decay_iters" in case.run.raw_settings):
        old = case.setting("horizon_updates") or _raw_horizon(case)
        if old and old != planned:
            changes["horizon_updates"] = planned
    where = f" over {planned:,} updates" if planned else ""
    summary = f"Decay the learning rate to zero{where} ({key(case, 'schedule')}: {kind})."
    return (prescribe(case, changes, summary, "unsafe", REASON),)


def _raw_horizon(case: Case) -> float | None:
    setting = case.run.raw_settings.get("lr_decay_iters")
    return float(setting.value) if setting is not None and isinstance(setting.value, (int, float)) else None
