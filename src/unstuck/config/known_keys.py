"""The keys that two frameworks read, in full, and which misspelling of a known key a key may be.

`TRAINING_ARGUMENTS`: every field of `Seq2SeqTrainingArguments` of transformers 4.30.2, 4.46.3, 4.57.1 and 5.23.0, read
from their sources. `NANOGPT`: the globals that nanoGPT's `train.py` lets `configurator.py` override.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

from unstuck.config.names import NAMES

TRAINING_ARGUMENTS = frozenset({
    "_n_gpu", "accelerator_config", "activation_checkpointing", "activation_checkpointing_kwargs", "adafactor",
    "adam_beta1", "adam_beta2", "adam_epsilon", "auto_find_batch_size", "average_tokens_across_devices",
    "batch_eval_metrics", "bf16", "bf16_full_eval", "data_seed", "dataloader_drop_last", "dataloader_in_order",
    "dataloader_multiprocessing_context", "dataloader_num_workers", "dataloader_persistent_workers",
    "dataloader_pin_memory", "dataloader_prefetch_factor", "ddp_backend", "ddp_broadcast_buffers",
    "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph", "ddp_timeout", "debug", "deepspeed",
    "disable_tqdm", "dispatch_batches", "do_eval", "do_predict", "do_train", "enable_jit_checkpoint",
    "eval_accumulation_steps", "eval_delay", "eval_do_concat_batches", "eval_on_start", "eval_steps",
    "eval_strategy", "eval_use_gather_object", "evaluation_strategy", "fp16", "fp16_backend", "fp16_full_eval",
    "fp16_opt_level", "fsdp", "fsdp_config", "fsdp_min_num_params", "fsdp_transformer_layer_cls_to_wrap",
    "full_determinism", "generation_config", "generation_max_length", "generation_num_beams",
    "gradient_accumulation_steps", "gradient_checkpointing", "gradient_checkpointing_kwargs", "greater_is_better",
    "group_by_length", "half_precision_backend", "hub_always_push", "hub_model_id", "hub_private_repo",
    "hub_revision", "hub_strategy", "hub_token", "ignore_data_skip", "include_for_metrics",
    "include_inputs_for_metrics", "include_num_input_tokens_seen", "include_tokens_per_second", "jit_mode_eval",
    "label_names", "label_smoothing_factor", "learning_rate", "length_column_name", "liger_kernel_config",
    "load_best_model_at_end", "local_rank", "log_level", "log_level_replica", "log_on_each_node", "logging_dir",
    "logging_first_step", "logging_nan_inf_filter", "logging_steps", "logging_strategy", "lr_scheduler_kwargs",
    "lr_scheduler_type", "max_grad_norm", "max_steps", "metric_for_best_model", "mp_parameters",
    "neftune_noise_alpha", "no_cuda", "num_train_epochs", "optim", "optim_args", "optim_target_modules",
    "output_dir", "overwrite_output_dir", "parallelism_config", "past_index", "per_device_eval_batch_size",
    "per_device_train_batch_size", "per_gpu_eval_batch_size", "per_gpu_train_batch_size", "predict_with_generate",
    "prediction_loss_only", "project", "push_to_hub", "push_to_hub_model_id", "push_to_hub_organization",
    "push_to_hub_token", "ray_scope", "remove_unused_columns", "report_to",
    "restore_callback_states_from_checkpoint", "resume_from_checkpoint", "run_name", "save_on_each_node",
    "save_only_model", "save_safetensors", "save_steps", "save_strategy", "save_total_limit", "seed",
    "sharded_ddp", "skip_memory_metrics", "sortish_sampler", "split_batches", "tf32", "torch_compile",
    "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps", "torchdynamo", "tpu_metrics_debug",
    "tpu_num_cores", "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id",
    "train_sampling_strategy", "use_cache", "use_cpu", "use_ipex", "use_legacy_prediction_loop",
    "use_liger_kernel", "use_mps_device", "warmup_ratio", "warmup_steps", "weight_decay", "xpu_backend",
})  # fmt: skip
NANOGPT = frozenset({
    "out_dir", "eval_interval", "log_interval", "eval_iters", "eval_only", "always_save_checkpoint", "init_from",
    "wandb_log", "wandb_project", "wandb_run_name", "dataset", "gradient_accumulation_steps", "batch_size",
    "block_size", "n_layer", "n_head", "n_embd", "dropout", "bias", "learning_rate", "max_iters", "weight_decay",
    "beta1", "beta2", "grad_clip", "decay_lr", "warmup_iters", "lr_decay_iters", "min_lr", "backend", "device",
    "dtype", "compile",
})  # fmt: skip

# What a slip of the fingers does to one word: up to two letters of a long one, one of a middling one. A word of four or
# five differs by one letter from too many others (batch, patch, match): there only a letter lost, doubled or swapped
# counts, and only in a key of several words.
LONG, MIDDLING, SHORT = 8, 6, 4  # ours
VARIANT_LETTERS = 2  # ours: step and steps, schedule and scheduler; accum and accumulation are another name
Misspelling = Literal["slip", "form"]


def misspelling(key: str, known: str) -> Misspelling | None:
    """How `key` may be meant for `known`, both in lower case with underscores; None when it is another name.

    Returns:
        "slip": one word holds a typing error (`leaning_rate`). "form": another form of the same words (`warmup_step`,
        `learningrate`), which is a name of its own in many programs.
    """
    if key == known:
        return None
    if key.replace("_", "") == known.replace("_", ""):
        return "form"
    ours, theirs = key.split("_"), known.split("_")
    if len(ours) != len(theirs):
        return None
    differing = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
    if len(differing) != 1:
        return None
    a, b = differing[0]
    if re.search(r"\d", a + b) or a.replace("ise", "ize") == b.replace("ise", "ize"):
        return None
    if a.startswith(b) or b.startswith(a):
        return "form" if abs(len(a) - len(b)) <= VARIANT_LETTERS and min(len(a), len(b)) >= 4 else None
    longest = max(len(a), len(b))
    if a in _words():
        return None  # `val_steps` is no slip of `eval_steps`
    if len(b) < SHORT or (len(theirs) == 1 and longest < MIDDLING):
        return None
    allowed = 2 if longest >= LONG and len(theirs) > 1 else 1
    away = edits(a, b, allowed)
    if away is None or (longest < MIDDLING and len(a) == len(b) and sorted(a) != sorted(b)):
        return None
    return "slip"


@cache
def _words() -> frozenset[str]:
    """Words that some known key is made of."""
    spelled = (spelling for name in NAMES for spellings in name.spellings.values() for spelling in spellings)
    return frozenset(re.split(r"[._]", " ".join([*TRAINING_ARGUMENTS, *NANOGPT, *spelled]).replace(" ", "_")))


def edits(a: str, b: str, most: int) -> int | None:
    """Letters inserted, lost, replaced or swapped with their neighbour between two words; None beyond `most`."""
    if abs(len(a) - len(b)) > most:
        return None
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, letter in enumerate(a, start=1):
        last, row = row, [i]
        for j, other in enumerate(b, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return None
        before = last
    return row[-1] if row[-1] <= most else None
