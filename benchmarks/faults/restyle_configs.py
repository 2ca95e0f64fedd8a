"""Ways to write the configuration of a run: files beside a log and headers of one, with other spellings.

Each takes the facts of a run under neutral names and gives the name of a file with its text (beside the log), or the
lines that the program prints first (no name).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.faults.restyle_projects import FURTHER

Facts = Mapping[str, Any]
Tree = Mapping[str, Any]

# neutral name -> section and spelling, one tuple for each manner of naming
NAMES: dict[str, tuple[str, ...]] = {
    #  neutral        nested (YAML)             sections (TOML, INI)        short (argparse)  long (flags)
    "lr": ("optim.lr", "optimizer.lr", "lr", "learning-rate"),
    "optimizer": ("optim.name", "optimizer.type", "opt", "optimizer"),
    "beta2": ("optim.betas", "optimizer.betas", "beta2", "adam-beta2"),
    "momentum": ("optim.momentum", "optimizer.momentum", "momentum", "momentum"),
    "weight_decay": ("optim.weight_decay", "optimizer.weight_decay", "wd", "weight-decay"),
    "schedule": ("sched.name", "scheduler.type", "sched", "lr-scheduler"),
    "warmup": ("sched.warmup", "scheduler.warmup_iters", "n_warmup", "warmup-steps"),
    "warmup_ratio": ("sched.warmup_frac", "scheduler.warmup_fraction", "warmup_ratio", "warmup-ratio"),
    "floor": ("sched.min_lr_ratio", "scheduler.min_lr_factor", "min_lr_ratio", "min-lr-ratio"),
    "cycles": ("sched.n_cycles", "scheduler.num_cycles", "lr_cycles", "num-cycles"),
    "patience": ("sched.patience", "scheduler.patience", "lr_patience", "scheduler-patience"),
    "factor": ("sched.factor", "scheduler.factor", "lr_decay_factor", "scheduler-factor"),
    "updates": ("train.total_steps", "training.num_iters", "max_iter", "max-steps"),
    "epochs": ("train.epochs", "training.n_epochs", "epochs", "num-epochs"),
    "batch_size": ("train.batch", "training.samples_per_gpu", "bs", "batch-size"),
    "accumulation": ("train.accum", "training.accumulate", "grad_accum_steps", "gradient-accumulation"),
    "clip": ("train.max_norm", "training.grad_clip_norm", "clip", "clip-grad"),
    "smoothing": ("loss.label_smoothing", "loss.label_smooth", "ls", "smoothing"),
    "dropout": ("model.dropout.p", "model.drop", "drop", "dropout"),
    "precision": ("train.precision", "training.amp_dtype", "dtype", "precision"),
    "vocabulary": ("model.vocab", "model.vocab_size", "vocab", "vocab-size"),
    "context": ("data.seq_len", "data.context_length", "seq_len", "context-length"),
    "classes": ("model.n_classes", "model.num_classes", "nc", "num-classes"),
    "train_samples": ("data.n_train", "data.train_size", "n_train", "train-samples"),
    "val_samples": ("data.n_val", "data.val_size", "n_val", "val-samples"),
    "eval_every": ("train.eval_every", "training.val_interval", "eval_every", "eval-interval"),
    "seed": ("seed", "training.seed", "seed", "seed"),
    "task": ("task", "training.task", "task", "task"),
    "base": ("model.pretrained", "model.from_pretrained", "base_model", "init-from"),
    "lora_rank": ("lora.r", "lora.rank", "lora_r", "lora-r"),
}  # fmt: skip
CAMEL = {
    "lr": "learningRate", "optimizer": "optimizer", "beta2": "beta2", "momentum": "momentum",
    "weight_decay": "weightDecay", "schedule": "lrSchedule", "warmup": "warmupSteps", "warmup_ratio": "warmupRatio",
    "floor": "minLrRatio", "cycles": "numCycles", "patience": "lrPatience", "factor": "lrFactor",
    "updates": "totalSteps", "epochs": "numEpochs", "batch_size": "batchSize", "accumulation": "gradAccumSteps",
    "clip": "maxGradNorm", "smoothing": "labelSmoothing", "dropout": "dropoutRate", "precision": "precision",
    "vocabulary": "vocabSize", "context": "seqLen", "train_samples": "trainSamples", "val_samples": "valSamples",
    "eval_every": "evalEvery", "seed": "seed", "task": "task", "base": "baseModel", "lora_rank": "loraRank",
}  # fmt: skip
LABELS = {
    "lr": "Learning rate", "optimizer": "Optimizer", "beta2": "Beta2", "momentum": "Momentum",
    "weight_decay": "Weight decay", "schedule": "LR schedule", "warmup": "Warmup steps",
    "warmup_ratio": "Warmup ratio", "floor": "Min LR ratio", "cycles": "Num cycles", "patience": "LR patience",
    "factor": "LR factor", "updates": "Total steps", "epochs": "Epochs", "batch_size": "Batch size",
    "accumulation": "Gradient accumulation", "clip": "Gradient clipping", "smoothing": "Label smoothing",
    "dropout": "Dropout", "precision": "Precision", "vocabulary": "Vocab size", "context": "Sequence length",
    "train_samples": "Train samples", "val_samples": "Val samples", "eval_every": "Eval every", "seed": "Seed",
    "task": "Task", "base": "Base model", "lora_rank": "LoRA rank",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ConfigForm:
    """A form of configuration. `file`: its name beside the log; empty: it is printed first."""

    file: str
    write: Callable[[Facts], str]


def _tree(facts: Facts, manner: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in facts.items():
        way = NAMES[key][manner] if key in NAMES else key
        *path, last = way.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = [0.9, value] if last == "betas" else value
    return tree


def _flat(facts: Facts, manner: int) -> dict[str, Any]:
    return {NAMES[key][manner] if key in NAMES else key: value for key, value in facts.items()}


def _yaml(value: Any, indent: int = 0) -> str:
    if not isinstance(value, Mapping):
        return json.dumps(value)
    return "\n".join(
        f"{' ' * indent}{k}:" + (f"\n{_yaml(v, indent + 2)}" if isinstance(v, Mapping) else f" {_yaml(v)}")
        for k, v in value.items()
    )


def _sections(tree: Tree, equals: str, raw: bool) -> str:
    def section(name: str, inner: Tree) -> str:
        own = [f"{k}{equals}{v if raw else json.dumps(v)}" for k, v in inner.items() if not isinstance(v, Mapping)]
        deeper = [section(f"{name}.{k}", v) for k, v in inner.items() if isinstance(v, Mapping)]
        return "\n".join([f"[{name}]", *own, *deeper, ""])

    return "\n".join(
        [f"{k}{equals}{v if raw else json.dumps(v)}" for k, v in tree.items() if not isinstance(v, Mapping)]
        + [section(k, v) for k, v in tree.items() if isinstance(v, Mapping)]
    )


def _repr(name: str, tree: Tree) -> str:
    inner = (_repr(f"{k.capitalize()}Config", v) if isinstance(v, Mapping) else repr(v) for k, v in tree.items())
    return f"{name}({', '.join(f'{k}={v}' for k, v in zip(tree, inner, strict=True))})"


def _labelled(line: str) -> Callable[[Facts], str]:
    return lambda facts: "\n".join(line.format(key=LABELS.get(k, k), value=v) for k, v in facts.items())


def _flags(facts: Facts) -> str:
    return "$ python train.py " + " ".join(f"--{k} {v}" for k, v in _flat(facts, 3).items())


def _hparams(facts: Facts) -> str:
    lightning = {
        **{k: NAMES[k][2] for k in NAMES}, "clip": "gradient_clip_val", "accumulation": "accumulate_grad_batches",
        "updates": "max_steps", "smoothing": "label_smoothing", "batch_size": "batch_size", "lr": "learning_rate",
        "warmup": "num_warmup_steps", "dropout": "dropout",
    }  # fmt: skip
    return _yaml({lightning.get(k, k): v for k, v in facts.items()}) + "\n"


def _environment(facts: Facts) -> str:
    return "\n".join(f"{k.upper().replace('-', '_')}={v}" for k, v in _flat(facts, 3).items()) + "\n"


def _by_section(facts: Facts) -> str:
    tree = _tree(facts, 0)
    alone = {k: v for k, v in tree.items() if not isinstance(v, Mapping)}
    return "\n".join(
        f"[{name}] " + " ".join(f"{k}={_repr('dict', v) if isinstance(v, Mapping) else v}" for k, v in inner.items())
        for name, inner in {"run": alone, **{k: v for k, v in tree.items() if isinstance(v, Mapping)}}.items()
    )


def _python(facts: Facts) -> str:
    tree = _tree(facts, 1)
    return "\n".join(
        f"{k} = dict({', '.join(f'{a}={b!r}' for a, b in v.items())})" if isinstance(v, Mapping) else f"{k} = {v!r}"
        for k, v in tree.items()
    )


def _box(facts: Facts) -> str:
    rows = [f"│ {NAMES[k][3].replace('-', '_') if k in NAMES else k:<26} │ {v!s:<20} │" for k, v in facts.items()]
    return "\n".join(["╭" + "─" * 28 + "┬" + "─" * 22 + "╮", *rows, "╰" + "─" * 28 + "┴" + "─" * 22 + "╯"])


FORMS: dict[str, ConfigForm] = {
    "nested YAML": ConfigForm("config.yaml", lambda facts: _yaml(_tree(facts, 0)) + "\n"),
    "TOML": ConfigForm("config.toml", lambda facts: _sections(_tree(facts, 1), " = ", False)),
    "INI": ConfigForm("config.ini", lambda facts: _sections({"training": {}, **_tree(facts, 1)}, " = ", True)),
    "camelCase JSON": ConfigForm("config.json", lambda facts: json.dumps(
        {CAMEL.get(k, k): v for k, v in facts.items()}, indent=2)),
    "hparams.yaml": ConfigForm("hparams.yaml", _hparams),
    ".env": ConfigForm(".env", _environment),
    "config.py": ConfigForm("config.py", _python),
    "Namespace": ConfigForm("", lambda facts: _repr("Namespace", _flat(facts, 2))),
    "dataclass": ConfigForm("", lambda facts: "config: " + _repr("TrainConfig", _tree(facts, 0))),
    "flags": ConfigForm("", _flags),
    "labels": ConfigForm("", _labelled("{key:<24}: {value}")),
    "dots": ConfigForm("", lambda facts: "\n".join(
        f"  {k + ' ':.<48} {v}" for k, v in _flat(facts, 2).items())),
    "printed JSON": ConfigForm("", lambda facts: json.dumps(_tree(facts, 1), indent=4)),
    "printed YAML": ConfigForm("", lambda facts: "Config:\n" + _yaml(_tree(facts, 0), 2)),
    "printed dict": ConfigForm("", lambda facts: f"hparams = {_tree(facts, 1)}"),
    "by section": ConfigForm("", _by_section),
    "box": ConfigForm("", _box),
    "bullets": ConfigForm("", _labelled("  * {key} = {value}")),
    **{name: ConfigForm(file, write) for name, (file, write) in FURTHER.items()},
}  # fmt: skip
