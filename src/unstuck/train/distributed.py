"""Several processes train one model: what torchrun set up, how the model is spread, what all of them agree on.

    torchrun --nproc-per-node 2 -m unstuck.cli.main train RECIPE training.sharding=fsdp

Each process computes its share of every micro-batch (`tasks.task.Share`), so the update is that of one process with a
batch `processes` times as large. Gradients are averaged between processes by DDP (arXiv 2006.15704) and FSDP2
(arXiv 2304.11277; `torch.distributed.fsdp.fully_shard`); the loss of each is therefore weighted with `processes` /
targets of all, which makes that average the gradient of the mean over all targets, however unevenly they are dealt.

A tensor of which each process holds some rows is a DTensor; "sharded" means that, and nothing else here does.
Without torchrun every function does nothing and costs nothing.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unstuck.errors import UserError
from unstuck.train.tasks.task import Share

Made = TypeVar("Made")

# A process that ended is noticed at once (1.7 s, docs/systems/scale.md); this is for one that hangs. Assumption:
# collectives take seconds at most, and no process is ahead of another by an evaluation of ten minutes. NCCL's default.
SILENCE = timedelta(minutes=10)
# While the first process reads and tokenises a large text, the others wait for it. Assumption: at 2.9 MB a second and
# core (docs/LOG.md) twelve hours are 125 GB of text.
PREPARATION = timedelta(hours=12)

# Both have new names in newer versions of torch, which warn under the old ones.
gather_single: Callable[[Tensor, Tensor], object] = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
_DDP_ARGUMENTS = inspect.signature(nn.parallel.DistributedDataParallel).parameters
SYNCHRONISED_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _DDP_ARGUMENTS else "broadcast_buffers"


@contextmanager
def processes() -> Iterator[Share]:
    """Join the processes that torchrun started, until the block ends; without torchrun, one alone.

    Processes join once: a block within a block finds them joined and leaves them so.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_initialized():
        yield Share(dist.get_rank(), world)
        return
    if world == 1 or "RANK" not in os.environ:
        yield Share()
        return
    if torch.cuda.is_available():  # numbers on which the loop decides go through the hosts, gradients through NCCL
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=SILENCE)
    else:
        dist.init_process_group("gloo", timeout=SILENCE)
    yield Share(dist.get_rank(), world)
    dist.destroy_process_group()  # not after an error: it would wait for processes that are gone


def processes_here() -> int:
    """Processes on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if dist.is_initialized() else 1


def is_loss_of_others(error: BaseException) -> bool:
    """Whether the error says that another process has ended or is not heard of; gloo says it in plain RuntimeErrors."""
    return dist.is_initialized() and (isinstance(error, dist.DistError) or "gloo" in str(error))


@contextmanager
def together(share: Share, group: dist.ProcessGroup | None = None) -> Iterator[None]:
    """Either all processes get through the block or none does: a mistake is told once, by the first that met it.

    Nothing in the block may wait for other processes.

    Args:
        group: of all processes, with a patience of its own; None: the usual one.

    Raises:
        SystemExit: another process tells what is wrong.
    """
    met: UserError | None = None
    try:
        yield
    except UserError as error:
        met = error
    if share.processes > 1:
        wrong = torch.tensor([share.processes if met is None else share.rank])
        dist.all_reduce(wrong, dist.ReduceOp.MIN, group=group)
        if int(wrong) < share.processes and int(wrong) != share.rank:
            raise SystemExit(2)
    if met is not None:
        raise met


def first_alone(share: Share, make: Callable[[], Made]) -> Made:
    """What `make` gives, called by the first process before the others: they then find its caches filled."""
    if share.processes == 1:
        return make()
    made: Made | None = None
    patient = dist.new_group(backend="gloo", timeout=PREPARATION)
    for first in (True, False):
        with together(share, patient):
            if (share.rank == 0) == first:
                made = make()
    return cast(Made, made)


def from_first(share: Share, text: str) -> str:
    """The first process's text, for all."""
    if share.processes == 1:
        return text
    told: list[Any] = [text]
    dist.broadcast_object_list(told, src=0, device=torch.device("cpu"))
    return str(told[0])


def totals(share: Share, values: list[float]) -> list[float]:
    """Sums over all processes, in float64; all get the same bits."""
    if share.processes == 1:
        return values
    summed = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(summed)
    return cast("list[float]", summed.tolist())


def spread(model: nn.Module, sharding: str, share: Share, device: torch.device, compiled: bool) -> nn.Module:
    """The module through which to train: the model itself, or what wraps it. All processes hold the same weights.

    Under FSDP each block's weights are gathered when it is computed, and its parameters become sharded ones: build
    the optimizers afterwards. The model must be called, not reached into, and always by all processes together.

    Args:
        sharding: ddp (every process holds everything) or fsdp (each holds a part of weights, gradients, moments).
        compiled: with torch.compile.

    Raises:
        UserError: the model has complex weights, and FSDP2 gathers a block's weights into one buffer of one type.
    """
    if share.processes == 1:
        return _compiled(model) if compiled else model
    if sharding == "ddp":
        wrapped = _compiled(model) if compiled else model
        sparse = [name for name, p in wrapped.named_parameters() if has_sparse_gradient(p)]
        ddp: Any = nn.parallel.DistributedDataParallel
        ddp._set_params_and_buffers_to_ignore_for_model(wrapped, sparse)
        devices = [device] if device.type == "cuda" else None
        settings = {"device_ids": devices, "gradient_as_bucket_view": True, SYNCHRONISED_BUFFERS: False}
        return cast(nn.Module, ddp(wrapped, **settings))

    if any(p.is_complex() for p in model.parameters()):
        raise UserError("FSDP does not take complex weights, which this model has; use training.sharding=ddp.")

    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (share.processes,))
    whole = {p for p in model.parameters() if has_sparse_gradient(p)}
    marks = {name: dict(vars(p)) for name, p in model.named_parameters()}  # of models for optimizers: row_pieces ...
    for block in blocks_of(model):
        if compiled:
            block.compile()
        fully_shard(block, mesh=mesh, ignored_params=whole)
    fully_shard(model, mesh=mesh, ignored_params=whole)
    for name, p in model.named_parameters():
        vars(p).update({key: value for key, value in marks[name].items() if key not in vars(p)})
    return model


def _compiled(model: nn.Module) -> nn.Module:
    return cast(nn.Module, torch.compile(model))


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The members of the outermost ModuleLists: the layers of every model here and in transformers."""
    found: list[nn.Module] = []
    for child in model.children():
        found += list(child) if isinstance(child, nn.ModuleList) else blocks_of(child)
    return found


def has_sparse_gradient(parameter: Tensor) -> bool:
    """Whether its model marked it: each process keeps such a table whole, and rows are exchanged, not tables."""
    return bool(getattr(parameter, "sparse_gradient", False))


def exchanged(trained: nn.Module, last: bool) -> AbstractContextManager[None]:
    """For forward and backward of a micro-batch: DDP exchanges gradients in the update's last one only.

    FSDP exchanges in each: to wait would take the memory of all gradients, which it is there to save.
    """
    if last or not isinstance(trained, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return cast("AbstractContextManager[None]", trained.no_sync())


@torch.no_grad()
def exchange_sparse(share: Share, parameters: Iterable[Tensor]) -> None:
    """Average sparse gradients, as DDP and FSDP do the others: every process gets the rows of all."""
    if share.processes == 1:
        return
    for parameter in parameters:
        if parameter.grad is None or not parameter.grad.is_sparse:
            continue
        gradient = parameter.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values() / share.processes
        counts = torch.zeros(share.processes, dtype=torch.int64, device=rows.device)
        counts[share.rank] = len(rows)
        dist.all_reduce(counts)
        longest = int(counts.max())
        all_rows = rows.new_zeros(share.processes, longest)
        all_values = values.new_zeros(share.processes, longest, *values.shape[1:])
        all_rows[share.rank, : len(rows)], all_values[share.rank, : len(rows)] = rows, values
        dist.all_reduce(all_rows)  # each place is filled by one process, so the sums are what that one has
        dist.all_reduce(all_values)
        kept = torch.arange(longest, device=rows.device) < counts[:, None]
        parameter.grad = torch.sparse_coo_tensor(
            all_rows[kept][None], all_values[kept], gradient.shape, check_invariants=False
        ).coalesce()


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only some rows of it."""
    return hasattr(tensor, "to_local")


def counted_here(tensor: Tensor) -> bool:
    """Whether a sum over the processes takes this process's part: shards once each, what all hold in the first only.

    Only where something is sharded is there such a sum.
    """
    return is_sharded(tensor) or not dist.is_initialized() or dist.get_rank() == 0


def local(tensor: Tensor) -> Tensor:
    """This process's rows of a sharded tensor, sharing its memory; any other tensor itself."""
    return cast(Tensor, tensor.to_local()) if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, by all processes at once; any other tensor itself."""
    return cast(Tensor, tensor.full_tensor()) if is_sharded(tensor) else tensor.detach()  # type: ignore[attr-defined]


def sharded_as(rows: Tensor, parameter: Tensor) -> Tensor:
    """This process's rows as a tensor sharded like `parameter`; the rows themselves if that is not sharded."""
    if not is_sharded(parameter):
        return rows
    from torch.distributed.tensor import DTensor

    like = cast(DTensor, parameter)
    return DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def rows_for(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Of a whole tensor, the rows that this process holds of `parameter`; a copy, on its device."""
    if not is_sharded(parameter):
        return tensor.detach().clone().to(parameter.device)
    from torch.distributed.tensor import DTensor, distribute_tensor

    like = cast(DTensor, parameter)
    dealt = distribute_tensor(tensor.to(parameter.device), like.device_mesh, like.placements, src_data_rank=None)
    return dealt.to_local().clone()


def gathered_rows(rows: Tensor, parameter: Tensor) -> Tensor:
    """A stack (n, r, C) of this process's rows of n matrices shaped like `parameter`, as whole matrices (n, R, C)."""
    n, held, columns = rows.shape
    world, count = dist.get_world_size(), parameter.shape[0]
    chunk = -(-count // world)  # as torch.chunk deals them
    padded = rows.new_zeros(n, chunk, columns)
    padded[:, :held] = rows
    found = rows.new_empty(world * n, chunk, columns)
    gather_single(found, padded)
    return found.view(world, n, chunk, columns).transpose(0, 1).reshape(n, world * chunk, columns)[:, :count]


def own_rows(stack: Tensor, parameter: Tensor) -> Tensor:
    """The inverse of `gathered_rows`."""
    chunk = -(-stack.shape[1] // dist.get_world_size())
    first = chunk * dist.get_rank()
    return stack[:, first : first + local(parameter).shape[0]]


def in_shares(compute: Callable[[Tensor], Tensor], stack: Tensor) -> Tensor:
    """compute(stack) for a function of each of the stack's n members alone, every process computing some of them."""
    if not dist.is_initialized() or len(stack) < dist.get_world_size():
        return compute(stack)
    world, rank = dist.get_world_size(), dist.get_rank()
    size = -(-len(stack) // world)
    part = stack.new_zeros(size, *stack.shape[1:])
    mine = stack[rank * size : (rank + 1) * size]
    part[: len(mine)] = mine
    computed = compute(part).contiguous()
    found = computed.new_empty(world * size, *computed.shape[1:])
    gather_single(found, computed)
    return found[: len(stack)]


def total_of_shards(values: Tensor) -> Tensor:
    """Sums over the processes, on the values' own device."""
    dist.all_reduce(values)
    return values


def states_of_all(share: Share, states: dict[str, Tensor]) -> dict[str, Tensor]:
    """The random states of all processes, for the first: its own under their names, others' under `<rank>/<name>`."""
    if share.processes == 1:
        return states
    for name in sorted(states):
        parts = [torch.empty_like(states[name]) for _ in range(share.processes)]
        dist.all_gather(parts, states[name])
        for rank, part in enumerate(parts):
            states[name if rank == 0 else f"{rank}/{name}"] = part
    return states


def refuse_changed_buffers(share: Share, before: dict[str, Tensor], model: nn.Module) -> None:
    """Refuse a model that keeps what it has seen in buffers: every process sees other samples.

    Raises:
        UserError: a stored buffer changed in the first update.
    """
    now = dict(model.named_buffers())
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, now[name])]
    if changed:
        raise UserError(
            f"The model keeps state of its samples in {changed[0]}, and {share.processes} processes see different "
            "samples; train it in one process, without torchrun."
        )
