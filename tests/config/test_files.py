"""Settings files: read with their lines, never executed, edited in one place and nowhere else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from unstuck.config.files import edited, read_settings_file
from unstuck.errors import UserError

# The shape of nanoGPT's config/train_gpt2.py, written anew.
PYTHON = """# train on one node
import time
out_dir = 'out-\u00e9t\u00e9'; batch_size = 12
block_size: int = 64
gradient_accumulation_steps = 5 * 8  # all devices
learning_rate = 1e-3 # maximum
max_iters = 5_000
lr_decay_iters = max_iters
min_lr = learning_rate / 10
warmup_iters = int(0.1)
tag = f"{time.time()}"
decay_lr = True
boom = open('boom.txt', 'w').write('x')
big = 10 ** 10 ** 10
"""


def file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_a_nanogpt_config_is_read_without_being_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    dialect, settings = read_settings_file(file(tmp_path, "train.py", PYTHON))
    assert dialect == "nanogpt"
    assert {k: s.value for k, s in settings.items()} == {
        "out_dir": "out-\u00e9t\u00e9", "batch_size": 12, "block_size": 64, "gradient_accumulation_steps": 40,
        "learning_rate": 1e-3, "max_iters": 5000, "lr_decay_iters": 5000, "min_lr": 1e-4, "decay_lr": True,
    }  # fmt: skip
    assert settings["max_iters"].source.line == 7
    assert not (tmp_path / "boom.txt").exists()


def test_json_values_have_their_lines_even_where_keys_repeat(tmp_path: Path):
    text = '{\n "lr": 1e-4, "note": "\\"lr\\": 3",\n "model": {\n  "lr": 2, "empty": {}},\n "list": [1, {"lr": 5}]\n}'
    dialect, settings = read_settings_file(file(tmp_path, "args.json", text))
    assert dialect == "plain"
    assert {k: (s.value, s.source.line) for k, s in settings.items()} == {
        "lr": (1e-4, 2), "note": ('"lr": 3', 2), "model.lr": (2, 4), "model.empty": ({}, 4), 
        "list": ([1, {"lr": 5}], 5),
    }  # fmt: skip


def test_yaml_toml_and_env_are_read(tmp_path: Path):
    yaml_text = "trainer:\n  lr: 1e-4\n  betas: !!python/tuple [0.9, 0.95]\nname: x\n"
    _, settings = read_settings_file(file(tmp_path, "c.yml", yaml_text))
    assert settings["trainer.lr"].value == 1e-4
    assert settings["trainer.lr"].source.line == 2
    assert settings["trainer.betas"].value == [0.9, 0.95]
    _, settings = read_settings_file(file(tmp_path, "c.toml", '[train]\nlr = 1e-4 # peak\nname = "a"\n'))
    assert (settings["train.lr"].value, settings["train.lr"].source.line) == (1e-4, 2)
    env = "# x\nexport LEARNING_RATE=1e-5  # low\nNAME='a # b'\nEMPTY=\n"
    dialect, settings = read_settings_file(file(tmp_path, ".env", env))
    assert dialect == "environment"
    assert {k: s.value for k, s in settings.items()} == {"LEARNING_RATE": 1e-5, "NAME": "a # b", "EMPTY": None}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '{"a": 1,\n "b" 2}', "a.json:2: this is not valid JSON"),
        ("a.json", "[1]", "an object"),
        ("a.json", '{"a": ' * 5000, "nested too deeply|not valid JSON"),
        ("a.toml", "a = " + "[" * 20_000, "nested too deeply"),
        ("b.toml", ".".join("a" * 5000) + " = 1", "nested too deeply"),
        ("a.yaml", "a: " + "[" * 20_000, "nested too deeply"),
        ("a.py", "a = " + "-" * 100_000 + "1", "nested too deeply"),
        ("a.py", "a = 1\nb = = 2\n", "a.py:2: this is not valid Python"),
        ("a.yaml", "a:\n\tb: 1\n", "a.yaml:2: there is a tab"),
        ("a.toml", "a = \n", "not valid TOML"),
        ("a.env", "nothing here", "no KEY=value lines"),
        ("a.bin", "x", "not a configuration file that unstuck reads"),
    ],
)
def test_a_broken_file_gets_one_sentence(tmp_path: Path, name: str, text: str, expected: str):
    with pytest.raises(UserError, match=expected):
        read_settings_file(file(tmp_path, name, text))


EDITS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "c.py": (PYTHON, {"lr_decay_iters": 300, "learning_rate": 5e-4},
             ["lr_decay_iters = 300", "learning_rate = 0.0005 # maximum"]),
    "c.json": ('{\n  "lr": 1e-4,\n  "m": {"lr": 2}\n}\n', {"lr": 2e-4}, ['  "lr": 0.0002,', '  "m": {"lr": 2}']),
    "c.yaml": ("a:\n  lr: 1e-4 # peak\n  b: x\n", {"a.lr": 1e-5}, ["  lr: 1.0e-05 # peak"]),
    "c.toml": ("[a]\nlr = 1e-4 # peak\n", {"a.lr": 1e-5}, ["lr = 1.0e-05 # peak"]),
    "c.env": ("LR=1e-4 # peak\r\nB=2\r\n", {"LR": "2e-05"}, ["LR=2e-05 # peak"]),
}  # fmt: skip


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_its_lines_and_no_other_byte(tmp_path: Path, name: str):
    text, changes, expected = EDITS[name]
    path = file(tmp_path, name, text)
    after = edited(path, changes)
    assert path.read_bytes().decode() == text, "reading must not write"
    old, new = text.split("\n"), after.split("\n")
    assert len(old) == len(new)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == len(changes)
    assert set(expected) <= {line.rstrip("\r") for line in new}


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("c.py", "a = 1", "b"),
        ("c.json", '{\n "a": 1\n}', "b"),
        ("c.json", "{}", "b"),
        ("c.yaml", "a: 1\n", "b"),
        ("c.yaml", "s: # x\n    a: 1\nt: 2\n", "s.b"),
        ("c.yaml", "t: 2\n", "s.b"),
        ("c.env", "A=1\n", "B"),
    ],
)
def test_a_setting_that_was_not_there_is_added(tmp_path: Path, name: str, text: str, key: str):
    path = file(tmp_path, name, text)
    path.write_text(edited(path, {key: 7}), encoding="utf-8")
    _, settings = read_settings_file(path)
    assert settings[key].value == 7
    before = 2 if "t: 2" in text and "s:" in text else (text != "{}")
    assert len(settings) == before + 1, "what was there is there"


def test_random_json_documents_are_read_as_json_reads_them(tmp_path: Path):
    drawn = random.Random(3)

    def value(depth: int) -> Any:
        kinds = [1, -2.5e-7, True, None, "t\u00e9xt \"'{}:,", [1, "a"], {}]
        return (
            {f"k{i} \u00e9": value(depth - 1) for i in range(3)}
            if depth and drawn.random() < 0.5
            else drawn.choice(kinds)
        )

    for indent in (None, 1, 4):
        document = {f"key{i}": value(3) for i in range(20)}
        _, settings = read_settings_file(file(tmp_path, "r.json", json.dumps(document, indent=indent)))

        def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
            found: dict[str, Any] = {}
            for key, inner in tree.items():
                found |= flat(inner, f"{prefix}{key}.") if isinstance(inner, dict) and inner else {prefix + key: inner}
            return found

        assert {k: s.value for k, s in settings.items()} == flat(document)
