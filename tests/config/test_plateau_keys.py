"""Which `patience` is the plateau scheduler's, and the rest of its keys."""

from __future__ import annotations

from typing import Any

import pytest

from unstuck.config.dialects import canonical_settings, guess_dialect
from unstuck.runs import Setting, Source


def read(written: dict[str, Any]) -> dict[str, Any]:
    raw = {key: Setting(value, key, Source("config.yaml")) for key, value in written.items()}
    return {name: setting.value for name, setting in canonical_settings(raw, guess_dialect(raw)).items()}


def test_a_bare_patience_beside_a_plateau_schedule_is_the_schedulers():
    assert read({"schedule": "ReduceLROnPlateau", "patience": 15})["patience"] == 15


@pytest.mark.parametrize(
    "written",
    [
        {"schedule": "cosine", "patience": 15},
        {"patience": 15},
        {"schedule": "plateau", "patience": 15, "early_stopping": True},
        {"schedule": "plateau", "patience": "soon"},
    ],
)
def test_any_other_bare_patience_may_be_early_stoppings(written: dict[str, Any]):
    assert "patience" not in read(written)


def test_the_schedulers_own_keys():
    nested = {
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs.patience": 4,
        "lr_scheduler_kwargs.factor": 0.5,
        "lr_scheduler_kwargs.threshold": 1e-3,
        "lr_scheduler_kwargs.cooldown": 2,
    }
    found = read(nested)
    assert [found[f"plateau_{name}"] for name in ("factor", "threshold", "cooldown")] == [0.5, 1e-3, 2]
    assert (found["schedule"], found["patience"]) == ("plateau", 4)
    assert read({"scheduler": "plateau", "scheduler.factor": 0.1, "patience": 3})["plateau_factor"] == 0.1
