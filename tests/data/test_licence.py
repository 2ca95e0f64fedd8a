from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.config.sections.text import TextConfig
from unstuck.data import prepare
from unstuck.data.licence import clean, suspicious

BOOKS = Path(__file__).parents[3] / "shared" / "data" / "text" / "books"

BODY = "CHAPTER I\n\nThe fox looked at the grapes.\n\nProduced by nature, they were sour.\n\nTHE END"
LICENCE = (
    "Updated editions will replace the previous one.\n\nCreating the works from print editions ...\n\n"
    "START: FULL LICENSE\n\nTHE FULL PROJECT GUTENBERG LICENSE\n\n"
    + "1.A. By reading any part of this Project Gutenberg electronic work, you agree.\n\n" * 20
    + "This website includes information about Project Gutenberg.\n"
)
HEADER = (
    "\ufeffThe Project Gutenberg eBook of Fables\n\nThis ebook is for the use of anyone anywhere.\n\n"
    "Title: Fables\n\nAuthor: Aesop\n\n"
)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("*** START OF THE PROJECT GUTENBERG EBOOK FABLES ***", "*** END OF THE PROJECT GUTENBERG EBOOK FABLES ***"),
        ("***START OF THIS PROJECT GUTENBERG EBOOK FABLES***", "***END OF THIS PROJECT GUTENBERG EBOOK FABLES***"),
        ("*** START OF THE PROJECT GUTENBERG EBOOK A LONG\nTITLE OF FABLES ***", "End of Project Gutenberg's Fables"),
        ("*** START OF THE PROJECT GUTENBERG EBOOK FABLES", "End of the Project Gutenberg EBook of Fables, by Aesop"),
        ("*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*", "End of The Project Gutenberg Etext of F"),
        ("*END THE SMALL PRINT! FOR COPYRIGHT PROTECTED ETEXTS*END*", "*** START: FULL LICENSE ***"),
        ("To contact Project Gutenberg of Australia go to http://gutenberg.net.au", "This site is full of FREE ebooks"),
    ],
)
def test_headers_and_footers_of_every_form_are_cut_and_nothing_else(start: str, end: str) -> None:
    cleaned = clean(f"{HEADER}{start}\n\n\n{BODY}\n\n\n{end}\n\n{LICENCE}")
    assert cleaned.text == BODY + "\n"
    assert suspicious(cleaned.text) == []
    assert cleaned.cut > len(LICENCE)


def test_credits_behind_the_header_and_notes_behind_the_text_are_cut() -> None:
    credits = (
        "Produced by David Widger and the\nDistributed Proofreaders\n\n[Transcriber's note: dashes\n\nare kept.]\n\n"
    )
    text = (
        f"{HEADER}*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{credits}{BODY}\n\nTranscriber's Notes:\n\nx for y\n"
    )
    cleaned = clean(f"{text}\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n{LICENCE}")
    assert cleaned.text == BODY + "\n"


def test_several_books_in_one_file_are_cleaned_one_by_one() -> None:
    book = (
        f"{HEADER}*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\n%s\n\n"
        f"*** END OF THE PROJECT GUTENBERG EBOOK X ***\n\n{LICENCE}\n\n"
    )
    cleaned = clean(book % "First." + book % "Second.")
    assert cleaned.text.split() == ["First.", "Second."]


def test_text_behind_a_footer_stays() -> None:
    other = "Quite another text, without a header of its own. " * 30
    cleaned = clean(f"{BODY}\n\nEnd of Project Gutenberg's Fables\n\n{LICENCE}\n\n{other}")
    assert BODY in cleaned.text
    assert other.strip() in cleaned.text
    assert "electronic work" not in cleaned.text


def test_a_text_that_only_speaks_of_gutenberg_stays_as_it_is() -> None:
    for text in (
        "He read the Project Gutenberg eBook of Emma, and the small print! Then *** nothing.\n" * 50,
        "Produced by nature.\n\nTitle: none.\n\nThe etext was long.\n",
        "At the end of the Project Gutenberg grew.\n",
        "Transcriber's note: this is how my novel begins.\n\nAn ebook.\n",
    ):
        assert clean(text).text == text
        assert clean(text).cut == 0


def test_a_long_text_before_a_stray_mark_stays() -> None:
    text = BODY * 60 + "\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n\nMore.\n"
    assert clean(text).text.startswith(BODY * 60)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab \n*İ"), max_size=200), st.booleans(), st.booleans())
def test_cleaning_twice_is_cleaning_once_and_loses_no_body(body: str, head: bool, foot: bool) -> None:
    body = f"x{body}x"
    text = (f"{HEADER}*** START OF THE PROJECT GUTENBERG EBOOK X ***\n" if head else "") + body
    text += f"\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\n{LICENCE}" if foot else ""
    once = clean(text).text
    assert once.strip("\n") == body
    assert clean(once).text == once


def test_the_start_of_a_run_says_what_was_cut_and_the_key_turns_it_off(tmp_path: Path) -> None:
    text = (
        f"{HEADER}*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{BODY * 9}\nEnd of Project Gutenberg's X\n{LICENCE}"
    )
    (tmp_path / "book.txt").write_text(text)
    (tmp_path / "letter.txt").write_text("Dear Sir, I remain, yours. " * 30)
    data = prepare(TextConfig(source=str(tmp_path)))
    assert any(note.startswith("Licences and headers were cut from 1 of 2 documents") for note in data.notes)
    assert "Gutenberg" not in data.tokenizer.decode(data.train_tokens)
    raw = prepare(TextConfig(source=str(tmp_path), remove_licences=False))
    assert sum(raw.sources.values()) > sum(data.sources.values())


@pytest.mark.skipif(not BOOKS.exists(), reason=f"needs {BOOKS}, which the repository does not carry")
def test_all_real_books_lose_their_licence_and_none_its_text() -> None:
    for path in sorted(BOOKS.glob("*.txt")):
        text = path.read_text(encoding="utf-8-sig")
        cleaned = clean(text)
        assert "gutenberg" not in cleaned.text.lower(), path.name
        has_one = "*** START OF THE PROJECT GUTENBERG" in text
        assert (19_000 < cleaned.cut < 22_000) if has_one else cleaned.cut == 0, path.name
