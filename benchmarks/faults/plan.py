"""Which runs there are: drawn from the split's families by a seed, the same every time.

For each family and trainer and each of `seeds` setups: three healthy runs that differ by their seed alone, two healthy
controls, eight single faults and one pair of faults. Faults are dealt so that each comes about equally often.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults.catalogue import FAULTS, PAIRS, Fault
from benchmarks.faults.controls import CONTROLS
from benchmarks.faults.families.family import Family
from benchmarks.faults.settings import Setup
from benchmarks.faults.trainers.outcome import Outcome
from benchmarks.faults.trainers.styles import shows

SPLITS = ("development", "further", "retired", "later", "held-out")
# What seeds a split's draws where it is not its name: the first held-out set keeps its runs now that it is retired.
DRAWN_AS = {"retired": "held-out", "held-out": "held-out-2"}
HEALTHY_SEEDS = 3  # the least that gives a spread
CONTROLS_PER_SETUP, FAULTS_PER_SETUP, PAIRS_PER_SETUP = 2, 8, 1  # ours: about one healthy run to two faulty ones
# Raise when a change of the generator makes other runs of the same plan, so that finished ones are not taken for them.
FORM = 2

Train = Callable[[Setup, Any, int, Path], Outcome]


@dataclass(frozen=True, slots=True)
class Case:
    """A planned run. `group`: the healthy setup it was made from; `names`: its faults, or its control."""

    id: str
    split: str
    group: str
    role: str  # "healthy", "control" or "fault"
    names: tuple[str, ...]
    sizes: tuple[dict[str, Any], ...]
    setup: Setup
    seed: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@cache
def families(split: str) -> dict[str, Family]:
    """The families of a split by name."""
    folder = "families" if split == "development" else split.replace("-", "_")
    module = importlib.import_module(f"benchmarks.faults.{folder}")
    found: tuple[Family, ...] = getattr(module, split.replace("-", "_").upper())
    return {family.name: family for family in found}


def family_named(name: str) -> Family:
    return next(families(split)[name] for split in SPLITS if name in families(split))


def trainer_named(name: str) -> Train:
    """Imported when it is needed: transformers takes seconds to load."""
    if name == "loop":
        from benchmarks.faults.trainers.loop import train
    elif name == "transformers":
        from benchmarks.faults.trainers.hf import train
    else:
        from benchmarks.faults.trainers.ours import train
    return train


def plan(split: str, seeds: int) -> list[Case]:
    """Every run of a split, in the order in which they should be made."""
    cases: list[Case] = []
    dealt: Counter[str] = Counter()
    for index in range(seeds):
        for family in families(split).values():
            for trainer, styles in family.trainers.items():
                cases += _cases(split, family, trainer, styles[index % len(styles)], index, dealt)
    return cases


def _cases(split: str, family: Family, trainer: str, style: str, index: int, dealt: Counter[str]) -> list[Case]:
    group = f"{DRAWN_AS.get(split, split)}/{family.name}/{trainer}/{index}"
    rng = Random(group)
    setup = family.setup(trainer, style, rng)
    first = rng.randrange(1, 10_000)
    cases = [_case(split, group, "healthy", (), (), setup, first + k) for k in range(HEALTHY_SEEDS)]

    controls = [name for name in family.controls if trainer in CONTROLS[name].trainers]
    rng.shuffle(controls)
    controls.sort(key=lambda name: dealt[name])
    for name in controls:
        changed = CONTROLS[name].apply(rng, setup)
        if changed is not None and sum(case.role == "control" for case in cases) < CONTROLS_PER_SETUP:
            dealt[name] += 1
            cases.append(_case(split, group, "control", (name,), ({},), changed, first))

    common = _chances(split)  # the rare ones come first
    wanted = [(name,) for name in family.faults]
    pairs = [pair for pair in PAIRS if set(pair) <= set(family.faults)]
    for kinds, count in ((wanted, FAULTS_PER_SETUP), (pairs, PAIRS_PER_SETUP)):
        rng.shuffle(kinds)
        kinds.sort(key=lambda names: (dealt["+".join(names)], sum(common[name] for name in names)))
        made = 0
        for names in kinds:
            applied = apply_all(names, rng, setup, family.kind)
            if applied is not None and made < count:
                made += 1
                dealt["+".join(names)] += 1
                cases.append(_case(split, group, "fault", names, applied[1], applied[0], first))
    return cases


@cache
def _chances(split: str) -> Counter[str]:
    """Fault -> in how many families and trainers of the split it can stand."""
    return Counter(
        name
        for family in families(split).values()
        for name in family.faults
        for trainer in family.trainers
        if trainer in FAULTS[name].trainers and family.kind in FAULTS[name].kinds
    )


def apply_all(
    names: tuple[str, ...], rng: Random, setup: Setup, kind: str
) -> tuple[Setup, tuple[dict[str, Any], ...]] | None:
    """The setup with all these faults, and their sizes; None where one of them makes no sense."""
    sizes = []
    for name in names:
        fault = FAULTS[name]
        applied = fault.apply(rng, setup) if _fits(fault, setup, kind) else None
        if applied is None:
            return None
        setup = applied[0]
        sizes.append(applied[1])
    return setup, tuple(sizes)


def _fits(fault: Fault, setup: Setup, kind: str) -> bool:
    return setup.trainer in fault.trainers and kind in fault.kinds and fault.shows <= shows(setup.style)


def _case(
    split: str, group: str, role: str, names: tuple[str, ...], sizes: tuple[dict[str, Any], ...], setup: Setup,
    seed: int,
) -> Case:  # fmt: skip
    told = json.dumps([FORM, DRAWN_AS.get(split, split), group, role, names, setup.as_dict(), seed], sort_keys=True)
    return Case(hashlib.sha256(told.encode()).hexdigest()[:10], split, group, role, names, sizes, setup, seed)
