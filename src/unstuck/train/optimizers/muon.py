"""Muon: momentum whose singular values are all brought to about one.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. muon_reference.py says what is computed; this file
computes it fast: matrices of one shape together, on the smaller Gram matrix, in three iterations, in float32 on a CPU
and in bfloat16 on a GPU.

Several processes orthogonalise a part of the matrices each and tell the others. Of sharded matrices the momentum stays
sharded; directions are gathered first, for an orthogonalised row depends on all rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from unstuck.train.distributed import gathered_rows, in_shares, is_sharded, local, own_rows, rows_for, sharded_as
from unstuck.train.optimizers.groups import Group

# Best odd polynomials of degree 5 in turn, for singular values of at least 0.01 of the Frobenius norm: three of them
# bring these to 1 +- 0.27 (the method of Polar Express, arXiv 2505.16932, solved as a linear programme for three
# iterations). Loss after 153,600 tokens: the same as with five iterations; docs/LOG.md.
COEFFICIENTS = (
    (8.0934, -23.6205, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)
MARGIN = 1.01  # singular values stay below 1 in spite of rounding; arXiv 2505.16932, section 4.4


@dataclass(slots=True)
class _Bucket:
    """Parameters of one shape, one cut and one group, treated as one stack (n, rows, columns)."""

    group: Group
    names: list[str]
    parameters: list[Tensor]
    row_pieces: int
    column_pieces: int
    momentum: Tensor
    started: bool = False
    last_norm: Tensor | None = None  # of the last update, before the learning rate


class Muon:
    """Updates the matrices of some groups.

    A parameter with an attribute `row_pieces` or `column_pieces` (set by the models on attention's matrices) is cut
    into so many equal pieces, one per head, and each piece is orthogonalised by itself: heads are independent maps, and
    the small pieces cost next to nothing.

    Args:
        groups: those with algorithm "muon"; their `lr` is read at every step.
        momentum: beta of the running mean of the gradient.
        dtype: of the iterations; None: bfloat16 on CUDA, float32 elsewhere.
    """

    def __init__(self, groups: list[Group], *, momentum: float, dtype: torch.dtype | None = None) -> None:
        self.momentum, self.dtype = momentum, dtype
        self.buckets: list[_Bucket] = []
        for group in groups:
            found: dict[tuple[object, ...], list[str]] = {}
            for name, p in group.parameters.items():
                key = tuple(p.shape), *_cut(p), p.device, p.dtype, name in group.decayed
                found.setdefault(key, []).append(name)
            for names in found.values():
                parameters: list[Tensor] = [group.parameters[name] for name in names]
                stack = torch.zeros(len(names), *local(parameters[0]).shape, device=parameters[0].device)
                self.buckets.append(_Bucket(group, names, parameters, *_cut(parameters[0]), stack))

    @torch.no_grad()
    def step(self) -> None:
        """One update; a parameter without a gradient is not changed (its momentum decays as for a gradient of zero)."""
        for bucket in self.buckets:
            if all(p.grad is None for p in bucket.parameters):
                continue
            held = [local(p) for p in bucket.parameters]
            gradients = [
                torch.zeros_like(mine) if p.grad is None else local(p.grad)
                for p, mine in zip(bucket.parameters, held, strict=True)
            ]
            gradient = torch.stack(gradients).to(bucket.momentum.dtype)
            bucket.momentum.lerp_(gradient, 1 - self.momentum)
            direction = gradient.lerp_(bucket.momentum, self.momentum)  # Nesterov
            sharded = is_sharded(bucket.parameters[0])
            if sharded:
                direction = gathered_rows(direction, bucket.parameters[0])
            pieces = _pieces(direction, bucket.row_pieces, bucket.column_pieces)
            rows, columns = pieces.shape[-2:]
            update = in_shares(partial(orthogonalise, dtype=self.dtype or _dtype(pieces.device)), pieces)
            update = _whole(update, bucket.row_pieces, bucket.column_pieces, len(bucket.parameters))
            # A piece with more rows than columns moves its outputs less: scaled up by the root of the ratio (Jordan).
            scale = max(1.0, rows / columns) ** 0.5
            bucket.last_norm = torch.linalg.vector_norm(update) * scale
            group = bucket.group
            if sharded:
                update = own_rows(update, bucket.parameters[0])
            if bucket.names[0] in group.decayed:
                torch._foreach_mul_(held, 1 - group.lr * group.weight_decay)
            changed = [i for i, p in enumerate(bucket.parameters) if p.grad is not None]
            torch._foreach_add_([held[i] for i in changed], [update[i] for i in changed], alpha=-group.lr * scale)
            bucket.started = True

    def state_tensors(self) -> dict[str, Tensor]:
        """`muon/momentum/<parameter>` -> float32, shaped as the parameter: views, which the next step changes."""
        return {
            f"muon/momentum/{name}": sharded_as(bucket.momentum[i], bucket.parameters[i])
            for bucket in self.buckets
            if bucket.started
            for i, name in enumerate(bucket.names)
        }

    def load(self, name: str, tensors: dict[str, Tensor]) -> bool:
        """Takes one parameter's momentum from a state; says whether the state had it."""
        for bucket in self.buckets:
            if name in bucket.names:
                stored = tensors.get(f"muon/momentum/{name}")
                if stored is None:
                    return False
                place = bucket.names.index(name)
                bucket.momentum[place].copy_(rows_for(stored, bucket.parameters[place]))
                bucket.started = True
                return True
        return False

    def squared_updates(self) -> dict[str, Tensor]:
        """Group -> squared norm of its last update, with the learning rate it would have now."""
        found: dict[str, Tensor] = {}
        for bucket in self.buckets:
            if bucket.last_norm is not None:
                square = (bucket.last_norm.float() * bucket.group.lr) ** 2
                found[bucket.group.name] = found.get(bucket.group.name, torch.zeros_like(square)) + square
        return found


def orthogonalise(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """About U V' for each matrix U S V' of a stack (n, rows, columns); float32 in, float32 out.

    In float32 a matrix at least twice as long as wide is left alone and its small Gram matrix is iterated: with
    A = X X' and P = a I + b A + c A^2, X becomes P X and A becomes P A P. bfloat16 has too few digits for that.
    """
    norm = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True)
    x = (x / (norm * MARGIN + 1e-7)).to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    if dtype == torch.float32 and x.shape[-1] >= 2 * x.shape[-2]:
        x = torch.bmm(_inverse_root(torch.bmm(x, x.mT)), x)
    else:
        for a, b, c in COEFFICIENTS:
            gram = torch.bmm(x, x.mT)
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).float()


def _inverse_root(gram: Tensor) -> Tensor:
    """About gram^(-1/2), (n, m, m): the product of the iterations' polynomials."""
    product: Tensor | None = None
    for i, (a, b, c) in enumerate(COEFFICIENTS):
        step = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal(dim1=-2, dim2=-1).add_(a)
        product = step if product is None else torch.bmm(step, product)
        if i + 1 < len(COEFFICIENTS):
            gram = torch.bmm(torch.bmm(step, gram), step)
    assert product is not None  # COEFFICIENTS is not empty
    return product


def _cut(parameter: Tensor) -> tuple[int, int]:
    return int(getattr(parameter, "row_pieces", 1)), int(getattr(parameter, "column_pieces", 1))


def _dtype(device: torch.device) -> torch.dtype:
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _pieces(x: Tensor, row_pieces: int, column_pieces: int) -> Tensor:
    """(n, R, C) to (n * row_pieces * column_pieces, R / row_pieces, C / column_pieces)."""
    n, rows, columns = x.shape
    cut = x.view(n, row_pieces, rows // row_pieces, column_pieces, columns // column_pieces)
    return cut.transpose(2, 3).reshape(-1, rows // row_pieces, columns // column_pieces)


def _whole(x: Tensor, row_pieces: int, column_pieces: int, n: int) -> Tensor:
    """The inverse of `_pieces`."""
    _, rows, columns = x.shape
    whole = x.reshape(n, row_pieces, column_pieces, rows, columns).transpose(2, 3)
    return whole.reshape(n, row_pieces * rows, column_pieces * columns)
