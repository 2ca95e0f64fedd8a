"""Trains several recipes, one after the other, in the processes that torchrun started; test_distributed.py starts it.

torchrun --nproc-per-node 2 tests/train/distributed_runs.py RECIPE FOLDER CASES

CASES is JSON: a list of [name, overrides, name of the run to resume or null]. A run goes into FOLDER/name; a resumed
one stays where it is. A mistake of the user is written to FOLDER/name.error by the process that tells it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from unstuck.config.recipe import load_recipe
from unstuck.errors import UserError
from unstuck.train.distributed import processes
from unstuck.train.run import train


def main() -> None:
    recipe_file, folder, cases = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    with processes():
        for name, overrides, resumed in cases:
            try:
                if resumed is None:
                    train(load_recipe(recipe_file, overrides), folder=folder / name, report=False)
                else:
                    train(load_recipe(folder / resumed, overrides), resume=folder / resumed, report=False)
            except UserError as error:
                (folder / f"{name}.error").write_text(str(error), encoding="utf-8")
            except SystemExit:
                continue  # the other process tells it


if __name__ == "__main__":
    main()
