"""Windows that begin where a sentence begins and never cross documents.

A model that is asked about single sentences, as BLiMP does, should have met sentences at the start of its window; and
nothing of one document may be seen from another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]

# Of European languages. An abbreviation's dot counts as well: a window then begins within a sentence.
SENTENCE_ENDS = (".", "!", "?")
CLOSING = ('"', "'", ")", "”", "’")  # belong to the sentence that ended before them


def window_starts(
    tokens: npt.NDArray[np.integer], context: int, *, separator: int, ends: Sequence[int], closing: Sequence[int]
) -> tuple[Places, Places]:
    """First token and length of each window, (n,) each.

    A window is followed by the one that begins at its last sentence start, so that the sentence it cut short is met
    again whole; without a sentence start in it, by the one right behind it. Each token but separators is in one window
    at least. The last window of a document reaches back so that it is full, unless the document is shorter.

    Args:
        tokens: the documents, each but possibly the last followed by the separator.
        context: longest window.
        separator: id behind a document; the window may hold its own document's.
        ends: ids that end a sentence.
        closing: ids that belong to the sentence when they follow its end.
    """
    is_end = np.isin(tokens, ends)
    is_closing = np.isin(tokens, closing)
    ended = np.flatnonzero(is_end[:-1]) + 1
    ended = np.where(is_closing[np.minimum(ended, len(tokens) - 1)], ended + 1, ended)
    sentences = np.unique(ended)
    starts: list[int] = []
    lengths: list[int] = []
    first = 0
    for last in [*np.flatnonzero(tokens == separator).tolist(), len(tokens) - 1]:
        end = last + 1  # the separator is the last token predicted
        place = first
        while place < end and end - first > 1:  # a separator alone is no document
            if place + context >= end:
                place = max(first, end - context)
            starts.append(place)
            lengths.append(min(context, end - place))
            if place + context >= end:
                break
            found = int(np.searchsorted(sentences, place + context, side="right")) - 1
            follows = int(sentences[found]) if found >= 0 else 0
            place = follows if place < follows else place + context
        first = end
    return np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64)


def windows(
    tokens: npt.NDArray[np.integer], starts: Places, lengths: Places, *, context: int, begin: int, padding: int
) -> Places:
    """Windows as int64 (b, context + 1): the id `begin`, the tokens, padding behind a document that is too short."""
    places = starts[:, None] + np.arange(context)
    inside = np.arange(context) < lengths[:, None]
    taken = np.where(inside, tokens[np.minimum(places, len(tokens) - 1)].astype(np.int64), padding)
    return np.concatenate([np.full((len(starts), 1), begin, dtype=np.int64), taken], axis=1)
