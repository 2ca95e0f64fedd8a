"""The learning rate that a configuration implies at each update, under every counting convention in common use.

The value is `base LR x group factor x multiplier(update)`. Frameworks agree on the shapes and disagree by one step and
on how a warm-up joins the decay; those disagreements are conventions, not faults, and are listed here:

- nanoGPT counts iterations from 0 and ramps by (it + 1) / (warmup + 1) (train.py today), earlier by it / warmup;
- transformers ramps by step / warmup and decays by (step - warmup) / (steps - warmup) (`optimization.py`); the trainer
  logs the value that belongs to the next step or, since 5.x, to the step just made;
- unstuck ramps by (update + 1) / warmup, update counted from 0, and logs the LR that was applied;
- plain scripts put the decay over the whole run under the ramp (progress step / steps).

Nothing in here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from unstuck.config.dialects import PER_EPOCH
from unstuck.diagnose.case import Case
from unstuck.diagnose.resumes import sets_learning_rate
from unstuck.runs.logfile import number

Floats = npt.NDArray[np.float64]

DECAYING = frozenset({"linear", "cosine", "polynomial", "wsd"})
KINDS = DECAYING | {"constant", "inverse_sqrt", "restarts"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A schedule without its peak: warm-up and horizon in schedule steps, floor as a share of the peak."""

    kind: str
    warmup: float = 0.0
    horizon: float | None = None
    floor: float = 0.0
    decay_share: float = 0.5  # wsd: unstuck's default
    power: float = 1.0
    cycles: int = 1


@dataclass(frozen=True, slots=True)
class Convention:
    """How a framework counts: the schedule step at update u is u + shift; `ramp`, `progress`: as in the module text."""

    shift: int
    ramp: str = "(i+1)/w"  # "i/w", "(i+1)/w", "(i+1)/(w+1)"
    progress: str = "after"  # "after": (i-w)/(h-w); "whole": i/h; "late": (i-w)/h
    clamp: bool = False  # True: max(floor, decay); False: floor + (1 - floor) decay


SHIFTS = (-1, 0, -2, 1)
RAMPS = ("(i+1)/w", "i/w", "(i+1)/(w+1)")
PROGRESS = ("after", "whole", "late")


def conventions(shape: Shape, shifts: Sequence[int] = SHIFTS) -> Iterator[Convention]:
    """The conventions that differ for this shape, the most common first."""
    ramps = RAMPS if shape.warmup > 0 else RAMPS[:1]
    has_progress = shape.kind in {"linear", "cosine", "polynomial", "restarts", "wsd"}
    progresses = PROGRESS if has_progress and shape.warmup > 0 else PROGRESS[:1]
    clamps = (False, True) if shape.floor > 0 and has_progress else (False,)
    for progress in progresses:
        for clamp in clamps:
            for ramp in ramps:
                for shift in shifts:
                    yield Convention(shift, ramp, progress, clamp)


def multiplier(shape: Shape, step: Floats, convention: Convention) -> Floats:
    """The schedule's multiplier, 0 to 1.

    Args:
        shape: kind and lengths in schedule steps.
        step: float64 of shape (n,), schedule steps *before* the convention's shift.
        convention: how steps are counted.

    Returns:
        float64 of shape (n,).
    """
    i = np.maximum(step + convention.shift, 0.0)
    w = max(shape.warmup, 0.0)
    out = _after_warmup(shape, i, w, convention)
    if w > 0:
        if convention.ramp == "i/w":
            ramp = i / w
        elif convention.ramp == "(i+1)/w":
            ramp = (i + 1) / w
        else:
            ramp = (i + 1) / (w + 1)
        out = np.where(i < w, np.minimum(ramp, 1.0), out)
    return out


def _after_warmup(shape: Shape, i: Floats, w: float, convention: Convention) -> Floats:
    if shape.kind == "inverse_sqrt":
        # Without a warm-up the time scale is 10,000 (transformers' get_inverse_sqrt_schedule, and ours).
        decay = np.sqrt(w / np.maximum(i, w)) if w > 0 else np.sqrt(1e4 / (i + 1 + 1e4))
        return np.maximum(shape.floor, decay)
    if shape.kind == "constant" or shape.horizon is None:
        return np.ones_like(i)
    h = shape.horizon
    if convention.progress == "after":
        p = (i - w) / max(h - w, 1.0)
    elif convention.progress == "whole":
        p = i / max(h, 1.0)
    else:
        p = (i - w) / max(h, 1.0)
    p = np.clip(p, 0.0, 1.0)
    if shape.kind == "cosine":
        decay = 0.5 * (1 + np.cos(np.pi * p))
    elif shape.kind == "linear":
        decay = 1 - p
    elif shape.kind == "polynomial":
        decay = (1 - p) ** shape.power
    elif shape.kind == "wsd":
        length = max(h - max(w, h - round(shape.decay_share * h)), 1.0)
        decay = np.clip((h - i) / length, 0.0, 1.0)
    else:  # restarts
        decay = np.where(p >= 1, 0.0, 0.5 * (1 + np.cos(np.pi * ((p * shape.cycles) % 1.0))))
    if convention.clamp:
        return np.maximum(shape.floor, decay)
    return shape.floor + (1 - shape.floor) * decay


@dataclass(frozen=True, slots=True)
class Plan:
    """What the configuration says about the learning rate of one parameter group.

    Attributes:
        base: peak LR before the group's factor.
        factor: the factor declared for this group; None where the log does not say which group it shows.
        factors: every declared factor by group.
        kind: schedule, one of KINDS.
        warmup_updates, warmup_share: as configured; both None: no warm-up.
        horizon: length of the schedule in updates, as configured or, failing that, the planned updates.
        updates: planned updates, None where unknown.
        micro_batches_per_epoch: of one device.
        resumed_at: updates at which the run was resumed.
        bases_before: learning rates that a resume replaced.
        trusted_updates: the log surely counts optimizer updates.
    """

    base: float
    kind: str
    factor: float | None = 1.0
    factors: dict[str, float] = field(default_factory=dict)
    warmup_updates: float | None = None
    warmup_share: float | None = None
    horizon: float | None = None
    updates: float | None = None
    floor: float = 0.0
    decay_share: float = 0.5
    power: float = 1.0
    cycles: int = 1
    accumulation: int = 1
    world_size: int | None = None
    batch_size: int | None = None
    micro_batches_per_epoch: float | None = None
    epochs: float | None = None
    resumed_at: tuple[int, ...] = ()
    bases_before: tuple[float, ...] = ()
    trusted_updates: bool = True

    @property
    def warmup(self) -> float:
        """Warm-up in updates, as configured; a share is one of the horizon."""
        if self.warmup_updates is not None:
            return float(self.warmup_updates)
        if self.warmup_share is not None and self.horizon:
            return self.warmup_share * self.horizon
        return 0.0

    @property
    def updates_per_epoch(self) -> float | None:
        per_epoch = self.micro_batches_per_epoch
        return per_epoch / self.accumulation if per_epoch else None

    def shape(self, warmup: float | None = None, horizon: float | None = None) -> Shape:
        """The schedule's shape, with other lengths where given."""
        return Shape(
            self.kind,
            self.warmup if warmup is None else warmup,
            self.horizon if horizon is None else horizon,
            self.floor,
            self.decay_share,
            self.power,
            self.cycles,
        )

    def expected(self, updates: Floats) -> Floats:
        """LR of this group at `updates` (shape (n,), counted from 1), in unstuck's own convention."""
        factor = 1.0 if self.factor is None else self.factor
        return self.base * factor * multiplier(self.shape(), updates, Convention(-1))


# Formats whose step is an optimizer update by construction; elsewhere a script may count micro-batches.
UPDATE_FORMATS = ("unstuck", "nanogpt", "trainer", "hugging", "transformers", "lightning", "megatron", "made-up")


def plans(case: Case, group: str) -> tuple[Plan, ...]:
    """The plans that the configuration allows for `group` (two where Muon's and AdamW's LR may be meant).

    Empty where the base LR or the schedule is unknown.
    """
    run = case.run
    kind = case.setting("schedule")
    if kind not in KINDS or _is_factor(run.settings["schedule"].written):
        return ()
    factors = {str(k): float(v) for k, v in (case.setting("group_lr_factors") or {}).items()}
    factor: float | None = factors.get(group, 1.0)
    if group == "all" and factors and group not in factors:
        factor = None
    bases: list[float] = []
    for event in (*run.events_of("start"), *run.events_of("resume")):  # unstuck's own runs say it; the last word holds
        entry = (event.data.get("groups") or {}).get(group) if isinstance(event.data, dict) else None
        if isinstance(entry, dict) and entry.get("base_lr"):
            factor = float(entry.get("lr_factor") or 1.0)
            bases = [float(entry["base_lr"]) / factor]
    if not bases:
        for name in ("learning_rate", "muon_learning_rate"):
            value = case.setting(name)
            if value and (name == "learning_rate" or case.setting("optimizer") == "muon"):
                bases.append(float(value))
    accumulation = int(case.setting("accumulation") or 1)
    configured, epochs = micro_batches_per_epoch(case), case.setting("epochs")
    per_epoch = configured or (case.updates_per_epoch and float(case.updates_per_epoch * accumulation))
    by_settings = epochs * configured / accumulation if epochs and configured else None
    updates = case.setting("updates") or by_settings
    horizon = case.setting("horizon_updates") or updates
    trusted = any(word in run.format for word in UPDATE_FORMATS)
    # it ended where planned: the log counts updates; where it converted a plan in epochs itself, that says nothing
    told = run.setting("updates") or by_settings
    if told and 0.97 * told <= run.updates <= told:
        trusted = True
    result = []
    for base in dict.fromkeys(bases):
        floor = case.setting("lr_floor")
        if floor is None:
            floor = (case.setting("min_learning_rate") or 0.0) / base
        result.append(
            Plan(
                base=base,
                kind=str(kind),
                factor=factor,
                factors=factors,
                warmup_updates=case.setting("warmup_updates"),
                warmup_share=case.setting("warmup_share"),
                horizon=float(horizon) if horizon else None,
                updates=float(updates) if updates else None,
                floor=float(floor),
                decay_share=float(_raw(case, "decay_share") or 0.5),
                power=float(_raw(case, "power") or 1.0),
                cycles=int(case.setting("schedule_cycles") or 1),
                accumulation=accumulation,
                world_size=_count(case, "world_size"),
                batch_size=_count(case, "batch_size"),
                micro_batches_per_epoch=per_epoch,
                epochs=float(epochs) if epochs else None,
                resumed_at=tuple(e.update for e in run.events_of("resume") if e.update is not None),
                bases_before=_bases_before(case),
                trusted_updates=trusted,
            )
        )
    return tuple(result)


def _is_factor(schedule: object) -> bool:
    """Whether the rate beside this schedule is a factor, not its peak: Noam's times d_model^-0.5 x warmup^-0.5
    (Vaswani et al., arXiv 1706.03762, equation 3; OpenNMT, Tensor2Tensor), T5X's times step^-0.5."""
    written = str(schedule or "").lower()
    return "noam" in written or "rsqrt" in written


def micro_batches_per_epoch(case: Case) -> float | None:
    """Micro-batches in one epoch on one device; None where neither the data's size nor their number is told."""
    batch = case.setting("batch_size")
    if not batch or not (case.setting("train_samples") or case.setting("train_tokens")):
        told = (number(setting.value) for key, setting in case.run.raw_settings.items() if key.lower() in PER_EPOCH)
        return next((float(value) for value in told if value and value >= 1), None)
    devices = case.setting("world_size") or 1
    samples = case.setting("train_samples")
    tokens, context = case.setting("train_tokens"), case.setting("context")
    if not samples and tokens and context:
        samples = tokens / context
    return float(np.ceil(samples / (batch * devices))) if samples else None


def _bases_before(case: Case) -> tuple[float, ...]:
    """Learning rates that the configuration had before a resume changed them."""
    old: list[float] = []
    for event in case.run.events_of("resume"):
        for key, pair in (event.data.get("changed") or {}).items():
            if not sets_learning_rate(str(key)) or not isinstance(pair, list | tuple) or not pair:
                continue
            before = number(pair[0])
            if before is not None and before > 0:
                old.append(before)
    return tuple(dict.fromkeys(old))


def _count(case: Case, name: str) -> int | None:
    value = case.setting(name)
    return int(value) if value else None


def _raw(case: Case, leaf: str) -> float | None:
    """A number from the untranslated settings, by the last part of its dotted key."""
    for key, setting in case.run.raw_settings.items():
        if key.rpartition(".")[2] == leaf and isinstance(setting.value, int | float):
            return float(setting.value)
    return None


def printed_tolerance(values: Floats) -> Floats:
    """Half a unit of the last printed digit of each value, shape (n,).

    The digits are those of the shortest decimal that gives the float; the format (fixed decimals or significant
    digits) is the one that more of the series' values fill to its last place, since a trailing zero hides only every
    tenth. Never finer than float32 carries (relative 2^-24, times 8 for the arithmetic before it).
    """
    digits, places = [], []
    for value in values[np.unique(np.linspace(0, len(values) - 1, 400).astype(int))] if len(values) else values:
        if value == 0 or not np.isfinite(value):
            continue
        parts = Decimal(repr(float(value))).normalize().as_tuple()
        digits.append(len(parts.digits))
        places.append(-int(parts.exponent))
    magnitude = np.abs(values)
    float32 = magnitude * 8 * 2.0**-24
    if not digits:
        return np.full_like(values, 1e-12)
    significant, decimals = max(2, *digits), max(places)
    if significant >= 12:
        return np.maximum(float32, 1e-18)
    exponent = np.floor(np.log10(np.where(magnitude > 0, magnitude, 1e-30)))
    relative = 0.5 * 10.0 ** (exponent - significant + 1)
    fixed = np.full_like(values, 0.5 * 10.0**-decimals)
    filled_relative = np.mean(np.array(digits) == significant)
    filled_fixed = np.mean(np.array(places) == decimals)
    if filled_fixed == filled_relative:  # values of one magnitude: both formats print the same digits
        half = np.maximum(fixed, relative)
    else:
        half = fixed if filled_fixed > filled_relative else relative
    return np.maximum(half * 1.02, float32)  # 2 %: a decimal tie may be rounded either way
