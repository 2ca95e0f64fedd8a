from pathlib import Path

import numpy as np
import pytest

from unstuck.config.sections.text import TextConfig
from unstuck.data import prepare
from unstuck.data.documents import Document, find_files, read_documents
from unstuck.data.split import shorten, split

SHAKESPEARE = Path(__file__).parents[3] / "shared" / "data" / "text" / "tinyshakespeare.txt"


@pytest.mark.skipif(not SHAKESPEARE.exists(), reason=f"needs {SHAKESPEARE}, which the repository does not carry")
def test_tinyshakespeare_gives_nanogpts_numbers() -> None:
    data = prepare(TextConfig(source=str(SHAKESPEARE), tokenizer="char", validation_split="tail"))
    text = SHAKESPEARE.read_text(encoding="utf-8")
    assert (len(data.train_tokens), data.validation_tokens, data.vocabulary) == (1_003_854, 111_540, 65)
    assert data.tokenizer.decode(data.validation["tinyshakespeare"]) == text[1_003_854:]
    assert data.train_tokens[:100].tolist() == [sorted(set(text)).index(c) for c in text[:100]]
    assert data.notes == ()


def test_validation_holds_whole_documents_of_every_source(folder: Path) -> None:
    corpus = read_documents(find_files(folder)[0])
    parts = split(corpus.documents, share=0.2, mode="document")
    texts = {d.text: d.source for d in corpus.documents}
    assert {source: len(pieces) for source, pieces in parts.validation.items()} == {"fables": 2, "letters": 2}
    for source, pieces in parts.validation.items():
        assert all(texts[piece.text] == source and piece.ends for piece in pieces)
    assert len(parts.train) == 16
    held_out = {piece.text for pieces in parts.validation.values() for piece in pieces}
    assert held_out.isdisjoint(piece.text for piece in parts.train)


def test_another_document_leaves_the_others_where_they_were() -> None:
    documents = [Document("s", f"{n}", f"{n} " * 100) for n in range(100, 200)]
    before = split(documents, share=0.1, mode="document").validation["s"]
    after = split([*documents, Document("s", "new", "new " * 100)], share=0.1, mode="document").validation["s"]
    assert len({p.text for p in before} & {p.text for p in after}) >= len(before) - 1


def test_a_single_document_is_cut_by_its_tail_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("It was a dark and stormy night. " * 100)
    data = prepare(TextConfig(source=str(tmp_path / "novel.txt")))
    assert data.validation_tokens == 320
    assert "last 10% of novel" in data.notes[0]


def test_three_large_documents_are_not_held_out_whole() -> None:
    parts = split([Document("s", str(n), "x" * 1000) for n in range(3)], share=0.1, mode="document")
    assert sum(len(p.text) for p in parts.validation["s"]) == 300
    assert parts.notes


def test_pieces_put_together_are_the_whole_text_in_both_modes() -> None:
    documents = [Document("s", str(n), f"<{n}>" + "text " * n) for n in range(1, 30)]
    for mode in ("document", "tail"):
        parts = split(documents, share=0.25, mode=mode)  # type: ignore[arg-type]
        pieces = parts.train + parts.validation["s"]
        assert sorted("".join(p.text for p in pieces)) == sorted("".join(d.text for d in documents))
        assert sum(p.ends for p in pieces) == len(documents)


def test_a_folder_with_its_own_split_keeps_it(tmp_path: Path) -> None:
    for part, word in (("train", "learn "), ("val", "check "), ("test", "never ")):
        (tmp_path / part).mkdir()
        for n in range(3):
            (tmp_path / part / f"{n}.md").write_text(f"{n} " + word * 50)
    data = prepare(TextConfig(source=str(tmp_path)))
    assert data.tokenizer.decode(data.train_tokens).count("learn") == 150
    (validation,) = data.validation.values()
    assert data.tokenizer.decode(validation).count("check") == 150
    assert "never" not in data.tokenizer.decode(np.concatenate([data.train_tokens, validation]))
    assert any("own split" in note for note in data.notes)


def test_files_left_out_and_replaced_bytes_are_noted(folder: Path) -> None:
    (folder / "fables" / "latin.txt").write_bytes("Der Fuchs \xe4rgert sich. ".encode("latin-1") * 20)
    (folder / "fables" / "utf16.txt").write_bytes(("Žluťoučký kůň. " * 20).encode("utf-16"))
    (folder / "fables" / "bin.txt").write_bytes(b"\0" * 300)
    data = prepare(TextConfig(source=str(folder)))
    notes = " ".join(data.notes)
    assert "1 file was left out as binary" in notes
    assert "1 file was not valid UTF-8" in notes
    assert "1 file was left out because the name does not end like a text file's" in notes
    assert data.tokenizer.encode("ůň\ufffd").tolist()


def test_fewer_characters_keep_every_source() -> None:
    documents = [Document(s, str(n), "word " * 40) for s in ("a", "b") for n in range(50)]
    kept = shorten(documents, 6000)
    assert sum(len(d.text) for d in kept) == 6000
    assert {d.source for d in kept} == {"a", "b"}
    assert kept == shorten(documents, 6000)


def test_a_shelf_of_few_long_books_is_validated_on_every_book(tmp_path: Path) -> None:
    for name, size in (("long", 40_000), ("longer", 90_000), ("short", 900)):
        lines = [f"{name} {n}\n\n" for n in range(size // 10)]
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    data = prepare(TextConfig(source=str(tmp_path), sources="files", validation_split="pieces", context=16))
    assert set(data.validation) == {"long", "longer", "short"}
    for source, tokens in data.validation.items():
        assert source in data.tokenizer.decode(tokens)
    share = data.validation_tokens / (data.validation_tokens + len(data.train_tokens))
    assert share == pytest.approx(0.1, abs=0.02)


def test_pieces_come_from_all_over_a_document_and_make_it_whole_again() -> None:
    text = "".join(f"Paragraph {n} of the book.\n\n" for n in range(40_000))
    parts = split([Document("s", "book", text)], share=0.1, mode="pieces")
    held_out = parts.validation["s"]
    assert len(held_out) > 3
    assert all(piece.text.startswith("Paragraph") and piece.text.endswith("\n\n") for piece in held_out)
    places = sorted(text.index(piece.text) / len(text) for piece in held_out)
    assert places[0] < 0.3
    assert places[-1] > 0.7
    everything = parts.train + held_out
    assert "".join(p.text for p in sorted(everything, key=lambda p: text.index(p.text))) == text
    assert sum(piece.ends for piece in everything) == 1


def test_files_are_sources_only_where_they_are_few(tmp_path: Path) -> None:
    for n in range(3):
        (tmp_path / "books").mkdir(exist_ok=True)
        (tmp_path / "books" / f"{n}.txt").write_text(f"{n} some text.\n")
    assert {f.source for f in find_files(tmp_path, "files")[0]} == {"0", "1", "2"}
    assert {f.source for f in find_files(tmp_path, "folders")[0]} == {"books"}
    for n in range(70):
        (tmp_path / "books" / f"more{n}.txt").write_text("text\n")
    files, notes = find_files(tmp_path, "files")
    assert {f.source for f in files} == {"books"}
    assert "73 files, more than the 64" in notes[0]
