"""`start_from`: the sections of a recipe that say "from-start" become those of the run it starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unstuck.config.recipe import Recipe, flatten
from unstuck.config.schema import Config
from unstuck.errors import UserError
from unstuck.train import checkpoint

FROM_START = "from-start"
# Settings of the data section that decide which part of a source is held out.
HELD_OUT_BY = ("validation_share", "validation_split", "sources", "remove_licences", "max_characters", "max_examples")
NO_FILE = ("char", "bpe", "wordpiece", "from-model", FROM_START)  # what data.tokenizer says beside a path


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
        began = config_of(found)
        if began.task.kind != config.task.kind:
            raise UserError(
                f"start_from={config.start_from} was trained with task.kind={began.task.kind} and this recipe trains "
                f"task.kind={config.task.kind}; name a run of that kind."
            )
        changes |= flatten({"model": began.model.model_dump()})
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


def notes(config: Config) -> list[str]:
    """What a user must know of the weights that `start_from` names, one sentence each.

    Raises:
        UserError: there is no checkpoint.
    """
    if config.start_from is None:
        return []
    found = checkpoint_of(config.start_from)
    instead = checkpoint.instead_of_best(Path(config.start_from).expanduser())
    said = [instead] if instead else []
    try:
        before, now = config_of(found).data.model_dump(), config.data.model_dump()
    except UserError:  # weights can be used without their recipe
        return said
    other = [key for key in HELD_OUT_BY if before.get(key) != now.get(key)]
    if other and before["kind"] == now["kind"] and _same_place(before["source"], now["source"]):
        settings = " ".join(f"data.{key}={'null' if before[key] is None else before[key]}" for key in other)
        said.append(
            f"{config.start_from} held out other text, so it may have been trained on what is held out here and the "
            f"validation loss be too low; hold out the same with {settings}."
        )
    return said


def _same_place(one: str, other: str) -> bool:
    paths = Path(one).expanduser(), Path(other).expanduser()
    return one == other or (all(path.exists() for path in paths) and paths[0].samefile(paths[1]))


def tokenizer_file(found: Path) -> Path:
    """The tokenizer.json that belongs to a checkpoint: in it, or in its run folder."""
    inside = found / "tokenizer.json"
    return inside if inside.is_file() else found.parent.parent / "tokenizer.json"


def with_own_tokenizer(config: Config, file: Path) -> Config:
    """The recipe of a run that has begun, with its own tokenizer.json instead of the file that it names.

    Their content is the same, but the other one is not the run's: folders move, and their runs are trained anew.
    Where the text made the tokenizer it makes it again, and the fingerprint tells whether it is the same.

    Args:
        file: the run's tokenizer.json; where there is none the recipe stays as it is.
    """
    named = getattr(config.data, "tokenizer", None)
    if named is None or named in NO_FILE or not file.is_file():
        return config
    return with_tokenizer(config, file)


def with_tokenizer(config: Config, file: Path) -> Config:
    """The recipe with this tokenizer.json, whichever it names."""
    return config.model_copy(update={"data": config.data.model_copy(update={"tokenizer": str(file)})})


def config_of(found: Path) -> Config:
    """The recipe that a checkpoint was trained with.

    Raises:
        UserError: it is none that this version knows.
    """
    try:
        return Config.model_validate(checkpoint.read_state(found)["recipe"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"])
        raise UserError(
            f"{found}/state.json holds a recipe that this version of unstuck cannot read ({key}: {first['msg']}); use "
            "the version that trained it, or train it again."
        ) from None
