"""What changed between two configurations, as the levers that were pulled rather than the keys that differ.

A learning rate and its floor, a batch and its split into micro-batches, a LoRA rank and its alpha are one lever each.
What only names, logs or places a run (paths, seeds, intervals) changes nothing, and a key that one side lacks is a
change only where the other side's value does something.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from unstuck.config.dialects import NAMES, canonical_settings
from unstuck.diagnose.lr_readings import number
from unstuck.runs import Event, Run, Setting
from unstuck.runs.names import normalise


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Canonical setting -> lever. What is not named here is a lever of its own.
LEVERS = {
    "learning_rate": "learning rate", "muon_learning_rate": "learning rate", "min_learning_rate": "lr floor",
    "lr_floor": "lr floor", "schedule": "schedule", "horizon_updates": "schedule", "schedule_cycles": "schedule",
    "warmup_updates": "warm-up", "warmup_share": "warm-up", "updates": "length", "epochs": "length",
    "batch_size": "batch", "accumulation": "batch", "world_size": "batch", "optimizer": "optimizer",
    "beta1": "betas", "beta2": "betas", "layers": "model size", "heads": "model size", "width": "model size",
    "parameters": "model size", "train_samples": "data",
    "train_tokens": "data", "vocabulary": "data", "task": "task", "seed": "seed",
    "validation_samples": "evaluation", "validation_tokens": "evaluation", "evaluation_every": "evaluation",
    "evaluation_batch_size": "evaluation", "data_workers": "machine", "lora_rank": "LoRA rank",
}  # fmt: skip
# Levers that do not change how well a run learns at a given update: they never confound anything.
NEUTRAL = frozenset({"length", "seed", "evaluation", "machine", "split of the batch"})
# Measured by the program or counted from others, so that they follow from a change instead of being one.
MEASURED = frozenset({"parameters", "vocabulary", "train_samples", "train_tokens", "validation_samples",
                      "validation_tokens", "world_size"})  # fmt: skip
# Counted or measured from other settings: never a change of their own.
DERIVED = frozenset({"tokens_per_update", "unigram_entropy", "baseline_loss", "start_loss"})
# Values of a setting that does nothing: a key that appears with one of them is no change.
OFF: tuple[Any, ...] = (None, 0, 0.0, False, "", "constant", "fresh", "none", "None")
# Keys that follow from another one or say where, when and under which name a run ran.
_FOLLOWS = {"lora_alpha": "lora_rank", "alpha": "lora_rank", "trainable": "lora_rank"}
_NAMELESS = _words(
    "dir path file folder id name project entity tag tags note notes run runs output out log logs logging save saving "
    "checkpoint checkpoints ckpt device worker workers host hostname port rank time date timestamp git commit version "
    "user wandb tensorboard mlflow report seed debug verbose print push hub flos prefetch pin compile threads cpu gpu "
    "cuda url token generate generation sample prompt derived groups reasons eval evaluation val validation test"
)
# Counts that follow from batch and data.
_COUNTED = _words(
    "steps_per_epoch updates_per_epoch iters_per_epoch batches_per_epoch effective_batch_size effective_batch "
    "global_batch_size total_batch_size total_train_batch_size tokens_per_update tokens_per_iteration total_steps "
    "total_params total_parameters num_parameters parameters params"
)
_DATA_WORDS = frozenset({"data", "dataset", "datasets", "corpus"})
MAX_KEYS = 2000  # ours: more keys than this are a dump of data, not a configuration
# ours: names looked up for the resumes of one run, a tenth of a second; 100 resumes of a configuration of 150 keys
MAX_TRANSLATED = 20_000


@dataclass(frozen=True, slots=True)
class SettingChange:
    """One setting that differs.

    Attributes:
        key: as the user writes it.
        canonical: its canonical name; None for a key of the user's own.
        old, new: values as written; None where that side does not give it.
        lever: what was changed by it; several keys may be one lever.
    """

    key: str
    canonical: str | None
    old: Any
    new: Any
    lever: str


def effective_batch(settings: Mapping[str, Setting]) -> float | None:
    """Samples per optimizer update over all devices; None without a batch size."""
    batch = _number(settings, "batch_size")
    if not batch:
        return None
    return batch * (_number(settings, "accumulation") or 1.0) * (_number(settings, "world_size") or 1.0)


def _number(settings: Mapping[str, Setting], name: str) -> float | None:
    value = settings[name].value if name in settings else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def changes_between(
    old: Mapping[str, Setting],
    new: Mapping[str, Setting],
    old_raw: Mapping[str, Setting],
    new_raw: Mapping[str, Setting],
) -> tuple[SettingChange, ...]:
    """What differs between two configurations, canonical settings first.

    Args:
        old, new: canonical settings.
        old_raw, new_raw: every key as found, untranslated.
    """
    found = list(_canonical_changes(old, new))
    names = {change.canonical for change in found}
    used = {setting.key for side in (old, new) for setting in side.values()}
    for key in list(new_raw)[:MAX_KEYS]:
        if key not in old_raw or key in used:
            continue
        a, b = old_raw[key].value, new_raw[key].value
        change = _own_key(key, a, b)
        if change is not None and _FOLLOWS.get(normalise(key.rpartition(".")[2])) not in names:
            found.append(change)
    return tuple(found)


def _canonical_changes(old: Mapping[str, Setting], new: Mapping[str, Setting]) -> Iterator[SettingChange]:
    batches = effective_batch(old), effective_batch(new)
    same_batch = None not in batches and batches[0] == batches[1]
    names = [name for name in dict.fromkeys([*old, *new]) if name not in DERIVED]
    differing = [name for name in names if not _same(_value(old, name), _value(new, name))]
    for name in differing:
        a, b = _value(old, name), _value(new, name)
        if (name not in old or name not in new) and (name in MEASURED or (a if name in old else b) in OFF):
            continue
        if name in ("accumulation", "world_size") and None in (a, b) and 1 in (a, b):
            continue
        if name in ("min_learning_rate", "lr_floor") and ("learning_rate" in differing or name == "min_learning_rate"):
            continue  # follows the peak; of the two spellings of one floor the share is the setting
        if name == "parameters" and {"layers", "heads", "width", "lora_rank"} & set(differing):
            continue
        lever = LEVERS.get(name, name)
        if lever == "batch" and same_batch:
            lever = "split of the batch"
        setting = new.get(name) or old[name]
        yield SettingChange(setting.key, name, _written(old, name), _written(new, name), lever)


def _own_key(key: str, a: Any, b: Any) -> SettingChange | None:
    """A key without a canonical name; None where it says nothing about how the run learns."""
    last = normalise(key.rpartition(".")[2])
    words = set(normalise(key).split("_"))
    simple = isinstance(a, str | int | float | bool) and isinstance(b, str | int | float | bool)
    if not simple or last in _COUNTED or last in _spelled() or _same(a, b):
        return None
    if words & _DATA_WORDS and isinstance(a, str) and isinstance(b, str):
        return None if _base(a) == _base(b) else SettingChange(key, None, a, b, "data")
    return None if words & _NAMELESS else SettingChange(key, None, a, b, key)


@cache
def _spelled() -> frozenset[str]:
    """Names that some program gives to a canonical setting: those are compared as such, whatever their key."""
    return frozenset(s.rpartition(".")[2] for name in NAMES for words in name.spellings.values() for s in words)


def _base(path: str) -> str:
    return posixpath.basename(path.replace("\\", "/").rstrip("/"))


def _value(settings: Mapping[str, Setting], name: str) -> Any:
    value = settings[name].value if name in settings else None
    if name == "group_lr_factors" and isinstance(value, Mapping):
        return {group: factor for group, factor in value.items() if factor != 1} or None  # a factor of 1 is none
    return value


def _written(settings: Mapping[str, Setting], name: str) -> Any:
    if name not in settings:
        return None
    setting = settings[name]
    return setting.value if setting.written is None else setting.written


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-9) or (a != a and b != b)
    return bool(a == b)


def levers(changes: tuple[SettingChange, ...]) -> dict[str, tuple[SettingChange, ...]]:
    """The changes by lever, without the neutral ones."""
    found: dict[str, tuple[SettingChange, ...]] = {}
    for change in changes:
        if change.lever not in NEUTRAL:
            found[change.lever] = (*found.get(change.lever, ()), change)
    return found


def told(changes: Sequence[SettingChange], most: int = 5) -> str:
    """`learning_rate 1e-4 -> 5e-5, max_grad_norm 2 -> 3`"""
    said = [f"{c.key} {_shown(c.old)} -> {_shown(c.new)}" for c in changes[:most]]
    return ", ".join(said) + (f" and {len(changes) - most} more" if len(changes) > most else "")


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    return number(value) if isinstance(value, float) and math.isfinite(value) else str(value)[:60]


@dataclass(frozen=True, slots=True)
class ResumeChange:
    """A resume that changed settings: the event, and the canonical settings before and after it."""

    event: Event
    before: Mapping[str, Setting]
    after: Mapping[str, Setting]
    changes: tuple[SettingChange, ...]


def resume_changes(run: Run) -> list[ResumeChange]:
    """Every resume whose event says which settings it changed, in the order of the log.

    A run's settings are those after its last resume, so the earlier ones are restored from the events, last first. Of
    a run that was resumed with new settings again and again (`MAX_TRANSLATED`) only the last resumes are told.
    """
    found: list[ResumeChange] = []
    raw, settings = dict(run.raw_settings), dict(run.settings)
    canonical: dict[str, Setting] | None = None  # of `raw`, once it was translated
    translated = 0
    for event in reversed(list(run.events_of("resume"))):
        changed = event.data.get("changed")
        if not isinstance(changed, Mapping) or not changed:
            continue
        translated += len(raw) + len(NAMES)
        if translated > MAX_TRANSLATED and found:
            break
        earlier = dict(raw)
        for key, pair in changed.items():
            if isinstance(pair, list | tuple) and len(pair) == 2:
                at = raw.get(str(key))
                source = at.source if at is not None else event.source
                if source is not None:
                    earlier[str(key)] = Setting(pair[0], str(key), source)
                    if at is None:
                        raw[str(key)] = Setting(pair[1], str(key), source)
                        canonical = None
        was = canonical_settings(earlier, run.dialect)
        now = canonical_settings(raw, run.dialect) if canonical is None else canonical
        measured = {n: s for n, s in settings.items() if n not in now}  # by the log itself: it holds on both sides
        before, after = {**measured, **was}, {**measured, **now}
        changes = changes_between(before, after, earlier, raw)
        found.append(ResumeChange(event, before, after, changes))
        raw, settings, canonical = earlier, before, was
    return found[::-1]
