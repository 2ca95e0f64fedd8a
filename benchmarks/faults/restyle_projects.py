"""The configuration of a run under the key names of public projects, and in further ways to print one.

What a project has no name for is under a common one. The names are those of the projects'
own configuration files and parsers.
"""

from __future__ import annotations

import json
import pprint
from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]

# project -> neutral name -> where its configuration has it
PROJECTS: dict[str, dict[str, str]] = {
    "fairseq": {  # facebookresearch/fairseq, fairseq/dataclass/configs.py
        "lr": "optimization.lr", "optimizer": "optimizer._name", "weight_decay": "optimizer.weight_decay",
        "schedule": "lr_scheduler._name", "warmup": "lr_scheduler.warmup_updates", "updates": "optimization.max_update",
        "batch_size": "dataset.batch_size", "accumulation": "optimization.update_freq",
        "clip": "optimization.clip_norm", "smoothing": "criterion.label_smoothing", "dropout": "model.dropout",
        "seed": "common.seed", "context": "task.tokens_per_sample",
    },
    "deepspeed": {  # microsoft/DeepSpeed, ds_config.json
        "lr": "optimizer.params.lr", "optimizer": "optimizer.type", "weight_decay": "optimizer.params.weight_decay",
        "warmup": "scheduler.params.warmup_num_steps", "batch_size": "train_micro_batch_size_per_gpu",
        "accumulation": "gradient_accumulation_steps", "clip": "gradient_clipping",
    },
    "torchtitan": {  # pytorch/torchtitan, train_configs/*.toml
        "lr": "optimizer.lr", "optimizer": "optimizer.name", "warmup": "lr_scheduler.warmup_steps",
        "schedule": "lr_scheduler.decay_type", "updates": "training.steps", "batch_size": "training.local_batch_size",
        "context": "training.seq_len", "clip": "training.max_norm", "seed": "training.seed",
    },
    "nemo": {  # NVIDIA/NeMo, examples/*/conf
        "lr": "model.optim.lr", "optimizer": "model.optim.name", "weight_decay": "model.optim.weight_decay",
        "schedule": "model.optim.sched.name", "warmup": "model.optim.sched.warmup_steps",
        "updates": "trainer.max_steps", "epochs": "trainer.max_epochs",
        "accumulation": "trainer.accumulate_grad_batches", "clip": "trainer.gradient_clip_val",
        "batch_size": "model.train_ds.batch_size", "vocabulary": "model.decoder.vocab_size",
    },
    "detectron2": {  # facebookresearch/detectron2, config/defaults.py
        "lr": "SOLVER.BASE_LR", "weight_decay": "SOLVER.WEIGHT_DECAY", "warmup": "SOLVER.WARMUP_ITERS",
        "updates": "SOLVER.MAX_ITER", "batch_size": "SOLVER.IMS_PER_BATCH", "momentum": "SOLVER.MOMENTUM",
        "clip": "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "eval_every": "TEST.EVAL_PERIOD", "seed": "SEED",
    },
    "espnet": {  # espnet/espnet, egs2/*/conf/train_*.yaml
        "lr": "optim_conf.lr", "optimizer": "optim", "weight_decay": "optim_conf.weight_decay",
        "schedule": "scheduler", "warmup": "scheduler_conf.warmup_steps", "epochs": "max_epoch",
        "batch_size": "batch_size", "accumulation": "accum_grad", "clip": "grad_clip",
        "smoothing": "model_conf.lsm_weight", "dropout": "encoder_conf.dropout_rate",
    },
    "opennmt": {  # OpenNMT/OpenNMT-py, onmt/opts.py
        "lr": "learning_rate", "optimizer": "optim", "schedule": "decay_method", "warmup": "warmup_steps",
        "updates": "train_steps", "batch_size": "batch_size", "accumulation": "accum_count", "clip": "max_grad_norm",
        "smoothing": "label_smoothing", "eval_every": "valid_steps", "beta2": "adam_beta2",
    },
    "swin": {  # microsoft/Swin-Transformer, config.py
        "lr": "TRAIN.BASE_LR", "optimizer": "TRAIN.OPTIMIZER.NAME", "weight_decay": "TRAIN.WEIGHT_DECAY",
        "schedule": "TRAIN.LR_SCHEDULER.NAME", "epochs": "TRAIN.EPOCHS", "batch_size": "DATA.BATCH_SIZE",
        "accumulation": "TRAIN.ACCUMULATION_STEPS", "clip": "TRAIN.CLIP_GRAD", "smoothing": "MODEL.LABEL_SMOOTHING",
        "dropout": "MODEL.DROP_RATE", "classes": "MODEL.NUM_CLASSES", "seed": "SEED",
    },
    "litgpt": {  # Lightning-AI/litgpt, litgpt/args.py
        "lr": "optimizer.init_args.lr", "weight_decay": "optimizer.init_args.weight_decay",
        "optimizer": "optimizer.class_path", "updates": "train.max_steps", "warmup": "train.lr_warmup_steps",
        "batch_size": "train.micro_batch_size", "clip": "train.max_norm", "epochs": "train.epochs",
        "eval_every": "eval.interval", "context": "train.max_seq_length",
    },
}  # fmt: skip


# For what a project has no name for.
COMMON = {
    "optimizer": "opt", "schedule": "lr_scheduler_type", "warmup": "warmup_steps", "floor": "min_lr_ratio",
    "cycles": "num_cycles", "patience": "lr_patience", "factor": "lr_factor", "updates": "max_steps",
    "accumulation": "gradient_accumulation_steps", "clip": "max_grad_norm", "smoothing": "label_smoothing",
    "precision": "dtype", "vocabulary": "vocab_size", "context": "seq_len", "classes": "num_classes",
    "train_samples": "n_train", "val_samples": "n_val", "base": "base_model", "lora_rank": "lora_r",
}  # fmt: skip


def called(project: str, key: str) -> str:
    """What a project calls a fact."""
    return PROJECTS[project].get(key, COMMON.get(key, key))


def renamed(project: str, facts: Facts) -> dict[str, Any]:
    """The facts as a nested configuration of a project."""
    tree: dict[str, Any] = {}
    for key, value in facts.items():
        *path, last = called(project, key).split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = [value] if project == "fairseq" and key in ("lr", "accumulation") else value
    return tree


def _yaml(value: Any, indent: int = 0) -> str:
    if not isinstance(value, Mapping):
        return json.dumps(value)
    return "\n".join(
        f"{' ' * indent}{k}:" + (f"\n{_yaml(v, indent + 2)}" if isinstance(v, Mapping) else f" {_yaml(v)}")
        for k, v in value.items()
    )


def _toml(tree: Mapping[str, Any]) -> str:
    alone = [f"{k} = {json.dumps(v)}" for k, v in tree.items() if not isinstance(v, Mapping)]
    sections = [f"\n[{name}]\n" + "\n".join(f"{k} = {json.dumps(v)}" for k, v in inner.items())
                for name, inner in tree.items() if isinstance(inner, Mapping)]  # fmt: skip
    return "\n".join([*alone, *sections]) + "\n"


def _with_nulls(facts: Facts) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if value is not None}


# name -> file beside the log ("" for what the program prints first), and how it is written
FURTHER: dict[str, tuple[str, Callable[[Facts], str]]] = {
    "fairseq names": ("config.yaml", lambda facts: _yaml(renamed("fairseq", facts)) + "\n"),
    "DeepSpeed names": ("config.json", lambda facts: json.dumps(renamed("deepspeed", facts), indent=2)),
    "torchtitan names": ("config.toml", lambda facts: _toml(renamed("torchtitan", _with_nulls(facts)))),
    "NeMo names": ("hparams.yaml", lambda facts: _yaml(renamed("nemo", facts)) + "\n"),
    "detectron2 names": ("config.yaml", lambda facts: _yaml(renamed("detectron2", facts)) + "\n"),
    "ESPnet names": ("config.yaml", lambda facts: _yaml(renamed("espnet", facts)) + "\n"),
    "OpenNMT names": ("config.yaml", lambda facts: _yaml(renamed("opennmt", facts)) + "\n"),
    "Swin names": ("config.json", lambda facts: json.dumps(renamed("swin", facts), indent=2)),
    "litgpt names": ("hyperparameters.yaml", lambda facts: _yaml(renamed("litgpt", facts)) + "\n"),
    # google/gin-config: the operative configuration that T5 and its relatives print
    "gin": ("", lambda facts: "# Parameters for train:\n# " + "=" * 70 + "\n" + "\n".join(
        f"train.{called('opennmt', k)} = {v!r}" for k, v in facts.items())),
    # bash -x: the command with a line for each option
    "shell": ("", lambda facts: "+ python train.py \\\n" + " \\\n".join(
        f"    --{called('opennmt', k)} {v}" for k, v in facts.items())),
    "flags with =": ("", lambda facts: "Command: torchrun --nproc_per_node=1 train.py " + " ".join(
        f"--{called('opennmt', k)}={v}" for k, v in facts.items())),
    "pprint": ("", lambda facts: pprint.pformat(renamed("opennmt", facts), width=40)),
    "rich repr": ("", lambda facts: "TrainingArguments(\n" + "".join(
        f"    {k}={v!r},\n" for k, v in renamed("opennmt", facts).items()) + ")"),
    # argparse programs that print what differs from the default (openai/guided-diffusion, timm)
    "defaults": ("", lambda facts: "Options:\n" + "\n".join(
        f"{called('opennmt', k):>25}: {v!s:<30}[default: None]" for k, v in facts.items())),
    "logged pairs": ("", lambda facts: "\n".join(
        f"2025-06-01 08:00:00,123 - INFO - {called('opennmt', k)}: {v}" for k, v in facts.items())),
}  # fmt: skip
