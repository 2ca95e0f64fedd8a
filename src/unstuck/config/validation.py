"""Settings -> `Config`, or one sentence that says which value is wrong, where it stands and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from unstuck.config import keys
from unstuck.config.schema import Config, GroupConfig
from unstuck.config.sections.kinds import KINDS, class_of, kinds_of
from unstuck.errors import UserError


def checked(tree: Mapping[str, Any], places: Mapping[str, str]) -> Config:
    """Validate nested settings.

    Args:
        tree: nested settings, as read.
        places: dotted key -> "my.yaml:3" or "command line", for messages.

    Raises:
        UserError: the first thing that is wrong, with its place and the next step.
    """
    prepared = _section(tree, Config, "", places)
    try:
        return Config.model_validate(prepared, strict=True)
    except ValidationError as error:
        raise UserError(_sentence(error, prepared, places)) from None


def _section(value: Any, model: type[BaseModel], prefix: str, places: Mapping[str, str]) -> dict[str, Any]:
    """Check keys, drop empty sections, and write whole floats as ints (`updates: 1e3`) and lists as tuples."""
    name = prefix.rstrip(".")
    if value is None:  # a section whose keys are all commented out
        return {}
    if not isinstance(value, Mapping):
        raise UserError(
            f"{_place(name, places)}'{name}' is a section: put its keys on lines of their own below it, indented, "
            f"such as {_first_key(model)}."
        )
    prepared: dict[str, Any] = {}
    for key, inner in value.items():
        dotted = prefix + key
        if key not in model.model_fields:
            section = keys.GROUPS if model is GroupConfig else name
            where = f" in {keys.GROUPS if model is GroupConfig else name}" if name else ""
            if name in KINDS and any(key in cls.model_fields for cls in KINDS[name][1]):
                kind = KINDS[name][0]
                raise UserError(
                    f"{_place(dotted, places)}'{key}' is not a key of {name} with {kind} "
                    f"{value.get(kind, kinds_of(name, model)[0])}; leave it out, or change {name}.{kind}."
                )
            raise UserError(f"{_place(dotted, places)}unknown key '{key}'{where}{keys.did_you_mean(key, section)}")
        annotation = model.model_fields[key].annotation
        item = keys.item_section(annotation)
        if model is Config and key in KINDS:
            prepared[key] = _section(inner, _chosen(key, inner, places), dotted + ".", places)
        elif (part := keys.section_in(annotation)) is not None:
            may_be_null = inner is None and part is not annotation
            prepared[key] = None if may_be_null else _section(inner, part, dotted + ".", places)
        elif item is not None and isinstance(inner, (list, tuple)):
            prepared[key] = tuple(
                _section(entry, item, f"{dotted}.{_name_of(entry, i)}.", places) for i, entry in enumerate(inner)
            )
        elif isinstance(inner, float) and inner.is_integer() and keys.accepts(annotation, int):
            prepared[key] = inner if keys.accepts(annotation, float) else int(inner)
        elif isinstance(inner, list) and keys.takes_list(annotation):
            prepared[key] = tuple(inner)
        else:
            prepared[key] = inner
    return prepared


def _chosen(section: str, value: Any, places: Mapping[str, str]) -> type[BaseModel]:
    """The class of a section that comes in several kinds."""
    key, classes = KINDS[section]
    kind = value.get(key) if isinstance(value, Mapping) else None
    found = class_of(section, kind)
    if found is None:
        known = [name for cls in classes for name in kinds_of(section, cls)]
        near = difflib.get_close_matches(str(kind), known, n=1)
        about = f"; did you mean '{near[0]}'?" if near else "."
        dotted = f"{section}.{key}"
        raise UserError(f"{_place(dotted, places)}{dotted} must be one of {', '.join(known)}, not {shown(kind)}{about}")
    return found


def _sentence(error: ValidationError, tree: Mapping[str, Any], places: Mapping[str, str]) -> str:
    first = error.errors(include_url=False)[0]
    location = first["loc"]
    if len(location) > 1 and location[0] in KINDS:  # the second step is the kind's class
        location = (location[0], *location[2:])
    # Of a value with alternatives the steps go on into one of them: "literal['auto']".
    inside = next((i for i, step in enumerate(location) if isinstance(step, str) and "[" in step), len(location))
    location = location[:inside]
    dotted = _dotted(location, tree)
    given, kind, context = first["input"], first["type"], first.get("ctx", {})
    leaf = _leaf(dotted, tree)
    if kind == "value_error":
        text = str(context["error"])
        return f"{_place(_mentioned(dotted, text, places), places)}{text}."
    if kind == "missing" and dotted.startswith(keys.GROUPS + "."):
        group, _, key = dotted.rpartition(".")
        return (
            f"{_place(group, places)}the group lacks its {key} ({leaf.description if leaf else ''}); add '{key}: ...'."
        )
    if kind == "finite_number":
        must = "must be a finite number"
    elif kind in LIMITS:
        word, key = LIMITS[kind]
        must = f"must be {word} {context[key]:g}"
    elif kind == "string_pattern_mismatch":
        must = "may have letters, digits, '-' and '_' only" if keys.GROUPS in dotted else "may not hold a slash"
    elif leaf is not None:
        must = f"must be {keys.wants(leaf.annotation)}"
    else:
        must = first["msg"][:1].lower() + first["msg"][1:]
    about = f" ({leaf.description}; default {shown(leaf.default)})" if leaf is not None else ""
    if kind == "literal_error" and leaf is not None and isinstance(given, str):
        near = difflib.get_close_matches(given, keys.choices(leaf.annotation), n=1)
        about = f"; did you mean '{near[0]}'?" if near else about
        return f"{_place(dotted, places)}{dotted} {must}, not {shown(given)}{about}"
    return f"{_place(dotted, places)}{dotted} {must}, not {shown(given)}{about}."


def _leaf(dotted: str, tree: Mapping[str, Any]) -> keys.Leaf | None:
    section = dotted.partition(".")[0]
    if section in KINDS and isinstance(tree.get(section), Mapping):
        cls = class_of(section, tree[section].get(KINDS[section][0]))
        if cls is not None:
            return keys.leaves_of(cls, section + ".").get(dotted)
    return keys.leaf_of(dotted)


LIMITS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def shown(value: Any) -> str:
    """A value as a person would write it in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= 60 else f"'{value[:57]}...'"
    if isinstance(value, (list, tuple, Mapping)):
        return ("[...]" if value else "[]") if not isinstance(value, Mapping) else "a section"
    return str(value)


def _place(dotted: str, places: Mapping[str, str]) -> str:
    """ "my.yaml:3: " for the key, or for the nearest section above it that has a place."""
    while dotted:
        if places.get(dotted, "default") != "default":
            return f"{places[dotted]}: "
        dotted = dotted.rpartition(".")[0]
    return ""


def _mentioned(section: str, text: str, places: Mapping[str, str]) -> str:
    """The key of the section that a validator's message is about, preferring one that somebody set by hand."""
    words = set(text.replace(",", " ").replace(";", " ").split())
    named = [k for k in places if k.startswith(section + ".") and k.rpartition(".")[2] in words]
    by_hand = [k for k in named if places[k] != "default"]
    # What was given last (the command line) is what the user can still see on the screen.
    late = [k for k in by_hand if ":" not in places[k]]
    return (late or by_hand or named or [section])[0]


def _dotted(location: tuple[int | str, ...], tree: Any) -> str:
    parts: list[str] = []
    here = tree
    for step in location:
        if isinstance(step, int):
            here = here[step] if isinstance(here, (tuple, list)) else None
            parts.append(_name_of(here, step))
        else:
            here = here.get(step) if isinstance(here, Mapping) else None
            parts.append(step)
    return ".".join(parts)


def _name_of(group: Any, index: int) -> str:
    name = group.get("name") if isinstance(group, Mapping) else None
    return name if isinstance(name, str) else str(index)


def _first_key(model: type[BaseModel]) -> str:
    key = next(iter(model.model_fields))
    return "'name: ...'" if model is GroupConfig else f"'{key}: {shown(model.model_fields[key].default)}'"
