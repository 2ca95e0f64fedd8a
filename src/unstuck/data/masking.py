"""Which tokens are hidden from a masked language model: spans, as a pure function of seed and position.

Every draw is a hash of (seed, position of the window in the run, place in the window), so a resumed run hides the same
tokens as one that never stopped, on any number of processes and whatever the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Masking:
    """How spans are hidden (SpanBERT, arXiv 1907.10529; lengths as in ltgoslo/gpt-bert; of ten spans eight are hidden,
    one is random, one stays: BERT, arXiv 1810.04805, section 3.1).

    Args:
        mask: id of the mask token.
        special: ids that are never hidden and never put in another token's place.
        vocabulary: number of ids.
        longest_span: lengths are drawn from 1 .. so many.
        random_share, kept_share: of the spans hidden, those replaced by random tokens and those left as they are.
    """

    mask: int
    special: tuple[int, ...]
    vocabulary: int
    longest_span: int = 3
    random_share: float = 0.1
    kept_share: float = 0.1

    def hide(self, tokens_BT: Ids, rate: float, seed: int, positions_B: Ids) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Tokens with spans hidden, and which were chosen, (B, T) each.

        Exactly `rate` of a window's ordinary tokens are chosen, rounded up or down at random by the remainder, one at
        least where there is one; the last span may be cut short for it.

        Args:
            tokens_BT: ids.
            rate: share of ordinary tokens to choose.
            seed: of the run.
            positions_B: of the windows in the run.
        """
        T = tokens_BT.shape[1]
        # Length, priority, fate, replacement; T more are unused: without them old runs would hide other tokens.
        draws = uniform(seed, positions_B, 5 * T + 1)
        spans_BT = spans(draws[:, :T], self.longest_span)
        of_span = [np.take_along_axis(draws[:, i * T : (i + 1) * T], spans_BT, axis=1) for i in (1, 2)]
        ordinary = ~np.isin(tokens_BT, self.special)
        priority = np.where(ordinary, of_span[0], np.inf)
        wanted = rate * ordinary.sum(1)
        count = np.floor(wanted + draws[:, -1]).astype(np.int64)
        count = np.minimum(np.maximum(count, 1), ordinary.sum(1))
        # Places in the order in which they are chosen; a span's tokens have one priority and stay in their order.
        place = np.argsort(np.argsort(priority, axis=1, kind="stable"), axis=1, kind="stable")
        chosen = place < count[:, None]
        fate = of_span[1]
        replaced = np.where(fate < self.random_share, self._random(draws[:, 3 * T : 4 * T]), self.mask)
        replaced = np.where(fate >= 1 - self.kept_share, tokens_BT, replaced)
        return np.where(chosen, replaced, tokens_BT), chosen

    def _random(self, draws: Floats) -> Ids:
        ordinary = np.setdiff1d(np.arange(self.vocabulary), self.special)
        return ordinary[(draws * len(ordinary)).astype(np.int64)]


def spans(draws_BT: Floats, longest: int) -> Ids:
    """The number of the span that each place belongs to, (B, T), from 0 on; lengths 1 .. `longest` alike likely."""
    B, T = draws_BT.shape
    lengths = 1 + (draws_BT * longest).astype(np.int64)
    starts = np.zeros((B, T + 1), dtype=np.int64)
    ends = np.minimum(np.cumsum(lengths, axis=1), T)
    np.put_along_axis(starts, ends, 1, axis=1)
    return np.cumsum(starts[:, :T], axis=1)


def uniform(seed: int, positions_B: Ids, columns: int) -> Floats:
    """Numbers in [0, 1), (B, columns), each a hash of seed, position and column (SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        base = _mixed(np.uint64(seed) + _GOLDEN)
        rows = _mixed(positions_B.astype(np.uint64) * _GOLDEN + base)
        cells = _mixed(rows[:, None] + np.arange(1, columns + 1, dtype=np.uint64) * _GOLDEN)
    return (cells >> np.uint64(11)).astype(np.float64) * 2.0**-53


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(x: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
    z = np.asarray(x, dtype=np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def rate_at(start: float, end: float, share_done: float) -> float:
    """The masking rate after a share of the run, in a straight line (GPT-BERT: 0.30 to 0.15)."""
    return start + (end - start) * min(1.0, max(0.0, share_done))
