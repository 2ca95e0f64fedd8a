"""Log-probabilities of sentences, in float32.

- causal: sum of log p(token | tokens before it), the first one given the begin token (lm-eval's definition);
- masked: pseudo-log-likelihood, sum of log p(token | all other tokens), each token hidden in turn (Salazar et al.,
  arXiv 1910.14659; minicons' "original").

Sequences of one length go together, so that there is no padding; a sequence with a hidden token is computed once
however many sentences lead to it (the two of a pair often do).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Where logits are of one place a row, and where they are of every token: then 2,048 of a vocabulary of 8,192 are 64 MB.
# Assumption: enough to fill a CPU's matrix units, little enough for its memory.
TOKENS_AT_ONCE, LOGITS_AT_ONCE = 8192, 2048

# Sequences (B, T) and the position (B,) to read -> log-probabilities (B, V) of what is at `read` + the model's shift.
Read = Callable[[Tensor, Tensor], Tensor]
# Sequences (B, T) -> log-probabilities (B, T - 1) of their own tokens 1 .. T - 1.
ReadAll = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Frame:
    """How sentences become sequences: ids before, behind, and the function from text to ids."""

    encode: Callable[[list[str]], list[list[int]]]
    before: tuple[int, ...]
    after: tuple[int, ...] = ()


def causal_scores(sentences: Sequence[str], frame: Frame, read: ReadAll, at_once: int = LOGITS_AT_ONCE) -> list[float]:
    """Log-likelihood of each sentence, nats. What `frame` puts before is given, what it puts behind is left out.

    A sentence of a model without a begin token is scored from its second token on.
    """
    rows = [(*frame.before, *sentence) for sentence in frame.encode(list(sentences))]
    given = max(1, len(frame.before))
    once = list(dict.fromkeys(rows))  # the same tokens twice must tie, and sums in two batches differ in the last bit
    scores = dict.fromkeys(once, 0.0)
    for places, batch_BT in _batches(once, at_once):
        if batch_BT.shape[1] <= given:
            continue
        sums = read(batch_BT)[:, given - 1 :].double().sum(1)
        scores.update(zip((once[place] for place in places), sums.tolist(), strict=True))
    return [scores[row] for row in rows]


def masked_scores(
    sentences: Sequence[str], frame: Frame, mask: int, read: Read, at_once: int = TOKENS_AT_ONCE
) -> list[float]:
    """Pseudo-log-likelihood of each sentence, nats.

    Args:
        mask: id that hides a token.
        read: from sequences and the place of the hidden token to log-probabilities over the vocabulary.
    """
    asked: dict[tuple[tuple[int, ...], int], list[tuple[int, int]]] = {}
    for number, sentence in enumerate(frame.encode(list(sentences))):
        row = (*frame.before, *sentence, *frame.after)
        for place in range(len(frame.before), len(frame.before) + len(sentence)):
            hidden = (*row[:place], mask, *row[place + 1 :])
            asked.setdefault((hidden, place), []).append((number, row[place]))
    keys = list(asked)
    scores = [0.0] * len(sentences)
    for chosen, batch_BT in _batches([row for row, _ in keys], at_once):
        read_at = torch.tensor([keys[i][1] for i in chosen], device=batch_BT.device)
        log_p_BV = read(batch_BT, read_at)
        wanted = [(b, number, token) for b, i in enumerate(chosen) for number, token in asked[keys[i]]]
        values = log_p_BV[[b for b, _, _ in wanted], [token for _, _, token in wanted]].double().tolist()
        for (_, number, _), value in zip(wanted, values, strict=True):
            scores[number] += value
    return scores


def _batches(rows: Sequence[tuple[int, ...]], at_once: int) -> Iterable[tuple[list[int], Tensor]]:
    """Places and tensors (B, T) of rows of one length."""
    by_length: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        by_length.setdefault(len(row), []).append(place)
    for length, places in sorted(by_length.items()):
        size = max(1, at_once // max(1, length))
        for first in range(0, len(places), size):
            some = places[first : first + size]
            yield some, torch.tensor([rows[place] for place in some], dtype=torch.long)
