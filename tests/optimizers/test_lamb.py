"""LAMB against its plain form, its trust ratio, and its place among the optimizers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unstuck.config.schema import OptimizerConfig
from unstuck.train.optimizers import build
from unstuck.train.optimizers.lamb_reference import lamb_step

CONFIG = OptimizerConfig(kind="lamb", learning_rate=0.02, beta2=0.98, eps=1e-6, weight_decay=0.1)


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))


def backward(model: nn.Module, update: int) -> None:
    inputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(update))
    model(inputs).square().sum().backward()


def test_equals_the_plain_form_over_updates() -> None:
    model, plain = make(), make()
    optimizers = build(model, CONFIG)
    assert {group.algorithm for group in optimizers.groups} == {"lamb"}
    state = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in plain.named_parameters()}
    for update in range(1, 6):
        for net in (model, plain):
            net.zero_grad()
            backward(net, update)
        optimizers.step()
        with torch.no_grad():
            for name, p in plain.named_parameters():
                assert p.grad is not None
                new, *moments = lamb_step(
                    p, p.grad, *state[name], step=update, lr=0.02, beta1=0.9, beta2=0.98, eps=1e-6,
                    weight_decay=0.1 if p.ndim > 1 else 0.0,
                )  # fmt: skip
                p.copy_(new)
                state[name] = (moments[0], moments[1])
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_a_matrix_moves_by_its_own_length_times_the_rate() -> None:
    model = make()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    backward(model, 1)
    build(model, CONFIG).step()
    for name, p in model.named_parameters():
        if p.ndim > 1:
            assert float((p - before[name]).norm().detach()) == pytest.approx(
                0.02 * float(before[name].norm()), rel=1e-5
            )


def test_a_matrix_of_zeros_still_learns() -> None:
    model = make()
    nn.init.zeros_(model[1].weight)
    nn.init.ones_(model[1].bias)
    backward(model, 1)
    build(model, CONFIG).step()
    assert float(model[1].weight.detach().abs().max()) > 0


def test_going_on_from_a_stored_state_is_exact() -> None:
    model, other = make(), make()
    first = build(model, CONFIG)
    for update in (1, 2):
        first.zero_grad()
        backward(model, update)
        first.step()
    second = build(other, CONFIG)
    other.load_state_dict(model.state_dict())
    assert second.load_state_tensors({k: v.clone() for k, v in first.state_tensors().items()}) == []
    for optimizers, net in ((first, model), (second, other)):
        optimizers.zero_grad()
        backward(net, 3)
        optimizers.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_it_says_how_far_it_moves() -> None:
    model = make()
    optimizers = build(model, CONFIG)
    backward(model, 1)
    optimizers.step()
    assert optimizers.update_ratios()["matrices"] == pytest.approx(0.02, rel=0.1)
