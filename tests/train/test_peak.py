"""Operations counted from the model against those that torch counts while it computes."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unstuck.config.sections.gpt import GPTConfig
from unstuck.models import build
from unstuck.train.peak import bfloat16_peak, operations, peak_of


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


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA H100 80GB HBM3", 989.5),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA H200", 989.5),
        ("NVIDIA GH200 480GB", 989.5),
        ("NVIDIA A10G", 70.0),
        ("NVIDIA L40", 181.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GB200", None),  # 2,500, not the 2,250 of a B200
        ("NVIDIA RTX A4000", None),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
    ],
)
def test_a_card_has_its_own_peak_and_never_that_of_one_with_a_similar_name(name: str, tera: float | None) -> None:
    assert peak_of(name) == (None if tera is None else tera * 1e12)


def test_no_share_of_peak_is_claimed_where_the_peak_or_the_size_is_unknown() -> None:
    assert bfloat16_peak(torch.device("cpu")) is None
    assert operations(torch.nn.Linear(8, 8), None, 8, looks_back_only=True) is None
