"""All of a model's optimizers behind one face: groups, rates, one step, one flat state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from unstuck.config.schema import OptimizerConfig
from unstuck.errors import UserError
from unstuck.train.distributed import counted_here, is_sharded, local, total_of_shards
from unstuck.train.optimizers.adamw import AdamW
from unstuck.train.optimizers.groups import Group, assign_groups
from unstuck.train.optimizers.lamb import Lamb
from unstuck.train.optimizers.muon import Muon


class Optimizers:
    """Steps every group by its algorithm. Build it with `build` after the model is on its device.

    Args:
        groups: disjoint groups of parameters.
        config: betas, epsilon and momentum.
    """

    def __init__(self, groups: list[Group], config: OptimizerConfig) -> None:
        self.groups = groups
        self.adamw = AdamW(
            [g for g in groups if g.algorithm == "adamw"], beta1=config.beta1, beta2=config.beta2, eps=config.eps
        )
        lambs = [g for g in groups if g.algorithm == "lamb"]
        self.lamb = Lamb(lambs, beta1=config.beta1, beta2=config.beta2, eps=config.eps)
        self.muon = Muon([g for g in groups if g.algorithm == "muon"], momentum=config.muon_momentum)
        self.parameters = [p for group in groups for p in group.parameters.values()]

    def set_lr(self, rates: Mapping[str, float]) -> None:
        """Sets the learning rate of the next step for the groups named.

        Raises:
            KeyError: there is no such group.
        """
        by_name = {group.name: group for group in self.groups}
        for name, rate in rates.items():
            by_name[name].lr = rate

    def step(self, multiplier: float | None = None) -> None:
        """One update of every group, at base_lr x multiplier, or at the rates of `set_lr` without a multiplier."""
        if multiplier is not None:
            for group in self.groups:
                group.lr = group.base_lr * multiplier
        self.adamw.step()
        self.muon.step()
        self.lamb.step()

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """The whole state under flat names, for safetensors. Not copies: store or copy them before the next step."""
        return self.adamw.state_tensors() | self.muon.state_tensors() | self.lamb.state_tensors()

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """Takes a state that `state_tensors` gave. Learning rates are not part of it: they follow from the schedule.

        Returns:
            Names of the parameters that had no state of their present algorithm in it and start with none.

        Raises:
            UserError: a stored tensor has another shape than its parameter.
        """
        stored = dict(tensors)
        fresh = []
        for group in self.groups:
            for name, parameter in group.parameters.items():
                for key, tensor in stored.items():
                    if key.split("/", 2)[-1] == name and tensor.ndim and tensor.shape != parameter.shape:
                        raise UserError(
                            f"The checkpoint's optimizer state for {name} has shape {tuple(tensor.shape)}, the model's "
                            f"tensor {tuple(parameter.shape)}; resume with the checkpoint's own model section."
                        )
                if not self._of(group).load(name, stored):
                    fresh.append(name)
        return fresh

    def _of(self, group: Group) -> AdamW | Muon | Lamb:
        if group.algorithm == "lamb":
            return self.lamb
        return self.muon if group.algorithm == "muon" else self.adamw

    @torch.no_grad()
    def update_ratios(self) -> dict[str, float]:
        """Group -> norm of the last update over norm of the weights; call it after `step`, in all processes. Costs one
        pass over the state of AdamW's groups; Muon's norms are kept by its step."""
        updates = self.adamw.squared_updates()
        zero = torch.zeros((), device=self.parameters[0].device)
        weights = {group.name: _squared(group.parameters.values(), zero) for group in self.groups}
        if any(map(is_sharded, self.parameters)):
            names = [group.name for group in self.groups]
            sums = [updates.get(name, zero) for name in names] + [weights[name] for name in names]
            summed = total_of_shards(torch.stack(sums)).unbind()
            updates = dict(zip(names, summed[: len(names)], strict=True))
            weights = dict(zip(names, summed[len(names) :], strict=True))
        updates |= self.muon.squared_updates() | self.lamb.squared_updates()
        return {
            name: float((updates[name] / square).sqrt())
            for name, square in weights.items()
            if name in updates and float(square) > 0
        }


def _squared(tensors: Iterable[Tensor], zero: Tensor) -> Tensor:
    """Sum of squares of what this process counts, see `counted_here`."""
    counted = [local(tensor) for tensor in tensors if counted_here(tensor)]
    return torch.stack(torch._foreach_norm(counted)).square().sum() if counted else zero


def build(model: nn.Module, config: OptimizerConfig) -> Optimizers:
    """The recipe's optimizers for a model's trainable parameters.

    Raises:
        UserError: see `groups.assign_groups`; or nothing is trainable.
    """
    groups = assign_groups(model.named_parameters(), config)
    if not groups:
        raise UserError("The model has no trainable parameter; set requires_grad on what should be trained.")
    return Optimizers(groups, config)
