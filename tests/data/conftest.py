"""A cache of its own for every test, so that nothing is read from or left in the user's."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sources, ten documents each, 500-600 characters a document, and one file that is not text by its name."""
    for source, line in (("fables", "The fox looked at the grapes.\n"), ("letters", "Dear Sir, I remain, yours.\n")):
        (tmp_path / "text" / source).mkdir(parents=True)
        for index in range(10):
            text = "".join(f"{index} {n} {line}" for n in range(18))
            (tmp_path / "text" / source / f"{index:02d}.txt").write_text(text, encoding="utf-8")
    (tmp_path / "text" / "picture.png").write_bytes(b"\x89PNG\0\0")
    return tmp_path / "text"
