"""Levels of loss that a text itself sets: what token frequencies and pairs of tokens give, by tokenizer.

    python -m benchmarks.reference_levels [TEXT ...] [--tokenizer NAME=tokenizer.json ...] [--json]

TEXT is a file, a folder of .txt and .md files, `builtin` (the documentation that ships with Python) or `python` (the
source of Python's standard library). `bytes` and `characters` are always measured; any other tokenizer is a
`tokenizer.json` in the form of Hugging Face's `tokenizers`. The last tenth of each text is held out (files of a folder
in order of their names), frequencies are counted on the rest. The `levels` of `diagnose/data/reference_losses.json` are
from here.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

Ids = np.ndarray[Any, np.dtype[np.int64]]
Encode = Callable[[str], Ids]

HELD_OUT = 0.1
# Absolute discounting (Ney, Essen, Kneser 1994): what is taken from every count and given to what was not seen.
DISCOUNT = 0.75


@dataclass(frozen=True, slots=True)
class Level:
    """One tokenizer on one text. Losses are nats per token of the held-out part."""

    text: str
    tokenizer: str
    vocabulary: int
    tokens: int
    bytes_per_token: float
    uniform: float
    unigram: float
    bigram: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", default=["builtin"], metavar="TEXT")
    parser.add_argument("--tokenizer", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--most-megabytes", type=float, default=12.0, help="of each text, from its start")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    files = dict(entry.partition("=")[::2] for entry in arguments.tokenizer)
    levels = []
    for source in arguments.texts:
        text = "".join(read(source, int(arguments.most_megabytes * 1e6)))
        if len(text) < 10_000:
            print(f"{source} has no more than {len(text)} characters of text; name a longer one.", file=sys.stderr)
            return 2
        for name in ("bytes", "characters", *files):
            levels.append(measure(source, text, name, files.get(name)))
            if not arguments.json:
                print(row(levels[-1]), flush=True)
    if arguments.json:
        print(json.dumps([asdict(level) for level in levels], indent=1))
    return 0


def read(source: str, most_bytes: int) -> Iterator[str]:
    """The text in pieces, at most `most_bytes` of it."""
    left = most_bytes
    for piece in _pieces(source):
        data = piece.encode()[:left]
        left -= len(data)
        yield data.decode(errors="ignore")
        if left <= 0:
            return


def _pieces(source: str) -> Iterator[str]:
    path = Path(source)
    if source == "builtin":
        from unstuck.data.corpus import builtin_corpus

        for document in builtin_corpus().documents:
            yield document.text + "\n"
    elif source == "python" or path.is_dir():
        folder = Path(sysconfig.get_path("stdlib")) if source == "python" else path
        for file in sorted(folder.rglob("*.py" if source == "python" else "*.*")):
            if source != "python" and file.suffix not in (".txt", ".md"):
                continue
            if "site-packages" not in file.parts:
                yield file.read_text(encoding="utf-8", errors="ignore")
    else:
        yield path.read_text(encoding="utf-8", errors="ignore")


def measure(source: str, text: str, name: str, file: str | None) -> Level:
    """One row: the text is cut where the held-out part begins, then both parts are tokenized."""
    cut = int(len(text) * (1 - HELD_OUT))
    encode, vocabulary = tokenizer(name, file, text[:cut])
    train, held = encode(text[:cut]), encode(text[cut:])
    unigram, bigram = losses(train, held, vocabulary)
    size = len(text[cut:].encode())
    return Level(
        source, name, vocabulary, len(train) + len(held), size / len(held), math.log(vocabulary), unigram, bigram
    )


def tokenizer(name: str, file: str | None, train: str) -> tuple[Encode, int]:
    """The encoder and its vocabulary. `characters` are those of the training part, any other one is one more id."""
    if file is not None:
        from tokenizers import Tokenizer

        loaded = Tokenizer.from_file(file)

        def encode(text: str) -> Ids:
            lines = text.splitlines(keepends=True)
            blocks = ["".join(lines[i : i + 200]) for i in range(0, len(lines), 200)]
            return np.array([i for e in loaded.encode_batch(blocks, add_special_tokens=False) for i in e.ids], np.int64)

        return encode, loaded.get_vocab_size()
    if name == "bytes":
        return lambda text: np.frombuffer(text.encode(), np.uint8).astype(np.int64), 256
    known = {character: i for i, character in enumerate(sorted(set(train)))}
    return lambda text: np.array([known.get(c, len(known)) for c in text], np.int64), len(known) + 1


def losses(train: Ids, held: Ids, vocabulary: int) -> tuple[float, float]:
    """Nats per token of `held` under frequencies and under pairs of `train`, both with absolute discounting.

    p(w) = max(c(w) - d, 0) / n + d T / n x 1 / V, and p(w | v) the same with p(w) in the place of 1 / V, where T counts
    the different tokens seen (after v).
    """
    size = max(vocabulary, int(train.max()) + 1, int(held.max()) + 1)
    counts = np.bincount(train, minlength=size).astype(np.float64)
    n, kinds = counts.sum(), np.count_nonzero(counts)
    single = np.maximum(counts - DISCOUNT, 0) / n + DISCOUNT * kinds / n / size
    pairs, pair_counts = np.unique(train[:-1] * size + train[1:], return_counts=True)
    followers = np.bincount(pairs // size, minlength=size).astype(np.float64)  # different tokens seen after each
    before = np.bincount(train[:-1], minlength=size).astype(np.float64)
    wanted = held[:-1] * size + held[1:]
    place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    seen = np.where(pairs[place] == wanted, pair_counts[place], 0.0)
    total = np.maximum(before[held[:-1]], 1.0)
    rest = np.where(before[held[:-1]] > 0, DISCOUNT * followers[held[:-1]] / total, 1.0)
    pair = np.maximum(seen - DISCOUNT, 0) / total + rest * single[held[1:]]
    return float(-np.log(single[held]).mean()), float(-np.log(pair).mean())


def row(level: Level) -> str:
    return (
        f"{level.text[-28:]:28}  {level.tokenizer:14}  V {level.vocabulary:7,}  ln V {level.uniform:6.3f}  "
        f"unigram {level.unigram:6.3f}  bigram {level.bigram:6.3f}  bytes/token {level.bytes_per_token:5.3f}  "
        f"{level.tokens:,} tokens"
    )


if __name__ == "__main__":
    sys.exit(main())
