"""A recipe: the validated `Config` together with the place that every value came from.

recipe = load_recipe("gpt-char", ["learning_rate=1e-3", "training.updates=500"])
recipe.config.optimizer.learning_rate          # 0.001
recipe.origins["optimizer.learning_rate"]      # "command line"
recipe.origins["training.batch_size"]          # "gpt-char.yaml:52"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unstuck.config import keys
from unstuck.config.bundled import bundled_recipes, find_recipe, find_variants
from unstuck.config.render import DIGEST, digest_of, render
from unstuck.config.schema import Config
from unstuck.config.sections.kinds import KINDS, class_of
from unstuck.config.validation import checked
from unstuck.config.yaml_nodes import Document, parse, parse_value
from unstuck.errors import UserError

__all__ = ["Recipe", "bundled_recipes", "load_recipe", "recipe_from_text", "variants_of"]

DEFAULT = "default"
COMMAND_LINE = "command line"
FROM = "# from: "
MAX_RECIPE_BYTES = 1 << 20  # a recipe has a few kilobytes; a larger file is something else (a log, a checkpoint)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A configuration and where each of its values came from.

    Attributes:
        config: validated and frozen.
        origins: dotted key -> "gpt-char.yaml:12", "command line", "default", "patch of prove" ...; one for every key
            of `leaves()`. Group settings are `optimizer.groups.<group>.<key>`.
    """

    config: Config
    origins: dict[str, str]

    def leaves(self) -> dict[str, Any]:
        """Every value by dotted key, in the order of the schema."""
        return flatten(self.config.model_dump())

    def with_changes(self, changes: Mapping[str, Any], origin: str) -> Recipe:
        """The same recipe with some values changed.

        Args:
            changes: key -> new value. Keys are dotted, or any name that one key alone has (`learning_rate`,
                `schedule`, `updates`). Setting one of updates/epochs or warmup_updates/warmup_share unsets the other.
            origin: where the new values come from, for people ("command line", "patch of prove").

        Raises:
            UserError: an unknown or ambiguous key, or a value that the schema does not allow.
        """
        tree = self.config.model_dump()
        new: dict[str, Any] = {}
        for key, value in changes.items():
            new.update(_expanded(key, value, self.config))
        for chosen, rival in _rivals():
            if new.get(chosen) is not None and rival not in new:
                new[rival] = None
        known = dict(self.origins)
        _switch_kinds(tree, new)
        for key, value in new.items():
            _put(tree, key, value)
            if key == keys.GROUPS:
                known = {k: o for k, o in known.items() if not k.startswith(keys.GROUPS)}
                known.update(dict.fromkeys(flatten({"optimizer": {"groups": value}}), origin))
            known[key] = origin
        return _with_origins(checked(tree, known), known)

    def to_yaml(self, comments: bool = True) -> str:
        """The complete recipe as YAML; loading it gives the same `Config`.

        Args:
            comments: each key with its description above it, and `# from: origin` behind values that are not default.
        """
        return render(self.config, self.origins, comments=comments)


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe and apply `key=value` overrides.

    Args:
        name_or_path: a bundled recipe's name (`gpt-char`), a YAML file, or a run folder (its `config.yaml`). Behind a
            colon, variants of the recipe: `ltg-bert:small`, `ltg-bert:tiny:quick`.
        overrides: `key=value`, where the value is a YAML scalar or list, applied in order.

    Raises:
        UserError: no such recipe, not readable as a recipe, a wrong key or value, with file and line, or an override
            that another value makes void.
    """
    path, shown, variants = find_variants(name_or_path)
    recipe = recipe_from_text(_text_of(path, shown), shown, variants, keeps_origins=path.name == "config.yaml")
    if overrides:
        changes = _parsed_overrides(overrides)
        recipe = recipe.with_changes(changes, COMMAND_LINE)
        tokens = recipe.config.training.tokens_per_update
        if "training.accumulation" in changes and tokens is not None:
            raise UserError(
                f"training.accumulation={changes['training.accumulation']} would be ignored, because it follows from "
                f"training.tokens_per_update={tokens}; change that, or add training.tokens_per_update=null."
            )
    return recipe


def recipe_from_text(text: str, shown: str, variants: Sequence[str] = (), *, keeps_origins: bool = False) -> Recipe:
    """A recipe from YAML text.

    Args:
        variants: names below the text's `variants:`, applied in this order.
        shown: the file's name, for messages and origins.
        keeps_origins: take the origins from the `# from:` comments, as in a run folder's `config.yaml`. They are
            taken only while the file is as it was written: its header holds a digest of the values.
    """
    document = parse(text, shown)
    if document.value is None:
        raise UserError(
            f"{shown} holds no settings; start from a bundled recipe: unstuck train gpt-char --print-config"
        )
    if not isinstance(document.value, dict):
        raise UserError(
            f"{shown} is not a recipe (a recipe is 'key: value' lines); see: unstuck train gpt-char --print-config"
        )
    tree: dict[str, Any] = document.value
    lines = _places(document)
    known_variants = tree.pop("variants", None) or {}
    lines = {key: line for key, line in lines.items() if key.partition(".")[0] != "variants"}
    chosen_variants = [(name, _variant(name, known_variants, shown)) for name in variants]
    given = set(flatten(tree))
    for chosen, rival in _rivals():  # a recipe that says only "epochs: 3" does not also mean the default's updates
        if chosen in given and rival not in given and _get(tree, chosen) is not None:
            _put(tree, rival, None)
            lines[rival] = lines[chosen]
    config = checked(tree, lines)
    digest = DIGEST.search(text)
    if keeps_origins and digest is not None and digest[1] == digest_of(config):
        tails = {_dotted(path, tree): tail for path, tail in document.tails.items()}
        return _with_origins(config, {k: t.removeprefix(FROM) for k, t in tails.items() if t.startswith(FROM)})
    recipe = _with_origins(config, lines)
    for name, changes in chosen_variants:
        recipe = recipe.with_changes(changes, f"{shown}, variant {name}")
    return recipe


def variants_of(name_or_path: str | Path) -> list[str]:
    """Names of a recipe's variants, in the file's order."""
    path, shown = find_recipe(name_or_path)
    document = parse(_text_of(path, shown), shown)
    found = document.value.get("variants") if isinstance(document.value, dict) else None
    return list(found) if isinstance(found, dict) else []


def _variant(name: str, known: Any, shown: str) -> dict[str, Any]:
    """The changes of one variant."""
    if not isinstance(known, Mapping) or name not in known:
        names = list(known) if isinstance(known, Mapping) else []
        have = f"its variants are {', '.join(names)}" if names else "it has none"
        raise UserError(f"{shown} has no variant '{name}': {have}.")
    changes = known[name]
    if not isinstance(changes, Mapping):
        raise UserError(f"{shown}: variant '{name}' must be lines of 'key: value', such as 'training.updates: 100'.")
    return flatten(changes)


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings -> dotted keys. Groups are named by their `name`; an empty list stays one value."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": v for inner, v in flatten(value).items()})
        elif isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
            for index, item in enumerate(value):
                name = item.get("name", index)
                flat.update({f"{key}.{name}.{inner}": v for inner, v in flatten(item).items()})
        else:
            flat[key] = value
    return flat


def _text_of(path: Path, shown: str) -> str:
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise UserError(f"{shown} is too large for a recipe; to read a log instead: unstuck diagnose {shown}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(
            f"{shown} is not a text file; a recipe is YAML, see: unstuck train gpt-char --print-config"
        ) from None
    if not text.strip():
        raise UserError(f"{shown} is empty; start from a bundled recipe: unstuck train gpt-char --print-config")
    return text


def _parsed_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip().removeprefix("--")
        if not equals or not key:
            raise UserError(f"'{text}' is not a setting; write key=value, such as learning_rate=1e-3.")
        if not value.strip():
            raise UserError(f"'{text}' has no value; write {key}=null to unset it.")
        changes[keys.resolve(key)] = parse_value(value, f"{key}={value}")
    return changes


def _expanded(key: str, value: Any, config: Config) -> dict[str, Any]:
    """A change in dotted keys, groups by name; canonical names without a key of their own are worked out."""
    if key == "group_lr_factors" and isinstance(value, Mapping):
        _known_groups(value, config)
        return {f"{keys.GROUPS}.{group}.lr_factor": factor for group, factor in value.items()}
    if key == "min_learning_rate":
        return {"schedule.floor": value / config.optimizer.learning_rate}
    dotted = keys.resolve(key)
    if dotted.startswith(keys.GROUPS + "."):
        names = [group.name for group in config.optimizer.groups]
        _, _, group, last = dotted.split(".")
        if group.isdecimal() and group not in names and int(group) < len(names):
            group = names[int(group)]
        _known_groups([group], config)
        dotted = f"{keys.GROUPS}.{group}.{last}"
    return {dotted: value}


def _known_groups(groups: Iterable[str], config: Config) -> None:
    names = [group.name for group in config.optimizer.groups]
    for group in groups:
        if group not in names:
            known = f"the recipe's groups are {', '.join(names)}" if names else "the recipe has no groups"
            raise UserError(f"There is no parameter group '{group}': {known}; add it below optimizer.groups.")


def _switch_kinds(tree: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Where a change makes a section another kind, leave out the old kind's settings that the new one does not have."""
    for section, (key, _) in KINDS.items():
        kind = changes.get(f"{section}.{key}")
        cls = None if kind is None else class_of(section, kind)
        if cls is not None and cls is not class_of(section, tree[section][key]):
            tree[section] = {k: v for k, v in tree[section].items() if k in cls.model_fields and k != key}


def _get(tree: Mapping[str, Any], dotted: str) -> Any:
    here: Any = tree
    for part in dotted.split("."):
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a dotted key in nested settings; a group is found by its name."""
    *way, last = dotted.split(".")
    here: Any = tree
    for part in way:
        if isinstance(here, (list, tuple)):
            here = next(group for group in here if group["name"] == part)
        else:
            here = here.setdefault(part, {})
    here[last] = value


def _dotted(path: tuple[str | int, ...], tree: Any) -> str:
    """The dotted key of a path through the document, groups by name."""
    parts: list[str] = []
    here = tree
    for step in path:
        here = here[step]
        named = isinstance(step, int) and isinstance(here, dict) and isinstance(here.get("name"), str)
        parts.append(here["name"] if named else str(step))
    return ".".join(parts)


def _places(document: Document) -> dict[str, str]:
    return {_dotted(p, document.value): f"{document.file}:{line}" for p, line in document.key_lines.items()}


def _rivals() -> Iterator[tuple[str, str]]:
    """Both directions of the pairs of which one must be null."""
    for one, other in keys.EXCLUSIVE:
        yield one, other
        yield other, one


def _with_origins(config: Config, known: Mapping[str, str]) -> Recipe:
    return Recipe(config, {key: known.get(key, DEFAULT) for key in flatten(config.model_dump())})
