"""How many classes a run's settings name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unstuck.diagnose.case import Case
from unstuck.diagnose.class_count import classes_named
from unstuck.runs import Run, Series, Setting, Source

PLACE = Source("config.json", 1)


def run_with(accuracy: bool = False, format: str = "text", **raw: Any) -> Run:
    """A run of raw settings, of which the canonical ones keep their names; dots are written as two underscores."""
    written = {key.replace("__", "."): value for key, value in raw.items()}
    names = ("vocabulary", "task", "label_smoothing")
    canonical = {name: Setting(written[name], name, PLACE) for name in names if name in written}
    run = Run(source="x", format=format, axis="update", settings=canonical)
    run.raw_settings = {key: Setting(value, key, PLACE) for key, value in written.items()}
    if accuracy:
        updates = np.arange(3)
        run.series["val/accuracy"] = Series("val/accuracy", updates, np.full(3, 0.1), updates, "x")
    return run


@pytest.mark.parametrize(
    ("settings", "classes"),
    [
        ({"model__num_labels": 8, "vocabulary": 23}, 8),  # a classifier of text: its loss is over the labels
        ({"model__num_labels": 2, "vocabulary": 50257}, None),  # what transformers has where none is set
        ({"num_labels": 8, "vocabulary": 23, "task": "causal-lm"}, None),
        ({"num_classes": 10}, None),  # a detector has classes as well
        ({"num_classes": 10, "accuracy": True}, 10),
        ({"classes": ["garden", "kitchen", "office"], "accuracy": True}, 3),
        ({"model__id2label__0": "no", "model__id2label__1": "yes", "model__id2label__2": "?", "accuracy": True}, 3),
        ({"num_targets": 12}, None),  # a regression has targets as well
        ({"num_targets": 12, "label_smoothing": 0.0}, 12),
        ({"num_targets": 107, "label_smoothing": 0.1, "vocabulary": 107}, None),
        ({"num_classes": 1, "accuracy": True}, None),
    ],
)
def test_classes_are_those_of_a_classifier(settings: dict[str, Any], classes: int | None) -> None:
    assert classes_named(run_with(**settings)) == classes


def test_a_loss_over_labels_is_none_over_tokens() -> None:
    assert not Case(run_with(num_labels=8, vocabulary=23)).is_token_loss
    assert Case(run_with(vocabulary=23)).is_token_loss
