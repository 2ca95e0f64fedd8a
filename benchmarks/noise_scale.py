"""The gradient noise scale along a run, in tokens: the batch below which an update is mostly noise.

    python benchmarks/noise_scale.py [RECIPE] [KEY=VALUE ...]

At each evaluation the gradient is taken of 40 batches of the training data, at the same weights. With |g|^2 of one
batch and of their mean, B_simple = trace(S) / |G|^2 by the unbiased two-batch estimator (McCandlish et al., arXiv
1812.06162, appendix A.1), numerator and denominator averaged separately.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unstuck.config.recipe import load_recipe
from unstuck.train import loop, run

BATCHES = 40
APART = 7  # batches of the data order between two that are taken


def gradient(session: loop.Session, position: int) -> tuple[list[torch.Tensor], int]:
    """The mean gradient of the update at a position of the data order, and the tokens in it."""
    data = session.task.micro_batches(position, 0)
    for batch in data.batches:
        (session.task.loss(session.model, batch).summed / data.targets).backward()
    found = []
    for parameter in session.parameters:
        grad = parameter.grad
        assert grad is not None
        found.append((grad.to_dense() if grad.is_sparse else grad).clone())
        parameter.grad = None
    return found, data.targets


def noise_scale(session: loop.Session) -> float:
    """B_simple in tokens."""
    small, tokens, total = 0.0, 0, list[torch.Tensor]()
    examples = session.task.batch_size * session.task.accumulation
    for number in range(BATCHES):
        found, tokens = gradient(session, number * APART * examples)
        small += sum(float(g.square().sum()) for g in found) / BATCHES
        total = [t + g for t, g in zip(total, found, strict=True)] if total else found
    large = sum(float((t / BATCHES).square().sum()) for t in total)
    signal = (BATCHES * large - small) / (BATCHES - 1)
    noise = (small - large) * tokens / (1 - 1 / BATCHES)
    return noise / signal


class Watch:
    """An observer that measures after each evaluation."""

    def __init__(self) -> None:
        self.session: loop.Session | None = None

    def event(self, row: Mapping[str, Any]) -> None:
        if row["event"] == "evaluation" and row["update"]:
            assert self.session is not None
            print(f"| {row['update']} | {row['val/loss']:.3f} | {noise_scale(self.session):,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="gpt-char")
    parser.add_argument("settings", nargs="*")
    asked = parser.parse_args()
    watch = Watch()
    make_session = run.make_session

    def kept(*arguments: Any, **named: Any) -> loop.Session:
        watch.session = make_session(*arguments, **named)
        return watch.session

    run.make_session = kept  # type: ignore[attr-defined]
    print("| update | val, nats/token | noise scale, tokens |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        run.train(load_recipe(asked.recipe, asked.settings), folder=Path(folder) / "run", observer=watch, report=False)


if __name__ == "__main__":
    main()
