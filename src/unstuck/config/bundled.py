"""Where recipes are: bundled ones by name, the user's own by path, a run's in its folder."""

from __future__ import annotations

import difflib
from pathlib import Path

from unstuck.errors import UserError

PACKAGE = Path(__file__).resolve().parent.parent


def recipes_folder() -> Path:
    """The bundled recipes: package data when installed, the repository's `recipes/` in an editable checkout."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parent.parent / "recipes"


def bundled_recipes() -> dict[str, Path]:
    """Name -> file of every recipe that ships with unstuck."""
    return {path.stem: path for path in sorted(recipes_folder().glob("*.yaml"))}


def find_variants(name_or_path: str | Path) -> tuple[Path, str, list[str]]:
    """`find_recipe`, for a name that may have variants behind it: `ltg-bert:tiny:quick`."""
    wanted = str(name_or_path)
    if isinstance(name_or_path, str) and ":" in wanted and not Path(wanted).expanduser().exists():
        name, *variants = wanted.split(":")
        if name.removesuffix(".yaml") not in bundled_recipes() and not Path(name).expanduser().exists():
            raise UserError(f"There is neither a file '{wanted}' nor a recipe '{name}'; {_instead_of(name)}")
        return *find_recipe(name), variants
    return *find_recipe(name_or_path), []


def find_recipe(name_or_path: str | Path) -> tuple[Path, str]:
    """The recipe's file, and its name in messages.

    A bundled name wins over a file of the same name in the working folder; write `./name` for the file.

    Raises:
        UserError: there is no such recipe; names the nearest.
    """
    wanted = str(name_or_path)
    bundled = bundled_recipes()
    name = wanted.removesuffix(".yaml")
    if isinstance(name_or_path, str) and name in bundled and not Path(wanted).is_file():
        return bundled[name], f"{name}.yaml"
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        config = path / "config.yaml"
        if not config.is_file():
            raise UserError(
                f"{wanted} is a folder without config.yaml, so it is not a run folder; name a recipe "
                f"({', '.join(bundled)}) or a YAML file."
            )
        return config, str(config)
    if path.exists():  # also a pipe: unstuck train /dev/stdin
        return path, wanted
    raise UserError(f"There is no recipe '{wanted}'; {_instead_of(wanted)}")


def _instead_of(wanted: str) -> str:
    """What to name instead of a recipe that is not there."""
    bundled = bundled_recipes()
    near = difflib.get_close_matches(Path(wanted.removesuffix(".yaml")).name, bundled, n=1)
    return f"did you mean {near[0]}?" if near else f"name a YAML file or one of {', '.join(bundled)}."
