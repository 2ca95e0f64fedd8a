"""The real loop of `unstuck train`, timed from update to update, and its shares outside model and optimizer.

python -m benchmarks.peers.unstuck_loop FOLDER RECIPE key=value ...
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstuck.config.recipe import load_recipe
from unstuck.models.language_model import LanguageModel
from unstuck.train import loop
from unstuck.train.optimizers import Optimizers
from unstuck.train.run import train

spent = {"inside": 0.0, "clipping": 0.0}  # seconds


def timed(function: Callable[..., Any], part: str = "inside") -> Callable[..., Any]:
    """The function, its time added to a part of `spent`."""

    def call(*arguments: Any, **named: Any) -> Any:
        before = time.perf_counter()
        result = function(*arguments, **named)
        spent[part] += time.perf_counter() - before
        return result

    return call


class Clock:
    """When each update was over, and how much of it was spent in forward, backward and optimizer."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.spent: list[tuple[float, float]] = []

    def event(self, row: Mapping[str, Any]) -> None:
        if row["event"] == "update":
            self.ends.append(time.perf_counter())
            self.spent.append((spent["inside"], spent["clipping"]))

    def close(self) -> None:
        pass


def main() -> None:
    LanguageModel.forward = timed(LanguageModel.forward)  # type: ignore[method-assign]
    torch.Tensor.backward = timed(torch.Tensor.backward)  # type: ignore[method-assign]
    Optimizers.step = timed(Optimizers.step)  # type: ignore[method-assign]
    loop.clip_grad_norm = timed(loop.clip_grad_norm, "clipping")  # type: ignore[attr-defined]
    folder, recipe, *overrides = sys.argv[1:]
    clock = Clock()
    loaded = load_recipe(recipe, overrides)
    train(loaded, folder=Path(folder), observer=clock, report=False)
    whole = np.diff(clock.ends)
    inside, clipping = np.diff(np.array(clock.spent), axis=0).T
    tokens = loaded.config.training.batch_size * loaded.config.data.context
    result = {
        "tokens_per_second": tokens / float(np.median(whole)),
        "outside_share": 1 - float(np.median((inside + clipping) / whole)),
        "clipping_share": float(np.median(clipping / whole)),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
