"""How long the loop stands still for a checkpoint of 124M parameters with AdamW (1.5 GB).

    python benchmarks/stall.py [--folder /tmp/stall] [--seconds 30] [--saves 3] [--no-reserve]

Tensors of GPT-2's shapes and their two moments are saved through `train.saver.Saver`, as the loop does it: the memory
is asked for once (`reserve`), products are computed for `--seconds` in place of updates, and each `save` is timed
from its call to its return. Between saves the products go on until the file is on disk. Prints one line per save,
and what a product took before, during and after the reservation: the memory does not come free, it comes beside.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from unstuck.train.saver import Saver

VOCABULARY, CONTEXT, WIDTH, LAYERS = 50257, 1024, 768, 12  # GPT-2 124M


def gpt2_shapes() -> dict[str, tuple[int, ...]]:
    """Name -> shape of GPT-2's tensors: 124,439,808 numbers."""
    shapes: dict[str, tuple[int, ...]] = {"wte": (VOCABULARY, WIDTH), "wpe": (CONTEXT, WIDTH)}
    for i in range(LAYERS):
        for name, inputs, outputs in (
            ("qkv", WIDTH, 3 * WIDTH),
            ("out", WIDTH, WIDTH),
            ("up", WIDTH, 4 * WIDTH),
            ("down", 4 * WIDTH, WIDTH),
        ):
            shapes |= {f"h.{i}.{name}.weight": (inputs, outputs), f"h.{i}.{name}.bias": (outputs,)}
        shapes |= {f"h.{i}.{norm}.{part}": (WIDTH,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    return shapes | {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}


def work(seconds: float, a: Tensor, until_dead: object = None) -> list[float]:
    """Products in place of updates, for so long; seconds of each."""
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or (until_dead is not None and until_dead.is_alive()):  # type: ignore[attr-defined]
        started = time.perf_counter()
        a @ a
        took.append(time.perf_counter() - started)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default: a temporary folder")
    parser.add_argument("--seconds", type=float, default=30.0, help="of training before the first checkpoint")
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--no-reserve", action="store_true", help="as it was: the first save finds the memory itself")
    asked = parser.parse_args()
    model = {name: torch.randn(shape) for name, shape in gpt2_shapes().items()}
    moments = {f"{key}/{name}": torch.rand_like(t) for key in ("exp_avg", "exp_avg_sq") for name, t in model.items()}
    size = sum(t.nbytes for t in (*model.values(), *moments.values()))
    print(f"{sum(t.numel() for t in model.values()):,} parameters, {size / 1e9:.2f} GB to save")
    a = torch.randn(512, 512)
    with tempfile.TemporaryDirectory() as temporary:
        saver = Saver(asked.folder or Path(temporary), keep=1)
        before = work(2.0, a)
        if not asked.no_reserve:
            started = time.perf_counter()
            saver.reserve(model, moments)
            print(f"reserve returned after {time.perf_counter() - started:.4f} s")
        beside = work(asked.seconds, a)
        for number in range(1, asked.saves + 1):
            state = {"update": number, "best_update": number}
            started = time.perf_counter()
            saver.save(model, moments, state)
            print(f"save {number}: the loop stood still for {time.perf_counter() - started:.3f} s", flush=True)
            work(1.0, a, saver._thread)
        saver.wait()
        after = work(2.0, a)
    shown = (f"{statistics.median(took) * 1e3:.2f}" for took in (before, beside, after))
    print("ms per product before, beside and after:", *shown, f"; longest beside {max(beside) * 1e3:.1f}")


if __name__ == "__main__":
    main()
