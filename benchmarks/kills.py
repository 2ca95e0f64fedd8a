"""Kill -9 a training run at random moments and compare its weights with those of a run that was left alone.

    python benchmarks/kills.py --kills 50

Each kill hits a real process at a random moment of its life: while it imports, reads, trains, evaluates, or writes a
checkpoint (half of the kills wait for a write to begin; the output says where they hit). After every kill the run is
resumed with `unstuck train --resume`. At the end its losses must be those of the other run, update by update, and its
final weights the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

RECIPE = """
name: kills
data: {{source: builtin, tokenizer: char, context: 32, max_characters: 60000}}
model: {{layers: 2, heads: 2, width: 64}}
training: {{updates: {updates}, batch_size: 8, threads: 1}}
evaluation: {{every_updates: 20, max_tokens: 4000}}
checkpoint: {{every_updates: {every}, keep: 2}}
"""


def train(*words: str) -> list[str]:
    """The command line of a training process."""
    return [sys.executable, "-m", "unstuck.cli.main", "train", *words, "--quiet"]


def losses(run: Path) -> dict[int, float]:
    """Training loss by update; later rows replace those that a kill took back."""
    found = {}
    for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["event"] == "update":
            found[row["update"]] = row["train/loss"]
    return found


def final_weights(run: Path) -> bytes:
    newest = max((run / "checkpoints").glob("update-*"))
    return (newest / "model.safetensors").read_bytes()


def where_hit(run: Path) -> str:
    """What the process was doing, from what it left."""
    if not (run / "metrics.jsonl").exists():
        return "before the first event"
    if any((run / "checkpoints").glob(".writing-*")) or any((run / "checkpoints").glob(".replaced-*")):
        return "inside a checkpoint"
    torn = not (run / "metrics.jsonl").read_bytes().endswith(b"\n")
    return "inside a line of metrics" if torn else "between"


def start(folder: Path, recipe: Path, run: Path) -> subprocess.Popen[bytes]:
    """Start the run, or go on with it where it was begun."""
    words = ["--resume", str(run)] if (run / "config.yaml").exists() else [str(recipe), "--folder", str(run), "--fresh"]
    return subprocess.Popen(train(*words), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def main() -> int:
    """Returns 0 when every resume went on and the weights are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--every", type=int, default=3, help="updates between checkpoints")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recipe = folder / "kills.yaml"
        recipe.write_text(RECIPE.format(updates=options.updates, every=options.every), encoding="utf-8")
        began = time.perf_counter()
        subprocess.run(train(str(recipe), "--folder", str(folder / "whole")), cwd=folder, check=True)
        whole_seconds = time.perf_counter() - began

        run = folder / "killed"
        hits: Counter[str] = Counter()
        kills = finished = 0
        while kills < options.kills:
            process = start(folder, recipe, run)
            # Half of the kills fall anywhere in a life of the uninterrupted run's length divided among the kills,
            # counted from the first sign of training; the other half wait for a checkpoint that is being written.
            target = draw.random()
            inside = draw.random() < 0.5
            deadline = time.perf_counter() + 60
            seen = (run / "metrics.jsonl").stat().st_size if (run / "metrics.jsonl").exists() else 0
            while process.poll() is None and time.perf_counter() < deadline:
                trained = (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size > seen
                if inside and any((run / "checkpoints").glob(".writing-*")):
                    break
                if not inside and trained:
                    time.sleep(target * max(0.05, whole_seconds / options.kills))
                    break
                if not inside and target < 0.1:  # a tenth of them: during the start
                    time.sleep(target * 20)
                    break
                time.sleep(0.0005)
            if process.poll() is not None:
                error = (process.stderr.read() if process.stderr else b"").decode().strip()
                if process.returncode:
                    print(f"a resume failed: {error}")
                    return 1
                finished += 1
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            hits[where_hit(run)] += 1
        while not (run / "summary.json").exists():
            process = start(folder, recipe, run)
            _, error_bytes = process.communicate()
            if process.returncode:
                print(f"the last resume failed: {error_bytes.decode().strip()}")
                return 1
        same_losses = losses(run) == losses(folder / "whole")
        same_weights = final_weights(run) == final_weights(folder / "whole")
        print(f"{kills} kills: " + ", ".join(f"{count} {where}" for where, count in hits.most_common()))
        print(f"losses of all {options.updates} updates the same bit for bit: {same_losses}")
        print(f"final weights the same byte for byte: {same_weights}")
        return 0 if same_losses and same_weights and kills == options.kills else 1


if __name__ == "__main__":
    sys.exit(main())
