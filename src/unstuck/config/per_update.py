"""What a configuration implies of the samples in one update and the updates in one epoch, where it does not say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from unstuck.config.values import read_value

if TYPE_CHECKING:
    from unstuck.runs import Setting

# What reaches one update, in samples: OpenNMT-tf (opennmt/runner.py) divides it by batch and devices to accumulate,
# transformers and others print the product. Global batches of Megatron and tokens per update are other counts.
PER_UPDATE = frozenset(("effective_batch_size", "eff_batch_size", "effective_batch", "total_train_batch_size"))


def accumulation(found: Mapping[str, Setting], raw: Mapping[str, Setting]) -> Setting | None:
    """The micro-batches that an effective batch implies; None where it is no whole number of them, or in tokens.

    Args:
        found: canonical settings.
        raw: settings by key as written.
    """
    batch, devices, context = (found.get(name) for name in ("batch_size", "world_size", "context"))
    if batch is None or not batch.value:
        return None
    each = batch.value * (devices.value if devices else 1)
    for key, setting in raw.items():
        name = key.rpartition(".")[2].lower().replace("-", "_").replace(" ", "_")
        if name not in PER_UPDATE or key == batch.key:
            continue
        total = read_value("batch_size", setting.value)
        in_tokens = context is not None and context.value and total and total % (each * context.value) == 0
        if total and total > each > 0 and total % each == 0 and not in_tokens:
            return replace(setting, value=int(total // each), written=setting.value)
    return None


def updates_per_epoch(found: Mapping[str, Setting]) -> int | None:
    """Samples over those that reach one update; None where it is no whole number, since programs round either way."""
    samples, batch = (found[name].value if name in found else None for name in ("train_samples", "batch_size"))
    micro, devices = (found[name].value if name in found else 1 for name in ("accumulation", "world_size"))
    each = (batch or 0) * (micro or 1) * (devices or 1)
    return int(samples // each) if samples and each > 0 and samples % each == 0 else None
