"""BLiMP scores and speed beside minicons', on the same model and the same sentences.

    pip install minicons==0.3.39
    python benchmarks/blimp.py --blimp ../shared/data/blimp [--pairs 500] [--rounds 3]

Two models in Hugging Face form are made here: a BERT (pseudo-log-likelihood, minicons' PLL_metric "original") and a
GPT-2 (log-likelihood after the begin token, which is lm-eval's definition too), 4 layers, width 128, 8,192 WordPiece
ids learned from the sentences; random weights tell two ways of scoring apart as well as trained ones. Both programs
score every sentence, in turn, one thread; minicons in batches of 64 sentences in the order of the file. Prints the
largest difference in nats, how many pairs are decided differently, and sentences per second of CPU time (medians).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from unstuck.config.sections.pretrained import PretrainedConfig
from unstuck.data.tokenizer import SubwordTokenizer
from unstuck.evaluate.blimp import PARADIGMS, read_blimp
from unstuck.evaluate.blimp_models import scorers
from unstuck.models.hf_export import save_tokenizer
from unstuck.models.pretrained import Pretrained

VOCABULARY, WIDTH, LAYERS, HEADS = 8192, 128, 4, 2
MINICONS_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blimp", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=500, help="pairs in all, drawn from every paradigm")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    paradigms = read_blimp(arguments.blimp, max(1, arguments.pairs // PARADIGMS))
    pairs = [pair for paradigm in paradigms for pair in paradigm.pairs]
    sentences = [sentence for pair in pairs for sentence in pair]
    tokenizer = SubwordTokenizer.train_wordpiece(sentences, VOCABULARY, lowercase=False)
    print(f"{len(pairs)} pairs, {len(sentences)} sentences, {tokenizer.vocabulary} ids")
    print(f"{'score':<8} {'largest difference':>20} {'decided differently':>20} {'ours/s':>9} {'minicons/s':>11}")
    for kind in ("masked", "causal"):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = _scorers(kind, Path(folder), tokenizer)
            found = {"ours": ours(sentences), "theirs": theirs(sentences)}
            speed: dict[str, list[float]] = {"ours": [], "theirs": []}
            for _ in range(arguments.rounds):
                for name, score in (("ours", ours), ("theirs", theirs)):
                    started = time.process_time()
                    score(sentences)
                    speed[name].append(len(sentences) / (time.process_time() - started))
        gap = max(abs(a - b) for a, b in zip(found["ours"], found["theirs"], strict=True))
        wins = {k: [v[2 * i] > v[2 * i + 1] for i in range(len(pairs))] for k, v in found.items()}
        other = sum(a != b for a, b in zip(wins["ours"], wins["theirs"], strict=True))
        rates = {name: statistics.median(values) for name, values in speed.items()}
        print(f"{kind:<8} {gap:>15.1e} nats {other:>20} {rates['ours']:>9.0f} {rates['theirs']:>11.0f}")


Score = Callable[[list[str]], list[float]]


def _scorers(kind: str, folder: Path, tokenizer: SubwordTokenizer) -> tuple[Score, Score]:
    """Our scorer and minicons' of one network, which is written to the folder."""
    import transformers
    from minicons import scorer
    from tokenizers.processors import TemplateProcessing

    torch.manual_seed(0)
    V = tokenizer.vocabulary
    if kind == "masked":
        config: Any = transformers.BertConfig(
            vocab_size=V, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH, pad_token_id=2, initializer_range=0.1,
        )  # fmt: skip
        network: Any = transformers.BertForMaskedLM(config)
    else:
        config = transformers.GPT2Config(
            vocab_size=V, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, bos_token_id=1, eos_token_id=1,
            initializer_range=0.1,
        )  # fmt: skip
        network = transformers.GPT2LMHeadModel(config)
    network.eval().save_pretrained(folder)
    save_tokenizer(tokenizer, folder, longest=512)
    model = Pretrained(PretrainedConfig(path=str(folder)), vocabulary=V, context=2)
    ours = scorers(model, tokenizer)[kind]
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    frame = "[CLS] $A [SEP]" if kind == "masked" else "$A"
    theirs.backend_tokenizer.post_processor = TemplateProcessing(
        single=frame, special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    theirs.batch_encode_plus = theirs.__call__  # transformers 5 has dropped the name that minicons 0.3.39 calls
    made = scorer.MaskedLMScorer if kind == "masked" else scorer.IncrementalLMScorer
    minicons = made(network, "cpu", tokenizer=theirs)
    further: dict[str, Any] = {"PLL_metric": "original"} if kind == "masked" else {"bos_token": True}

    def score(sentences: list[str]) -> list[float]:
        found: list[float] = []
        for first in range(0, len(sentences), MINICONS_BATCH):
            batch = sentences[first : first + MINICONS_BATCH]
            found += minicons.sequence_score(batch, reduction=lambda x: x.sum(0).item(), **further)
        return found

    return ours, score


if __name__ == "__main__":
    main()
