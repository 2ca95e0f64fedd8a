"""One remedy per file, named like the rule it answers: what to change, by how much, why, and how safe it is.

`remedies/<rule_name>.py` defines `remedies(case, found) -> tuple[Remedy, ...]`, best first. A rule without such a file
has no remedy yet. A remedy is bounded: it names old and new value, the reason of the amount and where the amount comes
from. It patches only settings that are known (`run.settings`), or known to be unset; without them it is advice.

Facts (`Found.facts`) that the remedies read. All are optional: a missing one turns the patch into advice.

| rule | facts |
|---|---|
| lr-too-high | `stable_lr` (highest rate at which the loss was still stable), `applied_lr` (rate when the trouble began), `published_lr`, `group` |
| lr-too-low | `published_lr`, `applied_lr` (peak applied), `group` |
| lr-not-as-configured | `factor` (applied / expected), `cause` (`accumulation`, `world_size`, `micro_batches`, `per_epoch`, `group_factor`, `batch_scaling`, `resume`), `expected_lr`, `horizon_applied` (updates), `group`, `group_factor` |
| lr-stale-after-resume | `asked_lr` (or `expected_lr`), `applied_lr`, `update` |
| lr-group-starved | `group`, `starved_factor` (its rate / the base's) |
| warmup-too-long | `warmup_applied` (updates) |
| schedule-constant | `flat_from` (update) |
| schedule-wrong-horizon | `horizon_applied` (updates), `factor` (applied / planned horizon), `planned_updates`, `cause` as above |
| gradient-exploding | `typical_norm` (before it grew), `first_update` |
| clip-saturated | `clipped_share`, `typical_norm` (median pre-clip norm), `high_norm` (95th percentile) |
| loss-plateau | `since` (update) |
| loss-spike | `update`, `recovered` (bool), `applied_lr` |
| loss-diverged | `best_update`, `applied_lr` (when it left) |
| loss-not-finite | `first_update`, `wasted_updates`, `applied_lr` |
| loss-zero-by-filter | `first_update` |
| overfitting, best-checkpoint-passed | `best_update`, `best_loss` |
| undertrained | `more_updates` (projected to be worth it), `projected_loss` |
"""

# ruff: noqa: E501  (the table)

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unstuck.diagnose.case import Case
    from unstuck.diagnose.rule import Found, Remedy


def remedies_for(case: Case, rule_name: str, found: Found) -> tuple[Remedy, ...]:
    """The remedies of the file named like the rule, each once; empty where there is none."""
    module = f"{__name__}.{rule_name.replace('-', '_')}"
    if importlib.util.find_spec(module) is None:
        return ()
    answer: tuple[Remedy, ...] = importlib.import_module(module).remedies(case, found)
    return tuple(remedy for place, remedy in enumerate(answer) if remedy not in answer[:place])
