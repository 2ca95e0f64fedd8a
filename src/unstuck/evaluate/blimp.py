"""BLiMP (Warstadt et al., arXiv 1912.00582): minimal pairs, and how often the better sentence is the likelier one.

67 paradigms of 1,000 pairs. Chance is 50 %. A tie (both sentences the same to the model, such as after unknown tokens)
counts as half and is reported. No torch in here; the scores come from blimp_score.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unstuck.errors import UserError

CHANCE = 0.5
LEVEL, DEVIATIONS = 0.95, 1.959964  # of the normal distribution
PARADIGMS = 67  # of all of BLiMP
SCORE_WISHES = ("auto", "masked", "causal", "both")


@dataclass(frozen=True, slots=True)
class Paradigm:
    """Minimal pairs of one phenomenon: (good sentence, bad sentence)."""

    name: str
    field: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ParadigmResult:
    """How often the good sentence won."""

    name: str
    field: str
    right: int
    ties: int
    pairs: int

    @property
    def accuracy(self) -> float:
        """Share of pairs; a tie is half."""
        return (self.right + self.ties / 2) / self.pairs

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval at 95 %."""
        return wilson(self.accuracy * self.pairs, self.pairs)


@dataclass(frozen=True, slots=True)
class BlimpResult:
    """All paradigms under one way of scoring ("masked", "causal", "both")."""

    score: str
    paradigms: tuple[ParadigmResult, ...]

    @property
    def mean(self) -> float:
        """The mean over paradigms, each with the same weight: BLiMP's overall accuracy."""
        return sum(p.accuracy for p in self.paradigms) / len(self.paradigms)

    @property
    def interval(self) -> tuple[float, float]:
        """Of the mean at 95 %: the sampling of pairs within these paradigms, which are taken as given."""
        variance = sum(p.accuracy * (1 - p.accuracy) / p.pairs for p in self.paradigms) / len(self.paradigms) ** 2
        half = DEVIATIONS * math.sqrt(variance)
        return max(0.0, self.mean - half), min(1.0, self.mean + half)

    @property
    def fields(self) -> dict[str, float]:
        """Mean over the paradigms of each field."""
        by_field: dict[str, list[float]] = {}
        for paradigm in self.paradigms:
            by_field.setdefault(paradigm.field, []).append(paradigm.accuracy)
        return {field: sum(values) / len(values) for field, values in sorted(by_field.items())}

    @property
    def ties(self) -> int:
        """Pairs whose sentences scored the same."""
        return sum(p.ties for p in self.paradigms)

    @property
    def pairs(self) -> int:
        """Pairs scored."""
        return sum(p.pairs for p in self.paradigms)

    def document(self) -> dict[str, Any]:
        """As JSON: shares between 0 and 1."""
        return {
            "score": self.score,
            "mean": self.mean,
            "interval": {"low": self.interval[0], "high": self.interval[1], "level": LEVEL},
            "chance": CHANCE,
            "pairs": self.pairs,
            "ties": self.ties,
            "fields": self.fields,
            "paradigms": [
                {
                    "name": p.name,
                    "field": p.field,
                    "accuracy": p.accuracy,
                    "low": p.interval[0],
                    "high": p.interval[1],
                    "pairs": p.pairs,
                    "ties": p.ties,
                }
                for p in self.paradigms
            ],
        }


def wilson(right: float, pairs: int) -> tuple[float, float]:
    """Wilson's score interval at 95 % of `right` out of `pairs` (Wilson 1927); `right` may hold halves."""
    share, z2 = right / pairs, DEVIATIONS**2
    middle = (share + z2 / (2 * pairs)) / (1 + z2 / pairs)
    half = DEVIATIONS * math.sqrt(share * (1 - share) / pairs + z2 / (4 * pairs**2)) / (1 + z2 / pairs)
    return max(0.0, middle - half), min(1.0, middle + half)


def read_blimp(folder: Path, limit: int | None = None, seed: int = 1) -> list[Paradigm]:
    """The paradigms of a folder of BLiMP's JSON lines, by name.

    Args:
        limit: so many pairs of each, drawn by the seed; None: all.
        seed: of the sample.

    Raises:
        UserError: the folder has no such files, or one of them is damaged.
    """
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise UserError(
            f"{folder} has no .jsonl files; name the folder of BLiMP's paradigms (the data folder of "
            "github.com/alexwarstadt/blimp)."
        )
    paradigms = []
    for file in files:
        rows = _rows(file)
        if limit is not None and limit < len(rows):
            chosen = np.random.default_rng([seed, len(rows)]).permutation(len(rows))[:limit]
            rows = [rows[i] for i in sorted(chosen.tolist())]
        pairs = tuple((str(row["sentence_good"]), str(row["sentence_bad"])) for row in rows)
        field = str(rows[0].get("field", "")).replace("/", "_")  # BLiMP writes syntax_semantics both ways
        paradigms.append(Paradigm(file.stem, field, pairs))
    return paradigms


def _rows(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            row["sentence_good"], row["sentence_bad"]
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{file}:{number} is no minimal pair (a JSON object with sentence_good and sentence_bad); copy the "
                "file again from BLiMP."
            ) from None
        rows.append(row)
    if not rows:
        raise UserError(f"{file} is empty; copy the file again from BLiMP.")
    return rows


def compare(paradigms: Sequence[Paradigm], scores: Mapping[str, float], score: str) -> BlimpResult:
    """Results from the score of every sentence; the higher score is the likelier sentence."""
    results = []
    for paradigm in paradigms:
        gaps = [scores[good] - scores[bad] for good, bad in paradigm.pairs]
        right, ties = sum(gap > 0 for gap in gaps), sum(gap == 0 for gap in gaps)
        results.append(ParadigmResult(paradigm.name, paradigm.field, right, ties, len(gaps)))
    return BlimpResult(score, tuple(results))


def evaluate_blimp(
    paradigms: Sequence[Paradigm], scorers: Mapping[str, Callable[[list[str]], list[float]]]
) -> list[BlimpResult]:
    """One result for each way of scoring; with "masked" and "causal" also their sum, "both" (as GPT-BERT's fused).

    Args:
        scorers: way of scoring -> function from sentences to log-probabilities in nats.
    """
    sentences = sorted({sentence for paradigm in paradigms for pair in paradigm.pairs for sentence in pair})
    scored = {name: dict(zip(sentences, score(sentences), strict=True)) for name, score in scorers.items()}
    if {"masked", "causal"} <= scored.keys():
        scored["both"] = {s: scored["masked"][s] + scored["causal"][s] for s in sentences}
    return [compare(paradigms, scores, name) for name, scores in scored.items()]
