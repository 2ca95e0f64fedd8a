"""Show the loss as it is, then treat the NaN that was hidden."""

from __future__ import annotations

from unstuck.config.patch import Change
from unstuck.diagnose.case import Case
from unstuck.diagnose.rule import Found, Remedy
from unstuck.remedies import loss_not_finite
from unstuck.remedies._common import advice

FILTER = "logging_nan_inf_filter"  # transformers' TrainingArguments; replaces NaN and infinity by the mean so far


def remedies(case: Case, found: Found) -> tuple[Remedy, ...]:
    why = "it replaces a loss that is not finite, so that a dead run reads as progress (transformers TrainingArguments)"
    setting = case.run.raw_settings.get(FILTER)
    summary = f"Set {FILTER} to false, so that the log shows the loss as it is."
    shown = (
        Remedy(summary, "safe", (Change(FILTER, setting.value, False),), why)
        if setting is not None and setting.value is True
        else advice("Log the loss unfiltered: NaN must read NaN.", why)
    )
    return (*loss_not_finite.remedies(case, found), shown)
