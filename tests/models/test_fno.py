"""The Fourier neural operator: units, symmetry, grids, what is saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unstuck.config.sections.fno import FnoConfig
from unstuck.errors import UserError
from unstuck.evaluate.operator_losses import relative_h1, relative_l2
from unstuck.models import build

pytest.importorskip("neuralop")

SMALL = FnoConfig(modes=6, width=8, layers=2)
FIT = {"input_mean": 3.0, "input_deviation": 5.0, "target_mean": -2.0, "target_deviation": 7.0}


def fno(**settings: object) -> torch.nn.Module:
    torch.manual_seed(0)
    fit = settings.pop("normalisation", None)
    return build(SMALL.model_copy(update=settings), points=[16, 16], normalisation=fit).eval()


def fields(points: int = 16) -> torch.Tensor:
    return torch.randn(3, points, points, generator=torch.Generator().manual_seed(1))


def test_fields_go_in_and_come_out_in_their_own_units() -> None:
    plain = fno(predict_change=False)
    fitted = fno(predict_change=False, normalisation=FIT)
    with torch.no_grad():
        torch.testing.assert_close(fitted(3.0 + 5.0 * fields()), -2.0 + 7.0 * plain(fields()), rtol=1e-4, atol=1e-4)


def test_the_operator_may_give_the_change_alone() -> None:
    network = fno()
    for parameter in network.operator.projection.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(network(fields()), fields())


def test_a_shift_along_the_diagonal_shifts_the_prediction_and_another_shift_does_not() -> None:
    network = fno()
    with torch.no_grad():
        moved = network(fields().roll((3, -3), (1, 2)))
        torch.testing.assert_close(moved, network(fields()).roll((3, -3), (1, 2)), rtol=1e-4, atol=1e-4)
        other = network(fields().roll(3, 1))
    assert not torch.allclose(other, network(fields()).roll(3, 1), atol=1e-2)


@pytest.mark.parametrize("positions", ["diagonal", "periodic", "grid", "none"])
def test_it_predicts_on_other_grids_than_it_was_made_for(positions: str) -> None:
    assert fno(positions=positions)(fields(24)).shape == (3, 24, 24)


def test_it_computes_in_float32_under_autocast() -> None:
    network = fno()
    with torch.autocast("cpu", torch.bfloat16):
        found = network(fields())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, network(fields()))


def test_its_state_is_tensors_alone_and_gives_the_same_model_back(tmp_path: Path) -> None:
    network = fno(normalisation=FIT)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(5)
    other = build(SMALL, points=[16, 16]).eval()
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert float(other.input_mean) == 3.0
    torch.testing.assert_close(other(fields()), network(fields()), rtol=0, atol=0)


def test_more_modes_than_points_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"set model\.modes="):
        build(FnoConfig(modes=40), points=[32, 32])


def test_relative_errors_are_of_each_field_and_one_for_predicting_nothing() -> None:
    strong_and_weak = fields() * torch.tensor([1.0, 100.0, 0.01])[:, None, None]
    for measure in (relative_l2, relative_h1):
        torch.testing.assert_close(measure(torch.zeros(3, 16, 16), strong_and_weak), torch.ones(3))
        torch.testing.assert_close(measure(1.1 * strong_and_weak, strong_and_weak), torch.full((3,), 0.1))


def test_h1_weighs_a_mode_by_its_wave_number() -> None:
    x = torch.arange(16) / 16
    low, high = (torch.sin(2 * torch.pi * k * x).expand(1, 16, 16) for k in (1, 5))
    share = relative_h1(low + 0.1 * high, low)
    expected = 0.1 * ((1 + 4 * torch.pi**2 * 25) / (1 + 4 * torch.pi**2)) ** 0.5
    torch.testing.assert_close(share, torch.tensor([expected]))
    torch.testing.assert_close(relative_l2(low + 0.1 * high, low), torch.tensor([0.1]))
