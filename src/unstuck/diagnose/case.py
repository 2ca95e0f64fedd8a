"""One run as the rules look at it: the series and settings they share, computed once."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.diagnose import statistics
from unstuck.diagnose.class_count import classes_named
from unstuck.diagnose.epochs import logged_updates_per_epoch
from unstuck.diagnose.few_points import in_rising_order
from unstuck.runs import Run, Series
from unstuck.runs.logfile import number
from unstuck.runs.names import normalise

# What reinforcement learning maximises, as TRL, Stable-Baselines3 and RLlib log it. Preference losses (DPO, KTO) log
# `rewards/chosen` and `rewards/margins`, reward models `margin`: their loss is a plain one.
REWARDS = frozenset({
    "reward", "reward_mean", "train_reward", "objective_rlhf_reward", "episode_reward", "episode_reward_mean",
    "episode_return_mean", "ep_rew_mean", "rollout_ep_rew_mean", "mean_reward", "avg_reward", "average_reward",
    "mean_return", "return_mean", "episodic_return", "charts_episodic_return",
})  # fmt: skip

COUNTED_IN_UPDATES = frozenset({"updates", "warmup_updates", "horizon_updates", "evaluation_every"})
# Assumption: an epoch of unknown length has so many updates at least; data of fewer batches are a toy.
LEAST_PER_EPOCH = 20


class Case:
    """A run with the derived quantities that several rules need.

    Rules read `case.run` for anything special. Everything here is None where the run does not have it.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def setting(self, name: str) -> Any | None:
        """The canonical setting's value, None where unknown; an infinite one is none.

        Counts of updates are in the unit of the log's axis. Where it counts epochs, the planned epochs stand for the
        planned updates and `warmup_epochs` for the warm-up; other settings counted in updates cannot be compared with
        it and are unknown. Where it counts updates, a plan in epochs is one in updates if the log tells their number.
        """
        counted = self.run.axis in ("epoch", "row") and name in COUNTED_IN_UPDATES
        value = None if counted else self.run.setting(name)
        if value is None and name in ("updates", "warmup_updates"):
            value = self._told_in_epochs(name)
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def _told_in_epochs(self, name: str) -> float | int | None:
        """Planned updates, or those of the warm-up, by a setting that counts epochs; None where nothing converts it.

        A run that goes on beyond a plan was not planned so: its setting means something else.
        """
        if name == "updates":
            told = number(self.run.setting("epochs"))
        else:
            if self.run.setting("warmup_share") is not None:
                return None
            raw = self.run.raw_settings.items()
            told = next((number(s.value) for k, s in raw if k.lower().rpartition(".")[2] == "warmup_epochs"), None)
        if told is None or not math.isfinite(told) or told < 0:
            return None
        if self.run.axis == "epoch":
            return int(told) if told.is_integer() else told
        per_epoch = self.updates_per_epoch
        if per_epoch is None:
            return None
        updates = round(told * per_epoch)
        return None if name == "updates" and not 0 < self.run.updates <= updates else updates

    @cached_property
    def updates_per_epoch(self) -> int | None:
        """Optimizer updates in an epoch, as the log shows that counts both; None where it does not."""
        return logged_updates_per_epoch(self.run)

    @property
    def counts_epochs(self) -> bool:
        """Whether the steps of the log's axis are epochs; rows of Keras' logger without a count are."""
        return self.run.axis == "epoch" or (self.run.axis == "row" and self.run.format.startswith("keras"))

    @property
    def step(self) -> str:
        """What the log's axis counts, as a word: "epoch", else "update"."""
        return "epoch" if self.counts_epochs else "update"

    def least_updates(self, count: int) -> int:
        """Optimizer updates that so many steps of the log's axis are at least: an epoch has `LEAST_PER_EPOCH`."""
        return count * LEAST_PER_EPOCH if self.counts_epochs else count

    def algorithm_of(self, group: str) -> str | None:
        """The optimizer of one parameter group, where the run states it (ours does); None elsewhere."""
        groups = self.run.raw_settings.get("groups")
        entry = groups.value.get(group) if groups is not None and isinstance(groups.value, dict) else None
        return entry.get("algorithm") if isinstance(entry, dict) else None

    @cached_property
    def loss(self) -> Series | None:
        """`train/loss` (else `train/loss_eval`) with its non-finite points left out; None below 2 points.

        None as well beside a logged reward: the loss of a policy is no measure of what was learnt (TRL's GRPO starts at
        0 and rises in sound runs: it is the penalty for moving away from the reference model).
        """
        if any(normalise(name) in REWARDS for name in self.run.series):
            return None
        return self._finite("train/loss") or self._finite("train/loss_eval")

    @cached_property
    def val(self) -> Series | None:
        """`val/loss` with its non-finite points left out; None where there is none."""
        return self._finite("val/loss", least=1)

    @cached_property
    def grad_norm(self) -> Series | None:
        """`grad_norm/preclip`, non-finite points left out."""
        return self._finite("grad_norm/preclip")

    def _finite(self, name: str, least: int = 2) -> Series | None:
        series = self.run.get(name)
        if series is None:
            return None
        series = series.finite()
        return series if len(series) >= least else None

    @cached_property
    def lr(self) -> Series | None:
        """The learning rate of the group with the largest peak (the only one, for most logs)."""
        groups = [s.finite() for s in self.run.learning_rates().values()]
        groups = [s for s in groups if len(s)]
        return max(groups, key=lambda s: float(s.values.max())) if groups else None

    @property
    def lr_algorithm(self) -> str | None:
        """The optimizer of the group that `lr` shows, where the run states it."""
        return None if self.lr is None else self.algorithm_of(self.lr.name.removeprefix("lr/"))

    @cached_property
    def loss_noise(self) -> float:
        """Point-to-point standard deviation of the training loss in the second half of the run; nan if unknown."""
        if self.loss is None:
            return math.nan
        return statistics.noise_sd(self.loss.values[len(self.loss) // 2 :])

    @cached_property
    def loss_trend(self) -> Series | None:
        """The training loss smoothed by running median and mean, at the points of `loss`."""
        if self.loss is None:
            return None
        smooth = statistics.trend(self.loss.values)
        return Series("train/loss trend", self.loss.updates, smooth, self.loss.lines, self.loss.file, self.loss.unit)

    @cached_property
    def val_noise(self) -> float:
        """Point-to-point standard deviation of the validation loss over its second half; nan below 5 points."""
        if self.val is None:
            return math.nan
        values = self.val.values
        half = values[len(values) // 2 :]
        return statistics.noise_sd(half if len(half) >= 5 else values)

    @cached_property
    def val_best(self) -> int | None:
        """Index into `val` of its lowest value."""
        return None if self.val is None else int(np.argmin(self.val.values))

    @cached_property
    def chance(self) -> float | None:
        """ln V: the loss of a model that gives every token id the same probability; None where V is unknown or 1."""
        vocabulary = self.setting("vocabulary")
        return math.log(vocabulary) if vocabulary and vocabulary > 1 else None

    @cached_property
    def classes(self) -> int | None:
        """The number of classes of a classifier, as the settings name it; None where they do not."""
        return classes_named(self.run)

    @cached_property
    def planned_updates(self) -> int | None:
        """Updates the run was to have: the setting, or the schedule's horizon."""
        planned = self.setting("updates") or self.setting("horizon_updates")
        return int(planned) if planned and math.isfinite(planned) else None

    @cached_property
    def val_rise(self) -> statistics.Rise | None:
        """How far validation lies above its best at the end; None below 3 evaluations or where the last is the best."""
        if self.val is None:
            return None
        tokens = self.setting("validation_tokens")
        lowest = float(self.val.values.min())
        error = statistics.validation_standard_error(lowest, tokens) if tokens and self.is_token_loss else 0.0
        rise = statistics.rise_after_best(self.val.values, error)
        return None if rise is None else replace(rise, steady=rise.steady or in_rising_order(self.val.values, rise))

    @cached_property
    def train_at_evaluations(self) -> npt.NDArray[np.float64] | None:
        """The training loss at the updates of `val`, shape (n,); None without both.

        `train/loss_eval` where the log has it (measured like validation), else the trend of `train/loss`.
        """
        if self.val is None:
            return None
        measured = self._finite("train/loss_eval")
        if measured is not None:
            return np.interp(self.val.updates.astype(np.float64), measured.updates, measured.values)
        if self.loss_trend is None:
            return None
        x = self.loss_trend.updates.astype(np.float64)
        return np.interp(self.val.updates.astype(np.float64), x, self.loss_trend.values)

    @cached_property
    def descent(self) -> float:
        """How far the training loss came down: first logged level minus lowest level, at least 0; nan if unknown."""
        if self.loss is None or self.loss_trend is None:
            return math.nan
        return max(0.0, float(self.loss.values[0]) - float(self.loss_trend.values.min()))

    @cached_property
    def annealed(self) -> bool | None:
        """Whether the learning rate ended at or below a fifth of its peak: as logged, else as the settings imply.

        None where neither says.
        """
        if self.lr is None or len(self.lr) < 3 or not self.lr.values.max() > 0:
            schedule, horizon = self.setting("schedule"), self.setting("horizon_updates") or self.setting("updates")
            if schedule == "constant":
                return False
            if schedule not in ("cosine", "linear", "wsd", "polynomial") or not horizon:
                return None
            peak, least = self.setting("learning_rate"), self.setting("min_learning_rate")
            floor = self.setting("lr_floor") or (least / peak if least and peak else 0.0)
            # a cosine or a line is at a fifth of its fall 0.7 and 0.8 of the way: past 0.9 both are done
            return bool(self.run.updates >= 0.9 * horizon and floor <= 0.2)
        return bool(self.lr.values[-1] <= 0.2 * self.lr.values.max())

    @cached_property
    def tokens_per_update(self) -> float | None:
        """From the `tokens` series, else batch x accumulation x devices x context; None if a factor is unknown."""
        tokens = self.run.get("tokens")
        if tokens is not None and len(tokens) >= 2 and tokens.updates[-1] > tokens.updates[0]:
            return float((tokens.values[-1] - tokens.values[0]) / (tokens.updates[-1] - tokens.updates[0]))
        batch, context = self.setting("batch_size"), self.setting("context")
        if not batch or not context:
            return None
        return float(batch * context * (self.setting("accumulation") or 1) * (self.setting("world_size") or 1))

    @cached_property
    def sequences_per_update(self) -> float | None:
        """The smallest logged global batch, else batch x accumulation x devices; None where the batch is unknown."""
        logged = self.run.get("global_batch_size")
        if logged is not None and len(logged):
            return float(logged.values.min())
        batch = self.setting("batch_size")
        if not batch:
            return None
        return float(batch * (self.setting("accumulation") or 1) * (self.setting("world_size") or 1))

    @cached_property
    def start(self) -> str | None:
        """`fresh`, `pretrained` or `checkpoint`; None where nothing says.

        LoRA means pretrained, unless the run starts where random weights do and nothing names a pretrained model.
        """
        if start := self.setting("start"):
            return str(start)
        return "pretrained" if self.setting("lora_rank") and not self._starts_at_chance else None

    @property
    def _starts_at_chance(self) -> bool:
        """Whether the first updates' loss is what random weights give: ln V, or up to a fifth above (wide heads)."""
        series = self.loss if self.loss is not None else self.val
        if series is None or self.chance is None or int(series.updates[0]) > 20:
            return False
        return 0.97 * self.chance <= float(series.values[0]) <= 1.2 * self.chance

    @cached_property
    def is_token_loss(self) -> bool:
        """Whether levels of the loss compare with ln V: a language-model task (or none named), known vocabulary."""
        task = self.setting("task")
        of_tokens = task in (None, "causal-lm", "masked-lm", "seq2seq") and self.classes is None
        return self.chance is not None and of_tokens
