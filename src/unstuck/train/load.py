"""A trained model from its checkpoint, to evaluate it, to generate with it or to export it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from unstuck.config.schema import Config
from unstuck.data.tokenizer import TextTokenizer
from unstuck.errors import UserError
from unstuck.models import build
from unstuck.train import checkpoint
from unstuck.train.start import config_of, tokenizer_file
from unstuck.train.weights import load_weights


@dataclass(slots=True)
class Loaded:
    """A trained model, in evaluation mode on the CPU.

    Attributes:
        config: that it was trained with.
        model: float32.
        tokenizer: of its text; None where there is none.
        path: of the checkpoint.
    """

    config: Config
    model: nn.Module
    tokenizer: TextTokenizer | None
    path: Path


def load_checkpoint(path: Path, which: str = "best") -> Loaded:
    """Load the model of a run folder (its best or last checkpoint) or of one checkpoint.

    Where a run has not saved its best, its last is loaded, and standard error says so.

    Args:
        which: best or last, for a run folder.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    found = checkpoint.find(path, which) if path.exists() else None
    if found is None:
        raise UserError(f"{path} holds no checkpoint; name a run folder (runs/NAME) or a checkpoint in it.")
    if which == "best" and (note := checkpoint.instead_of_best(path)) is not None:
        print(note, file=sys.stderr)
    state = checkpoint.read_state(found)
    config = config_of(found)
    model = build(config.model, **state["model_arguments"])
    load_weights(model, checkpoint.read_weights(found), str(found))
    file = tokenizer_file(found)
    tokenizer = TextTokenizer.load(file) if state["tokenizer"] else None
    return Loaded(config, model.eval(), tokenizer, found)
