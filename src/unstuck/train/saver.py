"""Writes checkpoints beside the training: the loop waits for a copy in memory only, a thread waits for the disk."""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unstuck.train import checkpoint
from unstuck.train.checkpoint import Snapshot, Tensors
from unstuck.train.distributed import states_of_all, whole
from unstuck.train.tasks.task import Share


class Saver:
    """One checkpoint at a time. An error of the disk is raised in the loop at its next call, not lost in the thread.

    Args:
        run_folder: where `checkpoints/` is.
        keep: newest checkpoints to keep, besides the best.
        share: of this process; the first one writes, the others help to put sharded tensors together.
    """

    def __init__(self, run_folder: Path, keep: int, share: Share | None = None) -> None:
        self.share = share or Share()
        self.run_folder = run_folder
        self.keep = keep
        self.saved_update: int | None = None
        self.stall_seconds = 0.0
        self._buffers: dict[str, Tensors] = {"model": {}, "optimizer": {}}
        self._thread: threading.Thread | None = None
        self._reserving: threading.Thread | None = None
        self._error: OSError | None = None

    def reserve(self, model: Tensors, optimizer: Tensors) -> None:
        """Get the memory that checkpoints are copied into, in a thread: as much as both take, from now to the end.

        Without it the first `save` waits while the system finds 1.5 GB for 124M parameters and AdamW, 4 KiB a time:
        4 s, where later ones take 0.1 s (docs/systems/scale.md).
        """
        if self.share.rank:
            return
        live = {"model": model, "optimizer": optimizer}
        self._reserving = threading.Thread(target=self._reserve, args=(live,), name="reserve", daemon=True)
        self._reserving.start()

    def save(self, model: Tensors, optimizer: Tensors, state: dict[str, Any]) -> None:
        """Copy the state and start to write it. Waits for the previous checkpoint first. All processes call it.

        Args:
            model, optimizer: live tensors, any device; copied here, so the loop may go on changing them. No two of them
                share memory.
            state: JSON-ready, with `update` and `best_update`.
        """
        started = time.perf_counter()
        self.wait()
        if self._reserving is not None:
            self._reserving.join()
            self._reserving = None
        snapshot = Snapshot(
            self._copy("model", model),
            self._copy("optimizer", optimizer),
            states_of_all(self.share, checkpoint.random_state()),
            state,
        )
        self.saved_update = snapshot.update
        if self.share.rank:
            return
        # The copies of a GPU run on its stream, before the next update's kernels; only the thread waits for them.
        on_gpu = any(tensor.is_cuda for tensor in model.values())
        copied = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]
        if copied is not None:
            copied.record()
        self._thread = threading.Thread(target=self._write, args=(snapshot, copied), name="checkpoint", daemon=True)
        self._thread.start()
        self.stall_seconds += time.perf_counter() - started

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk.

        Raises:
            OSError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def finish(self) -> None:
        """Let the threads end; what they met no longer matters."""
        for thread in (self._reserving, self._thread):
            if thread is not None:
                thread.join()
        self._reserving = self._thread = None

    def check(self) -> None:
        """Raise what the thread met; costs nothing, so the loop calls it each update."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _reserve(self, live: Mapping[str, Tensors]) -> None:
        for part, tensors in live.items():
            for name, tensor in tensors.items():
                self._buffers[part].setdefault(name, _touched(tensor))

    def _copy(self, part: str, live: Tensors) -> Tensors:
        """Copy into buffers that stay; sharded tensors are put together one by one."""
        buffers = self._buffers[part]
        for name, tensor in live.items():
            found = whole(tensor)
            if self.share.rank:
                continue
            old = buffers.get(name)
            if old is None or old.shape != tensor.shape or old.dtype != tensor.dtype:
                buffers[name] = _empty_like(tensor)
            buffers[name].copy_(found, non_blocking=True)
        return {} if self.share.rank else {name: buffers[name] for name in live}

    def _write(self, snapshot: Snapshot, copied: torch.cuda.Event | None) -> None:
        try:
            if copied is not None:
                copied.synchronize()
            checkpoint.write(self.run_folder, snapshot)
            checkpoint.prune(self.run_folder, self.keep, snapshot.state.get("best_update"))
        except OSError as error:
            self._error = error


def _empty_like(tensor: Tensor) -> Tensor:
    """Room for a copy on the host; of a GPU's tensor in pinned memory, which it copies to without the host's help."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


def _touched(tensor: Tensor) -> Tensor:
    """`_empty_like`, with every page there. numpy's loop, for it neither holds the interpreter nor wakes OpenMP."""
    room = _empty_like(tensor)
    if not tensor.is_cuda and room.numel():
        room.view(-1).view(torch.uint8).numpy()[:: mmap.PAGESIZE] = 0
    return room
