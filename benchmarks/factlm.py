"""FactLM against nanoGPT's model and settings on a folder of books; answers that end; licence text in samples.

    python -m benchmarks.factlm compare --books ../shared/data/text/books --seeds 1 2 --runs runs
    python -m benchmarks.factlm answers runs/factlm-seed1 runs/factlm-chat
    python -m benchmarks.factlm licences runs/factlm-seed1

`compare` trains `unstuck train factlm` and nanoGPT's form (benchmarks/peers/nanogpt_form.py) of the same layers, heads
and width, on the same tokens, in batches of the same size, as often; nanoGPT's settings are those of its
shakespeare_char on a CPU, its cosine stretched to the number of updates. Both are measured by the function below on
all validation tokens of every book, in float32. `answers` asks held-out questions before and after chat fine-tuning.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.peers.nanogpt_form import NanoGPTForm, random_batch, rate
from unstuck.config.recipe import load_recipe
from unstuck.data import IGNORED, TextData, prepare, windows_of
from unstuck.data.answers import prepare_answers
from unstuck.data.chat import CHAT_TOKENS
from unstuck.data.licence import suspicious
from unstuck.evaluate.generate import complete
from unstuck.evaluate.generate_sampling import PRESETS
from unstuck.train.load import load_checkpoint
from unstuck.train.run import train

PEAK, WARMUP = 1e-3, 100  # nanoGPT, config/train_shakespeare_char.py; its floor of 1e-4 is a tenth of the peak
FAIR_LIMIT = 60  # tokens; the longest held-out answer of the built-in set has 53 with the books' tokenizer


@torch.no_grad()
def bits_per_byte(logits: Callable[[Tensor], Tensor], data: TextData, batch: int = 32) -> dict[str, Any]:
    """Nats per token and bits per byte of each source, over every validation token, in windows that do not overlap."""
    sizes = data.tokenizer.bytes_of_tokens()
    nats_by_source, bytes_by_source, tokens = {}, {}, 0
    for source, ids in data.validation.items():
        inputs, targets = windows_of(ids, data.context)
        total = 0.0
        for k in range(0, len(inputs), batch):
            found = logits(torch.from_numpy(inputs[k : k + batch])).float().flatten(0, 1)
            wanted = torch.from_numpy(targets[k : k + batch]).flatten()
            total += float(functional.cross_entropy(found, wanted, ignore_index=IGNORED, reduction="sum"))
        nats_by_source[source] = total
        bytes_by_source[source] = int(sizes[targets[targets != IGNORED]].sum())
        tokens += int((targets != IGNORED).sum())
    nats = sum(nats_by_source.values())
    return {
        "nats_per_token": nats / tokens,
        "bits_per_byte": nats / math.log(2) / sum(bytes_by_source.values()),
        "by_source": {s: n / math.log(2) / bytes_by_source[s] for s, n in nats_by_source.items()},
        "tokens": tokens,
    }


def peer(data: TextData, folder: Path, *, updates: int, batch: int, layers: int, heads: int, width: int, seed: int,
         peak: float = PEAK) -> dict[str, Any]:  # fmt: skip
    """nanoGPT's form, trained as nanoGPT does: random windows, AdamW, warm-up and cosine, clipping at 1."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "train.npy", data.train_tokens)
    model = NanoGPTForm(vocabulary=data.vocabulary, context=data.context, layers=layers, heads=heads, width=width)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.99))
    started = time.process_time()
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = rate(update, peak=peak, floor=peak / 10, warmup=WARMUP, horizon=updates)
        _, loss = model(*random_batch(folder / "train.npy", batch, data.context))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if update % 100 == 0:
            print(f"nanoGPT's form, update {update}: {loss.item():.4f}", flush=True)
    seconds = time.process_time() - started
    return {"cpu_seconds": seconds} | bits_per_byte(lambda tokens: model.eval()(tokens)[0], data)


def compare(asked: argparse.Namespace) -> None:
    """Train both for every seed and print what they reach."""
    rows = []
    for seed in asked.seeds:
        words = [f"data.source={asked.books}", f"seed={seed}", f"name=factlm-seed{seed}", *asked.settings]
        recipe = load_recipe("factlm", words)
        data = prepare(recipe.config.data)
        model, training = recipe.config.model, recipe.config.training
        started = time.process_time()
        result = train(recipe, folder=asked.runs / f"factlm-seed{seed}", fresh=True)
        seconds = time.process_time() - started
        ours = load_checkpoint(result.folder, asked.which).model
        rows.append({"run": "factlm", "seed": seed, "cpu_seconds": seconds, "findings": result.summary["findings"]}
                    | bits_per_byte(ours, data))  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
        for peak in asked.peaks:
            reached = peer(
                data, asked.runs / f"nanogpt-seed{seed}", updates=result.summary["updates"],
                batch=training.batch_size * training.accumulation, layers=model.layers, heads=model.heads,
                width=model.width, seed=seed, peak=peak,
            )  # fmt: skip
            rows.append({"run": f"nanoGPT's form, peak {peak:g}", "seed": seed} | reached)
            print(json.dumps(rows[-1]), flush=True)
    for row in rows:
        print(f"{row['run']:28} seed {row['seed']}  {row['bits_per_byte']:.4f} bits/byte  "
              f"{row['nats_per_token']:.4f} nats/token  {row['cpu_seconds']:.0f} CPU s")  # fmt: skip


def answers(asked: argparse.Namespace) -> None:
    """Ask held-out questions: how many answers end by themselves, and are they right?"""
    tuned = load_checkpoint(asked.chat)
    data = prepare_answers(tuned.config.data)
    held_out = data.held_out[:: max(1, len(data.held_out) // asked.prompts)][: asked.prompts]
    for name, path in (("before", asked.start), ("after", asked.chat)):
        loaded = load_checkpoint(path)
        tokenizer = loaded.tokenizer
        assert tokenizer is not None
        marks = [i for mark in CHAT_TOKENS if (i := tokenizer.token_id(mark)) is not None]
        prompts = [data.template.prompt(c.turns[:-1]) for c in held_out]
        for preset in ("exact", "balanced"):
            found: dict[str, list[float]] = collections.defaultdict(list)
            lengths = []
            for k in range(0, len(prompts), 50):
                rows = complete(loaded.model, prompts[k : k + 50], sampling=PRESETS[preset], max_tokens=FAIR_LIMIT,
                                end=tokenizer.end_of_text, seed=k, forbidden=marks)  # fmt: skip
                for row, conversation in zip(rows, held_out[k : k + 50], strict=True):
                    text, wanted = tokenizer.decode(row.tokens).strip(), conversation.turns[-1].text
                    found["ended"].append(row.ended)
                    found["exactly right"].append(text == wanted)
                    found[f"exactly right/{conversation.source}"].append(text == wanted)
                    found["words in common (F1)"].append(overlap(text, wanted))
                    lengths.append(len(row.tokens))
                    if k == 0 and len(lengths) <= asked.show:
                        print(f"  {name}, {preset} | {conversation.turns[0].text} | {text!r} | {row.ended}")
            shares = {key: round(float(np.mean(values)), 4) for key, values in sorted(found.items())}
            print(json.dumps({"when": name, "preset": preset, "prompts": len(prompts)} | shares
                             | {"tokens": float(np.mean(lengths))}), flush=True)  # fmt: skip


def overlap(text: str, wanted: str) -> float:
    """F1 of the words of both, counted as often as they occur."""
    a, b = collections.Counter(text.lower().split()), collections.Counter(wanted.lower().split())
    common = sum((a & b).values())
    return 0.0 if not common else 2 * common / (sum(a.values()) + sum(b.values()))


def licences(asked: argparse.Namespace) -> None:
    """Write samples from the start of a document and look for words that licences are made of."""
    loaded = load_checkpoint(asked.run)
    tokenizer = loaded.tokenizer
    assert tokenizer is not None
    assert tokenizer.end_of_text is not None
    marks = [i for mark in CHAT_TOKENS if (i := tokenizer.token_id(mark)) is not None]
    prompts = [[tokenizer.end_of_text]] * asked.samples
    started, tokens, hits = time.process_time(), 0, []
    for k in range(0, len(prompts), 50):
        for row in complete(loaded.model, prompts[k : k + 50], sampling=PRESETS[asked.preset], seed=k,
                            max_tokens=asked.tokens, end=tokenizer.end_of_text, forbidden=marks):  # fmt: skip
            text = tokenizer.decode(row.tokens)
            tokens += len(row.tokens)
            if words := suspicious(text):
                hits.append(words)
                print(f"  {words}: ...{text[max(0, text.find(words[0]) - 80) :][:200]!r}")
            elif k == 0 and tokens < asked.tokens:
                print(f"  {text[:300]!r}")
    seconds = time.process_time() - started
    print(json.dumps({"samples": len(prompts), "tokens": tokens, "with licence words": len(hits),
                      "preset": asked.preset, "tokens_per_cpu_second": round(tokens / seconds, 1)}))  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("compare")
    one.add_argument("--books", type=Path, required=True)
    one.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    one.add_argument("--runs", type=Path, default=Path("runs"))
    one.add_argument("--peaks", type=float, nargs="*", default=[PEAK], help="learning rates of nanoGPT's form")
    one.add_argument("--which", choices=("best", "last"), default="last", help="checkpoint of ours that is measured")
    one.add_argument("--settings", nargs="*", default=[], help="key=value for factlm")
    one.set_defaults(run_command=compare)
    two = commands.add_parser("answers")
    two.add_argument("start", type=Path)
    two.add_argument("chat", type=Path)
    two.add_argument("--prompts", type=int, default=200)
    two.add_argument("--show", type=int, default=8)
    two.set_defaults(run_command=answers)
    three = commands.add_parser("licences")
    three.add_argument("run", type=Path)
    three.add_argument("--samples", type=int, default=200)
    three.add_argument("--tokens", type=int, default=100)
    three.add_argument("--preset", default="creative")
    three.set_defaults(run_command=licences)
    asked = parser.parse_args()
    asked.run_command(asked)


if __name__ == "__main__":
    sys.exit(main())
