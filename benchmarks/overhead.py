"""What the loop costs beside forward, backward and optimizer, measured two ways, in turn with a bare loop.

    python benchmarks/overhead.py [--rounds 8] [--size gpt-char] [--size gpt2-form] [--size width-512]

By parts: of an update of `unstuck train`, from the end of the one before (its row written, its observers told) to its
own end, the share not spent in forward, backward and the optimizer's step. "Without clipping" counts the measuring and
limiting of the gradient norm as inside. Adding up the rows of sparse gradients is inside: the optimizer needs it.

By difference: the same model trained by a bare loop (one fixed batch; forward, backward, step, gradients dropped;
nothing measured, clipped or written). Blocks of both loops alternate in one process, so that a machine that gets
slower slows both. Medians over all updates, in seconds of CPU of the one thread that trains. What the bare loop saves
by its fixed batch in the caches is counted against us.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SIZES = {
    "gpt-char": (),
    "gpt2-form": (
        "model.architecture=gpt2", "model.tied_head=true", "optimizer.kind=adamw", "optimizer.groups=[]",
        "optimizer.learning_rate=1e-3",
    ),
    "width-512": (
        "model.architecture=gpt2", "model.width=512", "model.heads=8", "model.tied_head=true", "optimizer.kind=adamw",
        "optimizer.groups=[]", "optimizer.learning_rate=3e-4", "training.batch_size=8", "data.context=128",
    ),
}  # fmt: skip
clock = time.thread_time  # of one thread: what others do on the machine is not counted, only what it does to the caches
BLOCK = 5  # updates of one loop before the other one's turn


def measure(size: str, rounds: int) -> dict[str, float]:
    """Seconds by part, medians; see the module's docstring."""
    import torch

    from unstuck.config.recipe import load_recipe
    from unstuck.train import loop, run
    from unstuck.train.optimizers import Optimizers, build, clip
    from unstuck.train.tasks.causal import Causal

    spent = {"inside": 0.0, "clipping": 0.0}

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            before = clock()
            result = function(*arguments, **named)
            spent[part] += clock() - before
            return result

        return call

    sessions: list[loop.Session] = []
    make_session = run.make_session

    def kept(*arguments: Any, **named: Any) -> loop.Session:
        sessions.append(make_session(*arguments, **named))
        return sessions[-1]

    run.make_session = kept  # type: ignore[attr-defined]
    Causal.loss = timed(Causal.loss, "inside")  # type: ignore[method-assign]
    torch.Tensor.backward = timed(torch.Tensor.backward, "inside")  # type: ignore[method-assign]
    Optimizers.step = timed(Optimizers.step, "inside")  # type: ignore[method-assign]
    loop.clip_grad_norm = timed(loop.clip_grad_norm, "clipping")  # type: ignore[attr-defined]
    values = clip._values
    coalesced: list[float] = []

    def summed_rows(parameter: torch.Tensor) -> torch.Tensor:
        before = clock()
        result = values(parameter)
        if parameter.grad is not None and parameter.grad.is_sparse:
            coalesced.append(clock() - before)
        return result

    clip._values = summed_rows

    whole: list[float] = []
    inside: list[float] = []
    clipping: list[float] = []
    bare: list[float] = []

    class Clock:
        def __init__(self) -> None:
            self.end, self.seen = 0.0, dict(spent)
            self.model: Any = None

        def event(self, row: Mapping[str, Any]) -> None:
            now = clock()
            if row["event"] == "update":
                sparse = sum(coalesced)
                coalesced.clear()
                if self.end:
                    whole.append(now - self.end)
                    inside.append(spent["inside"] - self.seen["inside"] + sparse)
                    clipping.append(spent["clipping"] - self.seen["clipping"] - sparse)
                self.end = 0.0
                if row["update"] % BLOCK == 0:
                    self.bare_block()
                    coalesced.clear()
                    return  # the next update also warms the caches again: not counted
            self.seen = dict(spent)
            self.end = clock()

        def bare_block(self) -> None:
            session = sessions[0]
            if self.model is None:
                self.model = copy.deepcopy(session.model)
                self.optimizers = build(self.model, session.config.optimizer)
                self.batch = session.task.micro_batches(0, 0)
            for number in range(BLOCK):
                started = clock()
                with session.machine.autocast():
                    loss = session.task.loss(self.model, self.batch.batches[0]).summed / self.batch.targets
                loss.backward()
                self.optimizers.step()
                self.optimizers.zero_grad()
                if number:
                    bare.append(clock() - started)

        def close(self) -> None:
            pass

    recipe = load_recipe(
        "gpt-char",
        [f"training.updates={rounds * BLOCK}", "evaluation.every_updates=1000000", "evaluation.max_tokens=64",
         "data.max_characters=1000000", "training.threads=1", *SIZES[size]],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run.train(recipe, folder=Path(folder) / "run", observer=Clock(), report=False)
    parts = zip(whole, inside, clipping, strict=True)
    shares = [((w - i) / w, (w - i - c) / w, c) for w, i, c in parts]
    return {
        "update_ms": statistics.median(whole) * 1e3,
        "bare_ms": statistics.median(bare) * 1e3,
        "outside": statistics.median(share for share, _, _ in shares),
        "outside_without_clipping": statistics.median(share for _, share, _ in shares),
        "outside_us": statistics.median(w - i for w, i in zip(whole, inside, strict=True)) * 1e6,
        "clipping_us": statistics.median(c for _, _, c in shares) * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help=f"blocks of {BLOCK} updates of each loop")
    parser.add_argument("--size", action="append", choices=SIZES)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(measure(asked.size[0], asked.rounds)))
        return
    print("| size | update | outside | without clipping | outside in all | clipping | bare loop | by difference |")
    print("|---|---|---|---|---|---|---|---|")
    for size in asked.size or SIZES:
        command = [sys.executable, __file__, "--child", "--size", size, "--rounds", str(asked.rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr[-4000:])
        found = json.loads(done.stdout.strip().splitlines()[-1])
        shares = f"{found['outside']:.2%} | {found['outside_without_clipping']:.2%} | {found['outside_us']:.0f} us"
        difference = found["update_ms"] / found["bare_ms"] - 1
        print(
            f"| {size} | {found['update_ms']:.1f} ms | {shares} | {found['clipping_us']:.0f} us "
            f"| {found['bare_ms']:.1f} ms | {difference:.2%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
