"""The recipe: every setting of a run, its type, its default and what it means.

The descriptions are printed above each key by `unstuck train RECIPE --print-config`. Time is counted in optimizer
updates everywhere; a share is written as a share (`warmup_share`), a count as a count (`warmup_updates`), never one
key for both, because that ambiguity is incident I3 (int(0.1) = 0).
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from unstuck.config.sections.base import Section
from unstuck.config.sections.gpt import GPTConfig
from unstuck.config.sections.kinds import AnyData, AnyModel, AnyTask
from unstuck.config.sections.tasks import CausalTask
from unstuck.config.sections.text import TextConfig


class GroupConfig(Section):
    """One parameter group. The first group whose pattern matches a tensor's name takes it."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$", description="name of the group in logs: lr/<name>")
    pattern: str = Field(description="regular expression searched in the tensor's name")
    lr_factor: float = Field(1.0, gt=0, description="multiplies the base learning rate for this group")
    weight_decay: float | None = Field(None, ge=0, description="null: the optimizer's weight decay")
    optimizer: Literal["muon", "adamw", "lamb"] | None = Field(
        None, description="null: muon for matrices when the optimizer is muon, adamw for the rest; lamb when it is lamb"
    )
    optional: bool = Field(
        False, description="true: the pattern may take nothing (it names a part of the model that can be switched off)"
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"pattern '{pattern}' is not a regular expression ({error}); see `pydoc re`") from None
        return pattern


class OptimizerConfig(Section):
    kind: Literal["muon", "adamw", "lamb"] = Field(
        "muon",
        description="muon: matrices of the blocks by Muon, the rest by AdamW; adamw: everything by AdamW; lamb: "
        "everything by LAMB (for very large batches)",
    )
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW or LAMB (LAMB: about 1e-2)")
    muon_learning_rate: float = Field(0.03, gt=0, description="peak learning rate of Muon; published scale 0.02-0.05")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW beta1")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW beta2")
    eps: float = Field(1e-8, gt=0, description="AdamW epsilon")
    muon_momentum: float = Field(0.95, ge=0, lt=1, description="Muon momentum (Nesterov)")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="decoupled weight decay of matrices; norms, biases and "
        "embeddings are never decayed unless a group says so",
    )
    groups: tuple[GroupConfig, ...] = Field(
        (),
        description="ordered parameter groups; what no pattern takes goes to "
        "the default groups (matrices, embeddings, head, scalars)",
    )

    @field_validator("groups")
    @classmethod
    def _names_differ(cls, groups: tuple[GroupConfig, ...]) -> tuple[GroupConfig, ...]:
        names = [group.name for group in groups]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two groups are named '{twice[0]}'; give each its own name")
        return groups


class ScheduleConfig(Section):
    kind: Literal["constant", "linear", "cosine", "wsd", "polynomial", "inverse_sqrt", "plateau", "restarts"] = Field(
        "wsd", description="shape after the warm-up"
    )
    warmup_updates: int | None = Field(None, ge=0, description="length of the linear warm-up in optimizer updates")
    warmup_share: float | None = Field(
        None,
        ge=0,
        le=1,
        description="length of the warm-up as a share of the horizon; give this or warmup_updates, not both",
    )
    horizon_updates: int | None = Field(
        None, ge=1, description="optimizer updates the schedule spans; null: training.updates"
    )
    floor: float = Field(0.0, ge=0, le=1, description="learning rate at the end as a share of the peak")
    decay_share: float = Field(0.5, gt=0, le=1, description="wsd: share of the horizon spent in linear decay")
    power: float = Field(2.0, gt=0, description="polynomial: exponent")
    cycles: int = Field(1, ge=1, description="restarts: number of cosine cycles")
    patience: int = Field(5, ge=1, description="plateau: evaluations without improvement before the LR is lowered")
    factor: float = Field(0.5, gt=0, lt=1, description="plateau: the LR is multiplied by this")

    @model_validator(mode="after")
    def _one_warmup(self) -> ScheduleConfig:
        if self.warmup_updates is not None and self.warmup_share is not None:
            raise ValueError("warmup_updates and warmup_share are both set; keep one and set the other to null")
        return self


class TrainingConfig(Section):
    updates: int | None = Field(300, ge=1, description="optimizer updates to train; null: from epochs")
    epochs: float | None = Field(None, gt=0, description="passes over the training windows; used when updates is null")
    batch_size: int = Field(12, ge=1, description="windows per micro-batch")
    accumulation: int = Field(1, ge=1, description="micro-batches per optimizer update")
    tokens_per_update: int | None = Field(
        None, ge=1, description="tokens per optimizer update: accumulation follows from it; null: accumulation counts"
    )
    clip_norm: float | None = Field(
        1.0, gt=0, description="gradient norm limit; null: no clipping (the norm is logged before clipping in any case)"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 autocast where the device computes it fast, else float32"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: int | None = Field(
        None, ge=1, description="CPU threads; null: what OMP_NUM_THREADS says, else all cores this process may use"
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto", description="torch.compile; auto: only where the planned updates repay its start-up cost"
    )
    sharding: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="how the processes of torchrun share the model; ddp: each holds all of it; fsdp: each holds a part "
        "of weights, gradients and moments. One process needs neither",
    )

    @model_validator(mode="after")
    def _length(self) -> TrainingConfig:
        if (self.updates is None) == (self.epochs is None):
            raise ValueError("give either updates or epochs, and set the other to null")
        return self


class EvaluationConfig(Section):
    every_updates: int = Field(50, ge=1, description="optimizer updates between evaluations; one more at the end")
    max_tokens: int | None = Field(None, ge=1, description="validation tokens per evaluation; null: all of them")
    patience: int | None = Field(None, ge=1, description="stop after so many evaluations without a new best")
    min_improvement: float = Field(0.0, ge=0, description="nats per token that count as a new best")
    layer_gradients: bool = Field(
        False, description="log the gradient norm of every layer at each evaluation: grad_norm/layer/<name>"
    )


class CheckpointConfig(Section):
    every_updates: int | None = Field(None, ge=1, description="updates between checkpoints; null: best and last only")
    keep: int = Field(2, ge=1, description="periodic checkpoints kept; the best one is kept besides")


class Config(Section):
    """A whole recipe."""

    name: str = Field(
        "run", pattern=r"^[^/\\\s][^/\\]*$", description="name of the run; the run folder starts with it (no slash)"
    )
    seed: int = Field(1, ge=0, description="seeds weights, data order and dropout")
    runs_folder: str = Field("runs", description="folder that receives the run folders")
    start_from: str | None = Field(
        None,
        description="a checkpoint or run folder whose weights this run starts from; "
        "optimizer, schedule and data start anew",
    )
    task: AnyTask = CausalTask()
    data: AnyData = TextConfig()
    model: AnyModel = GPTConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    inject_fault: Literal["warmup-cast-to-zero", "resume-keeps-old-lr"] | None = Field(
        None,
        description="puts a known bug of a real project into the loop, for `unstuck demo` and benchmarks only; "
        "diagnosis never reads this key",
    )
