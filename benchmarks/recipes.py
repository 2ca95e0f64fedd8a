"""Every recipe's quick variant: what it learns, how long that takes, and what a diagnosis of the run says.

    python benchmarks/recipes.py                    all recipes, on the built-in data
    python benchmarks/recipes.py navier-stokes      some of them
    python benchmarks/recipes.py --write docs/systems/recipes.md

Seconds are of the whole command, from process start to report. A diagnosis with an error or a warning on these healthy
runs, or a run longer than two minutes on two idle cores, is a failure (exit status 1); notes are shown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from unstuck.config.recipe import bundled_recipes

LONGEST_SECONDS = 120
# Recipe -> the one whose run it starts from, and the settings that name that run.
STARTS_FROM = {
    "factlm-chat": ("factlm", "start_from={run}"),
    "gpt2-qa-lora": ("gpt2-base", "model.path={run}"),
    "gpt2-qa-full": ("gpt2-base", "model.path={run}"),
}


def run_quick(name: str, folder: Path, done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Train a recipe's quick variant in its own process, then diagnose the run in another; once for each recipe."""
    if name in done:
        return done[name]
    run = folder / name
    further = []
    if name in STARTS_FROM:
        base, setting = STARTS_FROM[name]
        run_quick(base, folder, done)
        further = [setting.format(run=folder / base)]
    done[name] = measured(name, run, further)
    return done[name]


def measured(name: str, run: Path, further: list[str]) -> dict[str, Any]:
    """Seconds, losses and diagnosis of one quick variant."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "unstuck.cli.main", "train", f"{name}:quick", "--quiet", "--folder", str(run)]
    trained = subprocess.run([*command, *further], capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if trained.returncode:
        said = trained.stderr.strip().splitlines() or [f"exit status {trained.returncode}"]
        return {"recipe": name, "seconds": seconds, "error": said[-1]}
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    validation = [float(event["val/loss"]) for event in events if event["event"] == "evaluation"]
    diagnosis = subprocess.run(
        [sys.executable, "-m", "unstuck.cli.main", "diagnose", str(run), "--json"], capture_output=True, text=True
    )
    (found,) = json.loads(diagnosis.stdout)["runs"]
    return {
        "recipe": name,
        "unit": next(event["unit"] for event in events if event["event"] == "start"),
        "before": validation[0],
        "after": min(validation[1:]),
        "seconds": seconds,
        "verdict": found["verdict"],
        "findings": [f"{finding['rule']} ({finding['severity']})" for finding in found["findings"]],
    }


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| recipe | validation loss before | best | seconds | diagnosis |", "|---|---|---|---|---|"]
    for result in results:
        name, seconds = f"`{result['recipe']}:quick`", f"{result['seconds']:.0f}"
        if "error" in result:
            lines.append(f"| {name} | | | {seconds} | failed: {result['error']} |")
            continue
        said = "nothing found" if not result["findings"] else ", ".join(result["findings"])
        lines.append(
            f"| {name} | {result['before']:.3f} {result['unit']} | {result['after']:.3f} | {seconds} | "
            f"{result['verdict']}: {said} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="names; default: all")
    parser.add_argument("--write", type=Path, help="write the table there as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        done: dict[str, dict[str, Any]] = {}
        results = [run_quick(name, Path(folder), done) for name in arguments.recipes or bundled_recipes()]
    text = table(results)
    print(text)
    if arguments.write is not None:
        arguments.write.write_text(text, encoding="utf-8")
    good = all("error" not in r and r["verdict"] == "healthy" and r["seconds"] <= LONGEST_SECONDS for r in results)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
