"""`data.kind: fields`: simulated fields for neural operators."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from unstuck.config.sections.base import Section


class FieldsConfig(Section):
    kind: Literal["fields"] = Field("fields", description="pairs of fields, one step of time apart")
    source: str = Field(
        "navier-stokes",
        description="navier-stokes (simulated here, then cached), a file or folder of fields (.npy, .npz, .pt, .h5, "
        ".mat of version 7.3), or hub:OWNER/NAME",
    )
    train_trajectories: int = Field(
        100, ge=1, description="trajectories to train on, apart from all others; of files: at most so many"
    )
    validation_trajectories: int = Field(20, ge=1, description="trajectories for the validation during training")
    test_trajectories: int = Field(20, ge=1, description="trajectories that only `unstuck evaluate` looks at")
    pairs_per_trajectory: int | None = Field(
        10, ge=1, description="pairs taken from a trajectory, evenly over its time; null: every one it has"
    )
    symmetries: bool = Field(
        False,
        description="train on random images of the fields under the symmetries of Navier-Stokes with its forcing "
        "(shifts along the diagonal, a half turn, a reflection); wrong for fields of anything else",
    )
    viscosity: float = Field(1e-3, gt=0, description="navier-stokes: nu")
    points: int = Field(64, ge=8, le=1024, description="navier-stokes: grid points in each direction")
    step: float = Field(1.0, gt=0, description="navier-stokes: time units from input to target")
    steps: int = Field(50, ge=1, description="navier-stokes: steps in a trajectory")
    solver_dt: float = Field(0.05, gt=0, description="navier-stokes: longest step of the solver, in time units")
    seed: int = Field(0, ge=0, description="draws initial fields and who is held out; not the seed of a run")

    @model_validator(mode="after")
    def _enough_steps(self) -> FieldsConfig:
        pairs = self.pairs_per_trajectory
        if self.source == "navier-stokes" and pairs is not None and pairs > self.steps:
            raise ValueError(
                f"pairs_per_trajectory {pairs} is more than the steps {self.steps} of a trajectory; "
                f"set data.pairs_per_trajectory={self.steps}"
            )
        return self
