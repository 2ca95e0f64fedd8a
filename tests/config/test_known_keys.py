"""What counts as a misspelling of a known key, and what is a name of its own."""

from __future__ import annotations

import pytest

from unstuck.config.known_keys import NANOGPT, TRAINING_ARGUMENTS, edits, misspelling
from unstuck.runs.readers.nanogpt import DEFAULTS


@pytest.mark.parametrize(
    ("key", "known", "how"),
    [
        ("leaning_rate", "learning_rate", "slip"),
        ("learnign_rate", "learning_rate", "slip"),
        ("weigth_decay", "weight_decay", "slip"),
        ("gradient_acumulation_steps", "gradient_accumulation_steps", "slip"),
        ("bacth_size", "batch_size", "slip"),
        ("warmup_step", "warmup_steps", "form"),
        ("learningrate", "learning_rate", "form"),
        ("patch_size", "batch_size", None),
        ("min_epochs", "max_epochs", None),
        ("beta3", "beta2", None),
        ("optimiser", "optimizer", None),
        ("accum_steps", "accumulation_steps", None),
        ("val_steps", "eval_steps", None),
        ("patients", "patience", None),
        ("dropout", "dropout", None),
    ],
)
def test_a_slip_a_form_or_another_name(key: str, known: str, how: str | None):
    assert misspelling(key, known) == how


def test_edits_count_a_swap_as_one_and_stop_at_the_limit():
    assert edits("bacth", "batch", 2) == 1
    assert edits("kitten", "sitting", 3) == 3
    assert edits("kitten", "sitting", 2) is None


def test_no_known_key_is_a_slip_of_another_one():
    """Else a sound configuration with one of them would be told to write the other."""
    for keys in (TRAINING_ARGUMENTS, NANOGPT):
        assert not [(a, b) for a in keys for b in keys if misspelling(a, b) == "slip"]


def test_the_lists_hold_what_the_programs_read():
    transformers = pytest.importorskip("transformers")
    import dataclasses

    fields = {field.name for field in dataclasses.fields(transformers.Seq2SeqTrainingArguments)}
    if transformers.__version__.startswith("5.23."):
        assert fields <= TRAINING_ARGUMENTS
    assert DEFAULTS.keys() <= NANOGPT
