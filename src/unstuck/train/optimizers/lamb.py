"""LAMB (You et al., arXiv 1904.00962): AdamW whose step on each matrix is as long as the matrix, times the rate.

Made for very large batches; LTG-BERT's own optimizer. lamb_reference.py says what is computed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unstuck.errors import UserError
from unstuck.train.distributed import is_sharded
from unstuck.train.optimizers.groups import Group

STATE = ("step", "exp_avg", "exp_avg_sq")


class Lamb:
    """Updates the parameters of some groups.

    Vectors and scalars (biases, norms) take the plain AdamW step: a bias that starts at zero has no length to follow.

    Args:
        groups: those with algorithm "lamb"; their `lr` is read at every step.
        beta1, beta2, eps: as in the paper.

    Raises:
        UserError: parameters are sharded: a length is that of the whole tensor.
    """

    def __init__(self, groups: list[Group], *, beta1: float, beta2: float, eps: float) -> None:
        if any(is_sharded(p) for group in groups for p in group.parameters.values()):
            raise UserError("LAMB cannot update sharded weights; set training.sharding=ddp or optimizer.kind=adamw.")
        self.groups = groups
        self.betas, self.eps = (beta1, beta2), eps
        self.state: dict[str, dict[str, Tensor]] = {}
        self.last_norms: dict[str, Tensor] = {}  # group -> norm of its last update, before the learning rate

    @torch.no_grad()
    def step(self) -> None:
        """One update; parameters without a gradient are passed over."""
        for group in self.groups:
            members = {name: p for name, p in group.parameters.items() if p.grad is not None}
            if not members:
                continue
            names = list(members)
            parameters: list[Tensor] = list(members.values())
            gradients = [p.grad.to_dense() if p.grad.is_sparse else p.grad for p in parameters if p.grad is not None]
            for name, p in members.items():
                if name not in self.state:
                    zeros = (torch.zeros((), device="cpu"), torch.zeros_like(p), torch.zeros_like(p))
                    self.state[name] = dict(zip(STATE, zeros, strict=True))
            steps, means, squares = ([self.state[name][key] for name in names] for key in STATE)
            torch._foreach_add_(steps, 1)
            torch._foreach_lerp_(means, gradients, 1 - self.betas[0])
            torch._foreach_mul_(squares, self.betas[1])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - self.betas[1])
            first, second = ([1 - beta ** float(step) for step in steps] for beta in self.betas)
            divisors = torch._foreach_sqrt(torch._foreach_div(squares, second))
            torch._foreach_add_(divisors, self.eps)
            updates = list(torch._foreach_div(torch._foreach_div(means, first), divisors))
            decayed = [i for i, name in enumerate(names) if name in group.decayed]
            if decayed and group.weight_decay:
                torch._foreach_add_(
                    [updates[i] for i in decayed], [parameters[i] for i in decayed], alpha=group.weight_decay
                )
            self._trust(parameters, updates)
            self.last_norms[group.name] = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(updates)))
            torch._foreach_add_(parameters, updates, alpha=-group.lr)

    @staticmethod
    def _trust(parameters: list[Tensor], updates: list[Tensor]) -> None:
        """Give each matrix's update the matrix's own length; a matrix or an update of zeros is left alone."""
        matrices = [i for i, p in enumerate(parameters) if p.ndim > 1]
        if not matrices:
            return
        lengths = torch.stack(torch._foreach_norm([parameters[i] for i in matrices]))
        norms = torch.stack(torch._foreach_norm([updates[i] for i in matrices]))
        ratios = torch.where((lengths > 0) & (norms > 0), lengths / norms, torch.ones_like(norms))
        torch._foreach_mul_([updates[i] for i in matrices], list(ratios.unbind()))

    def state_tensors(self) -> dict[str, Tensor]:
        """`lamb/<step, exp_avg or exp_avg_sq>/<parameter>`: the tensors themselves, which the next step changes."""
        return {f"lamb/{key}/{name}": tensor for name, state in self.state.items() for key, tensor in state.items()}

    def load(self, name: str, tensors: dict[str, Tensor]) -> bool:
        """Takes one parameter's state from a flat state; says whether it was there."""
        stored = {key: tensors.get(f"lamb/{key}/{name}") for key in STATE}
        parameter = next(p for group in self.groups for n, p in group.parameters.items() if n == name)
        if any(tensor is None for tensor in stored.values()):
            return False
        self.state[name] = {
            key: tensor.detach().clone().to("cpu" if key == "step" else parameter.device)
            for key, tensor in stored.items()
            if tensor is not None
        }
        return True

    def squared_updates(self) -> dict[str, Tensor]:
        """Group -> squared norm of its last update, with the learning rate it would have now."""
        rates = {group.name: group.lr for group in self.groups}
        return {name: (norm.float() * rates[name]).square() for name, norm in self.last_norms.items()}
