"""Remedies: bounded, explained, in known settings only, and expressible in every dialect."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import Any

import pytest

import unstuck.remedies
from unstuck.config.dialects import canonical_settings, in_dialect
from unstuck.config.recipe import recipe_from_text
from unstuck.diagnose.case import Case
from unstuck.diagnose.engine import all_rules
from unstuck.diagnose.rule import Evidence, Found, Remedy
from unstuck.remedies import remedies_for
from unstuck.runs import Run, Setting, Source

FOLDER = Path(unstuck.remedies.__file__).parent
NAMES = sorted(path.stem.replace("_", "-") for path in FOLDER.glob("[a-z]*.py"))
RULES_WITH_A_BOUNDED_CHANGE = {
    "lr-too-high", "lr-too-low", "lr-not-as-configured", "lr-stale-after-resume", "lr-group-starved",
    "warmup-too-long", "warmup-missing", "schedule-constant", "schedule-wrong-horizon", "gradient-exploding",
    "clip-saturated", "loss-at-chance", "initial-loss-implausible", "loss-plateau", "loss-spike", "loss-diverged",
    "loss-not-finite", "loss-zero-by-filter", "overfitting", "best-checkpoint-passed", "undertrained",
}  # fmt: skip

FACTS: dict[str, object] = {
    "stable_lr": 1e-3, "applied_lr": 4e-3, "published_lr": 2e-3, "group": "body", "factor": 0.1, "expected_lr": 1e-3,
    "asked_lr": 1e-3, "horizon_applied": 900.0, "planned_updates": 300, "starved_factor": 0.1,
    "faults": ("horizon/micro",),
    "arithmetic": "5e-5 x 0.1", "cause": "micro_batches", "warmup_applied": 270.0, "flat_since": 100,
    "typical_norm": 0.7, "high_norm": 1.9, "clipped_share": 0.9, "first_update": 120, "best_update": 150,
    "best_loss": 1.9, "since": 100, "update": 120, "recovered": False, "more_updates": 250, "projected_loss": 1.5,
}  # fmt: skip

# Schema defaults, not a bundled recipe, whose numbers are tuned: 300 updates, beta2 0.95, Muon at 0.03.
OURS = recipe_from_text("seed: 1\n", "my.yaml").with_changes(
    {"horizon_updates": 900, "optimizer.groups": [{"name": "body", "pattern": "b", "lr_factor": 0.1}]}, "test"
)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {
        "lr": 4e-3, "steps": 300, "t_max": 900, "schedule": "cosine", "warmup_steps": 270, "grad_clip": 0.1,
        "beta2": 0.999, "dropout": 0.0, "lr_mult.body": 0.1, "lr_mult.head": 1.0, "grad_accum": 3,
    },
    "huggingface": {
        "learning_rate": 4e-3, "max_steps": 300, "lr_scheduler_type": "constant", "warmup_ratio": 0.9,
        "max_grad_norm": 0.1, "adam_beta2": 0.999, "logging_nan_inf_filter": True, "fp16": True,
        "per_device_train_batch_size": 4,
    },
    "nanogpt": {
        "learning_rate": 4e-3, "max_iters": 300, "lr_decay_iters": 900, "min_lr": 4e-4, "warmup_iters": 0,
        "grad_clip": 0.0, "beta2": 0.99, "decay_lr": True, "block_size": 64,
    },
    "environment": {"LEARNING_RATE": "4e-3", "NUM_STEPS": "300", "GRAD_CLIP": "0", "WARMUP_STEPS": "0"},
    "unstuck": OURS.with_changes({"learning_rate": 4e-3, "warmup_share": 0.9, "clip_norm": 0.1}, "test").leaves(),
}  # fmt: skip


def case_of(dialect: str, without: tuple[str, ...] = ()) -> Case:
    raw = {k: Setting(v, k, Source("args")) for k, v in SETTINGS[dialect].items() if k not in without}
    run = Run("train.log", "made-up", dialect=dialect, raw_settings=raw)
    run.settings = canonical_settings(raw, dialect)
    return Case(run)


def found(**facts: object) -> Found:
    return Found("made up", (Evidence("train/loss", (1, 300), "level", 1.0),), 0.9, facts=facts)


def for_all(name: str) -> list[tuple[Case, Remedy]]:
    answer: list[tuple[Case, Remedy]] = []
    for dialect in SETTINGS:
        case = case_of(dialect)
        answer += [(case, remedy) for remedy in remedies_for(case, name, found(**FACTS))]
    return answer


def test_every_rule_that_promises_a_change_has_a_remedy():
    assert set(NAMES) >= RULES_WITH_A_BOUNDED_CHANGE
    orphans = set(NAMES) - set(all_rules())
    assert not orphans, f"remedies without a rule: {orphans}"


@pytest.mark.parametrize("name", NAMES)
def test_a_remedy_says_what_to_do_and_its_patch_is_a_change(name: str):
    for case, remedy in for_all(name):
        assert remedy.summary.endswith((".", "=...")), remedy.summary
        assert "None" not in remedy.summary
        assert "None" not in remedy.reason
        assert (remedy.safety == "advice") == (not remedy.patch)
        if remedy.patch:
            assert remedy.reason, "a change says why this amount"
        for change in remedy.patch:
            assert change.new != change.old
            theirs = in_dialect(change, case.run)
            assert theirs.new != theirs.old, (theirs, change)
            assert theirs.key in case.run.raw_settings or case.run.dialect == "environment", theirs


@pytest.mark.parametrize("name", NAMES)
def test_a_remedy_without_facts_and_settings_is_advice_not_a_guess(name: str):
    empty = Case(Run("train.log", "made-up"))
    for facts in ({}, FACTS):
        answer = remedies_for(empty, name, found(**facts))
        assert answer
        for remedy in answer:
            assert remedy.patch == ()
            assert remedy.safety == "advice"
            assert "None" not in remedy.summary


@pytest.mark.parametrize("name", NAMES)
def test_any_missing_fact_or_setting_is_borne(name: str):
    for fact in FACTS:
        assert remedies_for(case_of("plain"), name, found(**{k: v for k, v in FACTS.items() if k != fact}))
    for key in SETTINGS["plain"]:
        assert remedies_for(case_of("plain", (key,)), name, found(**FACTS))
    odd = itertools.product(
        ("nan", None, float("nan"), float("inf"), -1.0, 0, True), ("best_update", "stable_lr", "group")
    )
    for value, fact in odd:
        assert remedies_for(case_of("plain"), name, found(**{**FACTS, fact: value}))


@pytest.mark.parametrize("name", NAMES)
def test_every_change_to_a_run_of_ours_loads_as_a_recipe(name: str):
    case = case_of("unstuck")
    for remedy in remedies_for(case, name, found(**FACTS)):
        changes = {}
        for change in remedy.patch:
            theirs = in_dialect(change, case.run)
            changes[theirs.key] = theirs.new
        assert OURS.with_changes(changes, "fix") is not None


@pytest.mark.parametrize("name", NAMES)
def test_learning_rates_move_by_a_decade_at_most(name: str):
    for _, remedy in for_all(name):
        for change in remedy.patch:
            if change.key in ("learning_rate", "muon_learning_rate"):
                assert 0.099 <= change.new / change.old <= 10.1


def patches(dialect: str, name: str, **facts: object) -> dict[str, Any]:
    best = next(r for r in remedies_for(case_of(dialect), name, found(**facts)) if r.patch)
    return {in_dialect(c, case_of(dialect).run).key: c.new for c in best.patch}


def test_amounts():
    assert patches("plain", "schedule-wrong-horizon", planned_updates=300) == {"t_max": 300}
    assert patches("unstuck", "schedule-wrong-horizon") == {"schedule.horizon_updates": 300}
    assert patches("unstuck", "lr-group-starved", group="body") == {"optimizer.groups.body.lr_factor": {"body": 1.0}}
    assert patches("nanogpt", "overfitting", best_update=150) == {"max_iters": 150}
    # 2 / (1 - 0.99) = 200 is more than a tenth of the horizon
    assert patches("nanogpt", "warmup-missing") == {"warmup_iters": 90}
    # a share stays a share; 2 / (1 - 0.95) = 40 of 900
    assert patches("unstuck", "warmup-too-long") == {"schedule.warmup_share": 0.044}
    assert patches("plain", "lr-too-high", stable_lr=2e-3, applied_lr=4e-3) == {"lr": 0.002}
    assert patches("unstuck", "lr-too-high", stable_lr=2e-3, applied_lr=4e-3) == {
        "optimizer.learning_rate": 0.002,
        "optimizer.muon_learning_rate": 0.015,
    }
    assert patches("plain", "lr-too-low", published_lr=1.0) == {"lr": 0.04}
    assert patches("plain", "clip-saturated", high_norm=1.9) == {"grad_clip": 1.0}
    assert patches("nanogpt", "loss-spike") == {"grad_clip": 1.0}
    assert patches("plain", "undertrained", more_updates=5000) == {"steps": 600}
    assert patches("huggingface", "schedule-constant") == {"lr_scheduler_type": "linear"}


def test_a_share_in_the_key_of_a_count_is_one_change():
    raw = {k: Setting(v, k, Source("args")) for k, v in {"warmup_steps": 0.1, "max_steps": 31250}.items()}
    run = Run("train.log", "made-up", dialect="huggingface", raw_settings=raw)
    run.settings = canonical_settings(raw, "huggingface")
    (remedy,) = remedies_for(Case(run), "setting-truncated", found(key="warmup_steps", warmup_share=0.1))
    (change,) = (in_dialect(change, run) for change in remedy.patch)
    assert (change.key, change.old, change.new) == ("warmup_steps", 0.1, 3125)


def test_a_miscounted_schedule_is_mended_where_the_count_is_not_in_the_rate():
    remedies = remedies_for(case_of("plain"), "lr-not-as-configured", found(**FACTS))
    assert [change.key for remedy in remedies for change in remedy.patch] == ["horizon_updates"]
    told = remedies_for(case_of("huggingface"), "lr-not-as-configured", found(faults=("warmup/zero",)))
    assert "int(0.1) is 0" in told[0].summary


@pytest.mark.parametrize("path", sorted(FOLDER.glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_constants_state_their_source(path: Path):
    """A named amount has a comment on its line or above it that says where it comes from."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, float)
        ):
            assert "#" in lines[node.lineno - 1] or lines[node.lineno - 2].startswith("#")
