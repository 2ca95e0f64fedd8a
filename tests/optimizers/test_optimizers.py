"""Groups, AdamW, Muon and clipping, on real small models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unstuck.config.schema import GroupConfig, OptimizerConfig
from unstuck.config.sections.gpt import GPTConfig
from unstuck.errors import UserError
from unstuck.models import build as build_model
from unstuck.models.language_model import LanguageModel
from unstuck.train import optimizers
from unstuck.train.optimizers.muon import COEFFICIENTS, MARGIN, orthogonalise
from unstuck.train.optimizers.muon_reference import muon_step
from unstuck.train.optimizers.muon_reference import orthogonalise as orthogonalise_plainly


def model(**settings: object) -> LanguageModel:
    torch.manual_seed(0)
    return build_model(GPTConfig(layers=2, heads=2, width=32, **settings), vocabulary=19, context=8)


def learn(network: LanguageModel, step: optimizers.Optimizers, updates: int, first: int = 0) -> list[float]:
    losses = []
    for update in range(first, first + updates):
        batch = torch.randint(19, (4, 9), generator=torch.Generator().manual_seed(update))
        loss = network(batch[:, :-1], batch[:, 1:])
        loss.backward()
        step.step(1.0 - update / 20)
        step.zero_grad()
        losses.append(loss.item())
    return losses


def test_default_groups_take_every_parameter_once() -> None:
    network = model()
    groups = {g.name: g for g in optimizers.build(network, OptimizerConfig()).groups}
    assert set(groups) == {"matrices", "embeddings", "head", "scalars"}
    names = [name for group in groups.values() for name in group.names]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    assert {g.algorithm for n, g in groups.items() if n != "matrices"} == {"adamw"}
    assert groups["matrices"].algorithm == "muon"
    assert groups["matrices"].base_lr == OptimizerConfig().muon_learning_rate
    assert all("embedding" in name for name in groups["embeddings"].names)
    assert groups["matrices"].count == 2 * 12 * 32 * 32
    assert groups["head"].names == ["head.weight"]


def test_the_first_pattern_that_matches_takes_the_tensor() -> None:
    config = OptimizerConfig(
        groups=(
            GroupConfig(name="first", pattern=r"blocks\.0\.up", lr_factor=0.5),
            GroupConfig(name="second", pattern=r"up|token_embedding", lr_factor=0.1),
        )
    )
    groups = {g.name: g for g in optimizers.build(model(), config).groups}
    assert groups["first"].names == ["blocks.0.up.weight"]
    assert (groups["first"].algorithm, groups["first"].base_lr) == ("muon", pytest.approx(0.015))
    members = {name: g for g in groups.values() for name in g.names}
    up, embedding = members["blocks.1.up.weight"], members["token_embedding.weight"]
    assert (up.algorithm, up.base_lr) == ("muon", pytest.approx(0.003))
    assert (embedding.algorithm, embedding.base_lr) == ("adamw", pytest.approx(2e-4))
    assert {up.name, embedding.name} == {"second", "second-muon"}


def test_a_pattern_that_takes_nothing_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="no_such_tensor"):
        optimizers.build(model(), OptimizerConfig(groups=(GroupConfig(name="x", pattern="no_such_tensor"),)))
    scalars = GroupConfig(name="x", pattern="input_shares", optimizer="muon")
    with pytest.raises(UserError, match="Muon is for matrices"):
        optimizers.build(model(), OptimizerConfig(groups=(scalars,)))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_weight_decay_shrinks_matrices_and_neither_norms_nor_biases_nor_embeddings(kind: str) -> None:
    network = model(architecture="gpt2", bias=True)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(1.0)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    step = optimizers.build(network, OptimizerConfig(kind=kind, weight_decay=0.5, learning_rate=0.01))
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step.step(1.0)
    for name, parameter in network.named_parameters():
        shrunk = not torch.equal(parameter.detach(), before[name])
        assert shrunk == ("blocks" in name and parameter.ndim == 2), name


def test_a_group_may_ask_for_decay_of_what_is_not_decayed_by_default() -> None:
    config = OptimizerConfig(groups=(GroupConfig(name="e", pattern="token_embedding", weight_decay=0.1),))
    groups = optimizers.build(model(), config).groups
    (group,) = [g for g in groups if g.name == "e"]
    assert (group.name, group.weight_decay, group.decayed) == ("e", 0.1, {"token_embedding.weight"})


@pytest.mark.parametrize("shape", [(32, 32), (16, 128), (128, 16), (40, 30)])
def test_fast_orthogonalisation_equals_the_plain_one(shape: tuple[int, int]) -> None:
    stack = torch.randn(3, *shape)
    for fast, matrix in zip(orthogonalise(stack), stack, strict=True):
        torch.testing.assert_close(fast, orthogonalise_plainly(matrix, COEFFICIENTS, MARGIN), atol=2e-4, rtol=1e-3)


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonalise(torch.randn(4, 32, 128)))
    assert 0.7 < values.min() < values.max() < 1.3  # the coefficients' own bound: 1 +- 0.27


def test_bfloat16_orthogonalisation_stays_near_the_plain_one() -> None:
    stack = torch.randn(2, 32, 128)
    plain = torch.stack([orthogonalise_plainly(m, COEFFICIENTS, MARGIN) for m in stack])
    assert (orthogonalise(stack, torch.bfloat16) - plain).norm() / plain.norm() < 0.05


def test_muon_equals_its_reference_over_several_updates() -> None:
    config = OptimizerConfig(weight_decay=0.1)
    network = model()
    step = optimizers.build(network, config)
    (group,) = [g for g in step.groups if g.algorithm == "muon"]
    expected = {name: p.detach().clone() for name, p in group.parameters.items()}
    momenta = {name: torch.zeros_like(p) for name, p in expected.items()}
    for update in range(4):
        for i, (name, parameter) in enumerate(group.parameters.items()):
            parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(100 * update + i))
            expected[name], momenta[name] = muon_step(
                expected[name], parameter.grad, momenta[name], lr=group.base_lr * 0.5, beta=config.muon_momentum,
                weight_decay=0.1, coefficients=COEFFICIENTS, margin=MARGIN,
                row_pieces=getattr(parameter, "row_pieces", 1), column_pieces=getattr(parameter, "column_pieces", 1),
            )  # fmt: skip
        step.step(0.5)
    for name, parameter in group.parameters.items():
        torch.testing.assert_close(parameter.detach(), expected[name], atol=1e-4, rtol=1e-3)
    assert any(getattr(p, "row_pieces", 1) == 6 for p in group.parameters.values())  # q, k, v of two heads


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_stored_state_continues_to_the_same_weights_bit_for_bit(kind: str, tmp_path: Path) -> None:
    config = OptimizerConfig(kind=kind, groups=(GroupConfig(name="up", pattern="up", lr_factor=0.3),))
    through = model()
    step = optimizers.build(through, config)
    learn(through, step, 3)
    save_file(step.state_tensors(), tmp_path / "optimizer.safetensors")
    weights = {name: tensor.clone() for name, tensor in through.state_dict().items()}
    expected = learn(through, step, 3, first=3)

    resumed = model()
    resumed.load_state_dict(weights)
    again = optimizers.build(resumed, config)
    assert again.load_state_tensors(load_file(tmp_path / "optimizer.safetensors")) == []
    assert learn(resumed, again, 3, first=3) == expected
    assert all(torch.equal(a, b) for a, b in zip(through.parameters(), resumed.parameters(), strict=True))


def test_what_a_state_does_not_have_is_named() -> None:
    first = model()
    step = optimizers.build(first, OptimizerConfig())
    learn(first, step, 1)
    fresh = optimizers.build(model(), OptimizerConfig(kind="adamw")).load_state_tensors(step.state_tensors())
    assert set(fresh) == {n for n, p in first.named_parameters() if n.startswith("blocks") and p.ndim == 2
                          and "embedding" not in n}  # fmt: skip
    wider = build_model(GPTConfig(layers=2, heads=2, width=64), vocabulary=19, context=8)
    with pytest.raises(UserError, match="model section"):
        optimizers.build(wider, OptimizerConfig()).load_state_tensors(step.state_tensors())


def test_rates_are_those_set_or_the_peak_times_the_multiplier() -> None:
    network = model()
    step = optimizers.build(network, OptimizerConfig())
    step.set_lr({"head": 0.0, "embeddings": 0.0, "matrices": 0.0, "scalars": 0.0})
    before = [p.detach().clone() for p in network.parameters()]
    network(torch.zeros(1, 8, dtype=torch.long)).square().sum().backward()
    step.step()
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    step.step(0.25)
    assert {g.name: g.lr for g in step.groups}["matrices"] == pytest.approx(0.25 * 0.03)


def test_update_ratios_are_the_relative_size_of_the_last_update() -> None:
    network = model()
    step = optimizers.build(network, OptimizerConfig())
    learn(network, step, 3)
    before = {g.name: [p.detach().clone() for p in g.parameters.values()] for g in step.groups}
    learn(network, step, 1, first=3)
    ratios = step.update_ratios()
    for group in step.groups:
        after = list(group.parameters.values())
        moved = torch.stack([(a - b).norm() for a, b in zip(after, before[group.name], strict=True)]).norm()
        size = torch.stack([a.detach().norm() for a in after]).norm()
        assert ratios[group.name] == pytest.approx((moved / size).item(), rel=0.02), group.name


def test_learning_lowers_the_loss_with_both_optimizers() -> None:
    for kind in ("adamw", "muon"):
        network = model()
        step = optimizers.build(network, OptimizerConfig(kind=kind, learning_rate=0.01))
        batch = torch.randint(19, (4, 9), generator=torch.Generator().manual_seed(0))
        losses = []
        for _ in range(30):
            loss = network(batch[:, :-1], batch[:, 1:])
            loss.backward()
            step.step(1.0)
            step.zero_grad()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0], kind


def test_row_updates_equal_adamw_on_the_rows_a_batch_touches() -> None:
    config = OptimizerConfig(kind="adamw", learning_rate=0.1)
    sparse, dense = nn.Embedding(6, 3, sparse=True), nn.Embedding(6, 3)
    dense.load_state_dict(sparse.state_dict())
    before = sparse.weight.detach().clone()
    steps = [optimizers.build(table, config) for table in (sparse, dense)]
    for update in range(3):
        for table, step in zip((sparse, dense), steps, strict=True):
            (table(torch.tensor([1, 4, 1])) * (update + 1.0)).square().sum().backward()
            optimizers.clip_grad_norm(step.parameters, 0.5)
            step.step(1.0)
            step.zero_grad()
    torch.testing.assert_close(sparse.weight, dense.weight)
    assert torch.equal(sparse.weight[[0, 2, 3, 5]], before[[0, 2, 3, 5]])
    assert not torch.equal(sparse.weight[[1, 4]], before[[1, 4]])


def test_clipping_counts_sparse_gradients_like_dense_ones() -> None:
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([2, 2])).sum().backward()
    assert optimizers.clip_grad_norm(table.parameters(), 1.0).item() == pytest.approx(8**0.5)
    assert table.weight.grad.to_dense().norm().item() == pytest.approx(1.0)


def gradients(*values: float) -> list[Tensor]:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in values]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = torch.tensor([value, 0.0])
    return parameters


def test_clipping_returns_the_norm_before_and_scales_all_gradients_alike() -> None:
    parameters = [*gradients(3.0, 4.0), nn.Parameter(torch.zeros(1))]
    assert optimizers.clip_grad_norm(parameters, 1.0).item() == pytest.approx(5.0)
    assert [p.grad[0].item() for p in parameters if p.grad is not None] == pytest.approx([0.6, 0.8])
    assert optimizers.clip_grad_norm(parameters, 1.0).item() == pytest.approx(1.0)
    assert optimizers.clip_grad_norm(parameters, None).item() == pytest.approx(1.0)


def test_clipping_leaves_gradients_that_are_not_finite_as_they_are() -> None:
    parameters = gradients(3.0, float("inf"))
    assert optimizers.clip_grad_norm(parameters, 1.0).item() == float("inf")
    assert parameters[0].grad is not None
    assert parameters[0].grad[0].item() == 3.0


def test_a_complex_parameter_learns_as_the_pair_of_real_ones_it_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weight = torch.randn(3, 4, dtype=torch.complex64)
    wanted = torch.randn(3, 4, dtype=torch.complex64)
    pair = nn.ParameterDict({"weight": nn.Parameter(torch.view_as_real(weight).clone())})
    whole = nn.ParameterDict({"weight": nn.Parameter(weight.clone())})
    config = OptimizerConfig(kind="adamw")
    steps = [optimizers.build(network, config) for network in (whole, pair)]
    for _ in range(5):
        norms = []
        for network, step in zip((whole, pair), steps, strict=True):
            tensor = network["weight"] if network["weight"].is_complex() else torch.view_as_complex(network["weight"])
            (tensor - wanted).abs().square().sum().backward()
            norms.append(optimizers.clip_grad_norm(network.parameters(), 0.5))
            step.step()
            step.zero_grad()
        torch.testing.assert_close(*norms)
    torch.testing.assert_close(torch.view_as_real(whole["weight"].detach()), pair["weight"].detach())
    ratios = [next(iter(step.update_ratios().values())) for step in steps]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-5)
    save_file(steps[0].state_tensors(), tmp_path / "state.safetensors")
    assert optimizers.build(whole, config).load_state_tensors(load_file(tmp_path / "state.safetensors")) == []
