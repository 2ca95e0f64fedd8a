"""Which parameter belongs to which group: the recipe's patterns in order, first match wins, then the default groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from unstuck.config.schema import GroupConfig, OptimizerConfig
from unstuck.errors import UserError

# Names of the default groups, in order. wte, wpe and lm_head are GPT-2's names in transformers and nanoGPT.
DEFAULT_PATTERNS = (
    ("embeddings", re.compile(r"(^|[._])(embeddings?|wte|wpe|embed_tokens)\b")),
    ("head", re.compile(r"(^|\.)(lm_)?head\b")),
)


Algorithm = Literal["adamw", "muon", "lamb"]


@dataclass(slots=True)
class Group:
    """Parameters that share an algorithm and a learning rate.

    `lr` is the rate of the next step; `base_lr` the peak, the algorithm's rate times the group's factor.
    `weight_decay` holds for the tensors in `decayed`; the rest of the group is not decayed.
    """

    name: str
    algorithm: Algorithm
    base_lr: float
    lr_factor: float
    weight_decay: float
    parameters: dict[str, nn.Parameter] = field(default_factory=dict, repr=False)
    decayed: set[str] = field(default_factory=set, repr=False)
    lr: float = 0.0

    @property
    def names(self) -> list[str]:
        """Names of its tensors."""
        return list(self.parameters)

    @property
    def count(self) -> int:
        """Numbers in its tensors; a complex one counts as the two that it is."""
        return sum(map(numbers, self.parameters.values()))


def numbers(parameter: nn.Parameter) -> int:
    """Real numbers in a tensor."""
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def assign_groups(named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig) -> list[Group]:
    """Every trainable parameter in exactly one group; groups without parameters are left out.

    A pattern that takes matrices and other tensors under Muon makes two groups, the second named `<name>-adamw`,
    because their learning rates have nothing in common.

    Raises:
        UserError: a pattern takes no parameter, or Muon is asked for what is no matrix.
    """
    patterns = [(entry, re.compile(entry.pattern)) for entry in config.groups]
    groups: dict[str, Group] = {}
    taken: set[str] = set()
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        kind = _default_group(name, parameter)
        entry = next((entry for entry, pattern in patterns if pattern.search(name)), None)
        algorithm = _algorithm(name, parameter, kind, entry, config)
        group_name = kind if entry is None else entry.name
        if entry is not None:
            taken.add(entry.name)
            if algorithm == "adamw" and kind != "matrices" and config.kind == "muon" and entry.optimizer is None:
                group_name = _unmixed(entry.name, groups)
        group = groups.get(group_name)
        if group is not None and group.algorithm != algorithm:
            group_name = f"{group_name}-{algorithm}"
            group = groups.get(group_name)
        if group is None:
            group = groups[group_name] = _new_group(group_name, algorithm, entry, config)
        group.parameters[name] = parameter
        asked = entry is not None and entry.weight_decay is not None
        if group.weight_decay and (asked or kind == "matrices"):
            group.decayed.add(name)
    for entry in config.groups:
        if entry.name not in taken and not entry.optional:
            raise UserError(
                f"optimizer.groups: the pattern {entry.pattern!r} of group {entry.name!r} takes no parameter that an "
                "earlier group left; mend the pattern, drop the group, or set its optional to true."
            )
    return list(groups.values())


def _default_group(name: str, parameter: nn.Parameter) -> str:
    for group, pattern in DEFAULT_PATTERNS:
        if pattern.search(name):
            return group
    return "matrices" if parameter.ndim == 2 and min(parameter.shape) > 1 else "scalars"


def _algorithm(
    name: str, parameter: nn.Parameter, kind: str, entry: GroupConfig | None, config: OptimizerConfig
) -> Algorithm:
    if entry is not None and entry.optimizer is not None:
        if entry.optimizer == "muon" and parameter.ndim != 2:
            raise UserError(
                f"optimizer.groups: group {entry.name!r} asks for muon, but {name} has {parameter.ndim} dimensions "
                "and Muon is for matrices; narrow the pattern or set optimizer: adamw."
            )
        return entry.optimizer
    if config.kind == "lamb":
        return "lamb"
    return "muon" if config.kind == "muon" and kind == "matrices" else "adamw"


def _unmixed(name: str, groups: dict[str, Group]) -> str:
    group = groups.get(name)
    return name if group is None or group.algorithm == "adamw" else f"{name}-adamw"


def _new_group(name: str, algorithm: Algorithm, entry: GroupConfig | None, config: OptimizerConfig) -> Group:
    factor = 1.0 if entry is None else entry.lr_factor
    rate = (config.muon_learning_rate if algorithm == "muon" else config.learning_rate) * factor
    decay = config.weight_decay if entry is None or entry.weight_decay is None else entry.weight_decay
    return Group(name, algorithm, base_lr=rate, lr_factor=factor, weight_decay=decay, lr=rate)
