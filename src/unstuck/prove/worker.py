"""One trial in its own process: `python -m unstuck.prove.worker FOLDER`.

FOLDER holds `spec.json` ({"config": {...}, "setting", "seed"}); the run goes to FOLDER/run and the outcome to
FOLDER/result.json, or FOLDER/mistake.txt when the user has something to mend. The parent holds our standard input
open: when it closes, because the parent ended in whatever way (even kill -9), this process ends at once.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

STATUS_ORPHANED = 75  # EX_TEMPFAIL: nothing wrong with the trial, it can be run again


def main(arguments: list[str] | None = None) -> int:
    """Train the trial of the folder named in the arguments; returns the exit status."""
    started = time.perf_counter()
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])
    threading.Thread(target=_end_with_parent, daemon=True).start()

    from unstuck.config.recipe import Recipe, flatten
    from unstuck.config.schema import Config
    from unstuck.errors import UserError
    from unstuck.train.run import train

    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    config = Config.model_validate(spec["config"])
    recipe = Recipe(config, dict.fromkeys(flatten(config.model_dump()), "trial of prove"))
    try:
        trained = train(recipe, folder=folder / "run", report=False)
    except UserError as error:
        (folder / "mistake.txt").write_text(str(error), encoding="utf-8")
        return 2
    if trained.summary["stopped_by"] == "user":  # a signal to this process says nothing about the setting
        return STATUS_ORPHANED
    result = outcome(folder / "run" / "metrics.jsonl")
    result |= {key: trained.summary[key] for key in ("tokens", "examples")}
    result["seconds"] = round(time.perf_counter() - started, 2)
    result["seconds_besides_steps"] = max(0.0, result["seconds"] - result.pop("seconds_in_steps"))
    # A trial is only its numbers: its weights would fill the disk, the curves stay.
    shutil.rmtree(folder / "run" / "checkpoints", ignore_errors=True)
    unfinished = folder / "result.json.part"
    unfinished.write_text(json.dumps(result), encoding="utf-8")
    os.replace(unfinished, folder / "result.json")
    return 0


def outcome(metrics: Path) -> dict[str, Any]:
    """The numbers of a trial from its `metrics.jsonl`; the loss is "nan" where the run diverged or broke off."""
    untrained, final, vocabulary = math.nan, math.nan, 2
    done, steps = 0, []
    for line in metrics.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "start":
            vocabulary = event.get("vocabulary") or vocabulary
        elif event["event"] == "evaluation":
            loss = float(event["val/loss"])
            untrained = loss if event["update"] == 0 else untrained
            final = loss
        elif event["event"] == "update":
            done = event["update"]
            steps.append(float(event.get("time/step_ms", "nan")) / 1000)
            if not math.isfinite(float(event["train/loss"])):
                final = math.nan
        elif event["event"] == "end" and event["stopped_by"] not in ("updates", "early stopping"):
            final = math.nan
    chance = math.log(vocabulary)  # a pretrained start may lose what it knew, so its own first loss is no bound
    steps = [s for s in steps if math.isfinite(s)]
    return {
        "val_loss": final if math.isfinite(final) else "nan",
        "untrained": max(untrained, chance) if math.isfinite(untrained) else chance,
        "updates": done,
        "seconds_per_update": statistics.median(steps) if steps else 0.0,
        "seconds_in_steps": sum(steps),
    }


def _end_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held when this process ends by itself
        pass
    os._exit(STATUS_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
