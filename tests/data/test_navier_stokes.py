"""The solver against exact solutions and itself; fields from the solver and from files."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unstuck.config.sections.fields import FieldsConfig
from unstuck.data import navier_stokes as solver
from unstuck.data.fields import prepare_fields
from unstuck.errors import UserError
from unstuck.train.tasks.operator import symmetric_images

SMALL = FieldsConfig(
    points=16, steps=6, train_trajectories=4, validation_trajectories=2, test_trajectories=2, pairs_per_trajectory=3
)


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def taylor_green(points: int) -> Tensor:
    wave = torch.cos(2 * math.pi * torch.arange(points, dtype=torch.float64) / points)
    return (4 * math.pi * wave[:, None] * wave[None, :])[None]


def test_a_taylor_green_vortex_decays_as_it_does_exactly() -> None:
    start = taylor_green(32)
    exact = start * math.exp(-8 * math.pi**2 * 0.01)
    errors = [
        error(solver.simulate(start, viscosity=0.01, forcing_NN=None, times=[1.0], dt=dt)[:, 0], exact)
        for dt in (0.1, 0.05)
    ]
    assert errors[1] < 2e-4
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)  # second order


def test_half_the_step_has_a_quarter_of_the_error_with_flow_and_forcing() -> None:
    start = 5 * solver.random_fields(2, 32, torch.Generator().manual_seed(0)).double()
    force = solver.forcing(32, torch.float64)
    coarse, half, fine = (
        solver.simulate(start, viscosity=1e-3, forcing_NN=force, times=[0.5], dt=dt) for dt in (0.02, 0.01, 0.00125)
    )
    assert error(half, fine) < 1e-4
    assert error(coarse, fine) / error(half, fine) == pytest.approx(4, rel=0.15)


def test_without_viscosity_and_forcing_enstrophy_stays() -> None:
    start = 10 * solver.random_fields(2, 32, torch.Generator().manual_seed(0)).double()
    end = solver.simulate(start, viscosity=0.0, forcing_NN=None, times=[0.5], dt=0.01)[:, 0]
    assert error(end, start) > 0.1
    torch.testing.assert_close(solver.enstrophy(end), solver.enstrophy(start), rtol=1e-4, atol=0)


def test_a_finer_grid_gives_the_same_flow() -> None:
    start = solver.random_fields(2, 32, torch.Generator().manual_seed(0)).double()

    def at(points: int) -> Tensor:
        force = solver.forcing(points, torch.float64)
        fields = solver.resample(start, points)
        return solver.resample(
            solver.simulate(fields, viscosity=1e-3, forcing_NN=force, times=[2.0], dt=0.05)[:, 0], 32
        )

    assert error(at(32), at(64)) < 1e-3


def test_initial_fields_have_the_published_spectrum() -> None:
    fields = solver.random_fields(400, 32, torch.Generator().manual_seed(0)).double()
    modes = torch.fft.rfft2(fields) / 32**2
    for k in (1, 3):
        power = float(modes[:, k, 0].abs().square().mean())
        assert power == pytest.approx(7**3 * (4 * math.pi**2 * k**2 + 49) ** -2.5, rel=0.2)
    assert modes[:, 0, 0].abs().max() < 1e-8


def test_symmetric_images_are_flows_of_the_same_equation() -> None:
    start = 10 * solver.random_fields(8, 16, torch.Generator().manual_seed(0)).double()
    force = solver.forcing(16, torch.float64)
    end = solver.simulate(start, viscosity=1e-3, forcing_NN=force, times=[0.5], dt=0.05)[:, 0]
    drawn = np.array([(shift, turned, mirrored) for shift in (3, 8) for turned in (0, 1) for mirrored in (0, 1)])
    start_image, end_image = symmetric_images(start.numpy(), end.numpy(), drawn)
    solved = solver.simulate(torch.from_numpy(start_image), viscosity=1e-3, forcing_NN=force, times=[0.5], dt=0.05)[
        :, 0
    ]
    torch.testing.assert_close(solved, torch.from_numpy(end_image), rtol=0, atol=1e-10)
    assert np.abs(start_image - start.numpy()).max(axis=(1, 2)).min() > 0.1  # none is left as it was


def test_pairs_are_one_step_apart_and_no_trajectory_is_in_two_splits() -> None:
    data = prepare_fields(SMALL)
    assert data.train_inputs.shape == (12, 16, 16)
    assert data.validation_inputs.shape == (6, 16, 16)
    assert data.test.shape == (2, 7, 16, 16)
    force = solver.forcing(16)
    ahead = solver.simulate(
        torch.from_numpy(data.train_inputs), viscosity=1e-3, forcing_NN=force, times=[1.0], dt=SMALL.solver_dt
    )
    np.testing.assert_allclose(ahead[:, 0].numpy(), data.train_targets, atol=1e-4)
    records = [data.train_inputs, data.train_targets, data.validation_inputs, data.test.reshape(-1, 16, 16)]
    seen = [{field.tobytes() for field in fields} for fields in records]
    assert not (seen[0] | seen[1]) & (seen[2] | seen[3])
    assert not seen[2] & seen[3]


def test_a_second_call_reads_the_same_fields_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_fields(SMALL)
    monkeypatch.setattr(solver, "simulate", None)
    second = prepare_fields(SMALL)
    assert second.fingerprint == first.fingerprint
    np.testing.assert_array_equal(second.train_inputs, first.train_inputs)
    assert prepare_fields(SMALL.model_copy(update={"symmetries": True})).fingerprint == first.fingerprint


def test_other_settings_or_another_seed_are_other_fields() -> None:
    changes: tuple[dict[str, Any], ...] = ({}, {"seed": 1}, {"viscosity": 2e-3}, {"pairs_per_trajectory": 2})
    assert len({prepare_fields(SMALL.model_copy(update=change)).fingerprint for change in changes}) == 4


def test_normalisation_is_that_of_the_training_fields_alone() -> None:
    data = prepare_fields(SMALL)
    fit = data.normalisation()
    assert fit.input_deviation == pytest.approx(float(data.train_inputs.std()), rel=1e-5)
    assert fit.target_deviation == pytest.approx(float(data.train_targets.std()), rel=1e-5)
    assert fit.target_deviation != pytest.approx(float(data.test.std()), rel=1e-5)


def test_a_step_too_long_for_the_solver_is_one_sentence() -> None:
    wild = SMALL.model_copy(update={"solver_dt": 50.0, "step": 50.0, "viscosity": 1e-6, "steps": 30})
    with pytest.raises(UserError, match=r"unstable .* try data.solver_dt"):
        prepare_fields(wild)


def written(folder: Path, form: str) -> Path:
    """Ten trajectories of five records, 8 x 8, in one of the forms of files; field r, t is r + t / 10 everywhere."""
    u = (np.arange(10)[:, None] + np.arange(5) / 10)[:, :, None, None] * np.ones((8, 8))
    u = u.astype(np.float32)
    path = folder / f"fields.{form.partition(' ')[0]}"
    if form == "npy":
        np.save(path, u)
    elif form == "npy time last":
        np.save(path, np.moveaxis(u, 1, 3))
    elif form == "npz":
        np.savez(path, u=u[:, 1:], a=u[:, 0])
    elif form == "pt":
        torch.save({"u": torch.from_numpy(u)}, path)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            if form == "mat":  # as MATLAB writes (R, X, Y, T): all axes reversed
                file["u"] = np.moveaxis(u[:, 1:], 1, 3).T
                file["a"] = u[:, 0].T
            else:
                file["u"] = u
    return path


@pytest.mark.parametrize("form", ["npy", "npy time last", "npz", "pt", "h5", "mat"])
def test_files_of_every_form_give_the_same_pairs(tmp_path: Path, form: str) -> None:
    config = FieldsConfig(
        source=str(written(tmp_path, form)),
        validation_trajectories=2,
        test_trajectories=3,
        pairs_per_trajectory=None,
    )
    data = prepare_fields(config)
    assert data.train_inputs.shape == (5 * 4, 8, 8)
    np.testing.assert_allclose(data.train_targets - data.train_inputs, 0.1, atol=1e-6)
    assert data.test.shape == (3, 5, 8, 8)
    starts = {round(float(f[0, 0])) for f in data.train_inputs[::4]}
    assert len(starts | {round(float(f[0, 0, 0])) for f in data.test}) == 8


def test_pairs_from_a_file_are_taken_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(12, 8, 8)).astype(np.float32)
    torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(2 * x)}, tmp_path / "pairs.pt")
    data = prepare_fields(FieldsConfig(source=str(tmp_path), validation_trajectories=2, test_trajectories=2))
    assert data.train_inputs.shape == (8, 8, 8)
    np.testing.assert_array_equal(data.train_targets, 2 * data.train_inputs)


class Harmful:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("this ran",)


def test_what_is_no_file_of_fields_is_one_sentence_and_is_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"u": Harmful()}, tmp_path / "harmful.pt")
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps([Harmful()]))
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04")
    np.save(tmp_path / "flat.npy", np.zeros((4, 5, 6, 7)))
    np.save(tmp_path / "cube.npy", np.zeros((4, 8, 8, 8)))
    np.save(tmp_path / "few.npy", np.zeros((4, 5, 8, 8)))
    np.savez(tmp_path / "names.npz", p=np.zeros(3), q=np.zeros(3))
    (tmp_path / "empty").mkdir()
    files = ("harmful.pt", "pickled.npy", "torn.npz", "flat.npy", "cube.npy", "few.npy", "names.npz")
    for name in (*files, "empty", "missing"):
        with pytest.raises(UserError):
            prepare_fields(FieldsConfig(source=str(tmp_path / name)))
    assert "this ran" not in capsys.readouterr().out
