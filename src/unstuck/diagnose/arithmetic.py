"""Counts that depend on each other: effective batch, steps per epoch, warm-up, devices, tokens per update.

Each check answers None where it lacks a number, else whether the numbers agree under some reading in common use; the
readings are listed where they are tried. A whole factor that devices which nothing states would explain is agreement:
it says how many devices there were.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unstuck.diagnose.case import Case
from unstuck.diagnose.expected_lr import micro_batches_per_epoch
from unstuck.diagnose.lr_curve import answers
from unstuck.diagnose.own_keys import as_number, own_number, own_settings
from unstuck.runs import Setting, Source
from unstuck.runs.names import normalise

EFFECTIVE = frozenset({"effective_batch_size", "effective_batch", "eff_batch_size", "global_batch_size", "global_batch",
                       "total_batch_size", "total_train_batch_size"})  # fmt: skip
BATCHES = frozenset({"batch_size", "train_batch_size", "micro_batch_size", "per_device_train_batch_size",
                     "device_batch_size", "per_device_batch_size", "mini_batch_size",
                     "train_micro_batch_size_per_gpu"})  # fmt: skip
PER_EPOCH = frozenset({"steps_per_epoch", "updates_per_epoch", "iters_per_epoch", "batches_per_epoch",
                       "iterations_per_epoch", "num_batches_per_epoch"})  # fmt: skip
TOKENS = frozenset({"tokens_per_update", "tokens_per_iteration", "tokens_per_iter", "tokens_per_step"})
NODES = frozenset({"num_nodes", "nnodes", "n_nodes"})
PER_NODE = frozenset({"gpus_per_node", "devices_per_node", "n_gpus_per_node", "num_gpus_per_node"})
# mmdet and MMEngine: warmup_ratio is the rate at the start over the peak, not a share of the run.
START_FACTOR = frozenset({"warmup", "warmup_mode", "warmup_method", "warmup_type"})

EQUAL = 5e-3  # ours: a stated count is exact or rounded to three digits
MAX_DEVICES = 4096  # ours: no run that anybody diagnoses by hand had more
# Rounding (drop_last, the last batch) and held-out parts move a count by less than this.
LARGE = 1.5
_SCALING = re.compile(r"(?<![\w.+-])((?:\d+ x )+\d+) / (?:256|512)\b")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two counts that cannot both be true: the sentence with its arithmetic, and the numbers."""

    key: str
    says: str
    stated: float
    implied: float
    source: Source | None
    confidence: float
    severity: Literal["warning", "note"] = "warning"


Answer = Contradiction | bool | None  # True: compared and agreed; None: a number is missing


def checks(case: Case) -> tuple[list[str], list[Contradiction]]:
    """What could be compared, in words, and what does not agree."""
    compared: list[str] = []
    wrong: list[Contradiction] = []
    for name, check in CHECKS:
        answer = check(case)
        if answer is None:
            continue
        compared.append(name)
        if isinstance(answer, Contradiction):
            wrong.append(answer)
    return compared, wrong


def effective_batch(case: Case) -> Answer:
    """A stated total against batch x accumulation x devices, in samples or (x context) in tokens."""
    stated = own_number(case.run, EFFECTIVE)
    batches = dict(_batches(case))
    if stated is None or not batches or _is_batch_itself(case, stated[1]):
        return None
    total, setting = stated
    accumulation, devices = _count(case, "accumulation"), _count(case, "world_size")
    units = (1.0, _count(case, "context") or 1.0)  # in samples, or in tokens (build-nanogpt, nanochat)
    for batch in batches.values():
        whole = batch * (accumulation or 1) * (devices or 1)
        if any(_near(total, unit * product) for unit in units for product in (whole, batch)):
            return True  # a batch that is the total already is split, not multiplied
        if (accumulation is None or devices is None) and any(_whole(total / (whole * unit)) for unit in units):
            return True  # the rest is what is not stated
    key, batch = next(iter(batches.items()))
    implied = batch * (accumulation or 1) * (devices or 1)
    parts = [f"{key} {batch:g}"]
    parts += [f"accumulation {accumulation:g}"] if accumulation else []
    parts += [f"{devices:g} devices"] if devices else []
    says = f"{setting.key} is {total:g}, and {' x '.join(parts)} = {implied:g}"
    if devices and any(_near(total, unit * batch * (accumulation or 1)) for unit in units):
        if accumulation and accumulation > devices and accumulation % devices == 0:
            return True  # accumulation counted over all devices, as nanoGPT does
        return Contradiction(setting.key, f"{says}: the devices are left out", total, implied, setting.source, 0.75)
    if accumulation and any(_near(total, unit * batch * (devices or 1)) for unit in units):
        told = f"{says}: it counts one micro-batch"
        return Contradiction(setting.key, told, total, implied, setting.source, 0.5, "note")
    return Contradiction(setting.key, says, total, implied, setting.source, 0.85)


def batch_in_learning_rate(case: Case) -> Answer:
    """The batch by which a scaled learning rate was scaled, against the one that the settings give."""
    batch = _count(case, "batch_size")
    if batch is None or not answers(case):
        return None
    for answer in answers(case).values():
        if len(answer.answer.explanations) != 1 or "scale/batch" not in answer.answer.explanations[0].faults:
            continue
        found = _SCALING.search(answer.answer.explanations[0].sentence)
        if found is None:
            continue
        accumulation, devices = _count(case, "accumulation") or 1, _count(case, "world_size")
        implied = float(math.prod(int(n) for n in found[1].split(" x ")))
        stated = own_number(case.run, EFFECTIVE)
        total = stated[0] if stated is not None else batch * accumulation * (devices or 1)
        if _near(total, implied):
            continue
        hidden = "" if devices else "; the rest are devices that no setting names"
        says = (
            f"The learning rate was scaled for a batch of {implied:g} = {found[1]}, and the settings give "
            f"{total:g}{hidden}"
        )
        setting = stated[1] if stated is not None else case.run.settings["batch_size"]
        sure = stated is not None or devices is not None
        return Contradiction(setting.key, says, total, implied, setting.source, 0.9, "warning" if sure else "note")
    return True


def steps_per_epoch(case: Case) -> Answer:
    """More steps in a stated epoch than samples / batch gives under any way of counting; fewer are a cap on purpose."""
    stated, micro = own_number(case.run, PER_EPOCH), micro_batches_per_epoch(case)
    batch = _count(case, "batch_size")
    if stated is None or not micro or not batch:
        return None
    steps, setting = stated
    most = micro * (_count(case, "world_size") or 1) + 1
    if steps <= LARGE * most:
        return True
    samples = _count(case, "train_samples")
    tokens = _count(case, "train_tokens")
    of = f"{samples:,.0f} samples" if samples else f"{tokens or 0:,.0f} tokens in windows of {case.setting('context')}"
    because = "; it is one sample for every token" if tokens and abs(steps * batch / tokens - 1) < 0.02 else ""
    says = f"{setting.key} is {steps:,.0f}, and {of} / batch {batch:g} are {micro:,.0f}{because}"
    return Contradiction(setting.key, says, steps, micro, setting.source, 0.85)


def warmup(case: Case) -> Answer:
    """A share and a count of warm-up, both stated."""
    share, count = case.run.settings.get("warmup_share"), case.run.settings.get("warmup_updates")
    horizon = case.setting("horizon_updates") or _planned(case)
    if share is None or count is None or share.key == count.key or not horizon:
        return None
    if not 0 < share.value < 1 or count.value < 1:
        return None
    keys = {normalise(key) for key in case.run.raw_settings}
    if keys & START_FACTOR:
        return None
    implied = share.value * horizon
    ratio = implied / count.value
    if 1 / LARGE < ratio < LARGE:
        return True
    epochs, accumulation = _count(case, "epochs"), _count(case, "accumulation")
    because = ""
    for factor, words in ((epochs, "the count is the share of one epoch"), (accumulation, "one counts micro-batches")):
        if factor and factor > 1 and (_near(ratio, factor) or _near(1 / ratio, factor)):
            because = f", {factor:g} times apart: {words}"
    says = (
        f"{count.key} is {count.value:,.0f}, and {share.key} {share.value:g} x {horizon:,.0f} updates = "
        f"{implied:,.0f}{because}"
    )
    return Contradiction(count.key, says, float(count.value), implied, count.source, 0.8)


def devices(case: Case) -> Answer:
    """World size against nodes x devices of a node."""
    world = case.run.settings.get("world_size")
    nodes, per_node = own_number(case.run, NODES), own_number(case.run, PER_NODE)
    if world is None or nodes is None or per_node is None or world.key in (nodes[1].key, per_node[1].key):
        return None
    implied = nodes[0] * per_node[0]
    if implied == world.value or world.value in (nodes[0], per_node[0]):
        return True  # the key may count the devices of one node
    product = f"{nodes[1].key} {nodes[0]:g} x {per_node[1].key} {per_node[0]:g} = {implied:g}"
    says = f"{world.key} is {world.value}, and {product}"
    return Contradiction(world.key, says, float(world.value), implied, world.source, 0.85)


def stated_tokens(case: Case) -> Answer:
    """Tokens per update as printed, against batch x accumulation x devices x context."""
    setting = case.run.settings.get("tokens_per_update")
    if setting is None:
        found = own_number(case.run, TOKENS)
        setting = found[1] if found is not None else None
    batch, context = _count(case, "batch_size"), _count(case, "context")
    total = as_number(setting.value) if setting is not None else None
    if setting is None or not total or not batch or not context:
        return None
    accumulation, world = _count(case, "accumulation"), _count(case, "world_size")
    implied = batch * context * (accumulation or 1) * (world or 1)
    factors = [f for f in (accumulation, world) if f and f > 1]
    if any(_near(total, batch * context * product) for product in _products(factors)):
        return True
    if (accumulation is None or world is None) and _whole(total / implied):
        return True
    parts = [f"{batch:g}", *[f"{f:g}" for f in factors], f"{context:g}"]
    product = f"{' x '.join(parts)} = {implied:,.0f}"
    says = f"{setting.key} is {total:,.0f}, and batch x accumulation x devices x context is {product}"
    return Contradiction(setting.key, says, total, implied, setting.source, 0.8)


def logged_tokens(case: Case) -> Answer:
    """The tokens that the log counts per update: exactly one micro-batch of several means that it counts wrongly."""
    tokens, batch, context = case.run.get("tokens"), _count(case, "batch_size"), _count(case, "context")
    accumulation = _count(case, "accumulation")
    if tokens is None or len(tokens) < 5 or not batch or not context:
        return None
    rates = np.diff(tokens.values) / np.maximum(np.diff(tokens.updates), 1)
    rate = float(np.median(rates))
    one = batch * context * (_count(case, "world_size") or 1)
    steady = bool(np.all(np.abs(rates - rate) <= 1e-3 * abs(rate)))
    if not (accumulation and accumulation > 1 and steady and abs(rate / one - 1) < 1e-3):
        return True
    implied = one * accumulation
    says = (
        f"The log counts {rate:,.0f} tokens per update = {batch:g} x {context:g}, and with accumulation "
        f"{accumulation:g} it is {implied:,.0f}: the count leaves the accumulation out, or it is not applied"
    )
    return Contradiction("tokens", says, rate, implied, tokens.source(len(tokens) - 1), 0.8)


def logged_epochs(case: Case) -> Answer:
    """Epochs per update in the log against effective batch / samples: a factor of exactly the accumulation is told."""
    epoch, samples, batch = case.run.get("epoch"), _count(case, "train_samples"), _count(case, "batch_size")
    accumulation = _count(case, "accumulation")
    if epoch is None or not samples or not batch or len(epoch) < 5:
        return None
    span, updates = float(epoch.values[-1] - epoch.values[0]), int(epoch.updates[-1] - epoch.updates[0])
    if span <= 0 or updates <= 0:
        return None
    whole = bool(np.all(epoch.values == np.round(epoch.values)))
    if whole and span < 20:
        return True  # whole epochs are off by up to one of `span`
    measured = span / updates
    implied = batch * (accumulation or 1) * (_count(case, "world_size") or 1) / samples
    ratio = implied / measured
    if not (accumulation and accumulation > 1 and _count(case, "world_size") and abs(ratio / accumulation - 1) < 0.02):
        return True
    says = (
        f"The log's epochs advance by {measured:.4g} per update, and effective batch / samples = "
        f"{batch:g} x {accumulation:g} / {samples:,.0f} = {implied:.4g}: the log counts one micro-batch per update, "
        "or the accumulation is not applied"
    )
    return Contradiction("epoch", says, measured, implied, epoch.source(len(epoch) - 1), 0.6, "note")


CHECKS: tuple[tuple[str, Callable[[Case], Answer]], ...] = (
    ("effective batch", effective_batch),
    ("batch in the learning rate", batch_in_learning_rate),
    ("steps per epoch", steps_per_epoch),
    ("warm-up", warmup),
    ("devices", devices),
    ("tokens per update", stated_tokens),
    ("tokens in the log", logged_tokens),
    ("epochs in the log", logged_epochs),
)


def _batches(case: Case) -> Iterator[tuple[str, float]]:
    """Every stated micro-batch size by its key, the canonical one first."""
    canonical = case.run.settings.get("batch_size")
    if canonical is not None and (size := _count(case, "batch_size")):
        yield canonical.key, size
    for setting in own_settings(case.run, BATCHES):
        value = as_number(setting.value)
        if value is not None and value > 0:
            yield setting.key, value


def _is_batch_itself(case: Case, stated: Setting) -> bool:
    canonical = case.run.settings.get("batch_size")
    return canonical is not None and canonical.key == stated.key


def _count(case: Case, name: str) -> float | None:
    value = as_number(case.setting(name))
    return value if value is not None and value > 0 else None


def _planned(case: Case) -> float | None:
    updates, epochs, micro = case.setting("updates"), case.setting("epochs"), micro_batches_per_epoch(case)
    if updates:
        return float(updates)
    return float(epochs * micro / (case.setting("accumulation") or 1)) if epochs and micro else None


def _products(factors: Iterable[float]) -> Iterator[float]:
    """1 and the product of every subset."""
    factors = list(factors)
    for size in range(len(factors) + 1):
        for chosen in itertools.combinations(factors, size):
            yield math.prod(chosen)


def _near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=EQUAL)


def _whole(times: float) -> bool:
    return math.isfinite(times) and 1 <= round(times) <= MAX_DEVICES and abs(times - round(times)) < EQUAL * times
