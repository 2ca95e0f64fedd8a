"""Train a recipe into a run folder: progress, live findings, exact resume."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from unstuck.errors import UserError

EXAMPLE = """
unstuck train gpt-char
unstuck train gpt-char learning_rate=1e-3 training.updates=500
unstuck train --resume runs/gpt-char
unstuck train --resume runs/gpt-char training.updates=600
"""


def command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="a bundled recipe, a YAML file, and settings to change"),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="go on with this run folder, or from one of its checkpoints")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="take a new numbered folder where the name is taken")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="run folder; default: the recipe's name, numbered, in runs/")
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="print the whole recipe and stop")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print nothing but the result")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print summary.json's document and nothing else")] = False,
    stop_on: Annotated[str, typer.Option(metavar="RULE,...", help="stop when one of these rules finds something")] = "",
) -> None:
    """Train a recipe into a run folder, or go on with one.

    A run that was stopped or killed at any moment goes on with --resume: the same losses, bit for bit. It takes the
    run's own settings, so it needs no recipe; with key=value behind it, it says what it kept and what it dropped.
    """
    from unstuck.config.recipe import load_recipe
    from unstuck.train.folder import run_of

    name, overrides = _split(words or [])
    if resume is None and name is None:
        raise UserError("Name a recipe or a run to go on with: unstuck train gpt-char, or unstuck train --resume RUN")
    if resume is not None and (fresh or folder is not None):
        raise UserError("--resume goes on in its own folder; leave out --fresh and --folder, or leave out --resume.")
    if resume is not None and name is not None:
        raise UserError(
            f"--resume goes on with the run's own settings: leave out '{name}', and add key=value for what should "
            f"change: unstuck train --resume {resume}"
        )
    try:
        recipe = load_recipe(run_of(resume)[0] if resume is not None else name or "", overrides)
    except UserError:
        if os.environ.get("RANK", "0") != "0":  # of torchrun's processes the first one tells, for all read the same
            raise SystemExit(2) from None
        raise
    if print_config:
        sys.stdout.write(recipe.to_yaml())
        return
    rules = _rules(stop_on)

    from unstuck.train.progress import Progress, duration
    from unstuck.train.run import train
    from unstuck.wording import plural

    silent = quiet or as_json or os.environ.get("RANK", "0") != "0"
    progress = None if silent else Progress(opening=_of_a_run(name))
    try:
        result = train(recipe, folder=folder, resume=resume, fresh=fresh, observer=progress, stop_on=rules, report=True)
    finally:
        if progress is not None:
            progress.close()
    if not result.first:  # of several processes one tells
        return
    summary = result.summary
    if as_json:
        import json

        print(json.dumps(summary, indent=1))
    else:
        best = summary["best"]
        found = f"; best val {best['val_loss']:.4f} at update {best['update']}" if best else ""
        made = f"{plural(summary['updates'], 'update')} in {duration(summary['seconds'])}"
        print(f"{made}{found}; run folder {result.folder}")
        if summary["findings"]:
            print(f"Findings: {', '.join(summary['findings'])}.")
        if not quiet and summary["stopped_by"] != "user":
            run, shows = shlex.quote(str(result.folder)), _shows(recipe.config.task.kind)
            print(f"Next: unstuck diagnose {run}, or unstuck {shows} {run}")
    if summary["stopped_by"] == "user":
        raise UserError(
            f"Stopped after update {summary['updates']}; everything is saved. Go on with: "
            f"{'the same torchrun and: train' if 'LOCAL_WORLD_SIZE' in os.environ else 'unstuck train'} "
            f"--resume {result.folder}"
        )


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """Recipe (a first word without =) and overrides."""
    if words and "=" not in words[0]:
        return words[0], words[1:]
    return None, words


def _shows(task: str) -> str:
    """The command that shows what a model of this task has learned."""
    return "generate" if task == "causal" else "evaluate"


def _of_a_run(recipe: str | None) -> str | None:
    """What to say where the recipe is a run folder, which the user may have meant to go on with."""
    if recipe is None or not (Path(recipe).expanduser() / "metrics.jsonl").is_file():
        return None
    return (
        f"{recipe} holds a run; this starts a new one with its settings. To go on with that one: "
        f"unstuck train --resume {shlex.quote(recipe)}"
    )


def _rules(text: str) -> list[str]:
    """Rule names, checked."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names:
        import difflib

        from unstuck.diagnose.engine import all_rules

        for name in names:
            if name not in all_rules():
                near = difflib.get_close_matches(name, all_rules(), n=1)
                meant = f"; did you mean {near[0]}?" if near else "."
                raise UserError(f"There is no rule '{name}'{meant} See: unstuck rules")
    return names
