"""transformers' own Trainer: its `trainer_state.json`, the dicts that it prints, and its arguments as JSON."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler, Subset
from transformers import PretrainedConfig, Trainer, TrainerCallback, TrainingArguments

from benchmarks.faults.problem import Pair, Problem, parameter_count, subset
from benchmarks.faults.settings import Bugs, Settings, Setup
from benchmarks.faults.trainers.outcome import Outcome

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "wsd": "warmup_stable_decay",
             "restarts": "cosine_with_restarts"}  # fmt: skip
# What people keep of the arguments: the ones that shape the training.
KEPT = (
    "per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "max_steps",
    "num_train_epochs", "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay",
    "max_grad_norm", "adam_beta1", "adam_beta2", "optim", "optim_args", "label_smoothing_factor", "logging_steps",
    "logging_nan_inf_filter", "eval_steps", "eval_strategy", "seed", "bf16", "fp16", "dataloader_num_workers",
)  # fmt: skip


class Samples(Dataset[dict[str, Tensor]]):
    def __init__(self, pair: Pair) -> None:
        self.pair = pair

    def __len__(self) -> int:
        return len(self.pair[0])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"inputs": self.pair[0][index], "labels": self.pair[1][index]}


class Model(nn.Module):
    """The problem's model in the form that the Trainer calls: a loss and logits."""

    def __init__(self, problem: Problem, bugs: Bugs) -> None:
        super().__init__()
        self.network = problem.make_model()
        self.config = PretrainedConfig()  # the Trainer looks into it where labels are smoothed
        self.problem, self.bugs = problem, bugs

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.network(inputs)
        if labels is None:
            return {"logits": logits}
        reduction = "samples" if self.bugs.bad_samples else self.bugs.reduction
        return {"loss": self.problem.loss(logits, labels, reduction=reduction), "logits": logits}


class Watch(TrainerCallback):  # type: ignore[misc]
    """Measures the clean loss whenever the Trainer evaluates."""

    def __init__(self, problem: Problem, outcome: Outcome) -> None:
        self.problem, self.outcome = problem, outcome

    def on_evaluate(self, args: Any, state: Any, control: Any, *, metrics: Any, model: Any, **_: Any) -> None:
        clean = self.problem.evaluate(model.network, self.problem.clean).loss
        self.outcome.evaluations.append((state.global_step, float(metrics["eval_loss"]), clean))


class Unshuffled(Trainer):  # type: ignore[misc]
    """What a subclass does that wants the file's own order."""

    def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
        return SequentialSampler(self.train_dataset)


def train(setup: Setup, problem: Problem, seed: int, folder: Path) -> Outcome:
    """Train one run and keep its two records below `folder`."""
    settings, bugs = setup.settings, setup.bugs
    torch.manual_seed(seed)
    model = Model(problem, bugs)
    if bugs.frozen and problem.groups:
        for parameter in next(iter(problem.groups(model.network).values())):
            parameter.requires_grad_(False)
    outcome = Outcome()
    generator = torch.Generator().manual_seed(seed)

    def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        inputs, labels = torch.stack([i["inputs"] for i in items]), torch.stack([i["labels"] for i in items])
        if problem.vary:
            inputs, labels = problem.vary(inputs, labels, generator)
        return {"inputs": inputs, "labels": labels}

    training: Dataset[Any] = Samples(problem.train)
    if not settings.shuffle and problem.sorted_order is not None:
        training = Subset(training, problem.sorted_order.tolist())
    validation = Samples(subset(problem.validation, problem.validation_draw))
    # the last part of a batch is dropped in evaluations too: of fewer samples than one batch nothing would be left
    arguments = arguments_of(settings, bugs, seed, folder / "work", min(64, len(validation)))
    kind = Trainer if settings.shuffle else Unshuffled
    for name in ("state", "stdout"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / "stdout" / "train.log").open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        trainer = kind(
            model=model, args=arguments, train_dataset=training, eval_dataset=validation, data_collator=collate,
            callbacks=[Watch(problem, outcome)],
        )  # fmt: skip
        trainer.train()
    trainer.state.save_to_json(str(folder / "state" / "trainer_state.json"))
    kept = described(arguments, problem, model.network, validation, settings)
    for name in ("state", "stdout"):
        (folder / name / "args.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    logged = [row for row in trainer.state.log_history if "grad_norm" in row]
    outcome.updates = trainer.state.global_step
    outcome.finite = all(math.isfinite(row["grad_norm"]) and math.isfinite(row["loss"]) for row in logged)
    limit = settings.clip_norm
    outcome.clipped_share = sum(limit is not None and row["grad_norm"] > limit for row in logged) / max(1, len(logged))
    outcome.views = {"state": "state/trainer_state.json", "stdout": "stdout/train.log"}
    return outcome


def arguments_of(settings: Settings, bugs: Bugs, seed: int, folder: Path, evaluated: int) -> TrainingArguments:
    schedule, further = SCHEDULES.get(settings.schedule, "cosine"), {}
    if settings.schedule == "cosine" and settings.floor:
        schedule, further = "cosine_with_min_lr", {"min_lr_rate": settings.floor}
    if settings.schedule == "wsd":
        further = {"num_decay_steps": round(settings.decay_share * settings.updates), "min_lr_ratio": settings.floor}
    if settings.schedule == "restarts":
        further = {"num_cycles": settings.cycles}
    if settings.schedule == "plateau":
        schedule, further = "reduce_lr_on_plateau", {"patience": settings.patience, "factor": settings.factor}
    sgd = settings.optimizer == "sgd"
    return TrainingArguments(
        output_dir=str(folder), max_steps=settings.updates, per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=evaluated, gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate, lr_scheduler_type=schedule, lr_scheduler_kwargs=further or None,
        warmup_steps=settings.warmup, weight_decay=settings.weight_decay, max_grad_norm=settings.clip_norm or 0.0,
        adam_beta2=settings.beta2, optim="sgd" if sgd else "adamw_torch",
        optim_args=f"momentum={settings.momentum}" if sgd else None,
        label_smoothing_factor=settings.label_smoothing, logging_steps=settings.log_every,
        logging_nan_inf_filter=bugs.nan_filter, eval_strategy="steps", eval_steps=settings.eval_every,
        save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=seed, remove_unused_columns=False,
        label_names=["labels"], dataloader_num_workers=0, metric_for_best_model="eval_loss",
        dataloader_drop_last=True,
    )  # fmt: skip


def described(
    arguments: TrainingArguments, problem: Problem, model: nn.Module, validation: Samples, settings: Settings
) -> dict[str, Any]:
    """The arguments and what scripts keep beside them."""
    given = arguments.to_dict()
    facts = problem.facts
    about = {"type": type(getattr(model, "model", model)).__name__, "parameters": parameter_count(model),
             "trainable": parameter_count(model, trainable=True)}  # fmt: skip
    names = {"vocabulary": "vocab_size", "classes": "num_labels", "context": "max_position_embeddings"}
    about |= {key: facts[name] for name, key in names.items() if name in facts}
    kept = {name: given[name] for name in KEPT if given.get(name) is not None}
    kept |= {"model": about, "train_samples": len(problem.train[0]), "eval_samples": len(validation)}
    if "base" in facts:
        kept["model_name_or_path"] = facts["base"]
    if "lora_rank" in settings.model:
        kept["lora"] = {"r": settings.model["lora_rank"], "lora_alpha": 2 * settings.model["lora_rank"]}
    return kept
