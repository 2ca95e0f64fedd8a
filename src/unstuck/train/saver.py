"""Writes checkpoints beside the training: the loop waits for a copy in memory only, a thread waits for the disk."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unstuck.train import checkpoint
from unstuck.train.checkpoint import Snapshot, Tensors


class Saver:
    """One checkpoint at a time. An error of the disk is raised in the loop at its next call, not lost in the thread."""

    def __init__(self, run_folder: Path, keep: int) -> None:
        self.run_folder = run_folder
        self.keep = keep
        self.saved_update: int | None = None
        self.stall_seconds = 0.0
        self._buffers: dict[str, Tensors] = {"model": {}, "optimizer": {}}
        self._thread: threading.Thread | None = None
        self._error: OSError | None = None

    def save(self, model: Tensors, optimizer: Tensors, state: dict[str, Any]) -> None:
        """Copy the state and start to write it. Waits for the previous checkpoint first.

        Args:
            model, optimizer: live tensors, any device; copied here, so the loop may go on changing them.
            state: JSON-ready, with `update` and `best_update`.
        """
        started = time.perf_counter()
        self.wait()
        snapshot = Snapshot(
            self._copy("model", checkpoint.unshared(model)),
            self._copy("optimizer", optimizer),
            checkpoint.random_state(),
            state,
        )
        self._thread = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint", daemon=True)
        self._thread.start()
        self.saved_update = snapshot.update
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
        """Let the thread end; what it met no longer matters."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def check(self) -> None:
        """Raise what the thread met; costs nothing, so the loop calls it each update."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _copy(self, part: str, live: Tensors) -> Tensors:
        """Copy into buffers that stay: fresh memory costs a page fault per 4 KiB (4 s for 1.5 GB; again: 0.1 s)."""
        buffers = self._buffers[part]
        for name, tensor in live.items():
            old = buffers.get(name)
            if old is None or old.shape != tensor.shape or old.dtype != tensor.dtype:
                buffers[name] = _host_copy(tensor)
            else:
                old.copy_(tensor.detach())
        return {name: buffers[name] for name in live}

    def _write(self, snapshot: Snapshot) -> None:
        try:
            checkpoint.write(self.run_folder, snapshot)
            checkpoint.prune(self.run_folder, self.keep, snapshot.state.get("best_update"))
        except OSError as error:
            self._error = error


def _host_copy(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu").copy_(tensor.detach())
