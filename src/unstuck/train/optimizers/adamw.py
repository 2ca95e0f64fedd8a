"""AdamW (Loshchilov and Hutter, arXiv 1711.05101) over groups: PyTorch's fused kernel with a flat state.

A complex parameter is a pair of real ones, as in torch.optim (the fused kernel itself takes only real numbers). Of a
sharded parameter each process updates the rows it holds, with their state.

Tables with a sparse gradient are updated row by row: rows that a batch does not touch keep weight and state, as in
torch.optim.SparseAdam. A table of 20,000 rows of which 700 are used then costs as much as one of 700.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from unstuck.train.distributed import counted_here, local, rows_for, sharded_as
from unstuck.train.optimizers.groups import Group

STATE = ("step", "exp_avg", "exp_avg_sq")


class _FusedAdamW:
    """What torch.optim.AdamW(fused=True) does, by the same kernel, bit for bit.

    torch.optim imports torch._dynamo when the first optimizer is made: 814 modules, about a second of every start.
    """

    def __init__(self, param_groups: list[dict[str, Any]], betas: tuple[float, float], eps: float) -> None:
        self.param_groups = param_groups
        self.betas, self.eps = betas, eps
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """One update; parameters without a gradient are passed over."""
        for part in self.param_groups:
            parameters = [p for p in part["params"] if p.grad is not None]
            if not parameters:
                continue
            for p in parameters:
                if not self.state[p]:
                    step = torch.zeros((), device=p.device if p.device.type == "cuda" else "cpu")
                    rows = local(p)
                    self.state[p] = {
                        "step": step,
                        "exp_avg": torch.zeros_like(rows),
                        "exp_avg_sq": torch.zeros_like(rows),
                    }
            steps, means, squares = ([self.state[p][key] for p in parameters] for key in STATE)
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                [_reals(local(p)) for p in parameters],
                [_reals(local(p.grad)) for p in parameters if p.grad is not None],
                list(map(_reals, means)),
                list(map(_reals, squares)),
                [],
                steps,
                lr=part["lr"],
                beta1=self.betas[0],
                beta2=self.betas[1],
                weight_decay=part["weight_decay"],
                eps=self.eps,
                amsgrad=False,
                maximize=False,
            )


class AdamW:
    """Updates the parameters of some groups.

    Args:
        groups: those with algorithm "adamw"; their `lr` is read at every step.
        beta1, beta2, eps: as in the paper.
    """

    def __init__(self, groups: list[Group], *, beta1: float, beta2: float, eps: float) -> None:
        self.groups = groups
        self.betas, self.eps = (beta1, beta2), eps
        parts, self.owners = [], []
        self.row_norms: dict[Tensor, Tensor] = {}  # of the last update of each table with a sparse gradient
        for group in groups:
            for decay, names in ((group.weight_decay, group.decayed), (0.0, group.parameters.keys() - group.decayed)):
                members = [p for name, p in group.parameters.items() if name in names]
                if members:
                    parts.append({"params": members, "lr": group.lr, "weight_decay": decay})
                    self.owners.append(group)
        self.torch_optimizer = _FusedAdamW(parts, self.betas, eps) if parts else None

    def step(self) -> None:
        """One update; parameters without a gradient are passed over."""
        if self.torch_optimizer is None:
            return
        for part, group in zip(self.torch_optimizer.param_groups, self.owners, strict=True):
            part["lr"] = group.lr
        sparse = [
            (p, part) for part in self.torch_optimizer.param_groups for p in part["params"]
            if p.grad is not None and p.grad.is_sparse
        ]  # fmt: skip
        gradients = [p.grad for p, _ in sparse]
        for p, part in sparse:
            self._step_rows(p, part["lr"], part["weight_decay"])
            p.grad = None  # PyTorch's optimizer passes it over
        self.torch_optimizer.step()
        for (p, _), gradient in zip(sparse, gradients, strict=True):
            p.grad = gradient

    @torch.no_grad()
    def _step_rows(self, table: Tensor, lr: float, weight_decay: float) -> None:
        assert self.torch_optimizer is not None  # the caller's own conditions
        assert table.grad is not None
        state = self.torch_optimizer.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
        state["step"] += 1
        step = int(state["step"])
        gradient = table.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        mean, square = (state[key].index_select(0, rows) for key in ("exp_avg", "exp_avg_sq"))
        mean.lerp_(values, 1 - self.betas[0])
        square.lerp_(values * values, 1 - self.betas[1])
        state["exp_avg"].index_copy_(0, rows, mean)
        state["exp_avg_sq"].index_copy_(0, rows, square)
        first, second = (1 - beta**step for beta in self.betas)
        denominator = square.div_(second).sqrt_().add_(self.eps)
        update = mean.div_(denominator).div_(first)
        self.row_norms[table] = torch.linalg.vector_norm(update)
        weights = table.index_select(0, rows).mul_(1 - lr * weight_decay)
        table.index_copy_(0, rows, weights.add_(update, alpha=-lr))

    def state_tensors(self) -> dict[str, Tensor]:
        """`adamw/<step, exp_avg or exp_avg_sq>/<parameter>`: the tensors themselves, which the next step changes."""
        if self.torch_optimizer is None:
            return {}
        state = self.torch_optimizer.state
        return {
            f"adamw/{key}/{name}": state[p][key] if key == "step" else sharded_as(state[p][key], p)
            for group in self.groups
            for name, p in group.parameters.items()
            if p in state
            for key in STATE
        }

    def load(self, name: str, tensors: dict[str, Tensor]) -> bool:
        """Takes one parameter's state from a flat state; says whether it was there."""
        parameter = next(p for group in self.groups for n, p in group.parameters.items() if n == name)
        stored = {key: tensors.get(f"adamw/{key}/{name}") for key in STATE}
        if self.torch_optimizer is None or any(tensor is None for tensor in stored.values()):
            return False
        self.torch_optimizer.state[parameter] = {
            key: rows_for(tensor, parameter) if key != "step" else tensor.detach().clone().to(parameter.device)
            for key, tensor in stored.items()
            if tensor is not None
        }
        return True

    @torch.no_grad()
    def squared_updates(self) -> dict[str, Tensor]:
        """Group -> squared norm of the update that its present state makes at its present learning rate.

        Under FSDP this process's part of it: the rows it holds, and in the first process the tensors that all hold.
        """
        found: dict[str, Tensor] = {}
        if self.torch_optimizer is None:
            return found
        for group in self.groups:
            norms = []
            for parameter in group.parameters.values():
                state = self.torch_optimizer.state.get(parameter)
                if not state or not float(state["step"]) or not counted_here(parameter):
                    continue
                if parameter in self.row_norms:
                    norms.append(self.row_norms[parameter])
                    continue
                first, second = (1 - beta ** float(state["step"]) for beta in self.betas)
                mean, square = _reals(state["exp_avg"]), _reals(state["exp_avg_sq"])
                update = mean / ((square / second).sqrt_().add_(self.eps)).mul_(first)
                norms.append(torch.linalg.vector_norm(update))
            if norms:
                found[group.name] = (torch.stack(norms) * group.lr).square().sum()
        return found


def _reals(tensor: Tensor) -> Tensor:
    """A view of a complex tensor with real and imaginary parts as the last axis; a real tensor itself."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
