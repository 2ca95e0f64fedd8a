"""`start_from`: the sections of a recipe that say "from-start" become those of the run it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unstuck.config.recipe import Recipe, flatten
from unstuck.config.schema import Config
from unstuck.errors import UserError
from unstuck.train import checkpoint

FROM_START = "from-start"


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with its model section and tokenizer taken over from `start_from`, where it asks for that.

    A model that slept over text sleeps no more over answers: they are short, and no stream.

    Raises:
        UserError: it asks for it without a `start_from`, or nothing was saved there.
    """
    config = recipe.config
    wants_model = config.model.architecture == FROM_START
    wants_tokenizer = getattr(config.data, "tokenizer", None) == FROM_START
    if not (wants_model or wants_tokenizer):
        return recipe
    if config.start_from is None:
        what = "model.architecture" if wants_model else "data.tokenizer"
        raise UserError(f"{what} is from-start, so the run needs one to start from: start_from=RUN")
    found = checkpoint_of(config.start_from)
    changes: dict[str, Any] = {}
    if wants_model:
        changes |= flatten({"model": checkpoint.read_state(found)["recipe"]["model"]})
    if wants_tokenizer:
        changes["data.tokenizer"] = str(tokenizer_file(found))
    taken = recipe.with_changes(changes, f"start_from {config.start_from}")
    if config.data.kind == "answers" and changes.get("model.sleep.every_updates") is not None:
        taken = taken.with_changes({"model.sleep.every_updates": None}, "answers are not replayed in sleep")
    return taken


def checkpoint_of(start_from: str) -> Path:
    """The checkpoint that `start_from` means: itself, or the best one of a run folder.

    Raises:
        UserError: there is none.
    """
    path = Path(start_from).expanduser()
    found = checkpoint.find(path, "best") if path.exists() else None
    if found is None:
        raise UserError(f"start_from={start_from} holds no checkpoint; name a run folder or a checkpoint in it.")
    return found


def tokenizer_file(found: Path) -> Path:
    """The tokenizer.json that belongs to a checkpoint: in it, or in its run folder."""
    inside = found / "tokenizer.json"
    return inside if inside.is_file() else found.parent.parent / "tokenizer.json"


def config_of(found: Path) -> Config:
    """The recipe that a checkpoint was trained with."""
    return Config.model_validate(checkpoint.read_state(found)["recipe"])
