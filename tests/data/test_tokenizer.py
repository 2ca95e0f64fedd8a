import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.config.sections.text import TextConfig
from unstuck.data import CharacterTokenizer, SubwordTokenizer, TextTokenizer, prepare
from unstuck.data.tokenizer import ENCODED_AT_ONCE_CHARACTERS
from unstuck.errors import UserError

BPE = SubwordTokenizer.train(["The quick brown fox jumps over the lazy dog. " * 20, "λόγος 漢字 " * 20], 400)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_survives_both_tokenizers_and_its_bytes_are_counted(text: str) -> None:
    for tokenizer in (BPE, CharacterTokenizer.of([text])):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert int(tokenizer.bytes_of_tokens()[ids].sum()) == len(text.encode())
        assert ids.max(initial=0) < max(tokenizer.vocabulary, 1)


def test_tokenizers_come_back_from_their_file_unchanged(tmp_path: Path) -> None:
    for tokenizer in (BPE, CharacterTokenizer("abc é", end_of_text=True)):
        tokenizer.save(tmp_path)
        loaded = TextTokenizer.load(tmp_path)
        assert type(loaded) is type(tokenizer)
        assert loaded.vocabulary == tokenizer.vocabulary
        assert loaded.end_of_text == tokenizer.end_of_text
        assert loaded.encode("abc é").tolist() == tokenizer.encode("abc é").tolist()
        assert loaded.to_json() == tokenizer.to_json()


def test_an_unknown_character_is_named_or_dropped_never_another_one() -> None:
    tokenizer = CharacterTokenizer("abc", end_of_text=True)
    with pytest.raises(UserError, match=r"'x\\xe9\\U0001f600'"):
        tokenizer.encode("axbéc😀")
    assert tokenizer.decode(tokenizer.encode("axbéc😀", skip_unknown=True)) == "abc"
    assert BPE.encode("a\udcffb").tolist() == BPE.encode("a?b").tolist()


def test_validation_characters_that_training_lacks_have_an_id(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("plain text without it " * 50 + "ß" * 200)
    data = prepare(TextConfig(source=str(tmp_path / "text.txt"), validation_split="tail"))
    assert "ß" in data.tokenizer.decode(data.validation["text"])


def test_bpe_learns_from_training_text_only(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the common words " * 100 + "zyzzyva" * 60)
    data = prepare(TextConfig(source=str(tmp_path / "text.txt"), tokenizer="bpe", vocabulary=300, validation_share=0.3))
    assert len(data.tokenizer.encode("zyzzyva")) == 7
    assert len(data.tokenizer.encode(" common")) == 1
    assert any("fewer than data.vocabulary=300" in note for note in data.notes) == (data.vocabulary < 300)


def test_a_long_text_is_encoded_in_pieces_as_if_it_were_one() -> None:
    line = "def f(x):\n\n    return  x + 1  \n\n\nThe  end.\t \n"
    text = line * (2 * ENCODED_AT_ONCE_CHARACTERS // len(line))
    whole = BPE._inner.encode(text, add_special_tokens=False).ids
    assert BPE.encode(text).tolist() == whole


def test_a_tokenizer_file_is_used_as_it_is(folder: Path, tmp_path: Path) -> None:
    path = BPE.save(tmp_path)
    data = prepare(TextConfig(source=str(folder), tokenizer=str(path)))
    assert data.tokenizer.to_json() == BPE.to_json()
    assert data.train_tokens.tolist().count(BPE.end_of_text) == 18


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "There is no tokenizer"),
        ("{", "is not a tokenizer"),
        ("{}", "is not a tokenizer"),
        ('{"model": 1}', "is not a tokenizer"),
        ("[1]", "is not a tokenizer"),
    ],
)
def test_a_wrong_tokenizer_file_is_one_sentence(tmp_path: Path, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=words):
        prepare(TextConfig(tokenizer=str(tmp_path / "tokenizer.json")))


def test_a_bpe_vocabulary_without_room_for_the_bytes_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="at least 257"):
        prepare(TextConfig(source=str(folder), tokenizer="bpe", vocabulary=100))


def test_windows_cover_every_token_once_as_input_and_once_as_target(folder: Path) -> None:
    data = prepare(TextConfig(source=str(folder), context=32))
    rows = data.window(np.arange(data.examples))
    assert rows.shape == (data.examples, 33)
    used = data.examples * 32
    assert rows[:, :-1].reshape(-1).tolist() == data.train_tokens[:used].tolist()
    assert rows[:, 1:].reshape(-1).tolist() == data.train_tokens[1 : used + 1].tolist()
    assert data.examples == (len(data.train_tokens) - 1) // 32
    assert data.window(np.array([5, 0])).tolist() == rows[[5, 0]].tolist()


def test_unigram_entropy_is_that_of_the_training_tokens(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcd" * 500)
    data = prepare(TextConfig(source=str(tmp_path / "text.txt"), validation_split="tail"))
    assert data.unigram_entropy == pytest.approx(math.log(4))


def test_documents_end_with_the_end_of_text_token(folder: Path) -> None:
    data = prepare(TextConfig(source=str(folder)))
    assert data.train_tokens[-1] == data.tokenizer.end_of_text
    assert data.train_tokens.tolist().count(data.tokenizer.end_of_text) == 18
