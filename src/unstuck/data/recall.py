"""Documents whose questions can only be answered from far back in the same document: a test of memory.

A document states facts, each a key (A-Z) followed by its value (a-z), then goes on about nothing (digits), then asks
for every fact: `?K`, answered by the value. What a key stands for is drawn anew in each document, so the answer is
known from nowhere else, and a model that does not see the fact any more can only guess: 1 in 26.

    python -m unstuck.data.recall FOLDER --documents 1500
"""

from __future__ import annotations

import argparse
import string
from pathlib import Path

import numpy as np
import numpy.typing as npt

KEYS, VALUES, QUESTION = string.ascii_uppercase, string.ascii_lowercase, "?"
CHANCE = 1 / len(VALUES)


def recall_document(
    random: np.random.Generator, *, facts: int = 8, gap: tuple[int, int] = (64, 192), spacing: int = 2
) -> str:
    """One document. The sizes are the task's own definition: nothing was tuned on them but its difficulty, which is
    that 64 digits or more lie between (docs/systems/cortexgpt.md uses windows of 32).

    Args:
        random: draws everything.
        facts: different keys in it; each is asked for once, in another order.
        gap: least and largest number of characters between the last fact and the first question. An attention window
            shorter than the least never spans from a question to its answer.
        spacing: digits between facts, and between questions.
    """

    def digits(count: int) -> str:
        return "".join(map(str, random.integers(10, size=count)))

    pairs = [
        KEYS[key] + VALUES[value]
        for key, value in zip(
            random.permutation(len(KEYS))[:facts], random.integers(len(VALUES), size=facts), strict=True
        )
    ]
    told = "".join(pair + digits(spacing) for pair in pairs)
    between = digits(int(random.integers(gap[0], gap[1] + 1)) - spacing)
    return told + between + "".join(QUESTION + pairs[i] + digits(spacing) for i in random.permutation(facts))


def answer_places(text: str) -> list[int]:
    """Positions of the answers in a text: the characters that follow a question mark and a key."""
    return [i + 2 for i in range(len(text) - 2) if text[i] == QUESTION and text[i + 1] in KEYS]


def answers(tokens: npt.NDArray[np.integer], *, question: int) -> npt.NDArray[np.bool_]:
    """Which inputs, in rows of token ids (n, T), are the key of a question, so that their target is an answer.

    A question whose mark and key lie in two rows is not counted.

    Args:
        question: id of the question mark.
    """
    found = np.zeros(tokens.shape, dtype=np.bool_)
    found[:, 1:] = tokens[:, :-1] == question
    return found


def write_documents(folder: Path, documents: int, seed: int = 0) -> None:
    """Write documents as files that `data.source` takes."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for number in range(documents):
        (folder / f"{number:05d}.txt").write_text(recall_document(random), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write documents of the recall task into a folder.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write_documents(given.folder, given.documents, given.seed)


if __name__ == "__main__":
    main()
