"""The recipe's keys: every leaf of the schema with its description, and the key that a user probably meant."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from unstuck.config.schema import Config, GroupConfig
from unstuck.config.sections.kinds import KINDS
from unstuck.errors import UserError

GROUPS = "optimizer.groups"

# Short names that people type; everything else is found by its last part when that is unambiguous.
ALIASES: dict[str, str] = {
    "lr": "optimizer.learning_rate",
    "schedule": "schedule.kind",
    "optimizer": "optimizer.kind",
    "lr_floor": "schedule.floor",
    "schedule_cycles": "schedule.cycles",
    "grad_clip": "training.clip_norm",
    "precision": "training.precision",
    "evaluation_every": "evaluation.every_updates",
    "task": "task.kind",
}

# Of each pair one is null: giving one takes the other back.
EXCLUSIVE: tuple[tuple[str, str], ...] = (
    ("training.updates", "training.epochs"),
    ("schedule.warmup_updates", "schedule.warmup_share"),
)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key of the schema: dotted name, description, default and type."""

    key: str
    description: str
    default: Any
    annotation: Any


@cache
def schema_leaves() -> dict[str, Leaf]:
    """Every leaf of `Config` by dotted name; `optimizer.groups` counts as one.

    What several kinds of a section have in common (`model.width`) stands there as the first kind has it.
    """
    found: dict[str, Leaf] = {}
    for leaf in _leaves(Config, ""):
        known = found.get(leaf.key)
        if known is None:
            found[leaf.key] = leaf
        elif known.annotation != leaf.annotation:  # `model.architecture`: any of the values of any kind
            found[leaf.key] = replace(known, annotation=Union[known.annotation, leaf.annotation])  # noqa: UP007
    return found


@cache
def group_leaves() -> dict[str, Leaf]:
    """The keys of one parameter group."""
    return {leaf.key: leaf for leaf in _leaves(GroupConfig, "")}


@cache
def sections() -> dict[str, tuple[type[BaseModel], ...]]:
    """Section name -> its kinds; most sections have one."""
    return {name: found for name in Config.model_fields if (found := _kinds(Config, name))}


def _kinds(model: type[BaseModel], name: str) -> tuple[type[BaseModel], ...]:
    if model is Config and name in KINDS:
        return KINDS[name][1]
    found = section_in(model.model_fields[name].annotation)
    return () if found is None else (found,)


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, also one that may be null; None for a plain value."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((found for part in get_args(annotation) if (found := section_in(part))), None)
    return annotation if _is_model(annotation) else None


def item_section(annotation: Any) -> type[BaseModel] | None:
    """The section that a list is made of (`optimizer.groups`); None for any other field."""
    if get_origin(annotation) is tuple:
        return section_in(get_args(annotation)[0])
    return None


def leaves_of(model: type[BaseModel], prefix: str) -> dict[str, Leaf]:
    """The leaves of one section; `prefix` ends in a dot."""
    return {leaf.key: leaf for leaf in reversed(list(_leaves(model, prefix)))}


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[Leaf]:
    for name, field in model.model_fields.items():
        inner = _kinds(model, name)
        for kind in inner:
            yield from _leaves(kind, f"{prefix}{name}.")
        if not inner or _default(field) is None:  # a section that may be null is a value too
            yield Leaf(prefix + name, field.description or "", _default(field), field.annotation)


def _default(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def leaf_of(dotted: str) -> Leaf | None:
    """The schema's leaf for a dotted key, also inside a group (`optimizer.groups.memory.lr_factor`)."""
    found = schema_leaves().get(dotted)
    if found is None and dotted.startswith(GROUPS + "."):
        found = group_leaves().get(dotted.rpartition(".")[2])
    return found


def resolve(key: str) -> str:
    """The dotted key that the user means: dotted, an alias, or a last part that only one key has.

    Raises:
        UserError: unknown (names the nearest) or ambiguous (names all).
    """
    leaves = schema_leaves()
    if key in leaves:
        return key
    if key in ALIASES:
        return ALIASES[key]
    if key.startswith(GROUPS + "."):
        parts = key.split(".")
        if len(parts) == 4 and parts[3] in group_leaves() and parts[3] != "name":
            return key
        raise UserError(
            f"{key} is not a key of a parameter group; write {GROUPS}.NAME.KEY with KEY one of "
            f"{', '.join(key for key in group_leaves() if key != 'name')}."
        )
    ending = [leaf for leaf in leaves if leaf.endswith("." + key)]
    outer = [leaf for leaf in ending if leaf.count(".") == min(e.count(".") for e in ending)]
    if len(outer) == 1:  # `dropout` is model.dropout rather than model.adapter.dropout
        return outer[0]
    if ending:
        raise UserError(f"'{key}' may mean {' or '.join(ending)}; write one of these.")
    if key in sections():
        raise UserError(
            f"'{key}' is a section; name a key in it, such as {key}.{next(iter(sections()[key][0].model_fields))}."
        )
    raise UserError(f"There is no key '{key}'{did_you_mean(key)}")


def did_you_mean(key: str, section: str | None = None) -> str:
    """ "; did you mean X?" with the nearest key, or where to see them all.

    Args:
        section: where the key stands; its keys come first. "": at the top of the recipe, where sections are keys too.
    """
    leaves = schema_leaves()
    before, _, short = key.rpartition(".")
    if section is None and before:
        here = [leaf for leaf in leaves if leaf.rpartition(".")[0] == before]
        if near := difflib.get_close_matches(key, here, n=1, cutoff=0.6):
            return f"; did you mean {near[0]}?"
    if section:
        here = list(group_leaves()) if section == GROUPS else list(_keys_of(section))
        if near := difflib.get_close_matches(short, here, n=1, cutoff=0.6):
            return f"; did you mean '{near[0]}'?"
    same_name = [leaf for leaf in leaves if leaf.rpartition(".")[2] == short]
    if same_name:
        return f"; did you mean {' or '.join(same_name)}?"
    if section == "" and (near := difflib.get_close_matches(short, Config.model_fields, n=1, cutoff=0.6)):
        return f"; did you mean {'the section ' * (near[0] in sections())}'{near[0]}'?"
    inner_last = sorted(leaves, key=lambda leaf: leaf.count("."))
    by_name = {leaf.rpartition(".")[2]: leaf for leaf in reversed(inner_last)} | ALIASES
    if near := difflib.get_close_matches(short, by_name, n=1, cutoff=0.6):
        return f"; did you mean {by_name[near[0]]}?"
    if near := difflib.get_close_matches(key, leaves, n=1, cutoff=0.6):
        return f"; did you mean {near[0]}?"
    return "; `unstuck train RECIPE --print-config` shows all keys."


def _keys_of(section: str) -> Iterator[str]:
    for model in sections().get(section, (Config,)):
        yield from model.model_fields


def wants(annotation: Any) -> str:
    """What a value of this type looks like, in words: "a whole number", "one of a, b"."""
    origin = get_origin(annotation)
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in get_args(annotation))
    if origin in (Union, types.UnionType):
        parts = [wants(a) for a in get_args(annotation) if a is not type(None)]
        return " or ".join(parts + ["null"] * (type(None) in get_args(annotation)))
    if origin is tuple:
        return "a list"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", GroupConfig: "a group"}
    return words.get(annotation, "a set of keys" if _is_model(annotation) else "another type")


def choices(annotation: Any) -> list[str]:
    """The values that a Literal, or an alternative of a union, names."""
    if get_origin(annotation) is Literal:
        return [str(a) for a in get_args(annotation)]
    return [c for a in get_args(annotation) for c in choices(a)]


def accepts(annotation: Any, kind: type) -> bool:
    """Whether the type, or one of its alternatives, is exactly `kind`."""
    return annotation is kind or (
        get_origin(annotation) in (Union, types.UnionType) and any(accepts(a, kind) for a in get_args(annotation))
    )


def takes_list(annotation: Any) -> bool:
    """Whether the type, or one of its alternatives, is a list of values."""
    return get_origin(annotation) is tuple or (
        get_origin(annotation) in (Union, types.UnionType) and any(map(takes_list, get_args(annotation)))
    )
