"""Paired controlled runs: does a change help, and by how much."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = """
unstuck prove gpt-char --change learning_rate=4e-3 --budget 120s
unstuck prove runs/gpt-char --change schedule.horizon_updates=null --updates 200 --seeds 5
unstuck prove gpt-char --against my-recipe.yaml --json
unstuck prove gpt-char --placebo
"""


def command(
    recipe: Annotated[str, typer.Argument(help="a bundled recipe, a YAML file, or a run folder: the base")],
    change: Annotated[
        list[str] | None, typer.Option("--change", help="key=value that the changed recipe has; may be repeated")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="another recipe; --change then applies to that one")
    ] = None,
    placebo: Annotated[
        bool, typer.Option("--placebo", help="compare the recipe with itself: must end in 'no difference shown'")
    ] = False,
    seeds: Annotated[int, typer.Option("--seeds", help="pairs of trials planned; stops earlier when clear")] = 3,
    updates: Annotated[
        int | None, typer.Option("--updates", help="optimizer updates of a trial; default: what the budget allows")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="wall time for everything, such as 90s, 5m, 1h; default 5m")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="print one JSON document and nothing else")] = False,
) -> int:
    """Measure whether a change helps: same start, data order and tokens, several seeds, an interval.

    The verdict is better, worse, no difference shown, or cannot tell within the budget; exit status 0 in all four.
    Finished trials are kept, so that the same command goes on where it was stopped.
    """
    from unstuck import ledger
    from unstuck.config.recipe import load_recipe
    from unstuck.errors import UserError
    from unstuck.prove.compare import compare
    from unstuck.prove.progress import Progress

    changes = change or []
    if placebo and (changes or against):
        raise UserError("--placebo compares a recipe with itself; leave out --change and --against.")
    if not (placebo or changes or against):
        raise UserError(
            f"Nothing to compare; say what changes: unstuck prove {recipe} --change learning_rate=1e-3 (or --placebo)"
        )
    base = load_recipe(recipe).config
    changed = None if placebo else load_recipe(against or recipe, changes).config
    with Progress() as progress:
        try:
            proof = compare(
                base,
                changed,
                seeds=seeds,
                updates=updates,
                budget_seconds=None if budget is None else seconds_of(budget),
                named=[text.partition("=")[0].strip() for text in changes],
                observer=progress,
            )
        except KeyboardInterrupt:
            progress.interrupted()
            raise
    document = proof.document()
    entry = {key: document[key] for key in ("verdict", "difference", "detectable", "changes", "cost")}
    ledger.append(Path(base.runs_folder), "verdict", run=recipe, placebo=placebo, **entry)
    if json_output:
        import json

        print(json.dumps(document))
    else:
        progress.show(proof)
    return 0


def seconds_of(text: str) -> float:
    """Seconds of `90`, `90s`, `5m`, `1.5h`.

    Raises:
        UserError: it is not such a time.
    """
    from unstuck.errors import UserError

    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text and text[-1] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 1e9:
        raise UserError(f"'{text}' is not a budget; write a time such as 90s, 5m or 1h.")
    return seconds
