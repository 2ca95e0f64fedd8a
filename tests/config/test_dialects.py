"""Names and values of other frameworks become canonical ones, and prescriptions come back as the user writes them."""

from __future__ import annotations

from typing import Any

import pytest

from unstuck.config.dialects import NAMES, canonical_settings, guess_dialect, in_dialect
from unstuck.config.names import Name
from unstuck.config.patch import Change
from unstuck.config.recipe import load_recipe
from unstuck.runs import Run, Setting, Source


def raw(**settings: Any) -> dict[str, Setting]:
    return {k: Setting(v, k, Source("args", n)) for n, (k, v) in enumerate(settings.items(), start=1)}


def dotted(settings: dict[str, Any]) -> dict[str, Setting]:
    return {k: Setting(v, k, Source("args")) for k, v in settings.items()}


def values(settings: dict[str, Setting], dialect: str) -> dict[str, Any]:
    return {name: setting.value for name, setting in canonical_settings(settings, dialect).items()}


def run_of(settings: dict[str, Setting], dialect: str) -> Run:
    run = Run("train.log", "made-up", dialect=dialect, raw_settings=settings)
    run.settings = canonical_settings(settings, dialect)
    return run


HUGGINGFACE = raw(
    per_device_train_batch_size=8, gradient_accumulation_steps=4, max_steps=600, num_train_epochs=3.0,
    learning_rate=5e-5, lr_scheduler_type="cosine", warmup_steps=50, max_grad_norm=1.0, adam_beta1=0.9,
    adam_beta2=0.999, optim="adamw_torch_fused", label_smoothing_factor=0.1, eval_steps=100, seed=42, bf16=True,
    fp16=False, weight_decay=0.01,
)  # fmt: skip
NANOGPT = raw(
    learning_rate=1e-3, max_iters=5000, lr_decay_iters=4000, min_lr=1e-4, warmup_iters=100, grad_clip=1.0,
    gradient_accumulation_steps=40, batch_size=12, block_size=64, n_layer=6, n_head=6, n_embd=384, eval_interval=250,
    eval_iters=200, init_from="scratch", dtype="bfloat16", beta2=0.99,
)  # fmt: skip


def test_transformers_arguments_become_canonical():
    found = values(HUGGINGFACE, "huggingface")
    assert found == {
        "learning_rate": 5e-5, "schedule": "cosine", "warmup_updates": 50, "updates": 600, "batch_size": 8,
        "accumulation": 4, "clip_norm": 1.0, "weight_decay": 0.01, "optimizer": "adamw", "beta1": 0.9, "beta2": 0.999,
        "label_smoothing": 0.1, "precision": "bfloat16", "seed": 42, "evaluation_every": 100,
    }  # fmt: skip


def test_transformers_warmup_below_one_is_a_share_and_steps_win_over_the_ratio():
    assert values(raw(warmup_steps=0.06), "huggingface") == {"warmup_share": 0.06}
    assert values(raw(warmup_steps=100, warmup_ratio=0.1), "huggingface") == {"warmup_updates": 100}
    assert values(raw(warmup_steps=0, warmup_ratio=0.1), "huggingface") == {"warmup_share": 0.1}
    assert values(raw(warmup_steps=0), "huggingface") == {"warmup_updates": 0}


def test_transformers_unset_steps_leave_the_epochs():
    assert values(raw(max_steps=-1, num_train_epochs=3.0), "huggingface") == {"epochs": 3.0}


def test_a_class_of_the_users_own_with_a_vocabulary_is_some_language_model():
    own = {"model.type": "Encoder", "per_device_train_batch_size": 8}
    assert "task" not in values(dotted(own | {"model.vocab_size": 97}), "huggingface")
    assert values(dotted(own), "huggingface")["task"] == "encoder"
    labelled = own | {"model.vocab_size": 97, "model.num_labels": 3}
    assert values(dotted(labelled), "huggingface")["task"] == "encoder"
    named = own | {"model.vocab_size": 97, "model.type": "BertForMaskedLM"}
    assert values(dotted(named), "huggingface")["task"] == "masked-lm"


@pytest.mark.parametrize(
    ("written", "kind"),
    [("SchedulerType.LINEAR", "linear"), ("constant_with_warmup", "constant"), ("cosine_with_restarts", "restarts"),
     ("reduce_lr_on_plateau", "plateau"), ("warmup_stable_decay", "wsd"), ("cosine_with_min_lr", "cosine"),
     ("CosineAnnealingWarmRestarts", "restarts"), ("OneCycleLR", "onecyclelr"),
     ("none", "constant"), ("Noam", "inverse_sqrt")],
)  # fmt: skip
def test_schedules_of_all_frameworks_get_one_name(written: str, kind: str):
    assert values(raw(lr_scheduler_type=written), "huggingface")["schedule"] == kind


def test_nanogpt_names_and_its_absolute_floor():
    found = values(NANOGPT, "nanogpt")
    assert found["updates"] == 5000
    assert found["horizon_updates"] == 4000
    assert found["lr_floor"] == pytest.approx(0.1)
    assert found["min_learning_rate"] == 1e-4
    assert found["schedule"] == "cosine"
    assert found["validation_tokens"] == 200 * 12 * 64
    assert found["start"] == "fresh"
    assert found["precision"] == "bfloat16"


def test_nanogpt_accumulation_counts_all_devices():
    run = run_of(NANOGPT | raw(world_size=8), "nanogpt")
    assert run.setting("accumulation") == 5
    assert in_dialect(Change("accumulation", 5, 10), run) == Change("gradient_accumulation_steps", 40, 80)


def test_nanogpt_without_decay_applies_neither_warmup_nor_horizon():
    found = values(NANOGPT | raw(decay_lr=False), "nanogpt")
    assert found["schedule"] == "constant"
    assert not found.keys() & {"warmup_updates", "horizon_updates", "min_learning_rate", "lr_floor"}
    run = run_of(NANOGPT | raw(decay_lr=False), "nanogpt")
    assert in_dialect(Change("schedule", "constant", "cosine"), run) == Change("decay_lr", False, True)


PLAIN = {
    "lr": ("learning_rate", 1e-3, 1e-3),
    "--base-lr": ("learning_rate", "1e-3", 1e-3),
    "optimizer.lr": ("learning_rate", 1e-3, 1e-3),
    "trainer.gradient_clip_val": ("clip_norm", 0.5, 0.5),
    "grad_accum": ("accumulation", 4, 4),
    "accumulation_steps": ("accumulation", 4, 4),
    "clip": ("clip_norm", None, 0.0),
    "warmup": ("warmup_share", 0.1, 0.1),
    "warmup_steps": ("warmup_updates", 0.1, 0.1),  # int(0.1) of incident I3 must stay visible
    "warmup_proportion": ("warmup_share", 0.06, 0.06),
    "total_steps": ("updates", 5_000, 5_000),
    "max_epochs": ("epochs", 5, 5),
    "n_epochs": ("epochs", 5, 5),
    "min_lr_ratio": ("lr_floor", 0.1, 0.1),
    "optimizer": ("optimizer", "torch.optim.AdamW", "adamw"),
    "scheduler.name": ("schedule", "cosine", "cosine"),
    "mixed_precision": ("precision", "bf16-mixed", "bfloat16"),
    "resume_from": ("start", "runs/checkpoint-500", "checkpoint"),
    "base_model": ("start", "meta-llama/Llama-3.2-1B", "pretrained"),
    "lora.r": ("lora_rank", 8, 8),
}


@pytest.mark.parametrize("key", PLAIN)
def test_plain_spellings_are_understood(key: str):
    canonical, written, value = PLAIN[key]
    assert values(dotted({key: written}), "plain")[canonical] == value


def test_keys_of_other_things_are_not_taken_for_the_training():
    assert values(dotted({"eval.batch_size": 64, "lora.dropout": 0.1, "wandb.seed": 3}), "plain") == {}
    assert "lora_rank" not in values(dotted({"lora_rank": 8, "use_lora": False}), "plain")


def test_environment_variables_are_the_plain_names_in_capitals():
    run = run_of(raw(LEARNING_RATE="1e-5", BATCH_SIZE="16", GRAD_CLIP="1.0", NUM_STEPS="500"), "environment")
    assert run.setting("learning_rate") == 1e-5
    assert run.setting("updates") == 500
    change = in_dialect(Change("learning_rate", 1e-5, 2e-5), run)
    assert (change.key, change.old, change.new) == ("LEARNING_RATE", "1e-5", "2e-05")
    assert in_dialect(Change("warmup_updates", None, 50), run).key == "WARMUP_STEPS"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"lr_mult.body": 0.01, "lr_mult.head": 1.0}, "lr_mult.body"),
        ({"body_lr_scale": 0.01}, "body_lr_scale"),
        ({"lr_mult_body": 0.01, "lr_mult_head": 1.0}, "lr_mult_body"),
    ],
)
def test_group_factors_are_found_and_changed_by_the_users_key(settings: dict[str, Any], key: str):
    run = run_of(dotted({"lr": 1e-3} | settings), "plain")
    factors = run.setting("group_lr_factors")
    assert factors is not None
    assert factors["body"] == 0.01
    assert in_dialect(Change("group_lr_factors", factors, {**factors, "body": 1.0}), run) == Change(key, 0.01, 1.0)


def test_a_floor_ratio_is_no_group():
    settings = raw(min_lr_factor=0.1, final_lr_scale=0.1, lr_scale_factor=0.1, lr_mult_decay=0.5)
    assert "group_lr_factors" not in values(settings, "plain")


def test_our_own_recipe_is_understood_completely():
    groups = "optimizer.groups=[{name: memory, pattern: mem, lr_factor: 0.1}]"
    recipe = load_recipe("gpt-char", [groups, "schedule.horizon_updates=900", "clip_norm=null", "warmup_share=null"])
    run = run_of(dotted(recipe.leaves()), "unstuck")
    assert run.setting("learning_rate") == recipe.config.optimizer.learning_rate
    assert run.setting("horizon_updates") == 900
    assert run.setting("group_lr_factors") == {"memory": 0.1}
    assert run.setting("clip_norm") == 0.0
    assert run.setting("warmup_updates") == 0
    assert run.setting("start") == "fresh"
    change = Change("group_lr_factors", {"memory": 0.1}, {"memory": 1.0})
    assert in_dialect(change, run) == Change("optimizer.groups.memory.lr_factor", 0.1, 1.0)
    assert in_dialect(Change("clip_norm", 0.0, 1.0), run) == Change("training.clip_norm", None, 1.0)


@pytest.mark.parametrize("name", NAMES, ids=lambda n: n.canonical)
def test_every_key_of_ours_in_the_table_is_one_of_the_recipe(name: Name):
    leaves = load_recipe("gpt-char").leaves()
    assert set(name.spellings.get("unstuck", ())) <= leaves.keys()


def test_a_prescription_for_our_run_is_a_change_that_its_recipe_takes():
    recipe = load_recipe("gpt-char")
    run = run_of(dotted(recipe.leaves()), "unstuck")
    for canonical in ("learning_rate", "horizon_updates", "updates", "patience", "schedule_cycles", "context"):
        change = in_dialect(Change(canonical, run.setting(canonical), 8), run)
        assert recipe.with_changes({change.key: change.new}, "fix").leaves()[change.key] == 8


def test_dialects_are_told_from_their_keys():
    assert guess_dialect(HUGGINGFACE) == "huggingface"
    assert guess_dialect(NANOGPT) == "nanogpt"
    assert guess_dialect(load_recipe("gpt-char").leaves()) == "unstuck"
    assert guess_dialect(["LEARNING_RATE", "BATCH_SIZE", "path"]) == "environment"
    assert guess_dialect(["lr", "batch_size", "gradient_accumulation_steps"]) == "plain"
    assert guess_dialect([]) == "plain"


def test_epochs_become_updates_and_come_back_as_whole_epochs():
    run = run_of(raw(epochs=20, steps_per_epoch=125, batch_size=64), "plain")
    assert run.setting("updates") == 2500
    assert in_dialect(Change("updates", 2500, 800), run) == Change("epochs", 20, 6)
