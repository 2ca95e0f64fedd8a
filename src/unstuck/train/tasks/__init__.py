"""What can be trained. `make` gives the task of a recipe; torch is imported only when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unstuck.config.schema import Config
from unstuck.errors import UserError

if TYPE_CHECKING:
    import torch

    from unstuck.data.tokenizer import TextTokenizer
    from unstuck.train.tasks.causal import TokenData
    from unstuck.train.tasks.task import Share, Task

__all__ = ["make"]

# Task -> kinds of data that it can learn from, and architectures that can learn it: an encoder that is asked for the
# next token reads its own targets.
LEARNS_FROM = {"causal": ("text", "answers"), "masked": ("text",), "operator": ("fields",)}
LEARNED_BY = {
    "causal": ("modern", "gpt2", "cortex", "pretrained"),
    "masked": ("ltg-bert", "pretrained"),
    "operator": ("fno",),
}


def make(config: Config, device: torch.device, share: Share) -> Task:
    """The task of a recipe, with its data read and prepared.

    Args:
        config: of the run; `from-start` is resolved already.
        device: where batches go.
        share: which part of each update this process computes.

    Raises:
        UserError: the task cannot learn from this data, or the data cannot be read.
    """
    task, data = config.task, config.data
    if data.kind not in LEARNS_FROM[task.kind]:
        fitting = [kind for kind, takes in LEARNS_FROM.items() if data.kind in takes]
        raise UserError(f"task.kind={task.kind} cannot learn from data.kind={data.kind}; set task.kind={fitting[0]}.")
    architecture = config.model.architecture
    if architecture not in LEARNED_BY[task.kind]:
        own = next(kind for kind, models in LEARNED_BY.items() if architecture in models)
        raise UserError(
            f"model.architecture={architecture} cannot be trained with task.kind={task.kind}; set task.kind={own}, "
            f"or model.architecture to one of {', '.join(LEARNED_BY[task.kind])}."
        )
    if config.model.architecture == "pretrained":
        from unstuck.models.hf_folder import fit_task

        fit_task(config.model.path, task.kind)
    if task.kind == "causal":
        sleep = getattr(config.model, "sleep", None)
        if data.kind == "answers" and sleep is not None and sleep.every_updates is not None:
            raise UserError("Answers are not replayed in sleep; set model.sleep.every_updates=null.")
        if config.model.architecture == "cortex" and data.kind == "text":
            from unstuck.train.tasks.stream import Stream

            return Stream(config, token_data(config), device, share)
        from unstuck.train.tasks.causal import Causal

        return Causal(config, token_data(config), device, share)
    if task.kind == "masked":
        from unstuck.train.tasks.masked import Masked

        return Masked(config, device, share)
    from unstuck.train.tasks.operator import Operator

    return Operator(config, device, share)


def token_data(config: Config) -> TokenData:
    """The token rows of a recipe, from text or from prompts and responses.

    Raises:
        UserError: `data.tokenizer` names what this recipe has not, or the data cannot be read.
    """
    from unstuck.data import prepare

    tokenizer = _pretrained_tokenizer(config)
    if config.data.kind == "answers":
        from unstuck.data.answers import prepare_answers

        if config.data.tokenizer in ("char", "bpe", "wordpiece"):
            raise UserError(
                f"Answers do not train a tokenizer of their own, so data.tokenizer={config.data.tokenizer} is none for "
                "data.kind=answers; start from a run that has one: start_from=RUN data.tokenizer=from-start"
            )
        return prepare_answers(config.data, tokenizer=tokenizer)
    if config.data.kind == "text":
        return prepare(config.data, tokenizer=tokenizer)
    raise ValueError(f"data of kind {config.data.kind} has no tokens")


def _pretrained_tokenizer(config: Config) -> TextTokenizer | None:
    """Of a pretrained model, where the recipe asks for it."""
    if getattr(config.data, "tokenizer", "") != "from-model":
        return None
    if config.model.architecture != "pretrained":
        learned = "wordpiece" if config.task.kind == "masked" else "bpe"
        other = "from-start" if config.data.kind == "answers" else learned
        raise UserError(
            "data.tokenizer=from-model is the tokenizer of a pretrained model, and this model is "
            f"{config.model.architecture}; set data.tokenizer={other}, or model.architecture=pretrained."
        )
    from unstuck.models.hf_tokenizer import tokenizer_of

    return tokenizer_of(config.model.path)
