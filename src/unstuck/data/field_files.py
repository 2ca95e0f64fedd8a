"""Trajectories of fields from files: numpy arrays, torch tensors, HDF5 and MATLAB 7.3 (which is HDF5).

Understood are, by the names that the published sets use:
    u             trajectories, (R, T, X, Y) or (R, X, Y, T)     NavierStokes_V1e-3_N5000_T50.mat and its kin
    a beside u    (R, X, Y), the record before the first         the same files
    x beside y    inputs and targets, (P, X, Y)                  neuraloperator's .pt files
A file with a single array holds trajectories. Nothing in a file is executed: no pickles, tensors by weights_only.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.errors import UserError

Fields = npt.NDArray[np.float32]

SUFFIXES = (".npy", ".npz", ".pt", ".h5", ".hdf5", ".mat")
HUB = "hub:"
PAIRS = (("x", "y"), ("input", "target"), ("inputs", "targets"))
TRAJECTORIES = ("u", "w", "vorticity", "trajectories")


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """What files held: trajectories, each float32 (T, X, Y) with T >= 2; hash of their content; notes."""

    trajectories: list[Fields]
    fingerprint: str
    notes: tuple[str, ...]


def read(source: str) -> Read:
    """All fields of a file, a folder or a hub data set, in the order of the file names.

    Raises:
        UserError: nothing is there, a file cannot be read, or grids differ.
    """
    where = _from_hub(source) if source.startswith(HUB) else Path(source).expanduser()
    if not where.exists():
        raise UserError(f"There are no fields at {source}; name a file or folder, or set data.source=navier-stokes.")
    files = [where] if where.is_file() else sorted(p for p in where.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(f"{source} holds no file of fields ({', '.join(SUFFIXES)}); name another folder.")
    found: list[Fields] = []
    for file in files:
        found += _trajectories(file, _arrays(file))
    if len({trajectory.shape[1:] for trajectory in found}) > 1:
        raise UserError(f"The fields in {source} have different grids; keep fields of one size in the folder.")
    digest = hashlib.blake2b(digest_size=12)
    for trajectory in found:
        digest.update(repr(trajectory.shape).encode())
        digest.update(np.ascontiguousarray(trajectory).data)
    return Read(found, digest.hexdigest(), (f"{len(found)} trajectories were read from {len(files)} file(s).",))


def _arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file by name; the first axis counts trajectories."""
    suffix = file.suffix.lower()
    try:
        if suffix == ".npy":
            return {"": np.load(file, allow_pickle=False)}
        if suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        if suffix == ".pt":
            return _tensors(file)
        if suffix in SUFFIXES:
            return _hdf5(file)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{file} cannot be read as fields ({first[:160]}); download or write it anew.") from error
    raise UserError(f"{file} is no file of fields; use one of {', '.join(SUFFIXES)}.")


def _tensors(file: Path) -> dict[str, npt.NDArray[Any]]:
    import pickle

    import torch

    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"{file} holds more than tensors, which could run code; save a dictionary of tensors."
        ) from None
    if isinstance(loaded, torch.Tensor):
        return {"": loaded.numpy()}
    if not isinstance(loaded, dict):
        raise UserError(f"{file} holds neither a tensor nor a dictionary of tensors; save one of them.")
    return {str(name): value.numpy() for name, value in loaded.items() if isinstance(value, torch.Tensor)}


def _hdf5(file: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        import h5py
    except ImportError:
        raise UserError(f"{file} is read with h5py: pip install h5py, or convert it to .npy.") from None
    if not h5py.is_hdf5(file):
        raise UserError(f"{file} is no HDF5 file (MATLAB before version 7.3?); save it with `save -v7.3` or as .npy.")
    arrays = {}
    with h5py.File(file, "r") as opened:
        for name, value in opened.items():
            if isinstance(value, h5py.Dataset) and value.dtype.kind == "f":
                array = value[()]
                # MATLAB stores columns first: HDF5 shows all axes in reverse.
                arrays[name] = array.T if file.suffix.lower() == ".mat" else array
    return arrays


def _trajectories(file: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> list[Fields]:
    for first, second in PAIRS:
        if first in arrays and second in arrays:
            x, y = arrays[first], arrays[second]
            if x.shape != y.shape or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[1] != 1):
                raise UserError(
                    f"{file}: {first} has shape {x.shape} and {second} {y.shape}; both must be (pairs, X, Y)."
                )
            return list(np.stack((x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:])), 1).astype(np.float32))
    name = next((n for n in TRAJECTORIES if n in arrays), next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise UserError(
            f"{file} has the arrays {', '.join(arrays) or 'none'}; name the trajectories u, or inputs and targets x, y."
        )
    u = _time_second(file, arrays[name])
    start = arrays.get("a")
    if start is not None and start.shape == (len(u), *u.shape[2:]):
        u = np.concatenate((start[:, None], u), axis=1)
    if u.shape[1] < 2:
        raise UserError(f"{file} has one record in each trajectory; a pair needs two.")
    return list(u.astype(np.float32))


def _time_second(file: Path, u: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(R, T, X, Y), from that or from (R, X, Y, T): space is the two neighbouring axes of equal length."""
    if u.ndim == 3:
        u = u[None]
    if u.ndim == 4 and len(set(u.shape[1:])) == 1:
        raise UserError(
            f"{file} has an array of shape {u.shape}, in which time cannot be told from space; leave out a record, so "
            "that it is (trajectories, times, X, X)."
        )
    if u.ndim == 4 and u.shape[2] == u.shape[3]:
        return u
    if u.ndim == 4 and u.shape[1] == u.shape[2]:
        return np.moveaxis(u, 3, 1)
    raise UserError(f"{file} has an array of shape {u.shape}; it must be (trajectories, times, X, X).")


def _from_hub(source: str) -> Path:
    """The files of a Hugging Face data set, downloaded once into the hub's own cache."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError:
        raise UserError("data.source=hub:... needs huggingface_hub: pip install huggingface_hub.") from None
    name = source.removeprefix(HUB)
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=[f"*{s}" for s in SUFFIXES]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The data set {name} could not be loaded ({first[:160]}); check name and network, or name a folder."
        ) from None
