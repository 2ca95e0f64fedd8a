from pathlib import Path

import pytest

from unstuck.config.sections.answers import AnswersConfig
from unstuck.config.sections.text import TextConfig
from unstuck.data import SubwordTokenizer, prepare
from unstuck.data.answers import prepare_answers
from unstuck.data.hub import parse_hub
from unstuck.errors import UserError

LINES = [f"Line {n} of a text that is long enough for a window or two. " * 4 for n in range(40)]


def test_names_of_the_hub_are_read() -> None:
    assert parse_hub("hub:owner/name").where == "owner/name"
    assert parse_hub("hub:owner/name:body").column == "body"
    assert parse_hub("hub:owner/name/english:body").config == "english"
    for wrong in ("hub:", "hub:owner", "hub:a/b/c/d", "hub:/x"):
        with pytest.raises(UserError, match="names no data set"):
            parse_hub(wrong)


def test_a_data_set_of_the_hubs_form_is_text_and_its_own_split_is_kept(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library is an extra")
    parts = {"train": LINES[:30], "validation": LINES[30:35], "test": ["never"] * 5}
    datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"text": rows, "id": list(range(len(rows)))}) for name, rows in parts.items()}
    ).save_to_disk(tmp_path / "set")
    data = prepare(TextConfig(source=f"hub:{tmp_path / 'set'}", context=16))
    assert data.tokenizer.decode(data.train_tokens).count("Line") == 4 * 30
    assert list(data.validation) == ["set"]
    assert data.tokenizer.decode(data.validation["set"]).count("Line") == 4 * 5
    assert any("test split is left out" in note for note in data.notes)


def test_a_column_is_chosen_or_asked_for(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library is an extra")
    datasets.Dataset.from_dict({"body": LINES, "title": ["t"] * 40}).save_to_disk(tmp_path / "set")
    with pytest.raises(UserError, match=r"several text columns, but body, title: name one with data\.source=hub:"):
        prepare(TextConfig(source=f"hub:{tmp_path / 'set'}"))
    data = prepare(TextConfig(source=f"hub:{tmp_path / 'set'}:body", context=16))
    assert data.sources["set"] == sum(map(len, LINES))


def test_answers_come_from_the_hubs_form_too(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library is an extra")
    rows = {"question": [f"Why {n}?" for n in range(20)], "answer": [f"Because {n}." for n in range(20)]}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "set")
    tokenizer = SubwordTokenizer.train(LINES, 300)
    data = prepare_answers(AnswersConfig(source=f"hub:{tmp_path / 'set'}"), tokenizer=tokenizer)
    assert data.examples + len(data.held_out) == 20


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library is an extra")

    def unreachable(*_: object) -> None:
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"could not be loaded \(no route to host\)") as error:
        prepare(TextConfig(source="hub:owner/name"))
    assert "\n" not in str(error.value)
