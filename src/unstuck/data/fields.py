"""From the data section of a recipe to pairs of fields: simulate or read, split by trajectory, cache, normalise.

Shapes: R trajectories of T records, P pairs, fields of X x Y points. A pair is a field and the field one step later.
A trajectory is in one split only: neighbours in time are nearly copies of each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.config.sections.fields import FieldsConfig
from unstuck.data import field_files
from unstuck.data.cache import cache_folder, discard, store, touch
from unstuck.errors import UserError

Fields = npt.NDArray[np.float32]

# Raise when the same settings give other fields, so that cached ones are not taken.
FORM = 1
# Trajectories simulated at once. One time unit of 60 fields of 64 x 64: 0.71 s of CPU one by one, 0.27 to 0.40 s by
# 5, 10, 20, 40 or 60 (2026-11-21, one loaded core): from 5 on it is all the same, and memory stays small.
TOGETHER = 20


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of inputs and targets, over all points of the training fields."""

    input_mean: float
    input_deviation: float
    target_mean: float
    target_deviation: float

    @classmethod
    def fit(cls, inputs_PXY: Fields, targets_PXY: Fields) -> Normalisation:
        """Of these fields; a deviation of zero becomes 1, so that constant fields do not divide by it."""
        values = []
        for fields in (inputs_PXY, targets_PXY):
            deviation = float(fields.std(dtype=np.float64))
            values += [float(fields.mean(dtype=np.float64)), deviation if deviation > 0 else 1.0]
        return cls(*values)

    def to_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class FieldsData:
    """Pairs of fields, ready to train on.

    Attributes:
        train_inputs, train_targets: float32 (P, X, Y).
        validation_inputs, validation_targets: of other trajectories.
        test: float32 (R, T, X, Y), trajectories of neither; pairs from files are trajectories of two records.
        fingerprint: of simulated fields, a hash of all that they depend on (the last bits are the machine's);
            of files, of their content.
        notes: what was left out or decided, one sentence each.
    """

    train_inputs: Fields
    train_targets: Fields
    validation_inputs: Fields
    validation_targets: Fields
    test: Fields
    fingerprint: str
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> tuple[int, int]:
        """Grid points in each direction, (X, Y)."""
        return self.test.shape[2], self.test.shape[3]

    def normalisation(self) -> Normalisation:
        """Fitted on the training fields only."""
        return Normalisation.fit(self.train_inputs, self.train_targets)

    def test_pairs(self) -> tuple[Fields, Fields]:
        """Every pair of the test trajectories, each (P, X, Y)."""
        inputs, targets = self.test[:, :-1], self.test[:, 1:]
        return inputs.reshape(-1, *self.points), targets.reshape(-1, *self.points)


def prepare_fields(config: FieldsConfig) -> FieldsData:
    """Simulate or read what `config` names; a second call with the same settings reads a cache.

    Raises:
        UserError: the files are missing, cannot be read, or hold too few trajectories.
    """
    if config.source == "navier-stokes":
        return _cached(_key(config), lambda: _simulated(config))
    read = field_files.read(config.source)
    return _split(config, read.trajectories, read.fingerprint, read.notes)


def _key(config: FieldsConfig) -> str:
    """Of everything that simulated fields depend on; `symmetries` is applied later."""
    depends = config.model_dump(exclude={"symmetries"})
    return hashlib.blake2b(json.dumps([FORM, depends], sort_keys=True).encode(), digest_size=12).hexdigest()


def _simulated(config: FieldsConfig) -> FieldsData:
    import torch

    from unstuck.data import navier_stokes

    generator = torch.Generator().manual_seed(config.seed)
    count = config.train_trajectories + config.validation_trajectories + config.test_trajectories
    start = navier_stokes.random_fields(count, config.points, generator)
    force = navier_stokes.forcing(config.points)
    times = [step * config.step for step in range(config.steps + 1)]
    trajectories = [
        navier_stokes.simulate(part, viscosity=config.viscosity, forcing_NN=force, times=times, dt=config.solver_dt)
        for part in torch.split(start, TOGETHER)
    ]
    found = torch.cat(trajectories).numpy()
    if not np.isfinite(found).all():
        raise UserError(
            f"The simulation became unstable at data.solver_dt={config.solver_dt:g}; "
            f"try data.solver_dt={config.solver_dt / 4:g}."
        )
    return _split(config, list(found), _key(config), ())


def _split(config: FieldsConfig, found: list[Fields], fingerprint: str, notes: tuple[str, ...]) -> FieldsData:
    """Whole trajectories to training, validation and test, drawn by the seed; pairs from the first two."""
    held_out = config.validation_trajectories + config.test_trajectories
    if len(found) <= held_out:
        raise UserError(
            f"{config.source} has {len(found)} trajectories, and {held_out} are to be held out; "
            f"set data.validation_trajectories and data.test_trajectories to {max(1, len(found) // 10)} each."
        )
    order = np.random.default_rng(config.seed).permutation(len(found))
    test, validation, train = np.split(order, [config.test_trajectories, held_out])
    train = train[: config.train_trajectories]
    train_inputs, train_targets = _pairs([found[i] for i in train], config.pairs_per_trajectory)
    validation_inputs, validation_targets = _pairs([found[i] for i in validation], config.pairs_per_trajectory)
    shortest = min(len(found[i]) for i in test)
    digest = hashlib.blake2b(f"{fingerprint} {FORM}".encode(), digest_size=12)
    digest.update(repr([train.tolist(), validation.tolist(), config.pairs_per_trajectory]).encode())
    return FieldsData(
        train_inputs,
        train_targets,
        validation_inputs,
        validation_targets,
        np.stack([found[i][:shortest] for i in test]),
        digest.hexdigest(),
        notes,
    )


def _pairs(trajectories: list[Fields], wanted: int | None) -> tuple[Fields, Fields]:
    """Inputs and targets. Trajectory j begins at another place than its neighbour, so that together they cover all."""
    inputs, targets = [], []
    for j, trajectory in enumerate(trajectories):
        available = len(trajectory) - 1
        count = available if wanted is None else min(wanted, available)
        apart = available // count
        first = j % max(1, available - apart * (count - 1))
        places = first + apart * np.arange(count)
        inputs.append(trajectory[places])
        targets.append(trajectory[places + 1])
    return np.concatenate(inputs), np.concatenate(targets)


def _cached(key: str, make: Callable[[], FieldsData]) -> FieldsData:
    folder = cache_folder("fields")
    data = _load(folder, key)
    if data is None:
        data = make()
        store(folder, key, lambda target: _write(target, data))
    return data


ARRAYS = ("train_inputs", "train_targets", "validation_inputs", "validation_targets", "test")


def _write(target: Path, data: FieldsData) -> None:
    for name in ARRAYS:
        np.save(target / f"{name}.npy", getattr(data, name))
    (target / "meta.json").write_text(json.dumps({"fingerprint": data.fingerprint, "notes": data.notes}))


def _load(folder: Path | None, key: str) -> FieldsData | None:
    if folder is None or not (folder / key).is_dir():
        return None
    entry = folder / key
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {name: np.load(entry / f"{name}.npy", allow_pickle=False) for name in ARRAYS}
        data = FieldsData(**arrays, fingerprint=meta["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        discard(folder, key)
        return None
    touch(entry)
    return replace(data, notes=tuple(meta["notes"]))
