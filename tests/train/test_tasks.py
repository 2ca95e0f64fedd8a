"""What can be trained on what."""

from __future__ import annotations

import pytest

from tests.train.conftest import Make
from unstuck.errors import UserError
from unstuck.train.run import train


@pytest.mark.parametrize(
    ("architecture", "task", "sentence"),
    [
        ("ltg-bert", "causal", "ltg-bert cannot be trained with task.kind=causal; set task.kind=masked"),
        ("fno", "causal", "fno cannot be trained with task.kind=causal; set task.kind=operator"),
        ("modern", "masked", "modern cannot be trained with task.kind=masked; set task.kind=causal"),
        ("modern", "operator", "task.kind=operator cannot learn from data.kind=text; set task.kind=causal"),
    ],
)
def test_a_model_that_cannot_learn_a_task_is_one_sentence(
    tiny: Make, architecture: str, task: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        train(tiny(f"model.architecture={architecture}", f"task.kind={task}"))
