"""Operations counted from the model against those that torch counts while it computes."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unstuck.config.sections.gpt import GPTConfig
from unstuck.models import build
from unstuck.train.peak import bfloat16_peak, operations


@pytest.mark.parametrize("architecture", ["modern", "gpt2"])
def test_operations_of_an_update_are_those_that_torch_counts(architecture: str) -> None:
    config = GPTConfig(architecture=architecture, layers=3, heads=2, width=32, tied_head=True)
    model = build(config, vocabulary=50, context=64)
    batch = torch.randint(50, (4, 64)), torch.randint(50, (4, 64))
    with FlopCounterMode(display=False) as counter:
        model(*batch, "sum").backward()
    cost = operations(model, config.layers, config.width, looks_back_only=False)  # scores are computed whole on a CPU
    assert cost is not None
    assert cost.of(batch) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_frozen_weights_cost_four_operations_and_not_six() -> None:
    layer = torch.nn.Linear(8, 8)
    trained = operations(layer, 1, 8, looks_back_only=True)
    frozen = operations(layer.requires_grad_(False), 1, 8, looks_back_only=True)
    assert trained is not None
    assert frozen is not None
    assert (trained.linear, frozen.linear) == (6 * 64, 4 * 64)


def test_no_share_of_peak_is_claimed_where_the_peak_or_the_size_is_unknown() -> None:
    assert bfloat16_peak(torch.device("cpu")) is None
    assert operations(torch.nn.Linear(8, 8), None, 8, looks_back_only=True) is None
