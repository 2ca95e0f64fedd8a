"""Both models: what they may see, what their losses are, what they share."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from benchmarks.peers.nanogpt_form import NanoGPTForm
from torch import Tensor, nn

from unstuck.config.sections.gpt import GPTConfig
from unstuck.models import build
from unstuck.models.functions import normalise, scaled_sum, squared_relu
from unstuck.models.gpt import rotate, rotations
from unstuck.models.language_model import LONGEST_EXPLICIT, CausalAttention, LanguageModel
from unstuck.models.ngrams import NGrams

V, T = 23, 12
EXTRAS = ("value_embeddings", "input_skip", "smear", "ngrams")
SETTINGS = [{"architecture": "gpt2"}, {"architecture": "gpt2", "bias": True, "tied_head": True}] + [
    {"architecture": "modern", **dict(zip(EXTRAS, chosen, strict=True))}
    for chosen in itertools.product((True, False), (True, False), (True, False), (4, 0))
]


def randomised(**settings: object) -> LanguageModel:
    """A small model none of whose parameters is zero, so that every path carries a signal."""
    torch.manual_seed(0)
    model = build(GPTConfig(layers=2, heads=2, width=16, **settings), vocabulary=V, context=T)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def tokens(batch: int = 3, length: int = T) -> Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_later_token_changes_no_earlier_logit_and_no_other_window(settings: dict[str, object]) -> None:
    model, before = randomised(**settings), tokens()
    for position in (1, 5, T - 1):
        after = before.clone()
        after[1, position] = (after[1, position] + 7) % V
        difference = (model(after) - model(before)).abs()
        assert difference[1, :position].max() == 0
        assert difference[[0, 2]].max() == 0
        assert difference[1, position].max() > 1e-4


@pytest.mark.parametrize("settings", SETTINGS[:3], ids=str)
def test_every_earlier_token_is_seen(settings: dict[str, object]) -> None:
    model, before = randomised(**settings), tokens()
    for position in range(T):
        after = before.clone()
        after[:, position] = (after[:, position] + 7) % V
        assert ((model(after) - model(before))[:, -1].abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize("architecture", ["modern", "gpt2"])
def test_loss_is_the_mean_over_targets_that_are_not_ignored(architecture: str) -> None:
    model, seen = randomised(architecture=architecture), tokens()
    targets = tokens(3, T).roll(1, 0)
    targets[0, :4] = -100
    logits = model(seen).log_softmax(-1)
    picked = [-logits[b, t, targets[b, t]] for b in range(3) for t in range(T) if targets[b, t] >= 0]
    assert model(seen, targets).item() == pytest.approx(torch.stack(picked).mean().item(), abs=1e-6)
    assert model(seen, targets, "sum").item() == pytest.approx(torch.stack(picked).sum().item(), abs=1e-4)


def test_the_modern_model_starts_at_the_entropy_of_the_vocabulary() -> None:
    model = build(GPTConfig(), vocabulary=65, context=64)
    loss = model(torch.randint(65, (4, 64)), torch.randint(65, (4, 64)))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(65), abs=1e-5)


@pytest.mark.parametrize("architecture", ["modern", "gpt2"])
def test_a_tied_head_is_the_embeddings_tensor_and_learns_as_one(architecture: str) -> None:
    model = build(GPTConfig(architecture=architecture, tied_head=True), vocabulary=V, context=T)
    names = dict(model.named_parameters())
    assert model.head.weight.data_ptr() == model.token_embedding.weight.data_ptr()
    assert "head.weight" not in names
    untied = build(GPTConfig(architecture=architecture), vocabulary=V, context=T)
    assert sum(p.numel() for p in untied.parameters()) - sum(p.numel() for p in model.parameters()) == V * 128


@pytest.mark.parametrize("architecture", ["modern", "gpt2"])
def test_weights_follow_from_the_seed(architecture: str) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return build(GPTConfig(architecture=architecture), vocabulary=V, context=T).state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_gpt2_is_the_same_function_as_nanogpts_form() -> None:
    torch.manual_seed(0)
    ours = build(GPTConfig(architecture="gpt2", tied_head=True), vocabulary=V, context=T)
    theirs = NanoGPTForm(vocabulary=V, context=T, layers=4, heads=4, width=128)
    with torch.no_grad():
        for parameter, source in zip(theirs.parameters(), ours.parameters(), strict=True):
            parameter.copy_(source + 0.02 * torch.randn_like(source))
            source.copy_(parameter)
    torch.testing.assert_close(ours(tokens()), theirs(tokens())[0], atol=1e-5, rtol=1e-4)


def test_dropout_acts_in_training_alone() -> None:
    model = randomised(dropout=0.5, architecture="modern")
    seen = tokens()
    assert not torch.equal(model(seen), model(seen))
    model.eval()
    assert torch.equal(model(seen), model(seen))


def test_explicit_attention_equals_the_fused_kernel() -> None:
    q, k, v = torch.randn(3, 2, 4, 64, 32, requires_grad=True).unbind()
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    explicit = CausalAttention(4, LONGEST_EXPLICIT, 0.0)(q, k, v)
    torch.testing.assert_close(explicit, fused.transpose(1, 2).reshape(2, 64, 128), atol=1e-5, rtol=1e-4)


def test_a_window_longer_than_the_context_still_works_in_the_modern_model() -> None:
    model = randomised(architecture="modern")
    long = tokens(2, 3 * T)
    torch.testing.assert_close(model(long)[:, :T], model(long[:, :T]), atol=1e-4, rtol=1e-4)


def test_rotation_makes_scores_depend_on_distance_alone() -> None:
    turns = rotations(40, 8)
    q, k = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 40, 1, 8)
    scores = rotate(q, turns)[0, :, 0] @ rotate(k, turns)[0, :, 0].T
    torch.testing.assert_close(scores[3, 1], scores[37, 35], atol=1e-4, rtol=1e-4)


def test_strings_have_rows_of_their_own_where_the_table_is_large_enough() -> None:
    every = torch.cartesian_prod(*[torch.arange(V)] * 3)
    singles, pairs, triples = NGrams(3, V, 4).rows_of(every)[:, 2].unbind(-1)
    assert torch.equal(singles, every[:, 2])
    assert len(pairs.unique()) == V**2
    assert singles.max() < V <= pairs.min()
    assert pairs.max() < V + V**2 <= triples.min()
    assert triples.max() < V + V**2 + min(V**3, 8192)
    assert len(triples.unique()) > 0.7 * min(V**3, 8192)  # 12,167 strings thrown at random hit 1 - 1/e^1.5 = 78 %


def test_hashed_rows_are_in_range_for_a_large_vocabulary() -> None:
    table = NGrams(5, 50_000, 2)
    rows = table.rows_of(torch.randint(50_000, (4, 64)))
    bounds = torch.tensor(table.rows).cumsum(0)
    assert (rows < bounds).all()
    assert (rows >= bounds - torch.tensor(table.rows)).all()


def test_the_table_of_strings_gets_the_gradient_of_a_plain_sum_of_rows() -> None:
    table, seen = NGrams(4, V, 3), tokens()
    nn.init.normal_(table.embedding.weight)
    weight = torch.randn(3, T, 3)
    (table(seen) * weight).sum().backward()
    plain = table.embedding.weight.detach().clone().requires_grad_()
    (plain[table.rows_of(seen)].sum(-2) * weight).sum().backward()
    torch.testing.assert_close(table.embedding.weight.grad.to_dense(), plain.grad)


@pytest.mark.parametrize("function", [normalise, squared_relu], ids=["normalise", "squared_relu"])
def test_written_out_derivatives_equal_automatic_differentiation(function: object) -> None:
    x = torch.randn(3, 5, 8, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,), atol=1e-6)  # type: ignore[arg-type]
    shares = torch.tensor([0.7, -0.3], dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(scaled_sum, (x, x.detach().roll(1, 0).requires_grad_(), shares))


def test_normalise_is_rms_norm_and_survives_zeros() -> None:
    x = torch.randn(4, 16)
    torch.testing.assert_close(normalise(x), torch.nn.functional.rms_norm(x, (16,)))
    assert normalise(torch.zeros(2, 16)).abs().max() == 0
