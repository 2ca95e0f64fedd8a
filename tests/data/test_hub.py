import json
import os
import re
import shutil
import subprocess
import sys
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


def test_a_folder_that_is_no_data_set_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the datasets library is an extra")
    with pytest.raises(UserError, match=r"could not be loaded \(.+\): check the name") as error:
        prepare(TextConfig(source=f"hub:{tmp_path}"))
    assert "\n" not in str(error.value)


# Nothing listens on port 9 of this machine, so that the hub is away wherever the test runs.
NO_HUB = {"HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}


@pytest.mark.parametrize(
    "settings",
    [
        ("data.source=hub:owner/name",),
        ("model.architecture=pretrained", "model.path=owner/name", "data.tokenizer=from-model"),
    ],
)
def test_a_hub_that_cannot_be_reached_is_one_sentence_at_once(settings: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the datasets library is an extra")
    command = [sys.executable, "-m", "unstuck.cli.main", "train", "gpt-char", *settings]
    environment = os.environ | NO_HUB | {"HF_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(r"cannot be reached \(\w+\)", done.stderr)
    assert done.stderr.count("\n") == 1  # the library's own tries would be told of here, and take half a minute


def test_what_was_loaded_before_needs_no_hub(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the datasets library is an extra")
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in LINES))
    datasets.load_dataset("json", data_files=str(tmp_path / "rows.jsonl"), cache_dir=str(tmp_path / "json"))
    (made,) = (tmp_path / "json").glob("json/*/0.0.0/*/")
    kept = shutil.copytree(made, tmp_path / "datasets" / "owner___name" / "default" / "0.0.0" / "0")
    (kept / "json-train.arrow").rename(kept / "name-train.arrow")  # as if it had come from the hub as owner/name
    code = (
        "from unstuck.config.sections.text import TextConfig; from unstuck.data import prepare\n"
        "print(prepare(TextConfig(source='hub:owner/name', context=16)).sources['name'])"
    )
    environment = os.environ | NO_HUB | {"HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"{sum(map(len, LINES))}\n", done.stderr
