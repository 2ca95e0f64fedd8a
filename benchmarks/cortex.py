"""What CortexGPT's parts are worth: recall from beyond the attention window, an ablation, and long documents.

    python -m benchmarks.cortex recall --out /tmp/cortex/results.jsonl
    python -m benchmarks.cortex ablation --text ../shared/data/text/books --seeds 1 2 --out /tmp/cortex/results.jsonl
    python -m benchmarks.cortex compute --text ../shared/data/text/books --out /tmp/cortex/results.jsonl
    python -m benchmarks.cortex text --text ../shared/data/text/books --seeds 1 2 --out /tmp/cortex/results.jsonl
    python -m benchmarks.cortex table --out /tmp/cortex/results.jsonl

Each run appends one line to `--out`. The same model with every part off is the GPT, on shuffled windows. Training
seconds are CPU seconds of one thread; `compute` measures them in turn, update by update, since other work on the
machine slows whatever runs meanwhile. Results: docs/systems/cortexgpt.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unstuck.config.recipe import Recipe, load_recipe
from unstuck.data import prepare
from unstuck.data.recall import CHANCE, answers, write_documents
from unstuck.data.tokenizer import TextTokenizer
from unstuck.train.assemble import prepare_parts
from unstuck.train.load import load_checkpoint
from unstuck.train.run import train
from unstuck.train.tasks.task import Share

RECIPE = Path(__file__).parent.parent / "recipes" / "cortexgpt.yaml"
OFF = {"model.memory.tokens": 0, "model.columns.count": 0, "model.homeostasis.speed": 0.0, "model.slots.count": 0}
OFF |= {"model.sleep.every_updates": None}
ON: dict[str, dict[str, Any]] = {
    "memory": {"model.memory.tokens": 1024},
    "columns": {"model.columns.count": 8},
    "homeostasis": {"model.homeostasis.speed": 0.02},
    "slots": {"model.slots.count": 8},
    "sleep": {"model.sleep.every_updates": 40, "model.sleep.updates": 10},
}
FULL = {key: value for part in ON.values() for key, value in part.items()}
SETTINGS = {"gpt": OFF} | {f"+ {name}": OFF | part for name, part in ON.items()} | {"full": FULL}
SETTINGS |= {f"full - {name}": FULL | {key: OFF[key] for key in part if key in OFF} for name, part in ON.items()}
# Writing to the slots gets a gradient only where a row holds several windows.
SETTINGS["+ slots, 2 windows"] = OFF | ON["slots"] | {
    "model.window": 64, "data.context": 128, "training.batch_size": 4,
}  # fmt: skip
HELD_OUT = 0.3  # of the books, so that the long documents are many
LONG_TOKENS = 6144  # of each held-out document
FAR = (0, 64, 1024, LONG_TOKENS)  # borders of the positions that are compared


def recipe(settings: dict[str, Any], **more: Any) -> Recipe:
    fixed = {"training.threads": 1, "training.precision": "float32"}
    written = {k: v if isinstance(v, str) else json.dumps(v) for k, v in (fixed | settings | more).items()}
    return load_recipe(RECIPE, [f"{key}={value}" for key, value in written.items()])


def trained(made: Recipe, folder: Path) -> dict[str, Any]:
    """Train and say what it cost: the last validation, and the median CPU time of an update times their number."""
    result = train(made, folder=folder, report=False)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    updates = [row for row in rows if row["event"] == "update"]
    spent = [row["time/cpu_ms"] / 1e3 for row in updates]
    last = [row for row in rows if row["event"] == "evaluation"][-1]
    if result.summary["stopped_by"] != "updates":
        raise SystemExit(f"{folder.name} was stopped after {len(spent)} updates ({result.summary['stopped_by']}).")
    found = {key: last[f"val/{key}"] for key in ("loss", "bits_per_byte")}
    further = {key: updates[-1][key] for key in ("columns/largest_load", "homeostasis/rate") if key in updates[-1]}
    return found | further | {
        "updates": len(spent),
        "tokens": result.summary["tokens"],
        "seconds": round(statistics.median(spent) * len(spent), 1),
        "parameters": result.summary["parameters"],
    }  # fmt: skip


def text_keys(given: argparse.Namespace) -> dict[str, Any]:
    return {
        "data.source": given.text,
        "data.validation_share": HELD_OUT,
        "evaluation.every_updates": given.updates,
        "evaluation.max_tokens": given.validation_tokens,
        "training.updates": given.updates,
    } | dict(pair.split("=", 1) for pair in given.keys)


def ablation(given: argparse.Namespace, folder: Path) -> None:
    for seed in given.seeds:
        for name in given.settings or SETTINGS:
            found = trained(recipe(text_keys(given) | SETTINGS[name], seed=seed), folder / f"{seed}-{name}")
            record(given, {"what": given.label or "ablation", "name": name, "seed": seed} | found)


def compute(given: argparse.Namespace, folder: Path) -> None:
    """CPU seconds of an update of every setting, measured in turn."""
    parts = {
        name: prepare_parts(recipe(text_keys(given) | SETTINGS[name]), Share()) for name in given.settings or SETTINGS
    }
    spent: dict[str, list[float]] = {name: [] for name in parts}
    positions = dict.fromkeys(parts, 0)
    for update in range(given.updates):
        for name, part in parts.items():
            part.model.train()
            started = time.process_time()
            data = part.task.micro_batches(positions[name], update)
            positions[name] += data.examples
            for batch in data.batches:
                (part.task.loss(part.model, batch).summed / data.targets).backward()
            part.optimizers.step(0.1)
            part.optimizers.zero_grad()
            part.task.after_update(part.model, update + 1)
            spent[name].append(time.process_time() - started)
    for name, seconds in spent.items():
        record(given, {"what": "compute", "name": name, "ms": round(statistics.median(seconds) * 1e3, 2)})


def text(given: argparse.Namespace, folder: Path) -> None:
    """The recipe, its GPT at the same tokens, and its GPT at the same compute; by position in long documents."""
    more = round(given.updates * given.ratio)
    plans = {"cortexgpt": (given.updates, {}), "gpt": (given.updates, OFF), "gpt, same compute": (more, OFF)}
    for seed in given.seeds:
        for name in given.settings or plans:
            updates, settings = plans[name]
            keys = text_keys(given) | settings | {"training.updates": updates, "evaluation.every_updates": updates}
            made = recipe(keys, seed=seed)
            run = folder / f"{seed}-{name}"
            found = trained(made, run)
            record(given, {"what": "text", "name": name, "seed": seed} | found | by_position(made, run))


@torch.no_grad()
def by_position(made: Recipe, run: Path) -> dict[str, Any]:
    """Nats per token of held-out documents, read from their beginnings with an empty memory, by position."""
    model = load_checkpoint(run, "last").model
    data = prepare(made.config.data)
    tokens = np.concatenate(list(data.validation.values())).astype(np.int64)
    documents = np.split(tokens, np.flatnonzero(tokens == data.tokenizer.end_of_text) + 1)
    long = [document[: LONG_TOKENS + 1] for document in documents if len(document) > LONG_TOKENS]
    losses = []
    with model.other_streams(len(long)) if model.streams is not None else nullcontext():
        for first in range(0, LONG_TOKENS, data.context):
            part = torch.from_numpy(np.stack([document[first : first + data.context + 1] for document in long]))
            logits = model(part[:, :-1], stream=0)
            losses.append(torch.nn.functional.cross_entropy(logits.mT, part[:, 1:], reduction="none"))
    by_place = torch.cat(losses, dim=1).mean(0)
    means = {f"{a}-{b}": round(float(by_place[a:b].mean()), 4) for a, b in pairwise(FAR)}
    return {"documents": len(long), "by_position": means}


def recall(given: argparse.Namespace, folder: Path) -> None:
    """The share of right answers on held-out documents, each read from its beginning with an empty memory."""
    write_documents(folder / "documents", 3000)
    small = {
        "data.source": str(folder / "documents"),
        "data.tokenizer": "char",
        "data.context": 32,
        "model.layers": 2,
        "model.heads": 2,
        "model.width": 64,
        "optimizer.learning_rate": 5e-3,
        "training.batch_size": 16,
        "training.updates": given.updates,
        "evaluation.every_updates": given.updates,
        "evaluation.max_tokens": 8192,
    }
    remembers = {"model.memory.tokens": 256, "model.memory.clear_at_end_of_text": True}
    for seed in given.seeds:
        for name, settings in {"cortexgpt": remembers, "gpt": OFF}.items():
            if name not in (given.settings or name):
                continue
            made = recipe(small | settings, seed=seed)
            run = folder / f"{seed}-{name}"
            found = trained(made, run)
            right, asked = answered(made, run)
            share = {"right": right, "asked": asked, "recall": round(right / asked, 4), "chance": round(CHANCE, 4)}
            record(given, {"what": "recall", "name": name, "seed": seed} | found | share)


@torch.no_grad()
def answered(made: Recipe, run: Path, documents: int = 200) -> tuple[int, int]:
    """Right answers and questions in held-out documents. Exact: the likeliest of all characters is the answer."""
    loaded = load_checkpoint(run, "last")
    model, tokenizer = loaded.model, loaded.tokenizer
    assert isinstance(tokenizer, TextTokenizer)
    data = prepare(made.config.data)
    tokens = np.concatenate(list(data.validation.values())).astype(np.int64)
    right = asked = 0
    question = int(tokenizer.encode("?")[0])
    for document in np.split(tokens, np.flatnonzero(tokens == tokenizer.end_of_text) + 1)[:documents]:
        with model.other_streams(1) if model.streams is not None else nullcontext():
            inputs = torch.from_numpy(document[:-1])[None]
            logits = [model(window, stream=0) for window in torch.split(inputs, data.context, dim=1)]
        places = answers(document[None, :-1], question=question)[0]
        correct = torch.cat(logits, dim=1)[0].argmax(-1).numpy() == document[1:]
        right, asked = right + int(correct[places].sum()), asked + int(places.sum())
    return right, asked


def table(given: argparse.Namespace, folder: Path) -> None:
    rows = [json.loads(line) for line in given.out.read_text().splitlines()]
    base = {row["seed"]: row["loss"] for row in rows if row["what"] == "ablation" and row["name"] == "gpt"}
    print("| setting | nats/token by seed | against the GPT | CPU seconds | parameters |\n|---|---|---|---|---|")
    for name in SETTINGS:
        found = {row["seed"]: row for row in rows if row["what"] == "ablation" and row["name"] == name}
        if found:
            losses = " ".join(f"{row['loss']:.4f}" for row in found.values())
            gains = [row["loss"] - base[seed] for seed, row in found.items()]
            spread = f" ± {statistics.stdev(gains):.4f}" if len(gains) > 1 else ""
            seconds = statistics.median(row["seconds"] for row in found.values())
            parameters = next(iter(found.values()))["parameters"]
            print(f"| {name} | {losses} | {statistics.mean(gains):+.4f}{spread} | {seconds:.0f} | {parameters:,} |")


def record(given: argparse.Namespace, row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)
    with given.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def main() -> None:
    what = {"recall": recall, "ablation": ablation, "compute": compute, "text": text, "table": table}
    updates = {"recall": 400, "ablation": 250, "compute": 30, "text": 600, "table": 0}
    parser = argparse.ArgumentParser(description="What CortexGPT's parts are worth.")
    parser.add_argument("what", choices=what)
    parser.add_argument("--text", default="../shared/data/text/books", help="folder of books")
    parser.add_argument("--updates", type=int)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--settings", nargs="+", help="only these")
    parser.add_argument("--keys", nargs="*", default=[], help="further settings of the recipe, key=value")
    parser.add_argument("--ratio", type=float, default=1.2, help="text: compute of an update against the GPT's")
    parser.add_argument("--validation-tokens", type=int, default=32768)
    parser.add_argument("--label", help="name of the rows in --out")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.updates = given.updates or updates[given.what]
    with tempfile.TemporaryDirectory() as folder:
        what[given.what](given, Path(folder))


if __name__ == "__main__":
    main()
