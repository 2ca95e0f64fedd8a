"""Values across dialects: how each framework writes a schedule, an optimizer, a precision, a start.

`read_value` turns what was written into canonical form, `write_value` turns a canonical value back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# canonical schedule -> spellings after lower case and without '_', '-', ' ' (torch and transformers class names too).
SCHEDULES: dict[str, tuple[str, ...]] = {
    "constant": ("constant", "const", "none", "fixed", "false", "constantwithwarmup", "constantlr", "flat"),
    "linear": ("linear", "lineardecay", "linearwithwarmup", "linearwarmup", "linearlr", "linearschedulewithwarmup",
               "warmupdecaylr"),
    "cosine": ("cosine", "cosinedecay", "cosineannealing", "cosineannealinglr", "cosinewithwarmup", "cosinewithminlr",
               "cosinewarmup", "cos", "true"),
    "restarts": ("restarts", "cosinewithrestarts", "cosinerestarts", "warmrestarts", "cosinewarmrestarts", "sgdr",
                 "cosineannealingwarmrestarts", "cosinewithhardrestarts", "cosineannealingwithrestarts",
                 "cosinedecayrestarts"),
    "wsd": ("wsd", "warmupstabledecay", "trapezoidal", "trapezoid"),
    "polynomial": ("polynomial", "poly", "polynomialdecay", "polynomiallr"),
    "inverse_sqrt": ("inversesqrt", "invsqrt", "rsqrt", "noam", "inversesquareroot"),
    "plateau": ("plateau", "reducelronplateau", "reduceonplateau"),
}  # fmt: skip

# What class names and functions put around the kind: Keras (PolynomialDecay), optax (warmup_cosine_decay_schedule),
# PaddlePaddle (CosineAnnealingDecay), OpenNMT-tf (NoamDecay), Tensor2Tensor and T5X (linear_warmup * rsqrt_decay).
_BEHIND = ("schedule", "scheduler", "decay", "annealing", "lr", "policy")
_BEFORE = ("linearwarmup", "warmup", "get")

# In this order: "adamw" before "adam". What none of them is part of stays as it is written, in lower case.
OPTIMIZERS = ("adamw", "adafactor", "adagrad", "adadelta", "adamax", "nadam", "radam", "adam", "lamb", "lion", "muon",
              "sgd", "rmsprop", "sophia", "shampoo", "soap")  # fmt: skip

PRECISIONS = {"bfloat16": ("bf16", "bfloat16"), "float16": ("fp16", "float16", "16", "half"),
              "float32": ("fp32", "float32", "32", "no", "none", "false", "tf32")}  # fmt: skip

TASKS: dict[str, tuple[str, ...]] = {
    "masked-lm": ("masked", "mlm"),
    "seq2seq": ("seq2seq", "conditionalgeneration", "translation", "summar"),
    "classification": ("classif", "images"),
    "regression": ("reg",),
    "causal-lm": ("causal", "clm", "lmhead", "charlm", "language", "lm", "gpt"),
}

HUGGINGFACE_SCHEDULE = {
    "restarts": "cosine_with_restarts",
    "plateau": "reduce_lr_on_plateau",
    "wsd": "warmup_stable_decay",
}

COUNTS = {"updates", "epochs", "horizon_updates"}  # frameworks write -1 or 0 for "not set"
SAMPLES = {"train_samples", "validation_samples"}  # below one: a share of the data (scikit-learn's test_size)
WHOLE = {
    "warmup_updates", "horizon_updates", "updates", "batch_size", "accumulation", "world_size", "context", "layers",
    "heads", "width", "vocabulary", "parameters", "train_samples", "train_tokens", "validation_samples",
    "validation_tokens", "evaluation_every", "patience", "lora_rank", "schedule_cycles", "seed",
}  # fmt: skip


def read_value(canonical: str, written: Any) -> Any:
    """The canonical value of what was written; None when it does not say anything."""
    if isinstance(written, list | tuple) and len(written) == 1:
        written = written[0]  # fairseq has a list of one for each of its epochs
    if canonical == "schedule":
        return _schedule(_plain(written)) or _INVERSE_SQRT.get(str(written)) or str(written).lower()
    if canonical == "optimizer":
        plain = _plain(written)
        return next((kind for kind in OPTIMIZERS if kind in plain), str(written).lower())
    if canonical == "precision":
        plain = _plain(written).replace("torch.", "")
        return next((kind for kind, spellings in PRECISIONS.items() if any(s in plain for s in spellings)), None)
    if canonical == "task":
        plain = _plain(written)
        return next((task for task, parts in TASKS.items() if any(p in plain for p in parts)), str(written).lower())
    if canonical == "start":
        return _start(written)
    if canonical == "clip_norm":
        limit = 0.0 if written in (None, False) else _number(written)
        return 0.0 if limit is not None and limit < 0 else limit  # ESPnet writes -1 for no clipping
    if canonical == "group_lr_factors":
        return dict(written) if isinstance(written, Mapping) else None
    value = _number(written)
    if value is None or (canonical in COUNTS and value <= 0):
        return None
    if canonical in SAMPLES and (value < 1 or not float(value).is_integer()):
        return None
    return int(value) if canonical in WHOLE and float(value).is_integer() else value


def write_value(canonical: str, value: Any, dialect: str, *, key: str, warmup: bool = False) -> Any:
    """A canonical value as this dialect writes it.

    Args:
        key: the key it is written to; `decay_lr` is a switch.
        warmup: whether the run has a warm-up (transformers' constant schedule ignores it under its plain name).
    """
    if canonical == "schedule":
        if key.rpartition(".")[2].lower() == "decay_lr":
            return value != "constant"
        if dialect == "huggingface":
            return "constant_with_warmup" if value == "constant" and warmup else HUGGINGFACE_SCHEDULE.get(value, value)
    if canonical in WHOLE and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def start_loss_in(written: Any) -> float | None:
    """The loss that a start says it had: "gpt2-small (validation loss 1.97)"."""
    found = re.search(r"loss\s*[:=]?\s*(\d+(?:\.\d+)?)", str(written), flags=re.IGNORECASE)
    return float(found[1]) if found else None


def _start(written: Any) -> str | None:
    plain = _plain(written)
    if plain in ("", "none", "null", "false", "scratch", "fresh", "random", "new"):
        return "fresh"
    if plain in ("resume", "true", "checkpoint", "last", "latest") or "checkpoint" in plain or plain.endswith(".pt"):
        return "checkpoint"
    return "pretrained"


# ESPnet, WeNet, FunASR and PaddleSpeech; DeepSpeed's `WarmupLR` is constant behind its warm-up.
_INVERSE_SQRT = {"warmuplr": "inverse_sqrt", "warmup_lr": "inverse_sqrt"}


def _schedule(plain: str) -> str | None:
    """The kind of schedule that a name in small letters means; None where it means none that we know."""
    plain = plain.replace("*", "").removeprefix("constant") if "*" in plain else plain
    while plain:
        kind = next((kind for kind, spellings in SCHEDULES.items() if plain in spellings), None)
        if kind is not None:
            return kind
        behind = next((word for word in _BEHIND if plain.endswith(word)), "")
        before = "" if behind else next((word for word in _BEFORE if plain.startswith(word)), "")
        if not behind and not before:
            return None
        plain = plain.removesuffix(behind).removeprefix(before)
    return None


LARGEST = 1e18  # ours: no setting is larger; what is, infinity and nan with it, is a hash or a mistake


def _plain(written: Any) -> str:
    """Lower case, the last part of a dotted name, without '_', '-' and blanks."""
    text = str(written).strip().strip("'\"")
    if re.fullmatch(r"[A-Za-z_][\w.]*", text):
        text = text.rpartition(".")[2] or text
    return re.sub(r"[_\-\s]", "", text.lower())


def _number(written: Any) -> Any:
    """Numbers, also written as text ("1e-4", "5_000"); None for anything else. Booleans are not numbers."""
    if isinstance(written, bool):
        return None
    if isinstance(written, (int, float)):
        return written if abs(written) < LARGEST else None
    if isinstance(written, str):
        try:
            value = float(written.replace("_", "").replace(",", ""))
        except ValueError:
            return None
        if not abs(value) < LARGEST:
            return None
        return int(value) if value.is_integer() and "e" not in written.lower() else value
    return None
