"""Relative errors of fields, ||prediction - target|| / ||target||: predicting zero gives 1, whatever the field."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.own_keys import own_settings
from unstuck.diagnose.rule import Clear, Evidence, Found
from unstuck.runs import Series

LOSS_KEYS = frozenset({"loss", "loss_fn", "loss_function", "loss_type", "loss_name", "criterion", "objective",
                       "train_loss", "training_loss", "metric"})  # fmt: skip
RELATIVE = re.compile(r"\brel(?:ative)?[ _-]?(?:l[12]|h1|err|lp|loss|norm)", re.I)
LEAST_EVALUATIONS = 5  # ours
# Half of the error of predicting zero, which leaves a quarter of the field's energy out. Fourier neural operators end
# at 0.01 to 0.19 on Navier-Stokes, U-Nets and ResNets at up to 0.28 (Li et al., arXiv 2010.08895, table 1).
NEAR = 0.5
MOST = 1.1  # a relative error above it is of another unit, or of a model that blew up


@dataclass(frozen=True, slots=True)
class Standing:
    """A relative error that has not come down: its lowest value, and the place of that in the series."""

    lowest: float
    best: int


def is_relative(case: Case, series: Series) -> bool:
    """Whether a name in the log, a unit or a setting says that the loss is a relative error."""
    named = (series.logged_as or "", series.unit or "", *(str(s.value) for s in own_settings(case.run, LOSS_KEYS)))
    return any(RELATIVE.search(text.replace("/", " ").replace("_", " ")) for text in named)


def standing_of(val: Series) -> Standing | None:
    """A validation error near that of predicting zero, whose best lies in the first half; None where that is not so."""
    best = int(np.argmin(val.values))
    lowest = float(val.values[best])
    stands = NEAR <= lowest <= MOST and best < len(val) // 2 and float(val.values[-1]) <= MOST
    return Standing(lowest, best) if stands else None


def judge_fields(case: Case) -> Found | Clear | None:
    """Whether a relative error of fields stands nearer to that of predicting zero than to that of a model; None where
    nothing says that the loss is one."""
    val = case.val
    if val is None or len(val) < LEAST_EVALUATIONS or not is_relative(case, val):
        return None
    standing = standing_of(val)
    if standing is None:
        return Clear("the relative error leaves that of predicting zero")
    lowest, best = standing.lowest, standing.best
    where = "epoch" if case.run.axis == "epoch" else "update"
    return Found(
        title=f"The relative error is {lowest:.4g} at best, at {where} {val.updates[best]:,} of {val.updates[-1]:,}, "
        "and stands there: predicting zero gives 1",
        evidence=(
            Evidence(
                val.name,
                (int(val.updates[best]), int(val.updates[-1])),
                "lowest relative error; 1 is that of predicting zero",
                lowest,
                NEAR,
                val.source(best),
            ),
        ),
        confidence=0.7,
        severity="warning",
        detail=f"{lowest**2:.0%} of the field's energy is missing. Fourier neural operators end at 0.01 to 0.19 on "
        "Navier-Stokes (arXiv 2010.08895, table 1).",
        facts={"chance": 1.0, "level": lowest, "first_loss": float(val.values[0]), "share": 1.0},
    )
