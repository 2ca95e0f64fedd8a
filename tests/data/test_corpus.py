import subprocess
import sys
from pathlib import Path

import pytest

from unstuck.config.sections.text import TextConfig
from unstuck.data import prepare
from unstuck.data.cache import store
from unstuck.data.corpus import builtin_corpus
from unstuck.errors import UserError


def test_builtin_corpus_is_a_megabyte_of_plain_text_from_two_sources() -> None:
    corpus = builtin_corpus()
    text = "".join(d.text for d in corpus.documents)
    assert len(text) > 1_000_000
    assert {d.source for d in corpus.documents} == {"topics", "library"}
    assert len({(d.source, d.name) for d in corpus.documents}) == len(corpus.documents)
    assert text.isascii()
    assert all(c == "\n" or c.isprintable() for c in set(text))


def test_builtin_corpus_is_the_same_made_anew_and_from_the_cache() -> None:
    made = builtin_corpus().documents
    assert builtin_corpus().documents == made


def test_builtin_corpus_imports_nothing_of_what_it_reads() -> None:
    code = (
        "import sys; from unstuck.data.corpus import builtin_corpus; builtin_corpus(); "
        "print([m for m in ('antigravity', 'this', 'tkinter', 'pydoc_data.topics', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_works_without_a_cache_that_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path / "file" / "cache"))
    config = TextConfig(source=str(folder))
    assert prepare(config).fingerprint == prepare(config).fingerprint


def test_a_spoilt_cache_entry_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path / "cache"))
    config = TextConfig(source=str(folder))
    good = prepare(config).fingerprint
    for path in (tmp_path / "cache" / "tokens").rglob("train.npy"):
        path.write_bytes(b"")
    assert prepare(config).fingerprint == good
    assert all(path.stat().st_size for path in (tmp_path / "cache" / "tokens").rglob("train.npy"))


def test_processes_that_start_together_agree_and_leave_one_entry(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from unstuck.data import prepare; from unstuck.config.sections.text import TextConfig; "
        f"print(prepare(TextConfig(source={str(folder)!r}, tokenizer='bpe', vocabulary=300)).fingerprint)"
    )
    environment = {"UNSTUCK_CACHE": str(tmp_path / "cache"), "PATH": ""}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    prints = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(prints) == 1
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1


def test_a_store_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def full(target: Path) -> None:
        (target / "half").write_text("half")
        raise OSError(28, "No space left on device")

    store(tmp_path, "entry", full)
    assert list(tmp_path.iterdir()) == []


def test_other_text_or_settings_are_other_data(folder: Path) -> None:
    base = prepare(TextConfig(source=str(folder)))
    assert prepare(TextConfig(source=str(folder), validation_share=0.3)).fingerprint != base.fingerprint
    assert prepare(TextConfig(source=str(folder)), seed=1).fingerprint != base.fingerprint
    (folder / "fables" / "00.txt").write_text("Quite another text, which is as long as a few hundred characters. " * 9)
    assert prepare(TextConfig(source=str(folder))).fingerprint != base.fingerprint


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p / "missing", "There is no text at"),
        (lambda p: p, "has no text file"),
        (lambda p: _file(p / "empty.txt", b""), "is empty"),
        (lambda p: _file(p / "blank.txt", b" \n\n"), "is empty"),
        (lambda p: _file(p / "binary.txt", bytes(range(256))), "is a binary file"),
        (lambda p: _file(p / "short.txt", b"a"), "too short"),
        (lambda p: _file(p / "brief.txt", b"some words\n"), "too few for one window"),
        (lambda p: Path("/dev/null"), "neither a file nor a folder"),
        (lambda p: Path("/dev/zero"), "neither a file nor a folder"),
    ],
)
def test_text_that_cannot_be_used_is_one_sentence_with_a_way_on(tmp_path: Path, make: object, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        prepare(TextConfig(source=str(make(tmp_path))))  # type: ignore[operator]
    assert "\n" not in str(error.value)
    assert "data." in str(error.value) or "give more text" in str(error.value)


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
