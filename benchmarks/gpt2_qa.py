"""LoRA against full fine-tuning of a GPT-2 made here, on questions and answers.

    python -m benchmarks.gpt2_qa base      --texts ../shared/data/text/classics --work /tmp/gpt2-qa     about 10 minutes
    python -m benchmarks.gpt2_qa questions --texts ../shared/data/text/classics --work /tmp/gpt2-qa     a second
    python -m benchmarks.gpt2_qa tune      --work /tmp/gpt2-qa                                          about 10 minutes
    python -m benchmarks.gpt2_qa table     --work /tmp/gpt2-qa
    python -m benchmarks.gpt2_qa paired    --work /tmp/gpt2-qa                                          a minute

`base` trains recipe gpt2-base on TEXTS/train and exports it to WORK/base in Hugging Face form, which is what is
fine-tuned. `questions` makes the questions from TEXTS/val, books that the base has never seen. `tune` runs both kinds
of fine-tuning over three learning rates with seed 1, then the best of each with seeds 2 and 3: the same questions, the
same updates, the same batches. A run that is there already is not repeated, so `tune` can be stopped and started again.

The learning rate is chosen on the validation loss that the table reports: the best of three for both kinds alike.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
from pathlib import Path
from typing import Any

RATES = {"lora": (3e-3, 1e-2, 2e-2), "none": (1e-4, 3e-4, 1e-3)}
SEEDS = (1, 2, 3)
UPDATES = 60
VALIDATION_TARGETS = 3000
QUESTIONS = 4000
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
WORDS = (12, 28)  # of a sentence
ASKED_SHARE = 0.6  # of its words are in the question
SAID = re.compile(r"[\"“]([^\"“”]{12,120}[,!?])[\"”] said ((?:(?:Mrs?|Madame|Sherlock|Mary) ?\.? )?[A-Z][a-z]+)")


def make_base(texts: Path, work: Path) -> None:
    """Train recipe gpt2-base and export it."""
    from unstuck.config.recipe import load_recipe
    from unstuck.models.hf_export import export
    from unstuck.train.load import load_checkpoint
    from unstuck.train.run import train

    settings = [f"data.source={texts / 'train'}", f"runs_folder={work}", "name=base-run", "training.threads=1"]
    result = train(load_recipe("gpt2-base", settings))
    loaded = load_checkpoint(result.folder, "last")
    export(loaded.model, loaded.tokenizer, work / "base")
    print(json.dumps(result.summary, indent=1))


def make_questions(texts: Path, work: Path) -> None:
    """Write WORK/questions.jsonl: how a sentence ends, and who says what, drawn with a fixed seed."""
    found: dict[str, str] = {}
    for book in sorted((texts / "val").iterdir()):
        text = book.read_text(encoding="utf-8")
        for paragraph in text.split("\n\n"):
            flat = " ".join(paragraph.split())
            for said in SAID.finditer(flat):
                found[f'Who says "{said[1]}"?'] = said[2] + "."
            for sentence in SENTENCE.split(flat):
                words = sentence.split()
                if WORDS[0] <= len(words) <= WORDS[1] and not re.search(r"[\"“”#*_]", sentence):
                    asked = round(ASKED_SHARE * len(words))
                    found[f'How does this sentence end: "{" ".join(words[:asked])}"?'] = " ".join(words[asked:])
    chosen = random.Random(0).sample(sorted(found.items()), min(QUESTIONS, len(found)))
    work.mkdir(parents=True, exist_ok=True)
    with open(work / "questions.jsonl", "w", encoding="utf-8") as file:
        for question, answer in chosen:
            file.write(json.dumps({"question": question, "answer": answer}, ensure_ascii=False) + "\n")
    print(f"{len(chosen):,} questions of {len(found):,}: {work / 'questions.jsonl'}")


def tune(work: Path, source: str, updates: int) -> None:
    """Three learning rates of each kind, then the best of each with further seeds."""
    for kind, rates in RATES.items():
        losses = {rate: _run(work, source, updates, kind, rate, SEEDS[0]) for rate in rates}
        best = min(losses, key=losses.__getitem__)
        for seed in SEEDS[1:]:
            _run(work, source, updates, kind, best, seed)


def _run(work: Path, source: str, updates: int, kind: str, rate: float, seed: int) -> float:
    """Final validation loss of one fine-tuning; trained unless it is there."""
    from unstuck.config.recipe import load_recipe
    from unstuck.train.run import train

    folder = work / "runs" / f"{_label(source)}-{kind}-{rate:g}-seed{seed}"
    if not (folder / "summary.json").is_file():
        settings = {
            "model.path": work / "base", "model.adapter.kind": kind, "optimizer.learning_rate": rate, "seed": seed,
            "data.source": source if source == "builtin" else work / source, "data.context": 128,
            "training.epochs": "null", "training.updates": updates, "training.threads": 1,
            "evaluation.every_updates": updates, "evaluation.max_tokens": VALIDATION_TARGETS,
            "evaluation.patience": "null",
        }  # fmt: skip
        train(load_recipe("gpt2-qa-lora", [f"{key}={value}" for key, value in settings.items()]), folder=folder)
    loss = float(json.loads((folder / "summary.json").read_text())["final"]["val_loss"])
    print(f"{folder.name}: {loss:.4f}", flush=True)
    return loss


def table(work: Path) -> None:
    """Print what `tune` measured."""
    runs: dict[str, dict[tuple[str, float], dict[int, dict[str, Any]]]] = {}
    for folder in sorted((work / "runs").iterdir()):
        if (folder / "summary.json").is_file():
            setting, _, seed = folder.name.rpartition("-seed")
            label, kind, rate = setting.split("-", 2)
            runs.setdefault(label, {}).setdefault((kind, float(rate)), {})[int(seed)] = _result(folder)
    for label, settings in runs.items():
        print(
            f"\n| {label}: fine-tuning | learning rate | seeds | validation loss | trained parameters | CPU seconds |"
        )
        print("|---|---|---|---|---|---|")
        best: dict[str, tuple[float, dict[int, dict[str, Any]]]] = {}
        for (kind, rate), by_seed in sorted(settings.items()):
            mean = statistics.mean(r["loss"] for r in by_seed.values())
            spread = statistics.stdev(r["loss"] for r in by_seed.values()) if len(by_seed) > 1 else None
            one = by_seed[min(by_seed)]
            shown = f"{mean:.4f}" + (f" ± {spread:.4f}" if spread is not None else "")
            print(
                f"| {kind} | {rate:g} | {len(by_seed)} | {shown} | {one['parameters']:,} | "
                f"{statistics.mean(r['cpu'] for r in by_seed.values()):.0f} |"
            )
            if kind not in best or one["loss"] < best[kind][1][min(best[kind][1])]["loss"]:
                best[kind] = (rate, by_seed)
        if len(best) == 2:
            start = best["none"][1][SEEDS[0]]["start"]
            full, lora = (statistics.mean(r["loss"] for r in best[kind][1].values()) for kind in ("none", "lora"))
            numbers = [best[kind][1][SEEDS[0]]["parameters"] for kind in ("lora", "none")]
            print(
                f"\nBefore: {start:.4f}. LoRA {lora:.4f} against {full:.4f}: {lora / full - 1:+.2%} of the loss, "
                f"{(start - lora) / (start - full):.0%} of what full fine-tuning gains, with "
                f"{numbers[0] / numbers[1]:.2%} of the parameters."
            )


def paired(work: Path, source: str) -> None:
    """The best run of each kind on every held-out question: their difference, with a 95 % interval over questions."""
    import numpy as np
    import torch

    from unstuck.config.recipe import load_recipe
    from unstuck.models.language_model import IGNORED
    from unstuck.train.load import load_checkpoint
    from unstuck.train.tasks import token_data

    best = {}
    for kind in RATES:
        folders = [f for f in (work / "runs").glob(f"{_label(source)}-{kind}-*-seed{SEEDS[0]}") if _ended(f)]
        best[kind] = min(folders, key=lambda folder: float(_result(folder)["loss"]))
    data = token_data(load_recipe(best["none"]).config)
    sums: dict[str, list[float]] = {kind: [] for kind in best}
    targets: list[int] = []
    for kind, folder in best.items():
        model = load_checkpoint(folder, "last").model
        targets = []
        with torch.no_grad():
            for inputs, wanted in data.validation_rows().values():
                for tokens_T, targets_T in zip(torch.from_numpy(inputs), torch.from_numpy(wanted), strict=True):
                    sums[kind].append(float(model(tokens_T[None], targets_T[None], "sum")))
                    targets.append(int((targets_T != IGNORED).sum()))
    full, lora, counts = (np.array(values, dtype=float) for values in (sums["none"], sums["lora"], targets))
    draw = np.random.default_rng(0)
    drawn = draw.integers(len(counts), size=(10_000, len(counts)))
    shares = lora[drawn].sum(1) / full[drawn].sum(1) - 1
    low, high = np.quantile(shares, (0.025, 0.975))
    print(
        f"{best['lora'].name} against {best['none'].name}, {len(counts):,} questions, {counts.sum():,.0f} targets: "
        f"{lora.sum() / counts.sum():.4f} against {full.sum() / counts.sum():.4f}, "
        f"{lora.sum() / full.sum() - 1:+.2%} ({low:+.2%} to {high:+.2%})"
    )


def _ended(folder: Path) -> bool:
    return (folder / "summary.json").is_file()


def _result(folder: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    validated = [row["val/loss"] for row in rows if row["event"] == "evaluation"]
    summary = json.loads((folder / "summary.json").read_text())
    return {
        "start": validated[0],
        "loss": validated[-1],
        "parameters": summary["parameters"],
        "cpu": sum(row.get("time/cpu_ms", 0.0) for row in rows) / 1e3,
    }


def _label(source: str) -> str:
    return Path(source).stem


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("base", "questions", "tune", "table", "paired"))
    parser.add_argument("--texts", type=Path, help="folder with train/ and val/")
    parser.add_argument("--work", type=Path, required=True, help="folder for runs and files")
    parser.add_argument("--source", default="questions.jsonl", help="questions.jsonl, or builtin for Python's")
    parser.add_argument("--updates", type=int, default=UPDATES)
    asked = parser.parse_args()
    if asked.stage in ("base", "questions"):
        if asked.texts is None:
            parser.error(f"{asked.stage} needs --texts")
        (make_base if asked.stage == "base" else make_questions)(asked.texts, asked.work)
    elif asked.stage == "tune":
        tune(asked.work, asked.source, asked.updates)
    elif asked.stage == "paired":
        paired(asked.work, asked.source)
    else:
        table(asked.work)


if __name__ == "__main__":
    main()
