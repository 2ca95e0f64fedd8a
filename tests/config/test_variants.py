"""Variants of recipes, and sections that come in kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from unstuck.config.recipe import bundled_recipes, load_recipe, recipe_from_text, variants_of
from unstuck.errors import UserError

RECIPE = """
model: {architecture: gpt2, layers: 3}
training: {epochs: 2}
variants:
  quick: {training.updates: 5, model: {width: 64}}
  long: {training: {updates: 50}}
"""


def every_variant() -> list[str]:
    return [f"{name}:{variant}" for name in bundled_recipes() for variant in variants_of(name)]


@pytest.mark.parametrize("name", every_variant())
def test_every_variant_of_every_bundled_recipe_loads(name: str) -> None:
    assert load_recipe(name).config.training.batch_size


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_every_recipe_has_a_quick_variant(name: str) -> None:
    assert "quick" in variants_of(name)


def test_variants_change_the_recipe_in_order_and_say_so() -> None:
    recipe = recipe_from_text(RECIPE, "my.yaml", ["quick", "long"])
    assert (recipe.config.training.updates, recipe.config.training.epochs) == (50, None)
    assert recipe.origins["model.width"] == "my.yaml, variant quick"
    assert recipe.origins["training.updates"] == "my.yaml, variant long"


def test_an_unknown_variant_is_one_sentence_that_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(RECIPE, encoding="utf-8")
    with pytest.raises(UserError, match="has no variant 'quik': its variants are quick, long"):
        load_recipe(f"{tmp_path}/my.yaml:quik")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a:b/c.yaml", "neither a file 'a:b/c.yaml' nor a recipe 'a'; name a YAML file or one of"),
        ("gpt-chr:quick", "neither a file 'gpt-chr:quick' nor a recipe 'gpt-chr'; did you mean gpt-char?"),
    ],
)
def test_a_missing_name_with_a_colon_may_have_been_either(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as refused:
        load_recipe(name)
    assert sentence in str(refused.value)


def test_a_file_may_have_a_colon_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a:b.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (f"{tmp_path}/a:b.yaml", "~/a:b.yaml"):
        assert load_recipe(name).config.model.layers == 3


def test_a_recipe_without_variants_runs_as_it_stands() -> None:
    assert recipe_from_text(RECIPE, "my.yaml").config.training.epochs == 2


def test_another_architecture_takes_over_what_it_has_too_and_drops_the_rest() -> None:
    gpt = recipe_from_text("model: {architecture: modern, layers: 3, ngrams: 2}", "my.yaml")
    other = gpt.with_changes({"model.architecture": "ltg-bert"}, "command line").config.model
    assert other.architecture == "ltg-bert"
    assert other.layers == 3


def test_a_key_of_another_kind_is_told_apart_from_an_unknown_one() -> None:
    with pytest.raises(UserError, match="'ngrams' is not a key of model with architecture ltg-bert"):
        recipe_from_text("model: {architecture: ltg-bert, ngrams: 2}", "my.yaml")
    with pytest.raises(UserError, match="unknown key 'ngram' in model; did you mean 'ngrams'"):
        recipe_from_text("model: {architecture: modern, ngram: 2}", "my.yaml")


def test_an_unknown_kind_names_all_kinds_and_the_nearest() -> None:
    with pytest.raises(UserError, match=r"model\.architecture must be one of modern, gpt2, .* did you mean 'gpt2'"):
        recipe_from_text("model: {architecture: gpt-2}", "my.yaml")


@pytest.mark.parametrize("kind", ["cortex", "ltg-bert", "fno", "pretrained"])
def test_a_printed_recipe_of_every_kind_loads_as_the_same(kind: str) -> None:
    recipe = recipe_from_text(f"model: {{architecture: {kind}}}", "my.yaml")
    assert recipe_from_text(recipe.to_yaml(), "printed.yaml").config == recipe.config
