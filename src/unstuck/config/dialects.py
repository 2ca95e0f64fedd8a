"""From the user's names to canonical ones and back, so that a prescription reads as the user writes.

`canonical_settings` translates what a reader found beside a log; `in_dialect` translates one prescribed change back to
`--max_grad_norm`, `grad_clip` or `training.clip_norm`, whichever is theirs. The table of names: `config/names.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from unstuck.config.names import NAMES, Name
from unstuck.config.patch import Change
from unstuck.config.per_update import accumulation, updates_per_epoch
from unstuck.config.values import TASKS, read_value, start_loss_in, write_value
from unstuck.config.ways import ELSEWHERE as ELSEWHERE
from unstuck.config.ways import bare_sections, divided, is_elsewhere, is_ruled_out

if TYPE_CHECKING:
    from unstuck.runs import Run, Setting

__all__ = ["NAMES", "Name", "canonical_settings", "guess_dialect", "in_dialect", "key_in_dialect"]

# Keys that only one dialect has; two of nanoGPT's are asked for because single ones are common words.
OURS = {"optimizer.learning_rate", "training.updates", "schedule.kind", "training.batch_size", "data.context"}
HUGGINGFACE = {"per_device_train_batch_size", "lr_scheduler_type", "max_grad_norm", "num_train_epochs", "adam_beta2",
               "label_smoothing_factor", "lr_scheduler_kwargs", "adam_epsilon"}  # fmt: skip
NANOGPT = {"max_iters", "lr_decay_iters", "warmup_iters", "block_size", "n_embd", "n_layer", "decay_lr", "eval_iters",
           "eval_interval", "init_from", "always_save_checkpoint"}  # fmt: skip

_FACTOR = "(?:factor|mult|multiplier|scale|scaling)"
GROUP_FACTOR = re.compile(rf"^(?:(?P<before>\w+?)_lr_{_FACTOR}|lr_{_FACTOR}_(?P<behind>\w+))$")
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
NOT_GROUPS = {"min", "end", "final", "warmup", "max", "base", "batch", "plateau", "decay", "warm_up", "policy",
              "patience", "step", "steps", "every", "epochs", "type", "factor", "scale", "mult"}  # fmt: skip


MIN_JOINED = 7  # ours: letters of a name in one word; a shorter one may be another word


def guess_dialect(keys: Iterable[str]) -> str:
    """Whose names these are: `unstuck`, `huggingface`, `nanogpt`, `environment` or `plain`."""
    found = set(keys)
    if len(found & OURS) >= 2:
        return "unstuck"
    tops = {key.split(".")[0] for key in found}
    if tops & HUGGINGFACE:
        return "huggingface"
    if len(tops & NANOGPT) >= 3 and tops & {"max_iters", "lr_decay_iters", "warmup_iters", "eval_iters"}:
        return "nanogpt"
    capitals = [key for key in found if re.fullmatch(r"[A-Z][A-Z0-9_]*", key)]
    return "environment" if found and len(capitals) > len(found) / 2 else "plain"


def canonical_settings(raw: Mapping[str, Setting], dialect: str) -> dict[str, Setting]:
    """Canonical name -> setting, in canonical units, each with the user's own key and source.

    Args:
        raw: every key that was found, nested keys dotted, values as written.
        dialect: whose names they are.
    """
    keys = {_normal(key, dialect): key for key in raw}
    inner: dict[str, list[tuple[str, str]]] = {}  # last part of a dotted key -> the ways there, with the raw keys
    nested = dialect in ("plain", "environment")
    for normal, key in keys.items():
        dotted = divided(normal, _every_spelling()) if nested and "." not in normal else normal
        way, _, last = dotted.rpartition(".")
        if way:
            inner.setdefault(last, []).append((way, key))
    found: dict[str, Setting] = {}
    lasts = {normal.rpartition(".")[2] for normal in keys} | set(inner)
    for name in NAMES:
        if lasts.isdisjoint(_last_parts(name.canonical, dialect)):
            continue
        candidates = _candidates(name, keys, inner, dialect)
        if name.canonical == "start":  # "resume: null" beside "init_from: gpt2" does not make it fresh
            candidates.sort(key=lambda key: read_value("start", raw[key].value) == "fresh")
        for key in candidates:
            if name.canonical == "start" and _is_switch(key, raw[key].value):
                continue
            value = read_value(name.canonical, raw[key].value)
            if value is not None and value == value:
                written = raw[key].value
                changed = value != written or type(value) is not type(written)
                found[name.canonical] = replace(raw[key], value=value, key=key, written=written if changed else None)
                break
    if dialect != "unstuck":
        _pair_of_betas(found, raw)
    if factors := _group_factors(raw, dialect):
        found["group_lr_factors"] = factors
    if "accumulation" not in found and (implied := accumulation(found, raw)) is not None:
        found["accumulation"] = implied
    SPECIAL.get(dialect, _plain_rules)(found, raw)
    _derived(found)
    return found


def _is_switch(key: str, written: Any) -> bool:
    """`resume: true` goes on where there is something to go on from (ESPnet, NeMo): it does not say that there was."""
    return written is True and _normal(key, "plain").rpartition(".")[2] == "resume"


def _pair_of_betas(found: dict[str, Setting], raw: Mapping[str, Setting]) -> None:
    """`betas: [0.9, 0.95]`, as torch's Adam takes them."""
    for key, setting in raw.items():
        way, _, last = _normal(key, "plain").rpartition(".")
        if last not in ("betas", "adam_betas") or is_elsewhere(way):
            continue
        written = setting.value
        if isinstance(written, str):
            written = [part for part in re.split(r"[\s,()\[\]]+", written) if part]
        values = [read_value("beta1", value) for value in written] if isinstance(written, list | tuple) else []
        if len(values) == 2 and all(value is not None for value in values):
            for name, value in zip(("beta1", "beta2"), values, strict=True):
                found.setdefault(name, replace(setting, value=value, key=key, written=setting.value))


def key_in_dialect(canonical: str, run: Run) -> str:
    """The key that the user writes for a canonical setting: their own, else the first of their dialect."""
    setting = run.settings.get(canonical)
    if setting is not None:
        return setting.key
    by_dialect = next((name.spellings for name in NAMES if name.canonical == canonical), {})
    spelling = (by_dialect.get(run.dialect) or by_dialect.get("plain") or (canonical,))[0]
    return spelling.upper() if run.dialect == "environment" else spelling


def in_dialect(change: Change, run: Run) -> Change:
    """The change with key and values as the user of this run writes them."""
    if change.key == "group_lr_factors":
        return _group_change(change, run)
    key = key_in_dialect(change.key, run)
    setting = run.settings.get(change.key)
    raw = run.raw_settings.get(key)
    if raw is not None:
        old = raw.value
    elif setting is not None:
        old = setting.value if setting.written is None else setting.written
    else:
        old = change.old
    if change.key in ("beta1", "beta2") and isinstance(old, list | tuple) and len(old) == 2:
        return Change(key, list(old), [change.new, old[1]] if change.key == "beta1" else [old[0], change.new])
    warmup = bool(run.setting("warmup_updates") or run.setting("warmup_share"))
    new = write_value(change.key, change.new, run.dialect, key=key, warmup=warmup)
    if setting is not None and setting.written is not None and _scaled(setting.value, setting.written):
        # The user's unit is a multiple of ours (nanoGPT's min_lr of our floor, accumulation over all devices).
        new = change.new * setting.written / setting.value
        new = max(1, round(new)) if isinstance(setting.written, int) else float(f"{new:.6g}")
    if isinstance(old, int) and not isinstance(old, bool) and isinstance(new, float) and new.is_integer():
        new = int(new)
    if isinstance(old, str) and not isinstance(new, str) and run.dialect == "environment":
        old, new = old, str(new)
    return Change(key, old, new)


@cache
def _spellings(canonical: str, dialect: str) -> tuple[str, ...]:
    """The dialect's own spellings first, then the plain ones; our own dialect has only its own."""
    by_dialect = next(name.spellings for name in NAMES if name.canonical == canonical)
    own = by_dialect.get(dialect, ())
    return own if dialect == "unstuck" else (*own, *(s for s in by_dialect.get("plain", ()) if s not in own))


@cache
def _last_parts(canonical: str, dialect: str) -> frozenset[str]:
    return frozenset(spelling.rpartition(".")[2] for spelling in _spellings(canonical, dialect))


@cache
def _every_spelling() -> frozenset[str]:
    return frozenset(spelling for name in NAMES for spellings in name.spellings.values() for spelling in spellings)


def _candidates(
    name: Name, keys: Mapping[str, str], inner: Mapping[str, list[tuple[str, str]]], dialect: str
) -> list[str]:
    """The raw keys that may be this setting, best first: exact spellings, then the last part of dotted keys."""
    spellings = _spellings(name.canonical, dialect)
    if dialect == "unstuck":
        return [keys[s] for s in spellings if s in keys]
    exact = [keys[s] for s in spellings if s in keys]
    inside: list[str] = []
    for spelling in spellings:
        sections, _, last = spelling.rpartition(".")
        for way, key in inner.get(last, ()):
            if is_ruled_out(name.canonical, spelling, way):
                continue
            ways = (f".{way}", f".{bare_sections(way)}")
            if sections and any(one.endswith(f".{sections}") for one in ways) and key not in exact:
                inside.insert(0, key)
            elif not sections and not is_elsewhere(way) and key not in exact:
                inside.append(key)
    return exact + inside


def _normal(key: str, dialect: str) -> str:
    """One spelling for `labelSmoothing`, `label-smoothing`, `Label smoothing` and `--label_smoothing`."""
    if dialect == "unstuck":
        return key
    normal = (
        re.sub(r"[-\s]+", "_", CAMEL.sub("_", key.strip().lstrip("-").replace("LoRA", "lora")))
        .lower()
        .replace("/", ".")
    )
    way, dot, last = normal.rpartition(".")
    return f"{way}{dot}{unjoined().get(last, last)}"


@cache
def unjoined() -> dict[str, str]:
    """Spellings of two words and more as they are written in one: `batchsize` (ParlAI, Chainer) -> `batch_size`."""
    plain = [s for name in NAMES for s in name.spellings.get("plain", ()) if "_" in s and "." not in s]
    joined = {s.replace("_", ""): s for s in reversed(plain) if len(s) >= MIN_JOINED}
    return {one: spelling for one, spelling in joined.items() if one not in _every_spelling()}


def _group_factors(raw: Mapping[str, Setting], dialect: str) -> Setting | None:
    """`lr_mult: {body: 0.1}`, `lr_mult.body: 0.1`, `memory_lr_scale: 0.1` or our groups, as one dict."""
    factors: dict[str, float] = {}
    first: Setting | None = None
    wanted = set(_spellings("group_lr_factors", "plain"))
    for key, setting in raw.items():
        normal = _normal(key, dialect)
        way, _, last = normal.rpartition(".")
        entries: dict[str, Any] = {}
        if dialect == "unstuck":
            if normal.startswith("optimizer.groups.") and last == "lr_factor":
                entries = {way.rpartition(".")[2]: setting.value}
        elif last in wanted and isinstance(setting.value, Mapping):
            entries = dict(setting.value)
        elif way and way.rpartition(".")[2] in wanted:
            entries = {re.split(r"[./]", key)[-1]: setting.value}
        elif (group := _group_named(last)) is not None:
            entries = {group: setting.value}
        for group, value in entries.items():
            number = read_value("dropout", value)  # any plain number
            if number is not None:
                factors[str(group)] = float(number)
                first = first or setting
    if first is None:
        return None
    shared = first.key.rpartition(".")[0] if "." in first.key and dialect != "unstuck" else first.key
    return replace(first, value=factors, key="optimizer.groups" if dialect == "unstuck" else shared, written=None)


def _group_named(key: str) -> str | None:
    """The group whose factor a normalised key holds: `memory_lr_scale`, `lr_mult_memory`; None where it names none."""
    match = GROUP_FACTOR.match(key)
    group = match and (match["before"] or match["behind"])
    return None if not group or group in NOT_GROUPS else group


def _group_change(change: Change, run: Run) -> Change:
    """One group's factor by the user's own key; several at once stay a dict."""
    old, new = dict(change.old or {}), dict(change.new)
    changed = [group for group in new if new[group] != old.get(group)]
    key = key_in_dialect("group_lr_factors", run)
    if len(changed) != 1:
        return Change(key, old, new)
    group = changed[0]
    if run.dialect == "unstuck":
        return Change(f"optimizer.groups.{group}.lr_factor", old.get(group), new[group])
    for raw_key in run.raw_settings:
        normal = _normal(raw_key, run.dialect)
        if _group_named(normal.rpartition(".")[2]) == group.lower() or normal == _normal(f"{key}.{group}", run.dialect):
            return Change(raw_key, old.get(group), new[group])
    return Change(f"{key}.{group}", old.get(group), new[group])


def _scaled(value: Any, written: Any) -> bool:
    numbers = (int, float)
    plain = isinstance(value, numbers) and isinstance(written, numbers)
    return plain and not isinstance(value, bool) and not isinstance(written, bool) and value != written and bool(value)


def _huggingface_rules(found: dict[str, Setting], raw: Mapping[str, Setting]) -> None:
    """TrainingArguments: max_steps beats epochs; a warmup_steps below 1 is a share; bf16 and fp16 are switches."""
    if "updates" in found:
        found.pop("epochs", None)
    steps = found.get("warmup_updates")
    if steps is not None and 0 < steps.value < 1:  # transformers 5: "if < 1, a ratio of the training steps"
        found["warmup_share"] = found.pop("warmup_updates")
    elif steps is not None and steps.value > 0:  # get_warmup_steps: steps win over the ratio
        found.pop("warmup_share", None)
    elif found.get("warmup_share") is not None and found["warmup_share"].value > 0:
        found.pop("warmup_updates", None)
    if (task := found.get("task")) is not None and _is_class_of_words(task, found, raw):
        found.pop("task")
    _switched_precision(found, raw)
    every = found.get("evaluation_every")
    if every is not None and 0 < every.value < 1:
        total = found.get("updates")
        if total is None:
            found.pop("evaluation_every")
        else:
            found["evaluation_every"] = replace(every, value=round(every.value * total.value), written=every.value)
    _plain_rules(found, raw)


def _is_class_of_words(task: Setting, found: Mapping[str, Setting], raw: Mapping[str, Setting]) -> bool:
    """Whether `model.type` is a class of the user's own that has a vocabulary and no labels: some language model."""
    labels = any(key.rpartition(".")[2] == "num_labels" for key in raw)
    return task.key.endswith("model.type") and task.value not in TASKS and "vocabulary" in found and not labels


def _nanogpt_rules(found: dict[str, Setting], raw: Mapping[str, Setting]) -> None:
    """train.py: with decay_lr off neither warm-up nor decay is applied; accumulation counts over all devices."""
    switch = raw.get("decay_lr")
    if switch is not None and switch.value is False:
        for unused in ("warmup_updates", "horizon_updates", "min_learning_rate", "lr_floor"):
            found.pop(unused, None)
    elif "schedule" not in found:  # decay_lr is True by default (nanoGPT train.py), and the decay is a cosine
        shown = next((found[n] for n in ("horizon_updates", "warmup_updates", "min_learning_rate") if n in found), None)
        if shown is not None:
            found["schedule"] = replace(shown, value="cosine", key="decay_lr", written=True)
    devices = found.get("world_size")
    total = found.get("accumulation")
    if devices is not None and total is not None and total.value % devices.value == 0 and devices.value > 1:
        found["accumulation"] = replace(total, value=total.value // devices.value, written=total.value)
    draws, batch, context = raw.get("eval_iters"), found.get("batch_size"), found.get("context")
    if draws is not None and batch is not None and isinstance(draws.value, int):  # estimate_loss draws so many batches
        samples = draws.value * batch.value
        found["validation_samples"] = replace(draws, value=samples, written=draws.value)
        if context is not None:
            found["validation_tokens"] = replace(draws, value=samples * context.value, written=draws.value)
    _plain_rules(found, raw)


def _plain_rules(found: dict[str, Setting], raw: Mapping[str, Setting]) -> None:
    """A bare `warmup` below 1 is a share; `use_lora: false` means no LoRA; epochs become updates where they can."""
    warmup = found.get("warmup_updates")
    if warmup is not None and warmup.key.rpartition(".")[2].lower() == "warmup" and 0 < warmup.value < 1:
        found["warmup_share"] = found.pop("warmup_updates")
    switch = next((s for k, s in raw.items() if k.lower().rpartition(".")[2] == "use_lora"), None)
    if switch is not None and str(switch.value).lower() in ("false", "0", "none"):
        found.pop("lora_rank", None)
    family = next((s.value for k, s in raw.items() if k.lower() == "model_type"), None)
    named = raw.get(f"{str(family).lower()}_model_name")  # "model_type: gpt2" beside "gpt2_model_name: gpt2-medium"
    if named is not None and named.value and "start" not in found:
        found["start"] = replace(named, value="pretrained", written=named.value)
    start = found.get("start")
    if start is not None and "start_loss" not in found:
        loss = start_loss_in(start.written)
        if loss is not None:
            found["start_loss"] = replace(start, value=loss, written=start.written)
    _switched_precision(found, raw)
    if "patience" not in found and (bare := _bare_patience(found, raw)) is not None:
        found["patience"] = bare
    per_epoch = next((s for k, s in raw.items() if k.lower().rpartition(".")[2] in PER_EPOCH), None)
    steps = read_value("updates", per_epoch.value) if per_epoch is not None else None
    each = found["accumulation"].value if "accumulation" in found else 1
    if per_epoch is not None and steps and each > 1 and per_epoch.key.lower().rpartition(".")[2] in BATCHES_PER_EPOCH:
        steps, each = max(1, steps // each), 1
    if steps is not None and each != 1:
        return
    epochs = found.get("epochs")
    if steps is not None and epochs is not None and "updates" not in found:
        found["updates"] = replace(epochs, value=round(epochs.value * steps), written=epochs.value)
    steps = steps or updates_per_epoch(found)
    warm = next((s for k, s in raw.items() if k.lower().rpartition(".")[2] == "warmup_epochs"), None)
    length = read_value("dropout", warm.value) if warm is not None else None
    if (
        warm is not None
        and length is not None
        and steps
        and "warmup_updates" not in found
        and "warmup_share" not in found
    ):
        found["warmup_updates"] = replace(warm, value=round(length * steps), written=length)


def _bare_patience(found: Mapping[str, Setting], raw: Mapping[str, Setting]) -> Setting | None:
    """A key that is just `patience` beside a plateau schedule: the scheduler's, unless early stopping is named too."""
    schedule = found.get("schedule")
    keys = [key for key in raw if key.lower() == "patience"]
    if schedule is None or schedule.value != "plateau" or not keys or any("early" in key.lower() for key in raw):
        return None
    value = read_value("patience", raw[keys[0]].value)
    return None if value is None else replace(raw[keys[0]], value=value, written=None)


# ESPnet's iterations are batches (espnet2/train/trainer.py: one update for `accum_grad` of them).
BATCHES_PER_EPOCH = {"batches_per_epoch", "num_batches_per_epoch", "num_iters_per_epoch"}
PER_EPOCH = {"steps_per_epoch", "updates_per_epoch", "iters_per_epoch", "num_steps_per_epoch"} | BATCHES_PER_EPOCH


def _unstuck_rules(found: dict[str, Setting], raw: Mapping[str, Setting]) -> None:
    """Both warm-ups null: there is none, on purpose. A null clip is no clipping. start_from null: fresh, unless the
    model is a pretrained one. A rank means LoRA only where the adapter is one."""
    steps, start = raw.get("schedule.warmup_updates"), raw.get("start_from")
    if steps is not None and "warmup_updates" not in found and "warmup_share" not in found:
        found["warmup_updates"] = replace(steps, value=0, written=None)
    if start is not None:
        found["start"] = replace(start, value="fresh" if start.value is None else "checkpoint", written=start.value)
    architecture, adapter, rank = (raw.get(f"model.{key}") for key in ("architecture", "adapter.kind", "adapter.rank"))
    if architecture is not None and architecture.value == "pretrained" and (start is None or start.value is None):
        found["start"] = replace(architecture, value="pretrained", written=architecture.value)
    if adapter is not None and rank is not None and adapter.value == "lora":
        found["lora_rank"] = replace(rank, written=rank.value)


SPECIAL = {"huggingface": _huggingface_rules, "nanogpt": _nanogpt_rules, "unstuck": _unstuck_rules}


def _switched_precision(found: dict[str, Setting], raw: Mapping[str, Setting]) -> None:
    for key, kind in (("bf16", "bfloat16"), ("fp16", "float16")):
        switch = raw.get(key)
        if switch is not None and switch.value is True and "precision" not in found:
            found["precision"] = replace(switch, value=kind, written=True)
    if "precision" not in found and all(k in raw and raw[k].value is False for k in ("bf16", "fp16")):
        found["precision"] = replace(raw["fp16"], value="float32", written=False)


def _derived(found: dict[str, Setting]) -> None:
    """The floor both as a share and as a rate, whichever was written."""
    peak, floor, low = found.get("learning_rate"), found.get("lr_floor"), found.get("min_learning_rate")
    if peak is None or not peak.value:
        return
    if low is not None and floor is None:
        found["lr_floor"] = replace(low, value=low.value / peak.value, written=low.value)
    elif floor is not None and low is None:
        found["min_learning_rate"] = replace(floor, value=floor.value * peak.value, written=floor.value)
