"""What one run of the benchmark is: the settings its configuration shows, and what its program does otherwise.

A fault is a change of one of the two. `Settings` are what the user wrote and what the log may print; `Bugs` are what no
configuration shows. Both are plain values, so that a planned run can be written down, compared and drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of a run, in optimizer updates.

    Attributes:
        warmup: updates of the linear ramp.
        warmup_as_share: whether the configuration writes it as a share of the updates.
        floor: learning rate at the end as a share of the peak.
        group_factors: parameter group -> factor of the learning rate; empty: one group.
        resume_at: the run is stopped after this update and resumed; None: in one go.
        resume_learning_rate: the learning rate asked for at the resume; None: the same.
        model: options of the family's model (width, layers, norm, activation ...).
        data: options of the family's data (train_samples, val_samples ...).
    """

    updates: int
    batch_size: int
    learning_rate: float
    optimizer: str = "adamw"
    accumulation: int = 1
    beta2: float = 0.999
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: int = 0
    warmup_as_share: bool = False
    floor: float = 0.0
    cycles: int = 1
    patience: int = 5
    factor: float = 0.5
    decay_share: float = 0.3
    clip_norm: float | None = 1.0
    label_smoothing: float = 0.0
    dropout: float = 0.0
    precision: str = "float32"
    shuffle: bool = True
    eval_every: int = 50
    log_every: int = 10
    group_factors: Mapping[str, float] = field(default_factory=dict)
    resume_at: int | None = None
    resume_learning_rate: float | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bugs:
    """What the program does otherwise than its configuration says.

    Attributes:
        warmup_cast: `int(share)`: a warm-up given as a share becomes no warm-up.
        horizon_factor: the schedule's length is this times the updates (counted in micro-batches: the accumulation).
        steps_per_update: how often the scheduler is stepped per update (per micro-batch: the accumulation).
        mirrored: past its end a cosine goes up again, as torch's CosineAnnealingLR does; else it stays at the floor.
        schedule_anew: a resume starts the schedule from its beginning.
        stale_rate: a resume loads the old learning rate over the one that was asked for.
        reduction: of the loss over the elements of a batch, "mean" or "sum".
        loss_divisor: the logged loss is divided by this (divided by the accumulation twice, or never).
        targets: "right"; "shifted" (one token further); "visible" (the target can be read off the input);
            "permuted" (targets of other samples).
        validation: "right"; "shifted" (another source); "trained" (validation samples are in the training set).
        frozen: the body gets no updates.
        bad_samples: samples whose loss is not a number (no target, a missing value).
        nan_filter: the loss goes through `nan_to_num`.
        scale_growth: gradients pass through float16 times a loss scale that doubles every so many updates and that
            nothing lowers when it overflows.
        wait: seconds that the loader lets each micro-batch wait.
        slowdown: share by which a step is slower at the end than at the start.
        memory_at: update at which an allocation fails.
        stop_at: update after which the run ends, whatever was planned.
    """

    warmup_cast: bool = False
    horizon_factor: float = 1.0
    steps_per_update: int = 1
    mirrored: bool = False
    schedule_anew: bool = False
    stale_rate: bool = False
    reduction: str = "mean"
    loss_divisor: float = 1.0
    targets: str = "right"
    validation: str = "right"
    frozen: bool = False
    bad_samples: int = 0
    nan_filter: bool = False
    scale_growth: int | None = None
    wait: float = 0.0
    slowdown: float = 0.0
    memory_at: int | None = None
    stop_at: int | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """A run but for its seed: who trains what how."""

    family: str
    trainer: str
    style: str
    settings: Settings
    bugs: Bugs = Bugs()

    def but(self, **changes: Any) -> Setup:
        """The same setup with settings and bugs changed, by the name that either has; `model` and `data` are merged."""
        settings: dict[str, Any] = {}
        bugs: dict[str, Any] = {}
        for name, value in changes.items():
            if name in ("model", "data"):
                settings[name] = {**getattr(self.settings, name), **value}
            else:
                (settings if hasattr(self.settings, name) else bugs)[name] = value
        return replace(self, settings=replace(self.settings, **settings), bugs=replace(self.bugs, **bugs))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def setup_from(row: Mapping[str, Any]) -> Setup:
    """The setup that `as_dict` wrote, also after a journey through JSON."""
    return Setup(**{**row, "settings": Settings(**row["settings"]), "bugs": Bugs(**row["bugs"])})
