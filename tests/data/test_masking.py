"""What is hidden from a masked language model, and the windows it is hidden in."""

from __future__ import annotations

import numpy as np
import pytest

from unstuck.data.masking import Masking, rate_at, spans, uniform
from unstuck.data.sentence_windows import window_starts, windows
from unstuck.data.tokenizer import SubwordTokenizer
from unstuck.data.wordpiece import SPECIAL
from unstuck.errors import UserError

MASK, SPECIAL_IDS, VOCABULARY = 3, (0, 1, 2, 3, 4), 100
MASKING = Masking(MASK, SPECIAL_IDS, VOCABULARY)
TEXT = ["The small model reads. Another model writes? No model sleeps! " * 20, "Été: naïve words, (and) signs."]


def rows(count: int, length: int = 40) -> np.ndarray:
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (count, length))
    tokens[:, 0], tokens[::3, 17], tokens[::4, 30:] = 0, 4, 2
    return tokens


def test_special_tokens_are_never_hidden_and_never_put_in() -> None:
    tokens = rows(400)
    seen, chosen = MASKING.hide(tokens, 0.5, 1, np.arange(400))
    special = np.isin(tokens, SPECIAL_IDS)
    assert not (chosen & special).any()
    assert (seen[special] == tokens[special]).all()
    assert set(seen[chosen & np.isin(seen, SPECIAL_IDS)]) == {MASK}


def test_the_rate_is_exact_but_for_rounding() -> None:
    tokens = rows(2000)
    ordinary = (~np.isin(tokens, SPECIAL_IDS)).sum(1)
    for rate in (0.15, 0.3):
        count = MASKING.hide(tokens, rate, 1, np.arange(2000))[1].sum(1)
        assert (np.abs(count - rate * ordinary) < 1).all()
        assert abs(count.sum() / ordinary.sum() - rate) < 0.002


def test_one_token_is_hidden_at_least_and_none_where_all_are_special() -> None:
    tokens = np.array([[0, 50, 1, 2], [0, 1, 2, 2]])
    assert MASKING.hide(tokens, 0.01, 1, np.arange(2))[1].sum(1).tolist() == [1, 0]


def test_hidden_tokens_come_in_spans_of_which_a_tenth_is_random_and_a_tenth_kept() -> None:
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (4000, 60))
    seen, chosen = MASKING.hide(tokens, 0.15, 1, np.arange(4000))
    kept = (seen == tokens)[chosen].mean()
    masked = (seen == MASK)[chosen].mean()
    assert abs(masked - 0.8) < 0.02
    assert abs(kept - 0.1) < 0.02
    # a neighbour of a hidden token is hidden far more often than by chance
    assert (chosen[:, 1:] & chosen[:, :-1]).sum() / chosen[:, 1:].sum() > 0.4
    lengths = np.diff(np.flatnonzero(np.diff(spans(uniform(1, np.arange(1), 3000), 3)[0], prepend=-1)))
    assert set(lengths.tolist()) == {1, 2, 3}
    assert np.allclose(np.bincount(lengths)[1:] / len(lengths), 1 / 3, atol=0.05)


def test_what_is_hidden_depends_on_seed_and_position_alone() -> None:
    tokens = rows(8)
    whole = MASKING.hide(tokens, 0.2, 5, np.arange(100, 108))
    for part in (slice(0, 3), slice(3, 8)):
        alone = MASKING.hide(tokens[part], 0.2, 5, np.arange(100, 108)[part])
        assert all((a == w[part]).all() for a, w in zip(alone, whole, strict=True))
    assert (MASKING.hide(tokens, 0.2, 6, np.arange(100, 108))[1] != whole[1]).any()
    assert (MASKING.hide(tokens, 0.2, 5, np.arange(200, 208))[1] != whole[1]).any()


def test_draws_are_uniform() -> None:
    draws = uniform(3, np.arange(1000), 100)
    assert draws.min() >= 0
    assert draws.max() < 1
    assert np.allclose(np.histogram(draws, bins=10, range=(0, 1))[0] / draws.size, 0.1, atol=0.005)
    assert abs(np.corrcoef(draws[:-1].ravel(), draws[1:].ravel())[0, 1]) < 0.01


def test_the_rate_falls_in_a_straight_line() -> None:
    assert [rate_at(0.3, 0.15, done) for done in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([0.3, 0.225, 0.15, 0.15])


def test_windows_begin_with_sentences_cover_every_token_and_never_cross_documents() -> None:
    end, separator, context = 10, 1, 12
    draw = np.random.default_rng(0)
    documents = []
    for length in (100, 7, 53, 1, 12):
        document = draw.integers(20, 90, length)
        document[draw.random(length) < 0.15] = end
        documents.append(np.append(document, separator))
    tokens = np.concatenate(documents)
    starts, lengths = window_starts(tokens, context, separator=separator, ends=[end], closing=[])
    covered = np.zeros(len(tokens), dtype=bool)
    inside = 0
    for start, length in zip(starts, lengths, strict=True):
        covered[start : start + length] = True
        assert (tokens[start : start + length - 1] != separator).all()
        inside += start > 0 and tokens[start - 1] in (end, separator)
    assert covered.all()
    assert inside > 0.6 * len(starts)
    taken = windows(tokens, starts, lengths, context=context, begin=0, padding=2)
    assert taken.shape == (len(starts), context + 1)
    assert (taken[:, 0] == 0).all()
    assert ((taken[:, 1:] == 2).sum(1) == context - lengths).all()


def test_a_closing_quote_stays_with_its_sentence() -> None:
    tokens = np.array([50, 10, 11, 60, 61, 62, 63, 64, 65])
    starts, _ = window_starts(tokens, 5, separator=1, ends=[10], closing=[11])
    assert starts.tolist()[:2] == [0, 3]


def test_wordpiece_has_berts_special_tokens_and_the_same_text_gives_the_same_pieces() -> None:
    tokenizer = SubwordTokenizer.train_wordpiece(TEXT, 120, lowercase=False)
    assert [tokenizer.token_id(name) for name in SPECIAL] == [0, 1, 2, 3, 4]
    assert tokenizer.end_of_text == 1
    assert tokenizer.to_json() == SubwordTokenizer.train_wordpiece(TEXT, 120, lowercase=False).to_json()
    ids = tokenizer.encode("The model reads.")
    assert tokenizer.decode(ids) == "The model reads."
    assert not np.isin(ids, range(5)).any()
    assert tokenizer.encode("\u4e2d").tolist() == [4]


def test_wordpiece_in_small_letters_drops_case_and_accents() -> None:
    tokenizer = SubwordTokenizer.train_wordpiece(TEXT, 120, lowercase=True)
    assert tokenizer.encode("ÉTÉ NAÏVE").tolist() == tokenizer.encode("ete naive").tolist()


def test_a_vocabulary_too_small_for_the_characters_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.vocabulary=\d+ or more"):
        SubwordTokenizer.train_wordpiece(TEXT, 20, lowercase=True)
