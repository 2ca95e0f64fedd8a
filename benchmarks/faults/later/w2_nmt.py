"""The style of a translation toolkit of TensorFlow: a configuration in sections, `name = value` between semicolons.

Modelled on what OpenNMT-tf prints (github.com/OpenNMT/OpenNMT-tf: opennmt/training.py for the status line and the
counts of parameters, opennmt/evaluation.py for the evaluations, opennmt/runner.py for the header) through TensorFlow's
logger of its first version, and on its configuration file (docs/parameters.md). The JSON lines are the scalars that it
writes for TensorBoard, under their tags, as an export of the event files has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from benchmarks.faults.trainers.facts import Facts, nested, renamed
from benchmarks.faults.trainers.styles import LR, STEP_TIME, STEPS, Style, rates

if TYPE_CHECKING:
    from benchmarks.faults.trainers.writer import Evaluated, Updated

DECAYS = {"cosine": "CosineAnnealing", "linear": "PolynomialDecay", "restarts": "CosineDecayRestarts",
          "plateau": "ReduceLROnPlateau"}  # fmt: skip
MODELS = {"conv": "ConvSeq2Seq", "transformer": "TransformerTiny"}
OPTIMIZERS = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD"}


class Toolkit(Style):
    """Each report has the loss of the last batch, as the toolkit's has."""

    name = "w2-nmt"
    shows = frozenset({LR, STEP_TIME, STEPS})
    kinds = ("tokens",)
    text_name = "train.err"
    jsonl_name = "events.jsonl"
    config_name = "config.yml"
    names: ClassVar[dict[str, str]] = {
        "model_type": "model_type", "seed": "seed", "model_width": "params.num_units",
        "model_layers": "params.num_layers", "model_norm": "params.layer_norm_position",
        "optimizer": "params.optimizer", "lr": "params.learning_rate", "beta2": "params.optimizer_params.beta_2",
        "momentum": "params.optimizer_params.momentum", "weight_decay": "params.optimizer_params.weight_decay",
        "clip": "params.optimizer_params.global_clipnorm", "decay": "params.decay_type",
        "horizon": "params.decay_params.max_step", "warmup": "params.decay_params.warmup_steps",
        "warmup_ratio": "params.decay_params.warmup_ratio", "min_lr": "params.minimum_learning_rate",
        "cycles": "params.decay_params.num_cycles", "patience": "params.decay_params.patience",
        "factor": "params.decay_params.factor", "dropout": "params.dropout", "smoothing": "params.label_smoothing",
        "precision": "params.dtype", "train_samples": "data.train_examples", "val_samples": "data.eval_examples",
        "batch_size": "train.batch_size", "samples_per_update": "train.effective_batch_size",
        "updates": "train.max_step", "log_every": "train.save_summary_steps", "shuffle": "train.shuffle",
        "eval_every": "eval.steps",
    }  # fmt: skip

    def _facts(self, facts: Facts) -> Facts:
        """The facts with the toolkit's own words for models, optimizers and schedules."""
        floor = facts["floor"]
        return {
            **facts, "model_type": MODELS[facts["model_shape"]],
            "optimizer": OPTIMIZERS[facts["optimizer"]], "decay": DECAYS.get(facts["schedule"]),
            "horizon": facts["updates"] if facts["schedule"] in ("cosine", "linear", "restarts") else None,
            "min_lr": floor * facts["lr"] if floor is not None else None, "clip": facts["clip"] or None,
        }  # fmt: skip

    def config(self, facts: Facts) -> str:
        return str(yaml.safe_dump(nested(renamed(self._facts(facts), self.names)), sort_keys=True))

    def header(self, facts: Facts) -> Iterable[str]:
        yield f"{INFO}Using parameters:"
        yield from self.config(facts).splitlines()
        yield ""
        for side in ("source", "target"):
            yield f"{INFO}Initialized {side} input layer:"
            yield f"{INFO} - vocabulary size: {facts['vocabulary']}"
            yield f"{INFO} - special tokens: BOS={'yes' if side == 'target' else 'no'}, EOS=no"
        if facts["accumulation"] > 1:
            yield (
                f"{INFO}Accumulate gradients of {facts['accumulation']} iterations to reach effective batch size of "
                f"{facts['samples_per_update']}"
            )
        yield f"{INFO}Training on {facts['train_samples']} examples"
        yield f"{INFO}Number of model parameters: {facts['parameters']}"

    def update(self, u: Updated, facts: Facts) -> Iterable[str]:
        lr = ", ".join(f"{key} = {rate:.6f}" for key, rate in rates(u.rates, "Learning rate", " ").items())
        speed = 1 / max(u.seconds, 1e-9)
        words = ", ".join(
            f"{side} words/s = {speed * facts['samples_per_update'] * facts[f'words_of_{side}']:.0f}"
            for side in ("source", "target")
        )
        yield f"{INFO}Step = {u.update} ; steps/s = {speed:.2f}, {words} ; {lr} ; Loss = {u.loss:.6f}"

    def evaluation(self, e: Evaluated, facts: Facts) -> Iterable[str]:
        yield f"{INFO}Saved checkpoint run/ckpt-{e.update}"
        yield f"{INFO}Running evaluation for step {e.update}"
        yield (
            f"{INFO}Evaluation result for step {e.update}: loss = {e.loss:.6f} ; perplexity = {perplexity(e.loss):.6f}"
        )

    def resumed(self, update: int, facts: Facts) -> Iterable[str]:
        yield f"{INFO}Restored checkpoint run/ckpt-{update}"

    def update_row(self, u: Updated) -> dict[str, Any] | None:
        return {
            "step": u.update, "wall_time": round(u.clock, 3), "loss": u.loss,
            **rates(u.rates, "optim/learning_rate", "/"), "gradients/global_norm": u.norm,
            "steps_per_sec": 1 / max(u.seconds, 1e-9),
        }  # fmt: skip

    def evaluation_row(self, e: Evaluated) -> dict[str, Any] | None:
        return {
            "step": e.update, "wall_time": round(e.clock, 3), "metrics/loss": e.loss,
            "metrics/perplexity": perplexity(e.loss),
        }  # fmt: skip

    def resumed_row(self, update: int, facts: Facts) -> dict[str, Any]:
        return {"event": "restored", "step": update, "config": nested(renamed(self._facts(facts), self.names))}


INFO = "INFO:tensorflow:"


def perplexity(loss: float) -> float:
    """The loss's exponential; infinite where a float has no room for it."""
    return math.exp(loss) if loss < 700 or math.isnan(loss) else math.inf
