"""One table of setting names across frameworks: canonical name, unit, and what each dialect calls it.

A reader translates what it finds into canonical names with `canonical_settings`; a prescription is translated back
with `in_dialect`, so that the user reads `--max_grad_norm`, `grad_clip` or `training.clip_norm`, whichever is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Name:
    """A canonical setting.

    Attributes:
        canonical: the name rules and remedies use.
        unit: what the value counts.
        spellings: dialect -> the names that dialect uses, the one to print first.
    """

    canonical: str
    unit: str
    spellings: dict[str, tuple[str, ...]] = field(default_factory=dict)


NAMES: tuple[Name, ...] = (
    Name("learning_rate", "peak learning rate of the (AdamW) base, before group factors"),
    Name("muon_learning_rate", "peak learning rate of Muon"),
    Name("min_learning_rate", "learning rate at the end of the schedule, absolute"),
    Name("lr_floor", "learning rate at the end of the schedule, as a share of the peak"),
    Name("schedule", "constant | linear | cosine | wsd | polynomial | inverse_sqrt | plateau | restarts"),
    Name("schedule_cycles", "number of planned cosine cycles"),
    Name("warmup_updates", "optimizer updates (as the user believes: unconverted)"),
    Name("warmup_share", "share of the horizon"),
    Name("horizon_updates", "length of the schedule in optimizer updates (as the user believes)"),
    Name("updates", "planned optimizer updates"),
    Name("epochs", "planned epochs"),
    Name("batch_size", "samples per device and micro-batch"),
    Name("accumulation", "micro-batches per optimizer update"),
    Name("world_size", "number of devices"),
    Name("context", "tokens per sample"),
    Name("clip_norm", "gradient norm limit; 0 or None: no clipping"),
    Name("weight_decay", "decoupled weight decay"),
    Name("optimizer", "adamw | adam | sgd | muon | lamb | lion | adafactor | ..., lower case"),
    Name("beta1", "AdamW beta1"),
    Name("beta2", "AdamW beta2"),
    Name("group_lr_factors", "dict of group name -> factor of the base learning rate"),
    Name("label_smoothing", "0..1"),
    Name("dropout", "0..1"),
    Name("precision", "float32 | bfloat16 | float16"),
    Name("seed", "int"),
    Name("vocabulary", "number of token ids V"),
    Name("parameters", "trainable parameters"),
    Name("layers", "number of blocks"),
    Name("heads", "attention heads"),
    Name("width", "residual width"),
    Name("start", "fresh | pretrained | checkpoint"),
    Name("start_loss", "validation loss of the checkpoint the run starts from, nats per token"),
    Name("lora_rank", "rank of LoRA adapters; unset: not LoRA"),
    Name("task", "causal-lm | masked-lm | classification | regression | seq2seq"),
    Name("train_samples", "training samples in one epoch"),
    Name("train_tokens", "training tokens in one epoch"),
    Name("validation_samples", "samples per evaluation"),
    Name("validation_tokens", "tokens per evaluation"),
    Name("evaluation_every", "optimizer updates between evaluations"),
    Name("patience", "plateau scheduler's patience, in evaluations"),
)
