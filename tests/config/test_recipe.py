"""Recipes: what a person may write, what they are told when it is wrong, and where each value came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.config.recipe import bundled_recipes, load_recipe, recipe_from_text
from unstuck.config.schema import Config
from unstuck.errors import UserError


def recipe_file(folder: Path, text: str, name: str = "my.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["gpt-char", "gpt-bpe"])
def test_every_bundled_recipe_loads_and_states_where_its_values_come_from(name: str):
    recipe = load_recipe(name)
    assert recipe.config.name == name
    assert set(recipe.origins) == set(recipe.leaves())
    line = int(recipe.origins["optimizer.learning_rate"].removeprefix(f"{name}.yaml:"))
    written = bundled_recipes()[name].read_text(encoding="utf-8").splitlines()[line - 1]
    assert float(written.split()[1]) == recipe.config.optimizer.learning_rate
    assert recipe.origins["inject_fault"] == "default"


def test_a_value_equal_to_the_default_still_comes_from_the_recipe(tmp_path: Path):
    recipe = load_recipe(recipe_file(tmp_path, "seed: 1\n"))
    assert recipe.config == Config()
    assert recipe.origins["seed"].endswith("my.yaml:1")


@pytest.mark.parametrize(
    ("written", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("2", 2.0), ("1_0e-1", 1.0), (".5", 0.5), ("+3e-4", 3e-4)]
)
def test_numbers_in_any_common_form_are_numbers(tmp_path: Path, written: str, value: float):
    path = recipe_file(tmp_path, f"optimizer:\n  learning_rate: {written}\n")
    assert load_recipe(path).config.optimizer.learning_rate == value
    assert load_recipe("gpt-char", [f"learning_rate={written}"]).config.optimizer.learning_rate == value


def test_whole_floats_are_counts_and_other_floats_are_not(tmp_path: Path):
    assert load_recipe(recipe_file(tmp_path, "training:\n  updates: 1e3\n")).config.training.updates == 1000
    with pytest.raises(UserError, match=r"my.yaml:2: training.updates must be a whole number or null, not 0.1"):
        load_recipe(recipe_file(tmp_path, "training:\n  updates: 0.1\n"))


def test_an_accumulation_that_would_be_ignored_is_refused_but_a_run_of_both_goes_on(tmp_path: Path):
    both = recipe_file(tmp_path, "training:\n  accumulation: 1\n  tokens_per_update: 640\n")
    with pytest.raises(UserError, match=r"add training\.tokens_per_update=null"):
        load_recipe(both, ["training.accumulation=8"])
    assert load_recipe(both, ["training.accumulation=8", "tokens_per_update=null"]).config.training.accumulation == 8
    run = recipe_file(tmp_path, load_recipe(both).to_yaml(), "config.yaml")
    assert load_recipe(run, ["training.updates=50"]).config.training.tokens_per_update == 640


MISTAKES = {
    "a tab": ("data:\n\tcontext: 3\n", r":2: there is a tab"),
    "a duplicate key": ("seed: 1\nseed: 2\n", r":2: the key 'seed' is given twice \(first on line 1\)"),
    "a list": ("- a\n", "is not a recipe"),
    "a bare word": ("hello\n", "is not a recipe"),
    "nothing": ("", "is empty"),
    "only comments": ("# hi\n", "holds no settings"),
    "a negative rate": (
        "optimizer:\n  learning_rate: -1e-4\n",
        r":2: optimizer.learning_rate must be greater than 0, not -0.0001",
    ),
    "not a number": ("training:\n  batch_size: many\n", r":2: training.batch_size must be a whole number, not 'many'"),
    "infinite": ("optimizer:\n  learning_rate: .inf\n", ":2: optimizer.learning_rate must be a finite number"),
    "yes for a switch": ("model:\n  tied_head: yes\n", ":2: model.tied_head must be true or false, not 'yes'"),
    "true for a count": ("model:\n  layers: true\n", ":2: model.layers must be a whole number, not true"),
    "a misspelt key": (
        "optimizer:\n  learnin_rate: 1\n",
        ":2: unknown key 'learnin_rate' in optimizer.*'learning_rate'",
    ),
    "a key in the wrong place": ("learning_rate: 1\n", ":1: unknown key 'learning_rate'.*optimizer.learning_rate"),
    "a misspelt section": (
        "trainin:\n  updates: 5\n",
        ":1: unknown key 'trainin'; did you mean the section 'training'",
    ),
    "a misspelt key at the top": ("sed: 1\n", ":1: unknown key 'sed'; did you mean 'seed'"),
    "a scalar for a section": ("model: 5\n", ":1: 'model' is a section"),
    "a misspelt choice": ("schedule:\n  kind: cosin\n", ":2: schedule.kind must be one of .* did you mean 'cosine'"),
    "two warm-ups": (
        "schedule:\n  warmup_share: 0.1\n  warmup_updates: 5\n",
        "warmup_updates and warmup_share are both",
    ),
    "heads that do not divide": (
        "model:\n  heads: 3\n",
        ":2: width 128 is not a multiple of heads 3; set model.heads=2",
    ),
    "a group without pattern": ("optimizer:\n  groups:\n    - name: a\n", ":3: the group lacks its pattern"),
    "a bad pattern": (
        "optimizer:\n  groups:\n    - name: a\n      pattern: '('\n",
        r":4: pattern '\(' is not a regular expression",
    ),
    "a misspelt group key": (
        "optimizer:\n  groups:\n    - {name: a, pattern: b}\n    - name: c\n      pattern: d\n      lr_facto: 2\n",
        ":6: unknown key 'lr_facto' in optimizer.groups; did you mean 'lr_factor'",
    ),
    "an open quote": ("name: 'abc\n", ":2: this is not valid YAML|:1: this is not valid YAML"),
    "an open bracket": ("data: {context: 3", ":1: this is not valid YAML"),
    "two documents": ("seed: 1\n---\nseed: 2\n", ":2: a second document"),
    "a python object": ("name: !!python/object/apply:os.system [ls]\n", ":1: name must be a text"),
    "an endless alias": ("data: &a [*a]\n", ":1: this alias repeats without end"),
    "brackets without end": ("a: " + "[" * 20_000, ":1: this is nested too deeply"),
    "sections without end": ("".join(" " * k + "a:\n" for k in range(1300)), r":10\d: this is nested too deeply"),
    "aliases that nest": (
        "a0: &a0 1\n" + "".join(f"a{k}: &a{k} {'[' * 60}*a{k - 1}{']' * 60}\n" for k in range(1, 20)),
        "this is nested too deeply",
    ),
    "control characters": ("name: a\x01b\n", "save it as plain UTF-8"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_sentence_with_its_line(tmp_path: Path, mistake: str):
    text, expected = MISTAKES[mistake]
    with pytest.raises(UserError, match=expected) as raised:
        load_recipe(recipe_file(tmp_path, text))
    assert "\n" not in str(raised.value)
    assert "my.yaml" in str(raised.value)


OVERRIDES = {
    "learning_rate=-1": "command line: optimizer.learning_rate must be greater than 0, not -1",
    "learning_rte=1": "no key 'learning_rte'; did you mean optimizer.learning_rate",
    "patience=3": "'patience' may mean schedule.patience or evaluation.patience",
    "learning_rate": "write key=value",
    "learning_rate=": "has no value",
    "learning_rate=[1": "is not a value",
    "model=3": "'model' is a section",
    "optimizer.groups.memory.lr_factor=1": "no parameter group 'memory'",
    "model.heads=3": "command line: width 128 is not a multiple of heads 3",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_wrong_override_gets_one_sentence(override: str):
    with pytest.raises(UserError, match=OVERRIDES[override]):
        load_recipe("gpt-char", [override])


def test_overrides_win_and_say_so():
    recipe = load_recipe("gpt-char", ["schedule=cosine", "--training.updates=7", "clip_norm=null", "name=a b"])
    assert (recipe.config.schedule.kind, recipe.config.training.updates) == ("cosine", 7)
    assert recipe.config.training.clip_norm is None
    assert recipe.config.name == "a b"
    assert recipe.origins["schedule.kind"] == recipe.origins["training.clip_norm"] == "command line"


def test_giving_one_of_a_pair_takes_the_other_back(tmp_path: Path):
    assert load_recipe("gpt-char", ["training.epochs=2"]).config.training.updates is None
    assert load_recipe("gpt-char", ["warmup_updates=5"]).config.schedule.warmup_share is None
    assert load_recipe(recipe_file(tmp_path, "training: {epochs: 2}\n")).config.training.updates is None
    with pytest.raises(UserError, match="give either updates or epochs"):
        load_recipe("gpt-char", ["training.epochs=2", "training.updates=5"])


def test_groups_are_changed_by_name_and_place():
    groups = "optimizer.groups=[{name: memory, pattern: mem, lr_factor: 0.1}, {name: rest, pattern: .}]"
    recipe = load_recipe("gpt-char", [groups])
    assert recipe.leaves()["optimizer.groups.memory.lr_factor"] == 0.1
    assert recipe.origins["optimizer.groups.memory.weight_decay"] == "default"
    by_name = recipe.with_changes({"optimizer.groups.memory.lr_factor": 1.0}, "patch of prove")
    by_place = recipe.with_changes({"optimizer.groups.0.lr_factor": 1.0}, "patch of prove")
    by_factors = recipe.with_changes({"group_lr_factors": {"memory": 1.0}}, "patch of prove")
    assert by_name == by_place == by_factors
    assert by_name.origins["optimizer.groups.memory.lr_factor"] == "patch of prove"
    assert by_name.origins["optimizer.groups.memory.name"] == "command line"
    with pytest.raises(UserError, match="two groups are named 'a'"):
        load_recipe("gpt-char", ["optimizer.groups=[{name: a, pattern: x}, {name: a, pattern: y}]"])


def test_the_printed_recipe_loads_back_to_the_same_configuration(tmp_path: Path):
    groups = "optimizer.groups=[{name: memory, pattern: '(mem|\"x\")\\d', lr_factor: 0.1}]"
    recipe = load_recipe("gpt-char", ["learning_rate=1e-5", groups, "name='#1: yes'", "data.source=C:\\texts"])
    for comments in (True, False):
        text = recipe.to_yaml(comments=comments)
        assert load_recipe(recipe_file(tmp_path, text)).config == recipe.config
        # any other YAML reader sees the same numbers
        assert yaml.safe_load(text)["optimizer"]["learning_rate"] == 1e-5
    assert "# peak learning rate of AdamW" in recipe.to_yaml()
    assert "#" not in load_recipe("gpt-char").to_yaml(comments=False)


def test_origins_survive_in_a_run_folder_until_somebody_edits_it(tmp_path: Path):
    recipe = load_recipe("gpt-char", ["learning_rate=1e-3", "optimizer.groups=[{name: a, pattern: b}]"])
    config = recipe_file(tmp_path, recipe.to_yaml(), "config.yaml")
    assert load_recipe(tmp_path) == recipe
    config.write_text(recipe.to_yaml().replace("learning_rate: 0.001", "learning_rate: 0.002"), encoding="utf-8")
    edited = load_recipe(tmp_path)
    assert edited.config.optimizer.learning_rate == 0.002
    assert "config.yaml:" in edited.origins["optimizer.learning_rate"]


@settings(max_examples=60, deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\\"), min_size=1, max_size=20).filter(
        lambda s: not s[0].isspace()
    ),
    rate=st.floats(1e-300, 1e300),
    source=st.text(st.characters(exclude_categories=("Cs",)), max_size=30),
)
def test_any_text_and_number_survives_printing_and_loading(name: str, rate: float, source: str):
    config = Config(name=name, data={"source": source}, optimizer={"learning_rate": rate})  # type: ignore[arg-type]
    recipe = recipe_from_text("seed: 1\n", "x.yaml").with_changes(
        {"name": config.name, "data.source": source, "learning_rate": rate}, "somewhere"
    )
    assert recipe_from_text(recipe.to_yaml(), "y.yaml").config == config


def test_what_is_no_recipe_is_refused_with_the_next_step(tmp_path: Path):
    with pytest.raises(UserError, match="no recipe 'gpt-chr'; did you mean gpt-char"):
        load_recipe("gpt-chr")
    with pytest.raises(UserError, match=r"name a YAML file or one of .*gpt-bpe, gpt-char"):
        load_recipe(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="not a run folder"):
        load_recipe(tmp_path)
    binary = tmp_path / "model.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="is not a text file"):
        load_recipe(binary)
    large = tmp_path / "large.yaml"
    large.write_text("# x\n" * 400_000, encoding="utf-8")
    with pytest.raises(UserError, match="too large for a recipe"):
        load_recipe(large)


def test_the_layers_of_an_adapter_can_be_named():
    recipe = load_recipe("gpt2-qa-lora", ["model.adapter.targets=[c_attn, c_proj]"])
    assert recipe.config.model.adapter.targets == ("c_attn", "c_proj")  # type: ignore[union-attr]
    assert recipe_from_text(recipe.to_yaml(), "y.yaml").config == recipe.config
    for wrong in ("3", "[3]", "autp"):
        with pytest.raises(UserError, match=r"model\.adapter\.targets must be one of auto or a list, not"):
            load_recipe("gpt2-qa-lora", [f"model.adapter.targets={wrong}"])
